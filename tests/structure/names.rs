//! A name means one thing: a type, a method, an attack.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Expr, ExprStruct, Item, ItemMod, Member};

use crate::source::{Source, for_tests, sources};

/// Where methods and attacks have their line.
const TABLES: &[&str] = &["src/erasure/mod.rs", "src/attack/mod.rs"];

/// Methods whose name is a word for something else too, and for what.
const WORDS: &[(&str, &str)] = &[
    ("positives", "samples that do not show the concept"),
    ("seeds", "what pictures are drawn from"),
    ("prompts", "what pictures are asked for with"),
    ("noise", "what pictures begin as"),
];

/// Other places where one is named: file, name, and why.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "src/attack/gan_relearning.rs",
        "relearning",
        "part of the seeds of its training's steps; with another word the numbers would be others",
    ),
    (
        "src/pipeline/renamed.rs",
        "gan-relearning",
        "tells whoever has an older file how its setting is written now",
    ),
];

/// Types that are many of a name, and why.
const MANY: &[(&str, &str)] =
    &[("Error", "each room has the one of its own, said with the room: `weights::Error`")];

/// A line of a table.
struct Entry {
    name: String,
    /// The type that it reads.
    reads: BTreeSet<String>,
}

#[derive(Default)]
struct Entries(Vec<Entry>);

impl<'a> Visit<'a> for Entries {
    fn visit_expr_struct(&mut self, entry: &'a ExprStruct) {
        let field = |wanted: &str| {
            entry.fields.iter().find_map(|field| match &field.member {
                Member::Named(name) if name == wanted => Some(&field.expr),
                _ => None,
            })
        };
        if let (Some(Expr::Lit(name)), Some(read)) = (field("name"), field("read"))
            && let syn::Lit::Str(name) = &name.lit
        {
            let mut reads = BTreeSet::new();
            idents(ToTokens::to_token_stream(read), &mut reads);
            self.0.push(Entry { name: name.value(), reads });
        }
        visit::visit_expr_struct(self, entry);
    }
}

fn idents(code: TokenStream, found: &mut BTreeSet<String>) {
    for token in code {
        match token {
            TokenTree::Ident(name) => drop(found.insert(name.to_string())),
            TokenTree::Group(group) => idents(group.stream(), found),
            _ => {}
        }
    }
}

/// The texts in a piece of code with their lines, without what documents it.
fn literals(code: TokenStream, found: &mut Vec<(usize, String)>) {
    let mut attribute = false;
    for token in code {
        match token {
            TokenTree::Group(group) => {
                let document = attribute
                    && group.stream().into_iter().next().is_some_and(
                        |first| matches!(first, TokenTree::Ident(name) if name == "doc"),
                    );
                if !document {
                    literals(group.stream(), found);
                }
                attribute = false;
            }
            TokenTree::Punct(mark) => {
                attribute = mark.as_char() == '#' || attribute && mark.as_char() == '!';
            }
            TokenTree::Literal(literal) => {
                let line = literal.span().start().line;
                if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                    found.push((line, text.value()));
                }
                attribute = false;
            }
            TokenTree::Ident(_) => attribute = false,
        }
    }
}

/// Types that a file defines outside its tests, with their lines.
fn types(items: &[Item], found: &mut Vec<(usize, String)>) {
    for item in items.iter().filter(|item| !for_tests(item)) {
        let name = match item {
            Item::Enum(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Mod(ItemMod { content: Some((_, inner)), .. }) => {
                types(inner, found);
                continue;
            }
            _ => continue,
        };
        found.push((name.span().start().line, name.to_string()));
    }
}

fn defined(sources: &[Source]) -> BTreeMap<String, Vec<(&str, usize)>> {
    let mut all: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.tests(1)) {
        let mut found = Vec::new();
        types(&source.syntax.items, &mut found);
        for (line, name) in found {
            all.entry(name).or_default().push((&source.path, line));
        }
    }
    all
}

#[test]
fn a_type_is_one_thing() {
    let sources = sources(&["src"]);
    let mut wrong = Vec::new();
    for (name, places) in defined(&sources).iter().filter(|(_, places)| places.len() > 1) {
        if !MANY.iter().any(|(many, _)| many == name) {
            let places: Vec<String> =
                places.iter().map(|(path, line)| format!("{path}:{line}")).collect();
            wrong.push(format!("{name}: {}", places.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "types of one name:\n{}", wrong.join("\n"));
}

#[test]
fn a_method_is_named_in_its_own_file() {
    let sources = sources(&["src"]);
    let types = defined(&sources);
    let mut entries = Entries::default();
    for source in sources.iter().filter(|source| TABLES.contains(&source.path.as_str())) {
        entries.visit_file(&source.syntax);
    }
    assert!(entries.0.len() > 5, "the tables are not seen");
    let mut wrong = Vec::new();
    let mut needed = vec![false; ELSEWHERE.len()];
    for source in &sources {
        let mut texts = Vec::new();
        literals(source.text.parse().unwrap(), &mut texts);
        texts.retain(|(line, _)| !source.tests(*line));
        for Entry { name, reads } in &entries.0 {
            let at_home = |file: &str| {
                let folder = source.path.starts_with(&format!("{}/", file.trim_end_matches(".rs")));
                source.path == file || folder
            };
            let homes = reads.iter().filter_map(|name| types.get(name)).flatten();
            if WORDS.iter().any(|(word, _)| word == name)
                || homes.into_iter().any(|(file, _)| at_home(file))
            {
                continue;
            }
            let mut named = texts.iter().filter(|(_, text)| says(text, name));
            if TABLES.contains(&source.path.as_str()) {
                named.next();
            }
            let here = (source.path.as_str(), name.as_str());
            let known = ELSEWHERE.iter().position(|known| (known.0, known.1) == here);
            for (line, text) in named {
                if let Some(known) = known {
                    needed[known] = true;
                    continue;
                }
                wrong.push(format!("{}:{line} names {name}: {text:?}", source.path));
            }
        }
    }
    for (known, _) in ELSEWHERE.iter().zip(needed).filter(|(_, needed)| !needed) {
        wrong.push(format!("{} needs no exception any more for {}", known.0, known.1));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a text has a name as a word of its own.
fn says(text: &str, name: &str) -> bool {
    let within = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    text.split(|c| !within(c)).any(|word| word == name)
}
