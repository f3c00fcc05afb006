//! A search for words, relaxed to the simplex: each free token is a distribution over the
//! vocabulary (UnlearnDiffAtk, Zhang et al. 2024, 2310.11868, section 4; the step's form follows
//! the published code).

use super::{AllowedTokens, Error, SearchSettings, project};
use crate::torch::{Adam, AdamSettings, Kind, Tensor, no_grad};

/// Distributions over the vocabulary for the free tokens of some prompts.
#[derive(Debug)]
pub struct SimplexSearch<'a> {
    allowed: &'a AllowedTokens,
    settings: SearchSettings,
    /// `[n, k, v]`; each row is on the simplex.
    weights: Tensor,
    adam: Adam,
}

impl<'a> SimplexSearch<'a> {
    /// For `k` tokens of each of `n` prompts, all words alike.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(
        allowed: &'a AllowedTokens,
        n: i64,
        k: i64,
        settings: SearchSettings,
    ) -> Result<Self, Error> {
        let v = allowed.count();
        let options = (Kind::Float, allowed.vectors.device());
        let weights = Tensor::full([n, k, v], 1.0 / v as f64, options).set_requires_grad(true);
        let decay = settings.decay;
        let adam = AdamSettings { decay, decoupled: false, ..AdamSettings::default() };
        let adam = Adam::new([&weights], adam)?;
        Ok(Self { allowed, settings, weights, adam })
    }

    /// One step for some of the prompts, by their index `[m]`: a word is drawn for each free token,
    /// `uniforms` `[m, k]` in [0, 1) being the chance; `gradient` is that of the loss by the words'
    /// vectors, both `[m, k, width]`. It passes the draw as if it were none, clamped to ±1.
    ///
    /// # Errors
    /// What the gradient says, libtorch's.
    pub fn step<E: From<Error>>(
        &mut self,
        rows: &Tensor,
        uniforms: &Tensor,
        gradient: impl FnOnce(&Tensor) -> Result<Tensor, E>,
    ) -> Result<(), E> {
        let drawn = no_grad(|| {
            let sums = self.weights.index_select(0, rows).cumsum(-1, Kind::Double);
            let last = sums.narrow(-1, -1, 1);
            let below = sums.le_tensor(&(uniforms.to_device(sums.device()).unsqueeze(-1) * last));
            below.sum_dim_intlist(-1, false, Kind::Int64).clamp_max(self.allowed.count() - 1)
        });
        let of_vectors = gradient(&self.allowed.vectors(&drawn).detach())?;
        let gradient = no_grad(|| {
            let of_weights = of_vectors.matmul(&self.allowed.vectors.tr()).clamp(-1.0, 1.0);
            self.weights.zeros_like().index_copy(0, rows, &of_weights)
        });
        self.adam.step(&[Some(gradient)], self.settings.lr).map_err(Error::from)?;
        no_grad(|| {
            let moved = project(&self.weights.index_select(0, rows));
            let _ = self.weights.detach().index_copy_(0, rows, &moved);
        });
        Ok(())
    }

    /// The likeliest words of some of the prompts, as ids of tokens `[m, k]`.
    pub fn likeliest(&self, rows: &Tensor) -> Tensor {
        let rows = self.weights.detach().index_select(0, rows);
        self.allowed.tokens(&rows.argmax(-1, false))
    }

    /// All that the next step depends on, to be saved; the tensors share its memory.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![("weights".to_owned(), self.weights.detach())];
        state.extend(self.adam.state());
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Denoiser as _;
    use crate::generator::small::miniature;
    use crate::torch::Rng;

    /// The loss is the distance to two words' vectors.
    #[test]
    fn it_finds_the_words_that_are_wanted() {
        let model = miniature();
        let allowed = AllowedTokens::all(&model).unwrap();
        let settings = SearchSettings { lr: 0.1, decay: 0.0 };
        let mut search = SimplexSearch::new(&allowed, 3, 2, settings).unwrap();
        let wanted = Tensor::from_slice(&model.tokens("tree style")).unsqueeze(0);
        let target = model.embed(&wanted);
        let rows = Tensor::from_slice(&[0_i64, 2]);
        let mut rng = Rng::new(3);
        let before = search.likeliest(&Tensor::from_slice(&[1_i64]));
        for _ in 0..300 {
            let uniforms = rng.uniform(&[2, 2]);
            // Of the squared distance.
            let gradient = |vectors: &Tensor| Ok::<_, Error>((vectors - &target) * 2e3);
            search.step(&rows, &uniforms, gradient).unwrap();
        }
        let found = search.likeliest(&rows);
        assert!(found.get(0).equal(&wanted.get(0)) && found.get(1).equal(&wanted.get(0)));
        assert!(search.likeliest(&Tensor::from_slice(&[1_i64])).equal(&before));
        let sums = search.weights.sum_dim_intlist(-1, false, Kind::Float);
        assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-4);
    }

    #[test]
    fn words_are_drawn_as_likely_as_they_are() {
        let model = miniature();
        let allowed = AllowedTokens::all(&model).unwrap();
        let mut search = SimplexSearch::new(&allowed, 1, 1, SearchSettings::SIMPLEX).unwrap();
        no_grad(|| {
            let _ = search.weights.detach().zero_();
            let _ = search.weights.detach().get(0).get(0).narrow(0, 5, 2).fill_(0.5);
        });
        let rows = Tensor::from_slice(&[0_i64]);
        for (chance, word) in [(0.0, 5_i64), (0.49, 5), (0.5, 6), (0.999_999, 6)] {
            let uniforms = Tensor::from_slice(&[chance as f32]).view([1, 1]);
            let wanted = allowed.vectors(&Tensor::from_slice(&[word]).view([1, 1]));
            let before = search.weights.detach().copy();
            let gradient = |vectors: &Tensor| {
                assert!(vectors.equal(&wanted), "{chance}");
                Ok::<_, Error>(vectors.zeros_like())
            };
            search.step(&rows, &uniforms, gradient).unwrap();
            no_grad(|| search.weights.detach().copy_(&before));
        }
    }
}
