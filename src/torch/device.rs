//! Where tensors live. CUDA is opened at run time, so one binary serves machines with and without
//! it.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ffi::CString;
use std::path::Path;
use std::str::FromStr;
use std::sync::OnceLock;

use super::{Error, ffi};

/// Where libtorch's libraries were when this program was built.
pub const LIBTORCH: &str = env!("UNSEE_LIBTORCH");
/// libtorch's version.
pub const VERSION: &str = env!("UNSEE_LIBTORCH_VERSION");

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// CUDA where there is a GPU, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this index.
    Cuda(usize),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("`{text}` is no device; use auto, cpu, cuda or cuda:N")),
        }
    }
}

/// A device that was found to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device(pub(super) tch::Device);

impl Device {
    /// The CPU, which is always there.
    pub const CPU: Self = Self(tch::Device::Cpu);

    /// Opens the device that was asked for.
    ///
    /// # Errors
    /// [`Error::NoCuda`] where CUDA was asked for by name and cannot be had.
    pub fn open(choice: Choice) -> Result<Self, Error> {
        match choice {
            Choice::Cpu => Ok(Self::CPU),
            Choice::Auto => Ok(cuda().as_ref().map_or(Self::CPU, |()| Self(tch::Device::Cuda(0)))),
            Choice::Cuda(index) => {
                cuda().as_ref().map_err(|why| Error::NoCuda(why.clone()))?;
                let count = tch::Cuda::device_count();
                if index as i64 >= count {
                    return Err(Error::NoCuda(format!(
                        "there is no cuda:{index}, this machine has {count}"
                    )));
                }
                Ok(Self(tch::Device::Cuda(index)))
            }
        }
    }

    /// Why CUDA cannot be used, or `None` where it can.
    pub fn why_no_cuda() -> Option<&'static str> {
        cuda().as_ref().err().map(String::as_str)
    }

    /// Whether this is a CUDA device.
    pub fn is_cuda(self) -> bool {
        self.0.is_cuda()
    }

    /// tch's name for it.
    pub fn tch(self) -> tch::Device {
        self.0
    }

    pub(super) fn index(self) -> i8 {
        match self.0 {
            tch::Device::Cuda(index) => index as i8,
            _ => -1,
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            tch::Device::Cuda(index) => write!(f, "cuda:{index}"),
            _ => write!(f, "cpu"),
        }
    }
}

/// Opens CUDA once. The library must be loaded before libtorch is first asked about CUDA: it
/// remembers the answer.
fn cuda() -> &'static Result<(), String> {
    static CUDA: OnceLock<Result<(), String>> = OnceLock::new();
    CUDA.get_or_init(|| {
        let beside = Path::new(LIBTORCH).join("libtorch_cuda.so");
        let name = if beside.exists() {
            beside.to_string_lossy().into_owned()
        } else {
            "libtorch_cuda.so".to_owned() // found through LD_LIBRARY_PATH, on another machine
        };
        let name = CString::new(name).map_err(|error| error.to_string())?;
        // SAFETY: a NUL-ended path; the shim reports failures.
        ffi::check(unsafe { ffi::unsee_open_cuda(name.as_ptr()) }).map_err(
            |error| match error {
                Error::Libtorch(text) => text,
                other => other.to_string(),
            },
        )?;
        #[expect(clippy::disallowed_methods, reason = "CUDA has just been opened")]
        if tch::Cuda::is_available() {
            Ok(())
        } else {
            Err("libtorch_cuda.so was opened, but there is no NVIDIA driver or no GPU".to_owned())
        }
    })
}

/// How many threads libtorch uses inside one operation.
pub fn threads() -> usize {
    tch::get_num_threads() as usize
}

/// Sets the number of threads inside one operation. Results are bit-equal only for the same number.
pub fn set_threads(n: usize) {
    tch::set_num_threads(n as i32);
}
