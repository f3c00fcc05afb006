//! The layers that the networks share.

use super::Error;
use super::parameters::{Builder, Init};
use crate::torch::{Kind, Tensor, group_norm, layer_norm, will_be_differentiated};

/// `x Wᵀ + b` over the last dimension.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub(super) fn new(b: &Builder, inputs: i64, outputs: i64) -> Result<Self, Error> {
        let weight = b.get("weight", &[outputs, inputs], Init::Fan(inputs))?;
        Ok(Self { weight, bias: Some(b.get("bias", &[outputs], Init::Zeros)?) })
    }

    pub(super) fn without_bias(b: &Builder, inputs: i64, outputs: i64) -> Result<Self, Error> {
        Ok(Self { weight: b.get("weight", &[outputs, inputs], Init::Fan(inputs))?, bias: None })
    }

    /// Starts as the zero function, so that a residual branch begins as the identity.
    pub(super) fn zero_init(b: &Builder, inputs: i64, outputs: i64) -> Result<Self, Error> {
        let weight = b.get("weight", &[outputs, inputs], Init::Zeros)?;
        Ok(Self { weight, bias: Some(b.get("bias", &[outputs], Init::Zeros)?) })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

/// A 2D convolution.
#[derive(Debug)]
pub(super) struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// Square kernel, padded so that the size stays.
    pub(super) fn new(b: &Builder, inputs: i64, outputs: i64, kernel: i64) -> Result<Self, Error> {
        let fan = Init::Fan(inputs * kernel * kernel);
        Self::build(b, [outputs, inputs, kernel, kernel], fan)
    }

    /// As [`Self::new`], starting as the zero function.
    pub(super) fn zero_init(
        b: &Builder,
        inputs: i64,
        outputs: i64,
        kernel: i64,
    ) -> Result<Self, Error> {
        Self::build(b, [outputs, inputs, kernel, kernel], Init::Zeros)
    }

    /// 3×3 with stride 2: halves the size.
    pub(super) fn halving(b: &Builder, channels: i64, padding: i64) -> Result<Self, Error> {
        let full = Self::build(b, [channels, channels, 3, 3], Init::Fan(channels * 9))?;
        Ok(Self { stride: 2, padding, ..full })
    }

    /// Non-overlapping patches, without a bias.
    pub(super) fn patches(
        b: &Builder,
        inputs: i64,
        outputs: i64,
        size: i64,
    ) -> Result<Self, Error> {
        let weight =
            b.get("weight", &[outputs, inputs, size, size], Init::Fan(inputs * size * size))?;
        Ok(Self { weight, bias: None, stride: size, padding: 0 })
    }

    /// A weight of this shape, `[outputs, inputs, kernel, kernel]`; the size stays.
    fn build(b: &Builder, shape: [i64; 4], init: Init) -> Result<Self, Error> {
        let [outputs, _, _, kernel] = shape;
        let weight = b.get("weight", &shape, init)?;
        let bias = Some(b.get("bias", &[outputs], Init::Zeros)?);
        Ok(Self { weight, bias, stride: 1, padding: kernel / 2 })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let (s, p) = ([self.stride; 2], [self.padding; 2]);
        x.conv2d(&self.weight, self.bias.as_ref(), s, p, [1, 1], 1)
    }
}

/// Normalisation over groups of channels.
#[derive(Debug)]
pub(super) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    pub(super) fn new(b: &Builder, groups: i64, channels: i64, eps: f64) -> Result<Self, Error> {
        if channels % groups != 0 {
            return Err(Error::Config(format!(
                "norm_num_groups is {groups}, which does not divide {channels} channels"
            )));
        }
        let weight = b.get("weight", &[channels], Init::Ones)?;
        Ok(Self { weight, bias: b.get("bias", &[channels], Init::Zeros)?, groups, eps })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        self.run(x, false)
    }

    /// As [`Self::forward`], then `silu`.
    pub(super) fn forward_silu(&self, x: &Tensor) -> Tensor {
        self.run(x, true)
    }

    fn run(&self, x: &Tensor, silu: bool) -> Tensor {
        group_norm(x, self.groups, &self.weight, &self.bias, self.eps, silu)
            .expect("[n, channels, h, w]")
    }
}

/// Normalisation over the last dimension.
#[derive(Debug)]
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(super) fn new(b: &Builder, size: i64, eps: f64) -> Result<Self, Error> {
        let weight = b.get("weight", &[size], Init::Ones)?;
        Ok(Self { weight, bias: b.get("bias", &[size], Init::Zeros)?, eps })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        layer_norm(x, &self.weight, &self.bias, self.eps).expect("[…, width]")
    }
}

/// Splits `[n, tokens, heads·size]` into `[n, heads, tokens, size]`.
pub(super) fn split_heads(x: &Tensor, heads: i64) -> Tensor {
    let (n, tokens, width) = x.size3().expect("[n, tokens, width]");
    x.view([n, tokens, heads, width / heads]).transpose(1, 2)
}

/// The way back.
pub(super) fn join_heads(x: &Tensor) -> Tensor {
    let (n, heads, tokens, size) = x.size4().expect("[n, heads, tokens, size]");
    x.transpose(1, 2).reshape([n, tokens, heads * size])
}

/// Up to this many scores a head, a CPU trains faster with the formula than with the fused kernel.
const SMALL: i64 = 128 * 128;

/// Attention `softmax(q kᵀ / √size) v` over split heads; `causal` hides what comes later.
///
/// The fused kernel needs no memory for the scores and is right for pictures of a real size. Its
/// backward pass on a CPU has a cost of its own for each head, though: with 64 tokens in bf16 it
/// was measured 4 to 10 times slower than the formula (29 against 4 to 7 ms for 64 × 4 heads).
pub(super) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> Tensor {
    let (queries, keys, size) = (q.size()[2], k.size()[2], q.size()[3]);
    let trains = [q, k, v].into_iter().any(will_be_differentiated);
    if q.device().is_cuda() || !trains || queries * keys > SMALL {
        return Tensor::scaled_dot_product_attention(
            q,
            k,
            v,
            None::<Tensor>,
            0.0,
            causal,
            None,
            false,
        );
    }
    let mut scores = (q * (size as f64).powf(-0.5)).matmul(&k.transpose(-1, -2));
    if causal {
        let later = Tensor::ones([queries, keys], (Kind::Bool, q.device())).triu(1);
        scores = scores.masked_fill(&later, f64::NEG_INFINITY);
    }
    scores.softmax(-1, scores.kind()).matmul(v)
}
