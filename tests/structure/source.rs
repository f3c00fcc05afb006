//! The files of the project, parsed: what is code, what is a test of it.

use std::ops::RangeInclusive;
use std::path::Path;

use syn::spanned::Spanned;
use syn::{Attribute, ImplItem, Item, ItemMod};

/// A file of Rust.
pub(crate) struct Source {
    /// From the project's root: `src/erasure/uce.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
    /// Lines, from 1, that exist for tests only.
    tests: Vec<RangeInclusive<usize>>,
}

impl Source {
    /// Whether a line, from 1, exists for tests only.
    pub(crate) fn tests(&self, line: usize) -> bool {
        self.tests.iter().any(|lines| lines.contains(&line))
    }
}

/// Every file of Rust in these folders, in the order of their names.
pub(crate) fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), folder, &mut found);
    }
    let modules: Vec<String> = found.iter().flat_map(test_modules).collect();
    for source in &mut found {
        let path = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        if modules.iter().any(|module| Path::new(path).starts_with(module)) {
            source.tests = vec![0..=usize::MAX];
        }
    }
    found
}

fn read(folder: &Path, path: &str, found: &mut Vec<Source>) {
    let Ok(entries) = fs_err::read_dir(folder) else { return };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names {
        let (inside, path) = (folder.join(&name), format!("{path}/{name}"));
        if inside.is_dir() {
            read(&inside, &path, found);
        } else if inside.extension().is_some_and(|extension| extension == "rs") {
            let text = fs_err::read_to_string(&inside).unwrap();
            let syntax = syn::parse_file(&text).unwrap_or_else(|fault| panic!("{path}: {fault}"));
            let mut tests = Vec::new();
            test_lines(&syntax.items, &mut tests);
            found.push(Source { path, text, syntax, tests });
        }
    }
}

fn test_lines(items: &[Item], found: &mut Vec<RangeInclusive<usize>>) {
    for item in items {
        if for_tests(item) {
            found.push(lines(item));
        } else if let Item::Mod(ItemMod { content: Some((_, inner)), .. }) = item {
            test_lines(inner, found);
        } else if let Item::Impl(methods) = item {
            for method in &methods.items {
                if let ImplItem::Fn(method) = method
                    && tests_only(&method.attrs)
                {
                    found.push(lines(method));
                }
            }
        }
    }
}

/// Modules that a file declares for tests only, as paths without `.rs`.
fn test_modules(source: &Source) -> Vec<String> {
    let inside = source.path.trim_end_matches(".rs");
    let folder = ["/mod", "/lib", "/main"].iter().find_map(|root| inside.strip_suffix(root));
    let modules = source.syntax.items.iter().filter_map(|item| match item {
        Item::Mod(module) if module.content.is_none() && tests_only(&module.attrs) => {
            Some(format!("{}/{}", folder.unwrap_or(inside), module.ident))
        }
        _ => None,
    });
    modules.collect()
}

/// From a piece's first line to its last, from 1.
pub(crate) fn lines(piece: &impl Spanned) -> RangeInclusive<usize> {
    let span = piece.span();
    span.start().line..=span.end().line
}

/// Whether an item exists for tests only.
pub(crate) fn for_tests(item: &Item) -> bool {
    tests_only(attributes(item))
}

/// Whether something is a `#[test]` or for `cfg(test)`.
fn tests_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = || attribute.meta.require_list().unwrap().tokens.to_string();
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && condition().split(|c: char| !c.is_alphanumeric()).any(|word| word == "test")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
