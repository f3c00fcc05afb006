//! No two files of the source need each other, not even by way of others.
//!
//! A file imports from where a name is defined, not from where it is re-exported; to re-export a
//! name is no import of it. The root of a folder (`mod.rs`) holds what all of its files share, and
//! its table names them: that a file needs the root of a folder in which it lies counts for
//! nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Item, ItemMod, UseTree, Visibility};

use crate::source::{Source, for_tests, sources};

/// Circles that there may be: files, and why they are one thing in two places.
const CIRCLES: &[(&[&str], &str)] = &[];

type Path = Vec<String>;

/// A file as others see it.
struct Module {
    file: String,
    path: Path,
    defined: HashSet<String>,
    /// Every name that a `use` brings, and what it stands for.
    used: Vec<Used>,
    /// Everything else, outside the tests.
    code: Vec<Word>,
}

struct Used {
    name: String,
    path: Path,
    public: bool,
}

/// A name in the code with what comes before it as far as a path goes: `a::b::c` is one.
type Word = Path;

/// Where a path leads.
enum Target {
    Module,
    Item(usize),
}

struct Tree {
    modules: Vec<Module>,
    by_path: HashMap<Path, usize>,
}

impl Tree {
    fn new(sources: &[Source]) -> Self {
        let modules: Vec<Module> = sources.iter().filter(|s| !s.tests(1)).map(module).collect();
        let by_path = modules.iter().enumerate().map(|(i, m)| (m.path.clone(), i)).collect();
        Self { modules, by_path }
    }

    /// What a path means in a file.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<Target> {
        let (first, rest) = path.split_first()?;
        if depth > 20 {
            return None;
        }
        let here = &self.modules[from].path;
        match first.as_str() {
            "crate" => self.inside(self.by_path[&Path::new()], rest, depth),
            "self" => self.inside(from, rest, depth),
            "super" => {
                let above = here.split_last()?.1;
                let mut place = *self.by_path.get(above)?;
                let mut rest = rest;
                while rest.first().is_some_and(|word| word == "super") {
                    place = *self.by_path.get(self.modules[place].path.split_last()?.1)?;
                    rest = &rest[1..];
                }
                self.inside(place, rest, depth)
            }
            _ => self.inside(from, path, depth),
        }
    }

    fn inside(&self, module: usize, path: &[String], depth: usize) -> Option<Target> {
        let Some((first, rest)) = path.split_first() else { return Some(Target::Module) };
        let there = &self.modules[module];
        let mut child = there.path.clone();
        child.push(first.clone());
        if let Some(&child) = self.by_path.get(&child) {
            return self.inside(child, rest, depth);
        }
        if there.defined.contains(first) {
            return Some(Target::Item(module));
        }
        if let Some(used) = there.used.iter().find(|used| used.name == *first) {
            if used.path.first() == Some(first) {
                return None;
            }
            let whole: Path = used.path.iter().chain(rest).cloned().collect();
            return self.resolve(module, &whole, depth + 1);
        }
        let mut globs = there.used.iter().filter(|used| used.name == "*");
        globs.find_map(|glob| {
            let whole: Path = glob.path.iter().chain(path).cloned().collect();
            self.resolve(module, &whole, depth + 1)
        })
    }

    /// The files that a file needs.
    fn imports(&self, from: usize) -> BTreeSet<usize> {
        let module = &self.modules[from];
        let mut found = BTreeSet::new();
        let mut add = |path: &[String]| {
            if let Some(Target::Item(to)) = self.resolve(from, path, 0)
                && to != from
                && !module.path.starts_with(&self.modules[to].path)
            {
                found.insert(to);
            }
        };
        for used in module.used.iter().filter(|used| !used.public && used.name != "*") {
            add(&used.path);
        }
        for word in &module.code {
            add(word);
        }
        found
    }
}

fn module(source: &Source) -> Module {
    let inside = source.path.trim_start_matches("src/").trim_end_matches(".rs");
    let path = match inside {
        "lib" => Path::new(),
        _ => inside.trim_end_matches("/mod").split('/').map(str::to_owned).collect(),
    };
    let mut found = Module {
        file: source.path.clone(),
        path,
        defined: HashSet::new(),
        used: Vec::new(),
        code: Vec::new(),
    };
    for item in source.syntax.items.iter().filter(|item| !for_tests(item)) {
        if let Item::Use(item) = item {
            let public = !matches!(item.vis, Visibility::Inherited);
            let mut add = |name: String, path: Path| found.used.push(Used { name, path, public });
            leaves(&item.tree, &[], &mut add);
            continue;
        }
        if let Some(name) = defined(item) {
            found.defined.insert(name);
        } else if let Item::Macro(item) = item {
            // What it defines is among the names that it is given.
            let mut given = Vec::new();
            words(item.mac.tokens.clone(), &mut given);
            found.defined.extend(given.into_iter().flatten());
        }
        words(ToTokens::to_token_stream(item), &mut found.code);
    }
    found
}

/// The names that a `use` brings.
fn leaves(tree: &UseTree, before: &[String], add: &mut dyn FnMut(String, Path)) {
    let with = |name: &syn::Ident| -> Path {
        let last = (name != "self" || before.is_empty()).then(|| name.to_string());
        before.iter().cloned().chain(last).collect()
    };
    match tree {
        UseTree::Path(path) => leaves(&path.tree, &with(&path.ident), add),
        UseTree::Name(name) => {
            let path = with(&name.ident);
            add(path.last().unwrap().clone(), path);
        }
        UseTree::Rename(rename) => add(rename.rename.to_string(), with(&rename.ident)),
        UseTree::Glob(_) => add("*".to_owned(), before.to_vec()),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, before, add)),
    }
}

fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Mod(ItemMod { content: Some(_), ident, .. }) => ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Every path in a piece of code, inside macros as well.
fn words(code: TokenStream, found: &mut Vec<Word>) {
    let mut open: Option<Path> = None;
    let mut colons = 0;
    for token in code {
        match token {
            TokenTree::Ident(name) if colons == 2 && open.is_some() => {
                open.as_mut().unwrap().push(name.to_string());
            }
            TokenTree::Ident(name) => {
                found.extend(open.replace(vec![name.to_string()]));
            }
            TokenTree::Punct(mark) if mark.as_char() == ':' => {
                colons += 1;
                continue;
            }
            TokenTree::Group(group) => {
                found.extend(open.take());
                words(group.stream(), found);
            }
            _ => found.extend(open.take()),
        }
        colons = 0;
    }
    found.extend(open);
}

/// Files that reach each other, largest circle whole.
fn circles(edges: &[BTreeSet<usize>]) -> Vec<BTreeSet<usize>> {
    let reach: Vec<BTreeSet<usize>> = (0..edges.len())
        .map(|start| {
            let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
            while let Some(file) = next.pop() {
                next.extend(edges[file].iter().filter(|&&to| seen.insert(to)));
            }
            seen
        })
        .collect();
    let mut found: Vec<BTreeSet<usize>> = Vec::new();
    for (file, seen) in reach.iter().enumerate() {
        if seen.contains(&file) && !found.iter().any(|circle| circle.contains(&file)) {
            found
                .push(seen.iter().copied().filter(|&other| reach[other].contains(&file)).collect());
        }
    }
    found
}

#[test]
fn files_need_each_other_one_way() {
    let tree = Tree::new(&sources(&["src"]));
    let edges: Vec<_> = (0..tree.modules.len()).map(|file| tree.imports(file)).collect();
    let name = |&file: &usize| tree.modules[file].file.as_str();
    assert!(edges.iter().map(BTreeSet::len).sum::<usize>() > 500, "imports are not seen");
    let mut known: BTreeMap<BTreeSet<&str>, &str> =
        CIRCLES.iter().map(|(files, why)| (files.iter().copied().collect(), *why)).collect();
    let mut wrong = Vec::new();
    for circle in circles(&edges) {
        if known.remove(&circle.iter().map(name).collect::<BTreeSet<_>>()).is_some() {
            continue;
        }
        for file in &circle {
            let to: Vec<&str> = edges[*file].intersection(&circle).map(name).collect();
            wrong.push(format!("{} needs {}", name(file), to.join(", ")));
        }
        wrong.push(String::new());
    }
    assert!(wrong.is_empty(), "files that need each other:\n{}", wrong.join("\n"));
    assert!(known.is_empty(), "no circles any more: {known:?}");
}
