//! The C side of `shim.cpp`. Nothing outside `torch` sees this.
#![expect(unsafe_code, reason = "declares the C++ functions")]

use std::ffi::{CStr, c_char, c_void};

use tch::Tensor;
use torch_sys::C_tensor;

use super::Error;

/// Ends the process without running any destructor: libtorch's would destroy what other threads are
/// using.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: it takes a number and does not return.
    unsafe { _exit(code) }
}

#[repr(C)]
pub(super) struct RawGenerator {
    _private: [u8; 0],
}

pub(super) type RawBlock = extern "C" fn(*mut c_void, *mut *mut C_tensor, i64) -> *mut C_tensor;
pub(super) type RawFree = extern "C" fn(*mut c_void);

unsafe extern "C" {
    fn _exit(code: i32) -> !;
    fn unsee_free(message: *mut c_char);
    pub(super) fn unsee_keep_memory();
    pub(super) fn unsee_open_cuda(path: *const c_char) -> *mut c_char;
    pub(super) fn unsee_cuda_products(rounded: bool, autotune: bool);
    #[cfg(test)]
    pub(super) fn unsee_cuda_products_are_rounded() -> bool;
    pub(super) fn unsee_device_memory(index: i8, out: *mut i64) -> *mut c_char;
    pub(super) fn unsee_free_device_memory(index: i8, out: *mut i64) -> *mut c_char;
    pub(super) fn unsee_reset_device_peak(index: i8) -> *mut c_char;
    pub(super) fn unsee_generator(seed: u64, out: *mut *mut RawGenerator) -> *mut c_char;
    pub(super) fn unsee_generator_free(generator: *mut RawGenerator);
    pub(super) fn unsee_randn(
        generator: *mut RawGenerator,
        shape: *const i64,
        n: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn unsee_rand(
        generator: *mut RawGenerator,
        shape: *const i64,
        n: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn unsee_randint(
        generator: *mut RawGenerator,
        high: i64,
        shape: *const i64,
        n: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn unsee_randperm(
        generator: *mut RawGenerator,
        n: i64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn unsee_autocast_enter(device: i32, kind: i32, before: *mut i64) -> *mut c_char;
    pub(super) fn unsee_autocast_leave(device: i32, before: *const i64) -> *mut c_char;
    pub(super) fn unsee_autocast_forget();
    pub(super) fn unsee_leaky_relu(
        x: *mut C_tensor,
        slope: f64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn unsee_adam(
        decoupled: bool,
        parameters: *mut *mut C_tensor,
        gradients: *mut *mut C_tensor,
        first: *mut *mut C_tensor,
        second: *mut *mut C_tensor,
        steps: *mut *mut C_tensor,
        n: i64,
        lr: f64,
        beta1: f64,
        beta2: f64,
        decay: f64,
        eps: f64,
    ) -> *mut c_char;
    pub(super) fn unsee_grad(
        loss: *mut C_tensor,
        inputs: *mut *mut C_tensor,
        n: i64,
        keep: bool,
        create: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn unsee_grad_each(
        loss: *mut C_tensor,
        inputs: *mut *mut C_tensor,
        n: i64,
        closure: *mut std::ffi::c_void,
        call: extern "C" fn(*mut std::ffi::c_void, i64, *mut C_tensor),
    ) -> *mut c_char;
    pub(super) fn unsee_group_norm(
        x: *mut C_tensor,
        weight: *mut C_tensor,
        bias: *mut C_tensor,
        groups: i64,
        eps: f64,
        silu: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn unsee_layer_norm(
        x: *mut C_tensor,
        weight: *mut C_tensor,
        bias: *mut C_tensor,
        eps: f64,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(super) fn unsee_upsample_twice(x: *mut C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    pub(super) fn unsee_gated_gelu(x: *mut C_tensor, out: *mut *mut C_tensor) -> *mut c_char;
    pub(super) fn unsee_checkpoint(
        variables: *mut *mut C_tensor,
        n: i64,
        inputs: i64,
        closure: *mut c_void,
        call: RawBlock,
        free: RawFree,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// Turns the shim's answer into a `Result` and frees the message.
pub(super) fn check(answer: *mut c_char) -> Result<(), Error> {
    if answer.is_null() {
        return Ok(());
    }
    // SAFETY: the shim returns null or a NUL-ended string from strdup, which it hands over.
    let text = unsafe {
        let text = CStr::from_ptr(answer).to_string_lossy().into_owned();
        unsee_free(answer);
        text
    };
    Err(Error::libtorch(&text))
}

/// The tensor behind `pointer`, which the shim made with `new` and hands over.
pub(super) fn take(pointer: *mut C_tensor) -> Tensor {
    // SAFETY: `pointer` is a fresh heap tensor; tch deletes it when the value is dropped.
    unsafe { Tensor::from_ptr(pointer) }
}

/// Runs a shim call that makes one tensor.
pub(super) fn make(call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char) -> Result<Tensor, Error> {
    let mut out = std::ptr::null_mut();
    check(call(&raw mut out))?;
    Ok(take(out))
}

/// Pointers to tensors that stay where they are while the result is used.
pub(super) fn pointers<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<*mut C_tensor> {
    tensors.into_iter().map(|tensor| tensor.as_ptr().cast_mut()).collect()
}
