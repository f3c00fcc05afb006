//! A search for words by vectors that count as the nearest word: the loss is that of the words, and
//! its gradient moves the vectors (PEZ, Wen et al. 2023, 2302.03668, algorithm 1).

use super::{AllowedTokens, Error, SearchSettings};
use crate::torch::{Adam, AdamSettings, Tensor, no_grad};

/// Vectors for the free tokens of some prompts.
#[derive(Debug)]
pub struct NearestSearch<'a> {
    allowed: &'a AllowedTokens,
    settings: SearchSettings,
    /// `[n, k, width]`.
    vectors: Tensor,
    adam: Adam,
}

impl<'a> NearestSearch<'a> {
    /// Begins with these words, as indices among those that may be chosen, `[n, k]`.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(
        allowed: &'a AllowedTokens,
        begin: &Tensor,
        settings: SearchSettings,
    ) -> Result<Self, Error> {
        let vectors = allowed.vectors(begin).copy().set_requires_grad(true);
        let adam =
            AdamSettings { decay: settings.decay, decoupled: true, ..AdamSettings::default() };
        let adam = Adam::new([&vectors], adam)?;
        Ok(Self { allowed, settings, vectors, adam })
    }

    /// One step for some of the prompts, by their index `[m]`; `gradient` is that of the loss by
    /// the nearest words' vectors, both `[m, k, width]`.
    ///
    /// # Errors
    /// What the gradient says, libtorch's.
    pub fn step<E: From<Error>>(
        &mut self,
        rows: &Tensor,
        gradient: impl FnOnce(&Tensor) -> Result<Tensor, E>,
    ) -> Result<(), E> {
        let before = self.vectors.detach().copy();
        let nearest = self.allowed.vectors(&self.nearest(rows)).detach();
        let of_words = gradient(&nearest)?;
        let gradient = no_grad(|| before.zeros_like().index_copy(0, rows, &of_words));
        self.adam.step(&[Some(gradient)], self.settings.lr).map_err(Error::from)?;
        // Prompts that have ended stay where they are: Adam's moments and decay would move them.
        no_grad(|| {
            let moved = self.vectors.detach().index_select(0, rows);
            let kept = before.index_copy(0, rows, &moved);
            self.vectors.detach().copy_(&kept);
        });
        Ok(())
    }

    /// Indices of the nearest words, `[m, k]`.
    fn nearest(&self, rows: &Tensor) -> Tensor {
        no_grad(|| self.allowed.nearest(&self.vectors.detach().index_select(0, rows)))
    }

    /// The nearest words of some of the prompts, as ids of tokens `[m, k]`.
    pub fn words(&self, rows: &Tensor) -> Tensor {
        self.allowed.tokens(&self.nearest(rows))
    }

    /// All that the next step depends on, to be saved; the tensors share its memory.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![("vectors".to_owned(), self.vectors.detach())];
        state.extend(self.adam.state());
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Denoiser as _;
    use crate::generator::small::miniature;

    /// The loss is the distance to two words' vectors.
    #[test]
    fn it_finds_the_words_that_are_wanted() {
        let model = miniature();
        let allowed = AllowedTokens::all(&model).unwrap();
        let begin = Tensor::from_slice(&[3_i64, 4, 5, 6]).view([2, 2]);
        let settings = SearchSettings { lr: 0.05, decay: 0.0 };
        let mut search = NearestSearch::new(&allowed, &begin, settings).unwrap();
        let wanted = Tensor::from_slice(&model.tokens("tree style")).unsqueeze(0);
        let target = model.embed(&wanted);
        let (first, other) = (Tensor::from_slice(&[0_i64]), Tensor::from_slice(&[1_i64]));
        let before = search.words(&other);
        for _ in 0..200 {
            let gradient = |words: &Tensor| Ok::<_, Error>((words - &target) * 2.0);
            search.step(&first, gradient).unwrap();
        }
        assert!(search.words(&first).equal(&wanted));
        assert!(search.words(&other).equal(&before));
    }
}
