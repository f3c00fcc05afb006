//! Nothing is written twice. What a trait dictates, its methods' signatures, is not counted.

use std::collections::{BTreeSet, HashMap};

use syn::visit::{self, Visit};
use syn::{ImplItem, ItemImpl, ItemUse};

use crate::source::{Source, lines, sources};

/// So many lines in two places are one thing written twice.
const BLOCK: usize = 6;
/// A comment that begins so, above one of the two places or above what they begin in, says why they
/// are two.
const EXCUSE: &str = "// duplicate:";

/// Lines of imports, and of signatures that a trait dictates.
#[derive(Default)]
struct Dictated(BTreeSet<usize>);

impl<'a> Visit<'a> for Dictated {
    fn visit_item_use(&mut self, import: &'a ItemUse) {
        self.0.extend(lines(import));
    }
    fn visit_item_impl(&mut self, methods: &'a ItemImpl) {
        for method in methods.items.iter().filter(|_| methods.trait_.is_some()) {
            if let ImplItem::Fn(method) = method {
                self.0.extend(lines(&method.sig));
            }
        }
        visit::visit_item_impl(self, methods);
    }
}

/// A line that says something.
struct Line {
    file: usize,
    /// From 1.
    number: usize,
    text: String,
}

/// The lines of a file that say something, outside its tests.
fn telling(file: usize, source: &Source) -> Vec<Line> {
    let mut dictated = Dictated::default();
    dictated.visit_file(&source.syntax);
    let numbered = source.text.lines().enumerate().map(|(i, text)| (i + 1, text.trim()));
    numbered
        .filter(|(number, text)| {
            let says = text.chars().any(char::is_alphanumeric) && !text.starts_with("//");
            says && !dictated.0.contains(number) && !source.tests(*number)
        })
        .map(|(number, text)| Line { file, number, text: text.to_owned() })
        .collect()
}

/// Whether a comment in the few lines above gives the reason.
fn excused(source: &Source, number: usize) -> bool {
    let above = source.text.lines().take(number - 1).skip(number.saturating_sub(BLOCK + 1));
    above.into_iter().any(|line| line.trim().starts_with(EXCUSE))
}

#[test]
fn nothing_is_written_twice() {
    let all = sources(&["src"]);
    let mut text = Vec::new();
    for (file, source) in all.iter().enumerate() {
        text.extend(telling(file, source));
    }
    let same = |a: usize, b: usize| text[a].text == text[b].text;
    let one_file = |a: usize, b: usize| b < text.len() && text[a].file == text[b].file;
    let mut places: HashMap<Vec<&str>, Vec<usize>> = HashMap::new();
    for start in 0..text.len().saturating_sub(BLOCK - 1) {
        if one_file(start, start + BLOCK - 1) {
            let block = text[start..start + BLOCK].iter().map(|line| line.text.as_str());
            places.entry(block.collect()).or_default().push(start);
        }
    }
    assert!(places.len() > 10_000, "the lines are not seen");
    let mut wrong = BTreeSet::new();
    for starts in places.values() {
        for (i, &first) in starts.iter().enumerate() {
            for &second in &starts[i + 1..] {
                let begun = first > 0
                    && one_file(first - 1, first)
                    && one_file(second - 1, second)
                    && same(first - 1, second - 1);
                if begun || second < first + BLOCK && one_file(first, second) {
                    continue;
                }
                let alike = |i: &usize| {
                    one_file(first, first + i)
                        && one_file(second, second + i)
                        && same(first + i, second + i)
                };
                let length = (0..text.len()).take_while(alike).count();
                let place = |start: usize| (&all[text[start].file], text[start].number);
                let ((a, from), (b, at)) = (place(first), place(second));
                if !excused(a, from) && !excused(b, at) {
                    let (a, b) = (&a.path, &b.path);
                    wrong.insert(format!("{length} lines of {a}:{from} stand at {b}:{at} too"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}
