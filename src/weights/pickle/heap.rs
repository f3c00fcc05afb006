//! The values of a pickle, each referred to by its number.

/// The number of a value on the heap.
pub(super) type Id = usize;

/// What a pickle can hold. Text and bytes are borrowed from the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PickleValue<'a> {
    None,
    Bool(bool),
    /// Integers of any length, in 64 bits; longer ones are `None` inside.
    Int(Option<i64>),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// A tuple, list or set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function, `module.name`.
    Name(String),
    /// What a name would return for the arguments, and the state that it would be given.
    Made {
        name: Id,
        arguments: Id,
        state: Option<Id>,
    },
    /// What lies outside the pickle: a storage.
    Outside(Id),
}

/// The values of a pickle.
#[derive(Debug, Default)]
pub(super) struct Heap<'a>(Vec<PickleValue<'a>>);

impl<'a> Heap<'a> {
    pub(super) fn get(&self, id: Id) -> &PickleValue<'a> {
        // Every id was made by `add`.
        self.0.get(id).unwrap_or(&PickleValue::None)
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut PickleValue<'a>> {
        self.0.get_mut(id)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn add(&mut self, value: PickleValue<'a>) -> Id {
        self.0.push(value);
        self.0.len() - 1
    }

    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            PickleValue::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn int(&self, id: Id) -> Option<i64> {
        match self.get(id) {
            PickleValue::Int(int) => *int,
            _ => None,
        }
    }

    pub(super) fn list(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            PickleValue::List(list) => Some(list),
            _ => None,
        }
    }

    /// A dictionary's value under a key of text; the last one that was set.
    pub(super) fn item(&self, dict: Id, key: &str) -> Option<Id> {
        match self.get(dict) {
            PickleValue::Dict(items) => items
                .iter()
                .rev()
                .find(|(item, _)| self.text(*item) == Some(key))
                .map(|(_, value)| *value),
            _ => None,
        }
    }

    pub(super) fn name(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            PickleValue::Name(name) => Some(name),
            _ => None,
        }
    }
}
