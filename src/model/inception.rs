//! Inception-v3 (Szegedy et al. 2016) as FID is computed with it: the network that TensorFlow's
//! first FID used, in the layout that `pytorch-fid` gave its weights (torchvision's names). Where
//! it leaves torchvision's: averages of neighbourhoods leave the border out, and the last block
//! takes the largest of a neighbourhood instead.

use super::Error;
use super::parameters::{Builder, Init};
use crate::torch::{Kind, Tensor};

/// Pixels on a side of what it looks at.
const SIDE: i64 = 299;

/// A convolution with batch norm and `ReLU`.
#[derive(Debug)]
struct BatchNormConv {
    weight: Tensor,
    /// Batch norm as a factor and a shift: it does not learn here.
    factor: Tensor,
    shift: Tensor,
    stride: i64,
    padding: [i64; 2],
}

impl BatchNormConv {
    /// `kernel` rows × columns, a stride, and as much padding as keeps the size where the stride is
    /// 1 and `same` is set.
    fn new(
        b: &Builder,
        inputs: i64,
        outputs: i64,
        kernel: [i64; 2],
        stride: i64,
        same: bool,
    ) -> Result<Self, Error> {
        const EPS: f64 = 1e-3;
        let weight = b.at("conv").get(
            "weight",
            &[outputs, inputs, kernel[0], kernel[1]],
            Init::Fan(inputs),
        )?;
        let norm = b.at("bn");
        let bias = norm.get("bias", &[outputs], Init::Zeros)?;
        // NVIDIA's file has none.
        let gain = if norm.has("weight") {
            norm.get("weight", &[outputs], Init::Ones)?
        } else {
            bias.ones_like()
        };
        let mean = norm.get("running_mean", &[outputs], Init::Zeros)?;
        let variance = norm.get("running_var", &[outputs], Init::Ones)?;
        let factor = gain / (variance + EPS).sqrt();
        let shift = bias - mean * &factor;
        let padding = kernel.map(|k| if same { k / 2 } else { 0 });
        Ok(Self { weight, factor, shift, stride, padding })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let y = x.conv2d::<Tensor>(&self.weight, None, [self.stride; 2], self.padding, [1, 1], 1);
        let channel = |x: &Tensor| x.view([1, -1, 1, 1]);
        (y * channel(&self.factor) + channel(&self.shift)).relu()
    }
}

/// What a branch of a block begins with.
#[derive(Debug, Clone, Copy)]
enum Pool {
    /// The mean of 3×3 numbers, without the border.
    Average,
    /// The largest of 3×3 numbers.
    Max,
    /// The same with stride 2.
    MaxHalving,
}

impl Pool {
    fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Average => x.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None),
            Self::Max => x.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false),
            Self::MaxHalving => x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false),
        }
    }
}

/// A way through a block.
#[derive(Debug)]
enum Branch {
    /// Convolutions behind each other.
    Chain(Vec<BatchNormConv>),
    /// The same, and two more beside each other at the end.
    Fork(Vec<BatchNormConv>, [BatchNormConv; 2]),
    /// A neighbourhood's summary, and perhaps a convolution.
    Pooled(Pool, Option<BatchNormConv>),
}

impl Branch {
    fn forward(&self, x: &Tensor) -> Tensor {
        let run = |chain: &[BatchNormConv]| {
            chain.iter().fold(x.shallow_clone(), |x, conv| conv.forward(&x))
        };
        match self {
            Self::Chain(chain) => run(chain),
            Self::Fork(chain, [a, b]) => {
                let x = run(chain);
                Tensor::cat(&[a.forward(&x), b.forward(&x)], 1)
            }
            Self::Pooled(pool, conv) => {
                let x = pool.apply(x);
                conv.as_ref().map_or_else(|| x.shallow_clone(), |conv| conv.forward(&x))
            }
        }
    }
}

const ONE: [i64; 2] = [1, 1];
const THREE: [i64; 2] = [3, 3];

/// Hands out a block's convolutions by name.
struct ConvBuilder<'a, 'b>(&'a Builder<'b>);

impl ConvBuilder<'_, '_> {
    fn conv(
        &self,
        name: &str,
        inputs: i64,
        outputs: i64,
        kernel: [i64; 2],
    ) -> Result<BatchNormConv, Error> {
        BatchNormConv::new(&self.0.at(name), inputs, outputs, kernel, 1, true)
    }

    fn halving(&self, name: &str, inputs: i64, outputs: i64) -> Result<BatchNormConv, Error> {
        BatchNormConv::new(&self.0.at(name), inputs, outputs, THREE, 2, false)
    }

    fn pooled(&self, pool: Pool, inputs: i64, outputs: i64) -> Result<Branch, Error> {
        Ok(Branch::Pooled(pool, Some(self.conv("branch_pool", inputs, outputs, ONE)?)))
    }

    /// 35×35.
    fn first(&self, i: i64, pool: i64) -> Result<Vec<Branch>, Error> {
        Ok(vec![
            Branch::Chain(vec![self.conv("branch1x1", i, 64, ONE)?]),
            Branch::Chain(vec![
                self.conv("branch5x5_1", i, 48, ONE)?,
                self.conv("branch5x5_2", 48, 64, [5, 5])?,
            ]),
            Branch::Chain(vec![
                self.conv("branch3x3dbl_1", i, 64, ONE)?,
                self.conv("branch3x3dbl_2", 64, 96, THREE)?,
                self.conv("branch3x3dbl_3", 96, 96, THREE)?,
            ]),
            self.pooled(Pool::Average, i, pool)?,
        ])
    }

    /// 35×35 to 17×17.
    fn halve_first(&self, i: i64) -> Result<Vec<Branch>, Error> {
        Ok(vec![
            Branch::Chain(vec![self.halving("branch3x3", i, 384)?]),
            Branch::Chain(vec![
                self.conv("branch3x3dbl_1", i, 64, ONE)?,
                self.conv("branch3x3dbl_2", 64, 96, THREE)?,
                self.halving("branch3x3dbl_3", 96, 96)?,
            ]),
            Branch::Pooled(Pool::MaxHalving, None),
        ])
    }

    /// 17×17.
    fn second(&self, i: i64, c: i64) -> Result<Vec<Branch>, Error> {
        Ok(vec![
            Branch::Chain(vec![self.conv("branch1x1", i, 192, ONE)?]),
            Branch::Chain(vec![
                self.conv("branch7x7_1", i, c, ONE)?,
                self.conv("branch7x7_2", c, c, [1, 7])?,
                self.conv("branch7x7_3", c, 192, [7, 1])?,
            ]),
            Branch::Chain(vec![
                self.conv("branch7x7dbl_1", i, c, ONE)?,
                self.conv("branch7x7dbl_2", c, c, [7, 1])?,
                self.conv("branch7x7dbl_3", c, c, [1, 7])?,
                self.conv("branch7x7dbl_4", c, c, [7, 1])?,
                self.conv("branch7x7dbl_5", c, 192, [1, 7])?,
            ]),
            self.pooled(Pool::Average, i, 192)?,
        ])
    }

    /// 17×17 to 8×8.
    fn halve_second(&self, i: i64) -> Result<Vec<Branch>, Error> {
        Ok(vec![
            Branch::Chain(vec![
                self.conv("branch3x3_1", i, 192, ONE)?,
                self.halving("branch3x3_2", 192, 320)?,
            ]),
            Branch::Chain(vec![
                self.conv("branch7x7x3_1", i, 192, ONE)?,
                self.conv("branch7x7x3_2", 192, 192, [1, 7])?,
                self.conv("branch7x7x3_3", 192, 192, [7, 1])?,
                self.halving("branch7x7x3_4", 192, 192)?,
            ]),
            Branch::Pooled(Pool::MaxHalving, None),
        ])
    }

    /// 8×8.
    fn third(&self, i: i64, pool: Pool) -> Result<Vec<Branch>, Error> {
        let fork = |name: &str| -> Result<[BatchNormConv; 2], Error> {
            Ok([
                self.conv(&format!("{name}a"), 384, 384, [1, 3])?,
                self.conv(&format!("{name}b"), 384, 384, [3, 1])?,
            ])
        };
        Ok(vec![
            Branch::Chain(vec![self.conv("branch1x1", i, 320, ONE)?]),
            Branch::Fork(vec![self.conv("branch3x3_1", i, 384, ONE)?], fork("branch3x3_2")?),
            Branch::Fork(
                vec![
                    self.conv("branch3x3dbl_1", i, 448, ONE)?,
                    self.conv("branch3x3dbl_2", 448, 384, THREE)?,
                ],
                fork("branch3x3dbl_3")?,
            ),
            self.pooled(pool, i, 192)?,
        ])
    }
}

/// Pictures to features.
#[derive(Debug)]
pub struct Inception {
    stem: [BatchNormConv; 5],
    blocks: Vec<Vec<Branch>>,
}

impl Inception {
    /// Builds it under torchvision's names.
    ///
    /// # Errors
    /// Weights that are missing or of another shape.
    pub fn new(b: &Builder) -> Result<Self, Error> {
        let plain = |name: &str, inputs, outputs, kernel, stride, same| {
            BatchNormConv::new(&b.at(name), inputs, outputs, kernel, stride, same)
        };
        let stem = [
            plain("Conv2d_1a_3x3", 3, 32, THREE, 2, false)?,
            plain("Conv2d_2a_3x3", 32, 32, THREE, 1, false)?,
            plain("Conv2d_2b_3x3", 32, 64, THREE, 1, true)?,
            plain("Conv2d_3b_1x1", 64, 80, ONE, 1, false)?,
            plain("Conv2d_4a_3x3", 80, 192, THREE, 1, false)?,
        ];
        let at = |name: &str| b.at(name);
        let blocks = vec![
            ConvBuilder(&at("Mixed_5b")).first(192, 32)?,
            ConvBuilder(&at("Mixed_5c")).first(256, 64)?,
            ConvBuilder(&at("Mixed_5d")).first(288, 64)?,
            ConvBuilder(&at("Mixed_6a")).halve_first(288)?,
            ConvBuilder(&at("Mixed_6b")).second(768, 128)?,
            ConvBuilder(&at("Mixed_6c")).second(768, 160)?,
            ConvBuilder(&at("Mixed_6d")).second(768, 160)?,
            ConvBuilder(&at("Mixed_6e")).second(768, 192)?,
            ConvBuilder(&at("Mixed_7a")).halve_second(768)?,
            ConvBuilder(&at("Mixed_7b")).third(1280, Pool::Average)?,
            ConvBuilder(&at("Mixed_7c")).third(2048, Pool::Max)?,
        ];
        Ok(Self { stem, blocks })
    }

    /// Pictures `[n, 3, h, w]` from 0 to 1, of any size, to features `[n, 2048]`.
    pub fn features(&self, pictures: &Tensor) -> Tensor {
        let x = pictures.upsample_bilinear2d([SIDE, SIDE], false, None, None) * 2.0 - 1.0;
        let [a, b, c, d, e] = &self.stem;
        let x = c.forward(&b.forward(&a.forward(&x)));
        let x = e.forward(&d.forward(&Pool::MaxHalving.apply(&x)));
        let x = self.blocks.iter().fold(Pool::MaxHalving.apply(&x), |x, block| {
            Tensor::cat(&block.iter().map(|branch| branch.forward(&x)).collect::<Vec<_>>(), 1)
        });
        x.mean_dim([2_i64, 3].as_slice(), false, Kind::Float)
    }
}
