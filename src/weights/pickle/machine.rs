//! Reads a pickle as data. Python's pickles are programs for a stack machine; this one knows the
//! instructions that build values, looks names up in a list that the caller gives, and calls
//! nothing.
//!
//! Values lie on a heap and are spoken of by number, so that a pickle which contains itself leaks
//! nothing and a deep one overflows no stack. What a file can make it hold is bounded by [`LIMIT`].
//!
//! The instructions are those of `pickletools`, protocols 0 to 5.

use std::collections::HashMap;

use super::heap::{Heap, Id, PickleValue};

/// Most instructions that are followed: the largest checkpoints need some 100,000.
const LIMIT: usize = 1_000_000;

/// Why a pickle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It speaks of a class or function that is not on the list.
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
    let mut machine = Unpickler {
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
        if let Some(value) = machine.step()? {
            return Ok((machine.heap, value, machine.at));
        }
    }
    broken(format!("its pickle has more than {LIMIT} instructions"))
}

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

    /// Follows one instruction; the pickle's value where it was the last.
    #[expect(clippy::too_many_lines, reason = "one arm for each instruction")]
    fn step(&mut self) -> Result<Option<Id>, Fault> {
        let code = self.number(1)? as u8;
        match code {
            0x80 => {
                let protocol = self.number(1)?;
                if protocol > 5 {
                    return broken(format!(
                        "its pickle is of protocol {protocol}, 5 is the newest known"
                    ));
                }
            }
            // A frame's length matters to readers that copy.
            0x95 => drop(self.take(8)?),
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            // Popping right above a mark takes the mark.
            b'0' => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }

            b'N' => self.push(PickleValue::None),
            0x88 => self.push(PickleValue::Bool(true)),
            0x89 => self.push(PickleValue::Bool(false)),
            b'I' => match self.line()? {
                "00" => self.push(PickleValue::Bool(false)),
                "01" => self.push(PickleValue::Bool(true)),
                text => self.push(PickleValue::Int(text.trim().parse().ok())),
            },
            b'L' => {
                let text = self.line()?;
                self.push(PickleValue::Int(text.trim_end_matches('L').parse().ok()));
            }
            b'J' => self.long(4)?,
            b'K' => {
                let int = self.number(1)?;
                self.push(PickleValue::Int(Some(int as i64)));
            }
            b'M' => {
                let int = self.number(2)?;
                self.push(PickleValue::Int(Some(int as i64)));
            }
            0x8a => {
                let n = self.number(1)?;
                self.long(n)?;
            }
            0x8b => {
                let n = self.number(4)?;
                self.long(n)?;
            }
            b'F' => match self.line()?.trim().parse() {
                Ok(float) => self.push(PickleValue::Float(float)),
                Err(_) => return broken("its pickle has a number that is none"),
            },
            b'G' => {
                let bits = self.number(8)?.swap_bytes();
                self.push(PickleValue::Float(f64::from_bits(bits)));
            }

            b'S' => {
                let line = self.line()?.as_bytes();
                self.string(line.get(1..line.len().max(1) - 1).unwrap_or_default());
            }
            b'V' => {
                let text = self.line()?;
                self.push(PickleValue::Text(text));
            }
            b'T' | b'U' => {
                let n = self.number(if code == b'T' { 4 } else { 1 })?;
                let bytes = self.take(n)?;
                self.string(bytes);
            }
            b'X' | 0x8c | 0x8d => {
                let n = self.number(width(code, b'X', 0x8c))?;
                self.text(n)?;
            }
            b'B' | b'C' | 0x8e | 0x96 => {
                let n = self.number(width(code, b'B', b'C'))?;
                self.bytes(n)?;
            }

            b']' | b')' | 0x8f => self.push(PickleValue::List(Vec::new())),
            b'}' => self.push(PickleValue::Dict(Vec::new())),
            0x85..=0x87 => self.pop_list(usize::from(code - 0x84))?,
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(PickleValue::List(items));
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(PickleValue::Dict(Vec::new()));
                let dict = self.top()?;
                self.set(dict, &items)?;
            }
            b'a' => {
                let item = self.pop()?;
                let to = self.top()?;
                self.append(to, vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                let to = self.top()?;
                self.append(to, items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                let to = self.top()?;
                self.set(to, &[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                let to = self.top()?;
                self.set(to, &items)?;
            }

            b'q' | b'r' => {
                let key = self.number(if code == b'q' { 1 } else { 4 })?;
                self.remember(key)?;
            }
            b'p' => match self.line()?.trim().parse() {
                Ok(key) => self.remember(key)?,
                Err(_) => return broken("its pickle stores under what is no number"),
            },
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' | b'j' => {
                let key = self.number(if code == b'h' { 1 } else { 4 })?;
                self.recall(key)?;
            }
            b'g' => match self.line()?.trim().parse() {
                Ok(key) => self.recall(key)?,
                Err(_) => return broken("its pickle recalls what is no number"),
            },

            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.name(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.heap.text(module), self.heap.text(name))
                else {
                    return broken("its pickle names a class by what is no text");
                };
                self.name(module, name)?;
            }
            b'R' | 0x81 => {
                let (arguments, name) = (self.pop()?, self.pop()?);
                self.make(name, arguments)?;
            }
            0x92 => {
                let (_, arguments, name) = (self.pop()?, self.pop()?, self.pop()?);
                self.make(name, arguments)?;
            }
            b'b' => {
                let given = self.pop()?;
                let to = self.top()?;
                if let Some(PickleValue::Made { state, .. }) = self.heap.get_mut(to) {
                    *state = Some(given);
                }
            }
            b'P' => {
                let text = self.line()?;
                let id = self.heap.add(PickleValue::Text(text));
                self.push(PickleValue::Outside(id));
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(PickleValue::Outside(id));
            }
            other => {
                let name = match other {
                    b'i' => " (INST)",
                    b'o' => " (OBJ)",
                    0x82..=0x84 => " (EXT)",
                    0x97 | 0x98 => " (BUFFER)",
                    _ => "",
                };
                let position = self.at - 1;
                return broken(format!(
                    "its pickle has the instruction {other:#04x}{name} at byte {position}, which \
                     no file of weights needs"
                ));
            }
        }
        Ok(None)
    }
}

/// Bytes of a length: four for the plain instruction, one for the short one, else eight.
fn width(code: u8, plain: u8, short: u8) -> u64 {
    if code == plain {
        4
    } else if code == short {
        1
    } else {
        8
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
