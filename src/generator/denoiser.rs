//! What a diffusion method needs of a generator.

use super::pixels::to_pictures;
use super::{Component, Conditioning, Error, Generator, Guided, ImageRequest, LatentDistribution};
use crate::pictures::Picture;
use crate::sampler::{SamplingRun, Schedule};
use crate::torch::{Kind, Tensor, no_grad, not_finite, stage};

/// What a diffusion method needs of a generator.
pub trait Denoiser: Generator {
    /// The ids of a prompt's own tokens, without start, end and filling; as many as are read.
    fn tokens(&self, prompt: &str) -> Vec<i64>;

    /// The ids that the text encoder reads of prompts, `[n, tokens]`: start, end and filling too.
    fn token_ids(&self, prompts: &[&str]) -> Tensor;

    /// The text that tokens stand for; to read it again may give other tokens.
    fn text_of(&self, tokens: &[i64]) -> String;

    /// How many tokens the text encoder knows by itself, without words that were learned later.
    fn vocabulary(&self) -> i64;

    /// The text encoder's vectors of tokens `[n, tokens]`, `[n, tokens, width]`.
    fn embed(&self, ids: &Tensor) -> Tensor;

    /// Reads vectors of tokens `[n, tokens, width]`, which need not be any word's. Records a graph
    /// where they or parameters require gradients.
    fn encode(&self, embeddings: &Tensor) -> Conditioning;

    /// Reads prompts, a row each. Records no graph.
    ///
    /// # Errors
    /// libtorch's.
    fn condition(&self, prompts: &[&str]) -> Result<Conditioning, Error> {
        stage("reading the prompts", || {
            no_grad(|| {
                let _scope = self.compute().scope();
                Ok(self.encode(&self.embed(&self.token_ids(prompts))))
            })
        })
    }

    /// The network's prediction for noisy latents `[n, c, h, w]` at timesteps `[n]`, in `f32`.
    /// Records a graph where parameters or the conditioning require gradients.
    fn predict(&self, latents: &Tensor, timesteps: &Tensor, conditioning: &Conditioning) -> Tensor;

    /// Latents of unit variance for requests of one size, each from a generator of its own on the
    /// CPU, `[n, c, h, w]`.
    fn latents(&self, requests: &[ImageRequest]) -> Tensor;

    /// Latents `[n, c, h, w]`, taken through a sampler's steps up to `until`: of unit variance
    /// where the run begins, else as its steps before left them. `noise` is asked in each step
    /// for what a sampler adds that draws some. Records no graph.
    fn denoise(
        &self,
        run: &mut SamplingRun<'_>,
        until: usize,
        latents: &Tensor,
        guided: &Guided,
        noise: &mut dyn FnMut(&Tensor) -> Option<Tensor>,
    ) -> Tensor {
        let (n, sampler) = (latents.size()[0], run.sampler);
        let both = Conditioning::cat(&[guided.negative, guided.prompt]);
        no_grad(|| {
            let begins = run.next == 0;
            let mut latents =
                if begins { latents * sampler.begin() } else { latents.shallow_clone() };
            for i in run.next..until {
                let t = sampler.timesteps()[i];
                let shown = sampler.input(i, &latents);
                let timesteps = Tensor::full([2 * n], t, (Kind::Float, latents.device()));
                let output = self.predict(&Tensor::cat(&[&shown, &shown], 0), &timesteps, &both);
                let (without, with) = (output.narrow(0, 0, n), output.narrow(0, n, n));
                let output = &without + (with - &without) * guided.guidance;
                let fresh = noise(&latents);
                latents = sampler.step(i, &latents, &output, fresh.as_ref(), &mut run.history);
            }
            run.next = until;
            latents
        })
    }

    /// Channels, rows and columns of the latents of a picture in the model's own size.
    fn latent_shape(&self) -> [i64; 3];

    /// What the network was trained with.
    fn schedule(&self) -> &Schedule;

    /// The latents' distribution for pictures, scaled as the network wants them.
    ///
    /// # Errors
    /// Pictures of a size that the autoencoder cannot take.
    fn encode_pictures(&self, pictures: &[Picture]) -> Result<LatentDistribution, Error>;

    /// Latents `[n, c, h, w]`, scaled as the network wants them, to pixels `[n, 3, h, w]` of about
    /// -1 to 1, in `f32`. Records a graph where the latents require gradients.
    fn decode(&self, latents: &Tensor) -> Tensor;

    /// The pictures that latents stand for, scaled as the network wants them.
    ///
    /// # Errors
    /// Numbers that are none, libtorch's.
    fn pictures(&self, latents: &Tensor) -> Result<Vec<Picture>, Error> {
        stage("decoding", || {
            let _scope = self.compute().scope();
            let pixels = no_grad(|| self.decode(latents));
            if not_finite(&pixels) > 0 {
                return Err(Error::Request(
                    "the model draws NaN or infinity; use --precision f32".to_owned(),
                ));
            }
            to_pictures(&(pixels * 0.5 + 0.5).clamp(0.0, 1.0))
        })
    }

    /// A component's parameters by full name, `unet.…`; leaves in `f32`.
    fn parameters(&self, component: Component) -> Vec<(String, Tensor)>;

    /// All components' parameters by full name.
    fn all_parameters(&self) -> Vec<(String, Tensor)> {
        Component::ALL.into_iter().flat_map(|component| self.parameters(component)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::small::miniature;
    use crate::torch::{Rng, grad};

    /// What attacks on prompts and methods on the text encoder stand on.
    #[test]
    fn gradients_reach_vectors_of_tokens_and_the_text_encoder() {
        let model = miniature();
        let prompt = "A Cat image in Mosaic style.";
        let ids = model.token_ids(&[prompt]);
        let vectors = model.embed(&ids).detach().set_requires_grad(true);
        let conditioning = model.encode(&vectors);
        // With and without a graph attention takes other kernels.
        let apart = (&conditioning.states - model.condition(&[prompt]).unwrap().states).abs().max();
        assert!(apart.double_value(&[]) < 1e-4);

        let [channels, height, width] = model.latent_shape();
        let z = Rng::new(3).normal(&[1, channels, height, width]);
        let t = Tensor::from_slice(&[500.0_f32]);
        let loss = |conditioning: &Conditioning| {
            model.predict(&z, &t, conditioning).square().mean(Kind::Float)
        };
        let gradient =
            grad(&loss(&conditioning), &[&vectors]).unwrap()[0].as_ref().unwrap().shallow_clone();
        // A small step along the gradient changes the loss by its length squared.
        let length = gradient.square().sum(Kind::Float).double_value(&[]);
        let size = 1e-3 / length;
        let moved = model.encode(&(vectors.detach() + &gradient * size));
        let rise = (loss(&moved) - loss(&conditioning)).double_value(&[]);
        assert!((rise - 1e-3).abs() < 1e-4, "{rise}");

        let weights = model.parameters(Component::TextEncoder);
        assert!(weights.iter().all(|(name, _)| name.starts_with("text_encoder.")));
        let leaves: Vec<&Tensor> = weights.iter().map(|(_, weight)| weight).collect();
        for weight in &leaves {
            let _ = weight.set_requires_grad(true);
        }
        let conditioning = model.encode(&model.embed(&ids));
        let gradients = grad(&loss(&conditioning), &leaves).unwrap();
        assert!(gradients.iter().all(Option::is_some));

        let latents = z.set_requires_grad(true);
        let pixels = model.decode(&latents);
        assert_eq!(pixels.size(), [1, 3, model.card().side, model.card().side]);
        assert!(grad(&pixels.mean(Kind::Float), &[&latents]).unwrap()[0].is_some());
    }
}
