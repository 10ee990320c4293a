//! The text tower: a small causal transformer, read at the end token as in CLIP.

use burn::module::{Module, Param};
use burn::nn::{Initializer, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::transformer::{Block, linear};

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct TextEncoderConfig {
    pub vocab_size: usize,
    pub n_layer: usize,
    pub n_head: usize,
    pub d: usize,
    pub d_mlp: usize,
    pub embed_dim: usize,
    /// Longest sequence with `bos` and `eos`.
    pub max_tokens: usize,
}

#[derive(Module, Debug)]
pub struct TextEncoder {
    pub token_embedding: Param<Tensor<2>>,
    pub position_embedding: Param<Tensor<2>>,
    pub blocks: Vec<Block>,
    pub norm: LayerNorm,
    pub projection: Linear,
}

impl TextEncoder {
    pub fn new(config: &TextEncoderConfig, device: &Device) -> TextEncoder {
        let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
        TextEncoder {
            token_embedding: normal.init([config.vocab_size, config.d], device),
            position_embedding: normal.init([config.max_tokens, config.d], device),
            blocks: (0..config.n_layer)
                .map(|_| Block::new(config.d, config.n_head, config.d_mlp, config.n_layer, 0.0, device))
                .collect(),
            norm: LayerNormConfig::new(config.d).init(device),
            projection: linear(config.d, config.embed_dim, (config.d as f64).powf(-0.5), device),
        }
    }

    /// `ids` (B, S), every row of one length, to embeddings (B, D) before normalisation.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<2> {
        let [b, s] = ids.dims();
        let device = ids.device();
        let d = self.token_embedding.dims()[1];
        let tokens = self.token_embedding.val().select(0, ids.reshape([b * s])).reshape([b, s, d]);
        let positions = self.position_embedding.val().narrow(0, 0, s).unsqueeze_dim(0);
        let mask = Some(causal_mask(s, &device));
        let x = self.blocks.iter().fold(tokens + positions, |x, block| block.forward(x, mask.clone()));
        let last = x.narrow(1, s - 1, 1).reshape([b, d]);
        self.projection.forward(self.norm.forward(last))
    }
}

fn causal_mask(s: usize, device: &Device) -> Tensor<4> {
    let mask: Vec<f32> = (0..s * s).map(|i| if i % s <= i / s { 0.0 } else { -1e9 }).collect();
    Tensor::<1>::from_data(mask.as_slice(), device).reshape([1, 1, s, s])
}
