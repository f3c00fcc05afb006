//! What a file says of a tensor before it is read.

use crate::torch::Kind;

/// Number type and shape of a tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The type's name in safetensors, `F16`.
    pub dtype: String,
    /// The shape.
    pub shape: Vec<i64>,
}

/// safetensors' name of libtorch's type.
pub(super) fn dtype_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Double => "F64",
        Kind::Half => "F16",
        Kind::BFloat16 => "BF16",
        Kind::Int64 => "I64",
        Kind::Int => "I32",
        Kind::Int16 => "I16",
        Kind::Int8 => "I8",
        Kind::Uint8 => "U8",
        Kind::Bool => "BOOL",
        _ => "F32",
    }
}
