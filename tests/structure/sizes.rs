//! How long files, functions, lists of parameters and lines may be.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, FnArg, ImplItemFn, ItemFn, Pat, Signature, TraitItemFn, Type};

use crate::source::sources;

const FILE: usize = 450;
const MEDIAN: RangeInclusive<usize> = 80..=200;
const FUNCTION: usize = 80;
const PARAMETERS: usize = 6;
const COLUMNS: usize = 100;

/// Where everything written in Rust lies.
const ALL: &[&str] = &["src", "tests", "examples", "benches"];

/// Longer functions, each with what it gains from standing in one piece.
const LONG: &[(&str, &str, &str)] = &[(
    "src/weights/pickle/machine/opcodes.rs",
    "step",
    "one arm for each opcode, in the order of the protocol's own table",
)];

/// A function's place, name, lines and number of parameters.
struct Function {
    name: String,
    line: usize,
    lines: usize,
    parameters: usize,
}

#[derive(Default)]
struct Functions(Vec<Function>);

impl Functions {
    fn add(&mut self, signature: &Signature, body: Option<&Block>) {
        let line = signature.fn_token.span.start().line;
        let last = body.map_or(line, |body| body.span().end().line);
        self.0.push(Function {
            name: signature.ident.to_string(),
            line,
            lines: last + 1 - line,
            parameters: signature.inputs.iter().map(parameters).sum(),
        });
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, function: &'a ItemFn) {
        self.add(&function.sig, Some(&function.block));
        visit::visit_item_fn(self, function);
    }
    fn visit_impl_item_fn(&mut self, function: &'a ImplItemFn) {
        self.add(&function.sig, Some(&function.block));
        visit::visit_impl_item_fn(self, function);
    }
    fn visit_trait_item_fn(&mut self, function: &'a TraitItemFn) {
        self.add(&function.sig, function.default.as_ref());
        visit::visit_trait_item_fn(self, function);
    }
}

/// `self` is none; a tuple that is taken apart at once, or one of several kinds of things, is as
/// many as it has parts.
fn parameters(argument: &FnArg) -> usize {
    fn parts(pattern: &Pat) -> usize {
        match pattern {
            Pat::Tuple(tuple) => tuple.elems.iter().map(parts).sum(),
            Pat::Reference(reference) => parts(&reference.pat),
            _ => 1,
        }
    }
    match argument {
        FnArg::Receiver(_) => 0,
        FnArg::Typed(typed) => parts(&typed.pat).max(kinds(&typed.ty)),
    }
}

/// Parts of a tuple type whose parts are not all of one type, as those of a size or a point are.
fn kinds(of: &Type) -> usize {
    match of {
        Type::Tuple(tuple) => {
            let written: BTreeSet<String> =
                tuple.elems.iter().map(|part| part.to_token_stream().to_string()).collect();
            if written.len() > 1 { tuple.elems.iter().map(kinds).sum() } else { 1 }
        }
        Type::Reference(reference) => kinds(&reference.elem),
        _ => 1,
    }
}

#[test]
fn files_are_of_a_size() {
    let mut wrong = Vec::new();
    let mut lengths = Vec::new();
    for source in sources(ALL) {
        let lines = source.text.lines().count();
        if lines > FILE {
            wrong.push(format!("{} has {lines} lines, over {FILE}", source.path));
        }
        if source.path.starts_with("src/") {
            lengths.push(lines);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    lengths.sort_unstable();
    assert!(lengths.len() > 100, "the files are not seen");
    let median = lengths[lengths.len() / 2];
    assert!(MEDIAN.contains(&median), "half of src's files have {median} lines, not {MEDIAN:?}");
}

#[test]
fn functions_are_of_a_size() {
    let mut wrong = Vec::new();
    let mut needed = vec![false; LONG.len()];
    for source in sources(ALL) {
        let mut functions = Functions::default();
        functions.visit_file(&source.syntax);
        for function in functions.0 {
            let place = format!("{}:{} {}", source.path, function.line, function.name);
            if function.parameters > PARAMETERS {
                wrong.push(format!("{place} has {} parameters", function.parameters));
            }
            if function.lines <= FUNCTION {
                continue;
            }
            let excuse =
                |long: &(&str, &str, &str)| (long.0, long.1) == (&source.path, &function.name);
            match LONG.iter().position(excuse) {
                Some(i) => needed[i] = true,
                None => wrong.push(format!("{place} has {} lines", function.lines)),
            }
        }
    }
    for (long, _) in LONG.iter().zip(needed).filter(|(_, needed)| !needed) {
        wrong.push(format!("{} {} needs no exception any more", long.0, long.1));
    }
    assert!(
        wrong.is_empty(),
        "a function has at most {FUNCTION} lines and {PARAMETERS} parameters:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn lines_are_of_a_size() {
    let mut wrong = Vec::new();
    for source in sources(ALL) {
        for (i, line) in source.text.lines().enumerate() {
            // An address cannot be broken.
            let breakable =
                line.split_whitespace().filter(|word| !word.contains("://")).count() > 1;
            if line.chars().count() > COLUMNS && (breakable || !line.contains("://")) {
                wrong.push(format!("{}:{}", source.path, i + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "over {COLUMNS} columns:\n{}", wrong.join("\n"));
}
