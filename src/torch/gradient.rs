//! Gradients, without hidden state: they are returned, never accumulated in the tensors.
#![expect(unsafe_code, reason = "calls the shim")]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use tch::Tensor;
use torch_sys::C_tensor;

use super::stage::panic_message;
use super::{Error, ffi};

/// Runs `body` without recording a graph. Unlike tch's own function it also restores on a panic,
/// and leaves no parameter behind that autocast has cast without a graph: a later forward pass in
/// the same scope would find it, and the parameter would get no gradient.
pub fn no_grad<T>(body: impl FnOnce() -> T) -> T {
    let _casts = ForgetCasts;
    let _guard = tch::no_grad_guard();
    body()
}

struct ForgetCasts;

impl Drop for ForgetCasts {
    fn drop(&mut self) {
        // SAFETY: no pointers.
        unsafe { ffi::unsee_autocast_forget() }
    }
}

/// d `loss` / d `inputs`; `None` where an input does not reach the loss. The graph is freed.
///
/// # Errors
/// A loss that is no scalar or has no graph.
pub fn grad(loss: &Tensor, inputs: &[&Tensor]) -> Result<Vec<Option<Tensor>>, Error> {
    differentiate(loss, inputs, false, false)
}

/// As [`grad`], and the graph is kept for another loss of it.
///
/// # Errors
/// As [`grad`].
pub fn grad_and_keep(loss: &Tensor, inputs: &[&Tensor]) -> Result<Vec<Option<Tensor>>, Error> {
    differentiate(loss, inputs, true, false)
}

/// As [`grad`], and the result can be differentiated again (R1 and path-length penalties).
///
/// # Errors
/// As [`grad`].
pub fn grad_of_grad(loss: &Tensor, inputs: &[&Tensor]) -> Result<Vec<Option<Tensor>>, Error> {
    differentiate(loss, inputs, true, true)
}

/// As [`grad`]; the graph is kept where `keep` is set, and one of the gradients made where `create`
/// is.
fn differentiate(
    loss: &Tensor,
    inputs: &[&Tensor],
    keep: bool,
    create: bool,
) -> Result<Vec<Option<Tensor>>, Error> {
    if !loss.requires_grad() {
        return Err(no_graph());
    }
    let mut inputs = ffi::pointers(inputs.iter().copied());
    let n = inputs.len();
    let mut out: Vec<*mut C_tensor> = vec![std::ptr::null_mut(); n];
    // SAFETY: the input tensors are borrowed for the call, `out` has room for n pointers.
    ffi::check(unsafe {
        ffi::unsee_grad(
            loss.as_ptr().cast_mut(),
            inputs.as_mut_ptr(),
            n as i64,
            keep,
            create,
            out.as_mut_ptr(),
        )
    })
    .map_err(with_block_failure)?;
    Ok(out.into_iter().map(|pointer| (!pointer.is_null()).then(|| ffi::take(pointer))).collect())
}

/// What is done with a gradient, and what went wrong with an earlier one.
struct GradientSink<'a> {
    take: &'a mut dyn FnMut(usize, Tensor) -> Result<(), Error>,
    failed: Option<Error>,
}

extern "C" fn take_gradient(closure: *mut c_void, index: i64, gradient: *mut C_tensor) {
    // SAFETY: `closure` is the `GradientSink` below, which outlives the backward pass; the shim
    // owns `gradient`.
    let (sink, gradient) =
        unsafe { (&mut *closure.cast::<GradientSink>(), Tensor::clone_from_ptr(gradient)) };
    if sink.failed.is_some() {
        return;
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| (sink.take)(index as usize, gradient)));
    sink.failed = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(_) => Some(Error::Misuse("a gradient could not be used".to_owned())),
    };
}

/// Hands each gradient d `loss` / d `inputs` to `take`, with its index, as soon as it is whole, and
/// keeps none: they never lie beside each other. The graph is freed on the way, and `take` may
/// change the input: what needed it has been differentiated. Inputs that do not reach the loss are
/// not handed over.
///
/// # Errors
/// A loss that is no scalar or has no graph, or what `take` said first.
pub fn grad_each(
    loss: &Tensor,
    inputs: &[&Tensor],
    take: &mut dyn FnMut(usize, Tensor) -> Result<(), Error>,
) -> Result<(), Error> {
    if !loss.requires_grad() {
        return Err(no_graph());
    }
    let mut inputs = ffi::pointers(inputs.iter().copied());
    let n = inputs.len() as i64;
    let mut sink = GradientSink { take, failed: None };
    // SAFETY: inputs and closure outlive the call, in which alone they are used.
    let outcome = ffi::check(unsafe {
        ffi::unsee_grad_each(
            loss.as_ptr().cast_mut(),
            inputs.as_mut_ptr(),
            n,
            std::ptr::from_mut(&mut sink).cast(),
            take_gradient,
        )
    });
    sink.failed.map_or(outcome, Err).map_err(with_block_failure)
}

fn no_graph() -> Error {
    Error::Misuse(
        "the loss depends on nothing that requires a gradient; is everything frozen?".to_owned(),
    )
}

thread_local! {
    /// Whether a block under [`checkpoint`] runs, which will be recomputed with a graph.
    static IN_CHECKPOINT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether a gradient of what is computed from `x` may be asked for: `x` is part of a graph, or of
/// a block under [`checkpoint`], which first runs without one. What chooses between two ways of
/// computing by this gives the same numbers both times.
pub fn will_be_differentiated(x: &Tensor) -> bool {
    x.requires_grad() || IN_CHECKPOINT.get()
}

/// What the shim keeps of a block: a thin pointer to a boxed closure.
type BoxedBlock = Box<dyn Fn(&[Tensor]) -> Tensor>;

extern "C" fn call_block(
    closure: *mut c_void,
    inputs: *mut *mut C_tensor,
    n: i64,
) -> *mut C_tensor {
    // SAFETY: `closure` is the `Box<BoxedBlock>` given below, alive as long as the graph; `inputs`
    // points to n live tensors, of which shallow copies are taken.
    let outcome = catch_unwind(AssertUnwindSafe(|| unsafe {
        let block = &*closure.cast::<BoxedBlock>();
        let inputs: Vec<Tensor> = std::slice::from_raw_parts(inputs, n as usize)
            .iter()
            .map(|&pointer| Tensor::clone_from_ptr(pointer))
            .collect();
        block(&inputs)
    }));
    match outcome {
        // SAFETY: the shim takes over one heap tensor; `ManuallyDrop` keeps Rust from freeing it.
        Ok(output) => std::mem::ManuallyDrop::new(output).as_ptr().cast_mut(),
        Err(panic) => {
            *LAST_FAILURE.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(panic_message(&*panic));
            std::ptr::null_mut()
        }
    }
}

/// Why a block under [`checkpoint`] failed last; the backward pass may run on a thread of its own.
static LAST_FAILURE: Mutex<Option<String>> = Mutex::new(None);

/// What the shim says of a block that failed.
const BLOCK_FAILED: &str = "a checkpointed block failed";

/// Puts the reason into an error that says no more than that a block failed. Other errors, which
/// another thread may have met meanwhile, leave it there.
fn with_block_failure(error: Error) -> Error {
    match error {
        Error::Libtorch(text) if text.contains(BLOCK_FAILED) => {
            let reason = LAST_FAILURE.lock().unwrap_or_else(PoisonError::into_inner).take();
            Error::Libtorch(reason.map_or(text.clone(), |reason| format!("{text}: {reason}")))
        }
        other => other,
    }
}

extern "C" fn free_block(closure: *mut c_void) {
    // SAFETY: called once, when the graph lets go.
    drop(unsafe { Box::from_raw(closure.cast::<BoxedBlock>()) });
}

/// Computes `block(inputs)` without keeping what lies between: the backward pass computes it again.
/// Gradients are equal to the bit to those of an ordinary call, in less memory and more time.
///
/// `parameters` are the tensors that `block` reads and that want a gradient; one that is missing
/// gets none. `block` must give the same result for the same inputs.
///
/// # Errors
/// Whatever libtorch says; a panic in `block` becomes an error here or in the backward pass.
///
/// # Panics
/// Without an input.
pub fn checkpoint(
    inputs: &[&Tensor],
    parameters: &[&Tensor],
    block: impl Fn(&[Tensor]) -> Tensor + 'static,
) -> Result<Tensor, Error> {
    assert!(!inputs.is_empty(), "a checkpointed block has at least one input");
    let closure: Box<BoxedBlock> = Box::new(Box::new(block));
    let mut variables = ffi::pointers(inputs.iter().chain(parameters).copied());
    let outer = IN_CHECKPOINT.replace(true);
    let made = ffi::make(|out| {
        // SAFETY: the variables are borrowed for the call; the shim owns the closure from here on.
        unsafe {
            ffi::unsee_checkpoint(
                variables.as_mut_ptr(),
                variables.len() as i64,
                inputs.len() as i64,
                Box::into_raw(closure).cast(),
                call_block,
                free_block,
                out,
            )
        }
    });
    IN_CHECKPOINT.set(outer);
    made.map_err(with_block_failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::{Device, Precision, Rng};
    use std::rc::Rc;
    use tch::Kind;

    #[test]
    fn a_loss_without_a_graph_is_an_error_not_a_crash() {
        let x = Tensor::ones([2], (Kind::Float, tch::Device::Cpu));
        assert!(grad(&x.sum(Kind::Float), &[&x]).is_err());
    }

    #[test]
    fn no_grad_ends_with_a_panic() {
        let _ = catch_unwind(|| no_grad(|| panic!("inside")));
        let x = Tensor::ones([2], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        assert!((&x * 2.0).requires_grad());
    }

    #[test]
    fn a_forward_without_gradients_spoils_no_later_one() {
        let w = Rng::new(1).normal(&[8, 8]).set_requires_grad(true);
        let x = Rng::new(2).normal(&[4, 8]);
        let _scope = Precision::Bf16.scope(Device::CPU);
        let target = no_grad(|| x.matmul(&w));
        let loss = (x.matmul(&w) - target - 1.0).square().mean(Kind::Float);
        assert!(grad(&loss, &[&w]).unwrap()[0].is_some());
    }

    #[test]
    fn gradients_one_by_one_are_the_same_and_may_move_their_parameters() {
        let mut rng = Rng::new(1);
        let w: Vec<Tensor> =
            (0..4).map(|_| (rng.normal(&[8, 8]) * 0.3).set_requires_grad(true)).collect();
        let unused = rng.normal(&[2]).set_requires_grad(true);
        let x = rng.normal(&[3, 8]);
        let all: Vec<&Tensor> = w.iter().chain([&unused]).collect();
        let loss = || {
            w.iter().fold(x.shallow_clone(), |x, w| x.matmul(w).tanh()).square().mean(Kind::Float)
        };
        let wanted = grad(&loss(), &all).unwrap();
        let before: Vec<Tensor> = w.iter().map(|w| w.detach().copy()).collect();
        let mut seen = Vec::new();
        grad_each(&loss(), &all, &mut |i, gradient| {
            assert!(gradient.equal(wanted[i].as_ref().unwrap()));
            let _ = no_grad(|| all[i].detach().g_sub_(&gradient));
            seen.push(i);
            Ok(())
        })
        .unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
        for (i, before) in before.iter().enumerate() {
            assert!(w[i].detach().equal(&(before - wanted[i].as_ref().unwrap())));
            assert!(!w[i].grad().defined());
        }
        let failing = grad_each(&loss(), &all, &mut |_, _| Err(Error::Misuse("no".to_owned())));
        assert_eq!(failing.unwrap_err().to_string(), "no");
        assert!(grad_each(&loss(), &all, &mut |_, _| panic!("inside")).is_err());
        // Nothing is left behind on the parameters.
        assert!(grad(&loss(), &all).unwrap()[0].is_some());
    }

    #[test]
    fn second_derivatives() {
        let x = Tensor::from_slice(&[3.0_f32]).set_requires_grad(true);
        let first =
            grad_of_grad(&(&x * &x * &x).sum(Kind::Float), &[&x]).unwrap().remove(0).unwrap();
        let second = grad(&first.sum(Kind::Float), &[&x]).unwrap().remove(0).unwrap();
        assert_eq!(f64::try_from(second).unwrap(), 18.0);
    }

    /// Gradients of inputs and parameters, with and without autocast, and the closure is freed.
    #[test]
    fn checkpointed_gradients_are_equal_to_the_bit() {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut rng = Rng::new(1);
            let w = (rng.normal(&[64, 64]) * 0.1).set_requires_grad(true);
            let v = (rng.normal(&[64, 64]) * 0.1).set_requires_grad(true);
            let x = rng.normal(&[16, 64]).set_requires_grad(true);
            let block = |x: &Tensor, w: &Tensor, v: &Tensor| {
                x.matmul(w).gelu("none").matmul(v).gelu("none") + x
            };
            let alive = Rc::new(());
            let _scope = precision.scope(Device::CPU);
            let plain = grad(&block(&x, &w, &v).square().mean(Kind::Float), &[&x, &w, &v]).unwrap();
            let out = {
                let (w2, v2, held) = (w.shallow_clone(), v.shallow_clone(), alive.clone());
                checkpoint(&[&x], &[&w, &v], move |x| {
                    assert!(Rc::strong_count(&held) > 0);
                    block(&x[0], &w2, &v2)
                })
                .unwrap()
            };
            assert_eq!(Rc::strong_count(&alive), 2);
            let again = grad(&out.square().mean(Kind::Float), &[&x, &w, &v]).unwrap();
            drop(out);
            assert_eq!(Rc::strong_count(&alive), 1, "the closure outlived its graph");
            for (a, b) in plain.iter().zip(&again) {
                assert!(a.as_ref().unwrap().equal(b.as_ref().unwrap()), "{precision}");
            }
        }
    }

    #[test]
    fn a_panic_in_a_checkpointed_block_is_an_error() {
        let x = Tensor::ones([2, 3], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        let error = checkpoint(&[&x], &[], |x| x[0].matmul(&x[0])).unwrap_err().to_string();
        assert!(error.contains("cannot be multiplied"), "{error}");
        // In the backward pass: the first time it went well.
        let runs = std::cell::Cell::new(0);
        let block = move |x: &[Tensor]| {
            runs.set(runs.get() + 1);
            assert!(runs.get() == 1, "CUDA out of memory");
            &x[0] * 2.0
        };
        let out = checkpoint(&[&x], &[], block).unwrap();
        let error = grad(&out.sum(Kind::Float), &[&x]).unwrap_err();
        assert!(error.is_out_of_memory(), "{error}");
    }
}
