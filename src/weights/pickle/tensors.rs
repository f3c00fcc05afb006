//! The tensors among a pickle's values.

use std::collections::BTreeMap;

use super::heap::{Heap, Id, PickleValue};
use crate::fields::Rule;
use crate::torch::Kind;
use crate::weights::STYLEGAN2;
use crate::weights::map::Layout;

/// Deepest nesting of dictionaries that is looked into.
const DEPTH: usize = 12;
/// Longest name of a tensor, with those of the dictionaries around it.
const NAME: usize = 1_000;
/// Most values that are looked at, so that dictionaries which share their parts end.
const VALUES: usize = 1_000_000;
/// Most bytes of tensors' names together, for the same reason; the largest published model has 0.3
/// MB of them.
const NAMES: usize = 16 << 20;

/// Whether a class or function is tensors' own, or holds plain data that checkpoints carry beside
/// tensors. None of them is ever called; what is made of them is known below.
pub(super) fn known(name: &str) -> bool {
    storage_kind(name).is_some()
        || matches!(
            name,
            "collections.OrderedDict"
                | "torch._utils._rebuild_tensor"
                | "torch._utils._rebuild_tensor_v2"
                | "torch._utils._rebuild_parameter"
                | "torch._tensor._rebuild_from_type_v2"
                | "torch.Tensor"
                | "torch.Size"
                | "torch.device"
                | "torch.nn.parameter.Parameter"
                | "torch.nn.modules.container.ParameterDict"
                | "torch.storage.UntypedStorage"
                | "torch.storage._load_from_bytes"
                | "__builtin__.set"
                | "builtins.set"
                // The numbers and the label that Lightning put into the published SD 1.x
                // checkpoints
                | "numpy.core.multiarray.scalar"
                | "numpy._core.multiarray.scalar"
                | "numpy.dtype"
                | "_codecs.encode"
                | "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
                // The arguments in rosinality's checkpoints, and what NVIDIA's networks are made of
                | "argparse.Namespace"
                | "dnnlib.util.EasyDict"
                | "torch_utils.persistence._reconstruct_persistent_obj"
        )
        || is_scripted(name)
        || name.strip_prefix("torch.").is_some_and(is_dtype)
}

/// Whether it is a module of a `TorchScript`, or how one holds lists.
fn is_scripted(name: &str) -> bool {
    name.starts_with("__torch__.") || name.starts_with("torch.jit._pickle.")
}

/// The number type of a storage's class.
fn storage_kind(name: &str) -> Option<Kind> {
    let class = name.strip_prefix("torch.")?;
    Some(match class.strip_prefix("cuda.").unwrap_or(class) {
        "DoubleStorage" => Kind::Double,
        "FloatStorage" => Kind::Float,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        _ => return None,
    })
}

fn is_dtype(name: &str) -> bool {
    matches!(
        name,
        "float64"
            | "float32"
            | "float16"
            | "bfloat16"
            | "int64"
            | "int32"
            | "int16"
            | "int8"
            | "uint8"
            | "bool"
    )
}

/// A tensor: which storage its numbers are in, from where on, and how they lie.
#[derive(Debug)]
pub(super) struct StoredTensor {
    pub(super) storage: String,
    /// Elements before the first.
    pub(super) offset: i64,
    pub(super) layout: Layout,
}

/// What was found in a pickle.
#[derive(Debug, Default)]
pub(super) struct PickleContents {
    /// All tensors, by their keys joined with dots.
    pub(super) tensors: BTreeMap<String, StoredTensor>,
    /// Settings of modules that change what their tensors mean.
    pub(super) settings: BTreeMap<String, String>,
}

/// Storages that lie inside the pickle, by the number of the value: key and number type.
pub(super) type InnerStorages = BTreeMap<Id, (String, Kind)>;

/// A number, a text or a truth as JSON has it.
fn plain(value: &PickleValue) -> Option<serde_json::Value> {
    Some(match value {
        PickleValue::Bool(truth) => (*truth).into(),
        PickleValue::Int(Some(int)) => (*int).into(),
        PickleValue::Float(float) => (*float).into(),
        PickleValue::Text(text) => (*text).into(),
        _ => return None,
    })
}

/// Everything under `root`.
///
/// # Errors
/// A tensor that is described wrongly, nesting without end.
pub(super) fn contents(
    heap: &Heap,
    root: Id,
    inner: &InnerStorages,
) -> Result<PickleContents, String> {
    let mut collector =
        Collector { heap, inner, values: 0, names: 0, contents: PickleContents::default() };
    collector.value(root, "", 0)?;
    Ok(collector.contents)
}

/// Walks through a pickle's values, and counts what it has seen.
struct Collector<'h, 'a> {
    heap: &'h Heap<'a>,
    inner: &'h InnerStorages,
    values: usize,
    /// Bytes of the tensors' names.
    names: usize,
    contents: PickleContents,
}

/// NVIDIA's networks are calls of this with all that they consist of.
const PERSISTENT: &str = "torch_utils.persistence._reconstruct_persistent_obj";

impl Collector<'_, '_> {
    fn value(&mut self, id: Id, name: &str, depth: usize) -> Result<(), String> {
        self.values += 1;
        if self.values > VALUES || depth > DEPTH {
            return Err(format!(
                "its dictionaries are nested more than {DEPTH} deep, or without end"
            ));
        }
        let heap = self.heap;
        match heap.get(id) {
            PickleValue::Dict(items) => self.dictionary(items, name, depth),
            PickleValue::Made { name: class, state, .. }
                if heap.name(*class) == Some("torch.nn.modules.container.ParameterDict") =>
            {
                // The module's own dictionary of parameters is part of its state.
                match state.and_then(|state| heap.item(state, "_parameters")) {
                    Some(parameters) => self.value(parameters, name, depth + 1),
                    None => Ok(()),
                }
            }
            PickleValue::Made { name: class, arguments, .. }
                if heap.name(*class) == Some(PERSISTENT) =>
            {
                self.persistent_object(*arguments, name, depth)
            }
            // What a TorchScript's module holds is its state.
            PickleValue::Made { name: class, state: Some(state), .. }
                if heap.name(*class).is_some_and(is_scripted) =>
            {
                self.value(*state, name, depth + 1)
            }
            PickleValue::Made { .. } => self.tensor(id, name),
            _ => Ok(()),
        }
    }

    fn dictionary(&mut self, items: &[(Id, Id)], name: &str, depth: usize) -> Result<(), String> {
        for &(key, value) in items {
            let key = match self.heap.get(key) {
                PickleValue::Text(text) => (*text).to_owned(),
                PickleValue::Int(Some(int)) => int.to_string(),
                _ => continue,
            };
            if name.len() + key.len() > NAME {
                return Err(format!("a tensor's name is longer than {NAME} bytes"));
            }
            let name = if name.is_empty() { key } else { format!("{name}.{key}") };
            self.value(value, &name, depth + 1)?;
        }
        Ok(())
    }

    /// A module of NVIDIA's: its parameters, its buffers, the modules in it, and its settings.
    fn persistent_object(&mut self, arguments: Id, name: &str, depth: usize) -> Result<(), String> {
        let heap = self.heap;
        let whole = heap.list(arguments).and_then(<[Id]>::first).copied();
        let Some(state) = whole.and_then(|whole| heap.item(whole, "state")) else {
            return Ok(());
        };
        for part in ["_parameters", "_buffers", "_modules"] {
            if let Some(part) = heap.item(state, part) {
                self.value(part, name, depth + 1)?;
            }
        }
        for (setting, rule) in STYLEGAN2.iter() {
            let Some(value) = heap.item(state, setting).and_then(|id| plain(heap.get(id))) else {
                continue;
            };
            // A value that is as it must be is left out.
            let kept =
                if *rule == Rule::Honoured { value.is_number() } else { !rule.allows(&value) };
            if kept {
                self.contents.settings.insert(format!("{name}.{setting}"), value.to_string());
            }
        }
        Ok(())
    }

    /// Keeps the tensor that a call would build, where it builds one.
    fn tensor(&mut self, id: Id, name: &str) -> Result<(), String> {
        let found =
            tensor(self.heap, self.inner, id, 0).map_err(|why| format!("`{name}`: {why}"))?;
        let Some(tensor) = found else { return Ok(()) };
        self.names += name.len();
        if self.names > NAMES {
            return Err(format!("the names of its tensors are longer than {NAMES} bytes together"));
        }
        if self.contents.tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(format!("it has two tensors of the name `{name}`"));
        }
        Ok(())
    }
}

/// The streams inside a pickle from which storages would be read, each with the value's number.
pub(super) fn streams<'a>(heap: &Heap<'a>) -> Vec<(Id, &'a [u8])> {
    (0..heap.len())
        .filter_map(|id| {
            let PickleValue::Made { name, arguments, .. } = heap.get(id) else { return None };
            let given = heap.list(*arguments).filter(|_| heap.name(*name) == Some(LOAD))?;
            match heap.get(*given.first()?) {
                PickleValue::Bytes(bytes) => Some((id, *bytes)),
                _ => None,
            }
        })
        .collect()
}

/// What a storage inside a pickle is read with.
const LOAD: &str = "torch.storage._load_from_bytes";

/// A tensor that a function of `torch._utils` would build; `None` for other values.
fn tensor(
    heap: &Heap,
    inner: &InnerStorages,
    id: Id,
    depth: usize,
) -> Result<Option<StoredTensor>, String> {
    let PickleValue::Made { name, arguments, .. } = heap.get(id) else { return Ok(None) };
    let arguments = heap.list(*arguments).unwrap_or_default();
    match (heap.name(*name).unwrap_or_default(), arguments) {
        (
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
            &[storage, offset, shape, strides, ..],
        ) => {
            let known = inner.get(&storage).cloned().or_else(|| self::storage(heap, storage));
            let (storage, kind) = known.ok_or("its storage is described wrongly")?;
            let offset = heap.int(offset).ok_or("its offset is no number")?;
            let shape = sizes(heap, shape).ok_or("its shape is no list of sizes")?;
            let strides = sizes(heap, strides).ok_or("its steps are no list of sizes")?;
            if shape.len() != strides.len() || shape.len() > 16 {
                return Err(format!(
                    "its shape {shape:?} and steps {strides:?} do not belong together"
                ));
            }
            Ok(Some(StoredTensor { storage, offset, layout: Layout { kind, shape, strides } }))
        }
        ("torch._utils._rebuild_parameter", &[data, ..]) if depth < 4 => {
            tensor(heap, inner, data, depth + 1)
        }
        ("torch._tensor._rebuild_from_type_v2", &[function, _, given, ..]) if depth < 4 => {
            // The function's result, with attributes that a weight does not need.
            match (heap.name(function), heap.list(given)) {
                (Some("torch._utils._rebuild_parameter"), Some(&[data, ..])) => {
                    tensor(heap, inner, data, depth + 1)
                }
                _ => Err("it is built in a way that is not known".to_owned()),
            }
        }
        (class, _) if class.starts_with("torch._") => Err(format!("`{class}` is given too little")),
        _ => Ok(None),
    }
}

/// Bytes of an element of each storage that the values name, whether a tensor is in it or not.
pub(super) fn element_sizes(heap: &Heap) -> BTreeMap<String, usize> {
    (0..heap.len())
        .filter_map(|id| storage(heap, id))
        .map(|(key, kind)| (key, kind.elt_size_in_bytes()))
        .collect()
}

/// A storage's key and number type, from `("storage", class, key, device, length)`.
pub(super) fn storage(heap: &Heap, id: Id) -> Option<(String, Kind)> {
    let PickleValue::Outside(id) = heap.get(id) else { return None };
    match heap.list(*id)? {
        &[tag, class, key, ..] if heap.text(tag) == Some("storage") => {
            Some((heap.text(key)?.to_owned(), storage_kind(heap.name(class)?)?))
        }
        _ => None,
    }
}

fn sizes(heap: &Heap, id: Id) -> Option<Vec<i64>> {
    let list = match heap.get(id) {
        // torch.Size((…))
        PickleValue::Made { arguments, .. } => heap.list(*heap.list(*arguments)?.first()?)?,
        _ => heap.list(id)?,
    };
    list.iter().map(|&size| heap.int(size).filter(|&size| size >= 0)).collect()
}
