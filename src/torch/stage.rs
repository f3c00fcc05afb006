//! The boundary between tensor code that panics and the rest, which returns errors.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Error, first_lines};

/// Runs `body` and turns a panic of a tensor operation into an error that names the stage.
///
/// Inside a network tch's panicking operators read like the formula; each stage of the program
/// (drawing, a training step, judging) goes through here once.
///
/// # Errors
/// Whatever `body` returns, or [`Error::Stage`] where it panicked.
pub fn stage<T, E: From<Error>>(name: &str, body: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let quiet = SilencedPanics::enter();
    let outcome = catch_unwind(AssertUnwindSafe(body));
    drop(quiet);
    outcome.unwrap_or_else(|panic| {
        Err(E::from(Error::Stage { stage: name.to_owned(), message: panic_message(&*panic) }))
    })
}

/// What a panic said, without libtorch's C++ stack.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("an unknown panic");
    first_lines(text).to_owned()
}

thread_local! {
    static DEPTH: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// While alive, panics on this thread print nothing: the error that they become is printed instead.
struct SilencedPanics;

impl SilencedPanics {
    fn enter() -> Self {
        static HOOK: std::sync::Once = std::sync::Once::new();
        HOOK.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if DEPTH.get() == 0 {
                    usual(info);
                }
            }));
        });
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for SilencedPanics {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn a_panic_becomes_one_short_error() {
        let error = stage("multiplying", || -> Result<(), Error> {
            let a = Tensor::zeros([2, 3], (Kind::Float, tch::Device::Cpu));
            let _ = a.matmul(&a);
            Ok(())
        })
        .unwrap_err()
        .to_string();
        assert!(error.starts_with("multiplying: "), "{error}");
        assert!(error.contains("cannot be multiplied"), "{error}");
        assert!(!error.contains("Exception raised from"), "{error}");
    }
}
