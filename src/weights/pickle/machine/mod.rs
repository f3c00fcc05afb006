//! Reads a pickle as data. Python's pickles are programs for a stack machine; this one knows the
//! instructions that build values, looks names up in a list that the caller gives, and calls
//! nothing.
//!
//! Values lie on a heap and are referred to by number, so that a pickle which contains itself leaks
//! nothing and a deep one overflows no stack. What a file can make it hold is bounded by [`LIMIT`].
//!
//! The instructions are those of `pickletools`, protocols 0 to 5.

mod opcodes;

use std::collections::HashMap;

use super::heap::{Heap, Id, PickleValue};

/// Most instructions that are followed: the largest checkpoints need some 100,000.
const LIMIT: usize = 1_000_000;

/// Why a pickle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It names a class or function that is not on the list.
    Refused(String),
    /// It is damaged, or uses what no file of weights does.
    Broken(String),
}

fn broken<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Broken(why.into()))
}

/// Reads the pickle at the start of `bytes`: its heap, its value, and how many bytes it is long. A
/// name is accepted where `knows` says so.
///
/// # Errors
/// A name that is not known, an instruction that is not followed, and everything that does not fit.
pub(super) fn read<'a>(
    bytes: &'a [u8],
    knows: &dyn Fn(&str) -> bool,
) -> Result<(Heap<'a>, Id, usize), Fault> {
    let mut unpickler = Unpickler {
        bytes,
        at: 0,
        heap: Heap::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
        knows,
    };
    for _ in 0..LIMIT {
        if let Some(value) = unpickler.step()? {
            return Ok((unpickler.heap, value, unpickler.at));
        }
    }
    broken(format!("its pickle has more than {LIMIT} instructions"))
}

/// The machine: its program, its stack with marks, and what it has stored.
struct Unpickler<'a, 'k> {
    bytes: &'a [u8],
    at: usize,
    heap: Heap<'a>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Pairs that were copied into dictionaries.
    copied: usize,
    knows: &'k dyn Fn(&str) -> bool,
}

impl<'a> Unpickler<'a, '_> {
    fn take(&mut self, n: u64) -> Result<&'a [u8], Fault> {
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        let taken = self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else {
            return broken(format!(
                "its pickle ends inside an instruction, {n} bytes were announced"
            ));
        };
        self.at += n;
        Ok(taken)
    }

    /// A little-endian number of `n` bytes.
    fn number(&mut self, n: u64) -> Result<u64, Fault> {
        Ok(self.take(n)?.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Result<&'a str, Fault> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            return broken("its pickle ends inside a line");
        };
        self.at += end + 1;
        utf8(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]))
    }

    fn push(&mut self, value: PickleValue<'a>) {
        let id = self.heap.add(value);
        self.stack.push(id);
    }

    /// The topmost value above the last mark.
    fn pop(&mut self) -> Result<Id, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return broken("its pickle takes from an empty stack");
        }
        Ok(self.stack.pop().unwrap_or_default())
    }

    fn top(&mut self) -> Result<Id, Fault> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, Fault> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => broken("its pickle has no mark where it needs one"),
        }
    }

    fn pop_list(&mut self, n: usize) -> Result<(), Fault> {
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(PickleValue::List(items));
        Ok(())
    }

    fn name(&mut self, module: &str, name: &str) -> Result<(), Fault> {
        let name = format!("{module}.{name}");
        if !(self.knows)(&name) {
            return Err(Fault::Refused(name));
        }
        self.push(PickleValue::Name(name));
        Ok(())
    }

    /// What a call would return. An ordered dictionary is a dictionary at once, because items are
    /// put in later.
    fn make(&mut self, name: Id, arguments: Id) -> Result<(), Fault> {
        let value = match self.heap.name(name) {
            Some("collections.OrderedDict") => PickleValue::Dict(self.pairs(arguments)?),
            Some(_) => PickleValue::Made { name, arguments, state: None },
            None => return broken("its pickle calls what is no name"),
        };
        self.push(value);
        Ok(())
    }

    /// The items of `OrderedDict([[key, value], …])`.
    fn pairs(&mut self, arguments: Id) -> Result<Vec<(Id, Id)>, Fault> {
        let first = self.heap.list(arguments).and_then(<[Id]>::first);
        let Some(items) = first.and_then(|&first| self.heap.list(first)) else {
            return Ok(Vec::new());
        };
        self.copied += items.len();
        if self.copied > LIMIT {
            return broken(format!("its pickle copies more than {LIMIT} items"));
        }
        let pair = |&item: &Id| match self.heap.list(item) {
            Some(&[key, value]) => Ok((key, value)),
            _ => broken("its pickle makes a dictionary from what are no pairs"),
        };
        items.iter().map(pair).collect()
    }

    fn append(&mut self, to: Id, mut items: Vec<Id>) -> Result<(), Fault> {
        match self.heap.get_mut(to) {
            Some(PickleValue::List(list)) => {
                list.append(&mut items);
                Ok(())
            }
            _ => broken("its pickle appends to what is no list"),
        }
    }

    fn set(&mut self, to: Id, items: &[Id]) -> Result<(), Fault> {
        match self.heap.get_mut(to) {
            Some(PickleValue::Dict(dict)) if items.len().is_multiple_of(2) => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            // Items of an object that is like a dictionary are no tensors of ours.
            Some(PickleValue::Made { .. }) => Ok(()),
            _ => broken("its pickle sets items of what is no dictionary"),
        }
    }

    fn remember(&mut self, key: u64) -> Result<(), Fault> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<(), Fault> {
        match self.memo.get(&key) {
            Some(&id) => {
                self.stack.push(id);
                Ok(())
            }
            None => broken(format!("its pickle recalls {key}, which it never stored")),
        }
    }

    fn text(&mut self, n: u64) -> Result<(), Fault> {
        let text = utf8(self.take(n)?)?;
        self.push(PickleValue::Text(text));
        Ok(())
    }

    /// Python 2's strings: text where they are, else bytes.
    fn string(&mut self, bytes: &'a [u8]) {
        self.push(std::str::from_utf8(bytes).map_or(PickleValue::Bytes(bytes), PickleValue::Text));
    }

    fn bytes(&mut self, n: u64) -> Result<(), Fault> {
        let bytes = self.take(n)?;
        self.push(PickleValue::Bytes(bytes));
        Ok(())
    }

    /// A little-endian integer in two's complement.
    fn long(&mut self, n: u64) -> Result<(), Fault> {
        let bytes = self.take(n)?;
        let int = (bytes.len() <= 8).then(|| {
            let fill = if bytes.last().is_some_and(|&b| b & 0x80 != 0) { u64::MAX } else { 0 };
            bytes.iter().rev().fold(fill, |all, &byte| all << 8 | u64::from(byte)) as i64
        });
        self.push(PickleValue::Int(int));
        Ok(())
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes)
        .map_err(|_| Fault::Broken("its pickle has text that is no UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: &[u8]) -> Result<String, Fault> {
        let (heap, id, _) = read(bytes, &|name| name == "collections.OrderedDict")?;
        Ok(format!("{:?}", heap.get(id)))
    }

    #[test]
    fn values_are_what_python_means() {
        assert_eq!(plain(b"K\x07.").unwrap(), "Int(Some(7))");
        assert_eq!(plain(b"J\xff\xff\xff\xff.").unwrap(), "Int(Some(-1))");
        assert_eq!(plain(b"\x8a\x02\x00\x80.").unwrap(), "Int(Some(-32768))");
        assert_eq!(plain(b"G\x3f\xf8\0\0\0\0\0\0.").unwrap(), "Float(1.5)");
        assert_eq!(plain(b"\x80\x04\x8c\x02hi\x94.").unwrap(), "Text(\"hi\")");
        assert_eq!(plain(b"S'hi'\n.").unwrap(), "Text(\"hi\")");
        assert_eq!(plain(b"(K\x01K\x02t.").unwrap(), "List([0, 1])");
        assert_eq!(plain(b"}X\x01\0\0\0aK\x02s.").unwrap(), "Dict([(1, 2)])");
        assert_eq!(
            plain(b"ccollections\nOrderedDict\n)R(X\x01\0\0\0aK\x02u.").unwrap(),
            "Dict([(3, 4)])"
        );
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let refused = |name: &str| Err(Fault::Refused(name.to_owned()));
        assert_eq!(plain(b"cos\nsystem\n(X\x02\0\0\0lstR."), refused("os.system"));
        assert_eq!(plain(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93."), refused("builtins.eval"));
        for (bytes, why) in [
            (&b"(ios\nsystem\n."[..], "INST"),
            (b"\x82\x01.", "EXT"),
            (b"", "ends inside"),
            (b"X\xff\xff\xff\x7fa", "announced"),
            (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa", "announced"),
            (b"a.", "empty stack"),
            (b"t.", "no mark"),
            (b"h\x05.", "never stored"),
            (b"(K\x01R.", "empty stack"),
            (b"K\x01K\x01R.", "no name"),
            (b"X\x01\0\0\0\xff.", "UTF-8"),
            (b"\x80\x09.", "protocol 9"),
        ] {
            match plain(bytes) {
                Err(Fault::Broken(found)) => assert!(found.contains(why), "{found}"),
                other => panic!("{other:?}"),
            }
        }
        // A list that holds itself, and one that is very deep.
        assert!(plain(b"]q\0h\0a.").is_ok());
        let deep: Vec<u8> =
            std::iter::once(b'N').chain(std::iter::repeat_n(0x85, 900_000)).chain([b'.']).collect();
        assert!(plain(&deep).is_ok());
        assert!(matches!(plain(&b"N0".repeat(LIMIT)), Err(Fault::Broken(_))));
    }
}
