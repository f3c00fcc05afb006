//! Which number type the heavy operations use.
#![expect(unsafe_code, reason = "calls the shim")]

use std::str::FromStr;

use tch::Kind;

use super::{Device, Error, ffi};

/// The number type of matrix products and convolutions; parameters and optimizer state stay `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    F32,
    /// Single precision, whose products are rounded to ten bits on the way (TF32); CUDA only.
    Tf32,
    /// bfloat16 through autocast.
    Bf16,
    /// Half precision through autocast; CUDA only.
    F16,
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "tf32" => Ok(Self::Tf32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(format!("`{text}` is no precision; use f32, bf16, or on a GPU f16 or tf32")),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

/// What this processor can do about 16-bit numbers.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct CpuFeatures {
    /// AVX-512 is there.
    pub avx512f: bool,
    /// bfloat16 products in AVX-512.
    pub avx512_bf16: bool,
    /// bfloat16 tiles.
    pub amx_bf16: bool,
}

impl CpuFeatures {
    /// Reads `/proc/cpuinfo`.
    pub fn of_this_machine() -> Self {
        let text = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags: Vec<&str> = text
            .lines()
            .find(|line| line.starts_with("flags"))
            .map(|line| line.split_whitespace().collect())
            .unwrap_or_default();
        let has = |flag| flags.contains(&flag);
        Self { avx512f: has("avx512f"), avx512_bf16: has("avx512_bf16"), amx_bf16: has("amx_bf16") }
    }
}

impl Precision {
    /// The fastest that is safe here: bf16 where the hardware multiplies it, else f32.
    ///
    /// Without such hardware bf16 is emulated, and f16 on a CPU was measured 35 to 140 times
    /// slower.
    pub fn best(device: Device) -> Self {
        let features = CpuFeatures::of_this_machine();
        if device.is_cuda() || features.avx512_bf16 || features.amx_bf16 {
            Self::Bf16
        } else {
            Self::F32
        }
    }

    /// What was asked for, or the best, and tells libtorch: f32 products are exact unless TF32 was
    /// asked for (cuDNN's are not by default), and cuDNN tries its algorithms before it takes one.
    ///
    /// # Errors
    /// f16 or TF32 on a CPU.
    pub fn choose(asked: Option<Self>, device: Device) -> Result<Self, Error> {
        // SAFETY: sets flags.
        unsafe { ffi::unsee_cuda_products(asked == Some(Self::Tf32), device.is_cuda()) };
        match asked {
            Some(Self::Tf32) if !device.is_cuda() => Err(Error::Precision(
                "tf32 is a GPU's; use --precision f32 or bf16 on a CPU".to_owned(),
            )),
            Some(Self::F16) if !device.is_cuda() => Err(Error::Precision(
                "f16 on a CPU is 35 to 140 times slower than f32; use --precision bf16 or f32"
                    .to_owned(),
            )),
            Some(precision) => Ok(precision),
            None => Ok(Self::best(device)),
        }
    }

    /// libtorch's name for it.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 | Self::Tf32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 => Kind::Half,
        }
    }

    /// Until the returned guard is dropped, matrix products and convolutions on this thread run in
    /// this precision. Casts of parameters that require a gradient are kept for the guard's life.
    pub fn scope(self, device: Device) -> Scope {
        let kind = match self {
            Self::F32 | Self::Tf32 => -1,
            _ => self.kind() as i32,
        };
        let device = i32::from(device.is_cuda()); // c10::DeviceType: CPU 0, CUDA 1
        let mut before = [0; 2];
        // SAFETY: `before` has room for the two numbers that the shim writes.
        let answer =
            ffi::check(unsafe { ffi::unsee_autocast_enter(device, kind, before.as_mut_ptr()) });
        Scope { device, before, on: answer.is_ok(), _here: std::marker::PhantomData }
    }
}

/// Restores the former precision when dropped, also on unwinding.
#[must_use = "the precision ends with this guard"]
#[derive(Debug)]
pub struct Scope {
    device: i32,
    before: [i64; 2],
    on: bool,
    _here: std::marker::PhantomData<*const ()>, // autocast is a property of the thread
}

impl Drop for Scope {
    fn drop(&mut self) {
        if self.on {
            // SAFETY: `before` is what the matching enter wrote.
            drop(ffi::check(unsafe {
                ffi::unsee_autocast_leave(self.device, self.before.as_ptr())
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Tensor;

    #[test]
    fn products_run_in_the_scope_s_precision_and_the_former_one_comes_back() {
        let a = Tensor::ones([4, 4], (Kind::Float, tch::Device::Cpu));
        {
            let _bf16 = Precision::Bf16.scope(Device::CPU);
            assert_eq!(a.matmul(&a).kind(), Kind::BFloat16);
            {
                let _f32 = Precision::F32.scope(Device::CPU);
                assert_eq!(a.matmul(&a).kind(), Kind::Float);
            }
            assert_eq!(a.matmul(&a).kind(), Kind::BFloat16);
        }
        assert_eq!(a.matmul(&a).kind(), Kind::Float);
    }

    #[test]
    fn what_only_gpus_do_well_is_refused_on_a_cpu() {
        assert!(Precision::choose(Some(Precision::F16), Device::CPU).is_err());
        assert!(Precision::choose(Some(Precision::Tf32), Device::CPU).is_err());
    }

    #[test]
    fn products_are_exact_unless_someone_asks() {
        Precision::choose(None, Device::CPU).unwrap();
        // SAFETY: reads flags.
        assert!(!unsafe { ffi::unsee_cuda_products_are_rounded() });
    }
}
