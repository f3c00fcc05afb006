//! Random numbers from generators of their own. Nothing in unsee draws from libtorch's global one.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::Tensor;

use super::ffi;

/// What libtorch's generator reads of a seed: its lower 32 bits. Seeds that are alike in these draw
/// the same.
pub fn bits_of_seed(seed: u64) -> u32 {
    seed as u32
}

/// A Mersenne Twister on the CPU; the same seed gives the same bits as `torch.Generator("cpu")`.
pub struct Rng(*mut ffi::RawGenerator);

// SAFETY: the generator is reached through `&mut` only, and libtorch guards it with a mutex of its
// own.
unsafe impl Send for Rng {}

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rng")
    }
}

impl Drop for Rng {
    fn drop(&mut self) {
        // SAFETY: made by `unsee_generator`, freed once.
        unsafe { ffi::unsee_generator_free(self.0) }
    }
}

impl Rng {
    /// A generator with this seed, of which libtorch reads the lower 32 bits alone: seeds that are
    /// to differ must differ in those.
    ///
    /// # Panics
    /// Where libtorch cannot allocate one.
    pub fn new(seed: u64) -> Self {
        let mut out = std::ptr::null_mut();
        // SAFETY: `out` receives the generator.
        ffi::check(unsafe { ffi::unsee_generator(seed, &raw mut out) }).expect("a generator");
        Self(out)
    }

    /// The generator for one step of a job: resuming at a step needs no saved state.
    pub fn for_step(seed: u64, purpose: &str, step: u64) -> Self {
        Self::new(seed_from(&[&seed.to_le_bytes(), purpose.as_bytes(), &step.to_le_bytes()]))
    }

    /// Normal numbers, `f32`, on the CPU.
    pub fn normal(&mut self, shape: &[i64]) -> Tensor {
        // SAFETY: `shape` outlives the call.
        self.make(|rng, out| unsafe {
            ffi::unsee_randn(rng, shape.as_ptr(), shape.len() as i64, out)
        })
    }

    /// Numbers in [0, 1), `f32`, on the CPU.
    pub fn uniform(&mut self, shape: &[i64]) -> Tensor {
        // SAFETY: as above.
        self.make(|rng, out| unsafe {
            ffi::unsee_rand(rng, shape.as_ptr(), shape.len() as i64, out)
        })
    }

    /// Integers in [0, high), `i64`, on the CPU.
    pub fn below(&mut self, high: i64, shape: &[i64]) -> Tensor {
        // SAFETY: as above.
        self.make(|rng, out| unsafe {
            ffi::unsee_randint(rng, high, shape.as_ptr(), shape.len() as i64, out)
        })
    }

    /// The numbers 0 to n-1 in random order, `i64`, on the CPU.
    pub fn permutation(&mut self, n: i64) -> Tensor {
        // SAFETY: as above.
        self.make(|rng, out| unsafe { ffi::unsee_randperm(rng, n, out) })
    }

    fn make(
        &mut self,
        call: impl FnOnce(
            *mut ffi::RawGenerator,
            *mut *mut torch_sys::C_tensor,
        ) -> *mut std::ffi::c_char,
    ) -> Tensor {
        let rng = self.0;
        ffi::make(|out| call(rng, out)).expect("shapes are small and positive")
    }
}

/// A seed that depends on every byte of `parts` (and on where one part ends and the next begins).
pub fn seed_from(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(t: &Tensor) -> Vec<f32> {
        Vec::try_from(t.flatten(0, -1)).unwrap()
    }

    /// `torch.randn(.., generator=torch.Generator().manual_seed(42))`, PyTorch 2.11.0.
    #[test]
    fn bits_are_pytorch_s() {
        let five = floats(&Rng::new(42).normal(&[5]));
        assert_eq!(five, [0.336_690_37, 0.128_809_4, 0.234_462_37, 0.230_333_03, -1.122_856_4]);
        let many = floats(&Rng::new(42).normal(&[17]));
        assert_eq!(many[..3], [1.926_915_3, -0.159_597_47, -0.497_397_54]);
    }

    #[test]
    fn seeds_are_32_bits_long() {
        let draw = |seed: u64| floats(&Rng::new(seed).normal(&[20]));
        assert_eq!(draw(7), draw(7 + (1 << 32)));
        assert_ne!(draw(7), draw(7 + (1 << 31)));
    }

    #[test]
    fn seeds_tell_parts_apart() {
        assert_ne!(seed_from(&[b"ab", b"c"]), seed_from(&[b"a", b"bc"]));
    }
}
