//! The table of instructions.

use super::{Fault, Unpickler, broken};
use crate::weights::pickle::heap::{Id, PickleValue};

impl Unpickler<'_, '_> {
    /// Follows one instruction; the pickle's value where it was the last.
    #[expect(clippy::too_many_lines, reason = "one arm for each instruction")]
    pub(super) fn step(&mut self) -> Result<Option<Id>, Fault> {
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
