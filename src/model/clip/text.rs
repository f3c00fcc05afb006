//! The text encoder.

use super::config::TextConfig;
use super::layer::ClipLayer;
use crate::model::Error;
use crate::model::layers::LayerNorm;
use crate::model::parameters::{Builder, Init, Parameters};
use crate::torch::{IndexOp, Tensor};

/// The text encoder.
#[derive(Debug)]
pub struct TextModel {
    tokens: Tensor,
    /// Vectors of words that were learned later, `[n, hidden_size]`; their ids go on where the
    /// table ends.
    learned: Option<Tensor>,
    positions: Tensor,
    layers: Vec<ClipLayer>,
    norm: LayerNorm,
    parameters: Parameters,
}

impl TextModel {
    /// A text encoder on its own, as `text_encoder/` of a diffusers folder holds it.
    ///
    /// # Errors
    /// Weights that are missing or of another shape.
    pub fn new(config: &TextConfig, b: Builder) -> Result<Self, Error> {
        let prefixed = b.at("text_model");
        let root = if prefixed.has("embeddings.token_embedding.weight") { &prefixed } else { &b };
        let mut model = Self::build(config, root)?;
        model.parameters = b.finish();
        Ok(model)
    }

    /// The encoder alone; its parameters stay in the builder.
    pub(super) fn build(config: &TextConfig, b: &Builder) -> Result<Self, Error> {
        let c = config;
        let sizes = c.sizes();
        let e = b.at("embeddings");
        let tokens =
            e.get("token_embedding.weight", &[c.vocab_size, c.hidden_size], Init::Normal(0.02))?;
        let positions = e.get(
            "position_embedding.weight",
            &[c.max_position_embeddings, c.hidden_size],
            Init::Normal(0.01),
        )?;
        let layers = (0..c.num_hidden_layers)
            .map(|i| ClipLayer::new(&b.at("encoder.layers").at(i), sizes))
            .collect::<Result<_, _>>()?;
        let norm = LayerNorm::new(&b.at("final_layer_norm"), c.hidden_size, c.layer_norm_eps)?;
        Ok(Self {
            tokens,
            learned: None,
            positions,
            layers,
            norm,
            parameters: Parameters::default(),
        })
    }

    /// How many words its table has, without those that were learned later.
    pub fn words(&self) -> i64 {
        self.tokens.size()[0]
    }

    /// Token ids `[n, tokens]` (i64) to hidden states `[n, tokens, hidden_size]`.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        self.encode(&self.embed(ids))
    }

    /// The vectors of token ids `[n, tokens]`, `[n, tokens, hidden_size]`.
    pub fn embed(&self, ids: &Tensor) -> Tensor {
        let table = match &self.learned {
            Some(learned) => &Tensor::cat(&[&self.tokens, learned], 0),
            None => &self.tokens,
        };
        Tensor::embedding(table, ids, -1, false, false)
    }

    /// Vectors of tokens `[n, tokens, hidden_size]` to hidden states of the same shape.
    pub fn encode(&self, embeddings: &Tensor) -> Tensor {
        let mut x = embeddings + self.positions.i(..embeddings.size()[1]);
        for layer in &self.layers {
            x = layer.forward(&x, true);
        }
        self.norm.forward(&x)
    }

    /// Hidden states `[m, hidden_size]` to logits of the words of its table, `[m, words]`.
    pub(super) fn word_logits(&self, states: &Tensor) -> Tensor {
        states.matmul(&self.tokens.tr())
    }

    /// Adds the vectors `[n, hidden_size]` of a word; returns the id of the first.
    ///
    /// # Errors
    /// Vectors of another width.
    pub fn learn(&mut self, vectors: &Tensor) -> Result<i64, Error> {
        let [words, width] = self.tokens.size()[..] else {
            return Err(Error::Config("no table of words".to_owned()));
        };
        if vectors.dim() != 2 || vectors.size()[1] != width {
            return Err(Error::Config(format!(
                "the embedding's vectors are {:?}, this text encoder's are [n, {width}]; was it \
                 learned on another Stable Diffusion?",
                vectors.size()
            )));
        }
        let vectors = vectors.to_device(self.tokens.device()).to_kind(self.tokens.kind());
        let before = self.learned.as_ref().map_or(0, |learned| learned.size()[0]);
        self.learned = Some(match self.learned.take() {
            Some(learned) => Tensor::cat(&[learned, vectors], 0),
            None => vectors,
        });
        Ok(words + before)
    }

    /// The hidden states at each text's end token, `[n, hidden_size]`: the end token has the
    /// highest id.
    pub fn pooled(&self, ids: &Tensor) -> Tensor {
        let hidden = self.forward(ids);
        let end = ids.argmax(1, true).unsqueeze(-1).expand([-1, -1, hidden.size()[2]], false);
        hidden.gather(1, &end, false).squeeze_dim(1)
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }
}
