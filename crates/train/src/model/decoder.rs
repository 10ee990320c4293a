//! The caption decoder: a prefix from the embedding, then a causal transformer over tokens.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Initializer, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::query_adapter::QueryAdapter;
use super::transformer::{Block, linear};
use super::transformer_adapter::TransformerAdapter;

/// How an embedding becomes the first positions of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterConfig {
    /// One linear layer.
    Linear,
    /// A transformer over the expanded embedding and learned constants (ClipCap).
    Transformer { n_layer: usize },
    /// Learned queries that look at `n_regions` rows (MacCap).
    Queries { n_regions: usize },
}

impl AdapterConfig {
    /// Rows that it takes.
    pub fn n_rows(self) -> usize {
        match self {
            AdapterConfig::Queries { n_regions } => n_regions,
            AdapterConfig::Linear | AdapterConfig::Transformer { .. } => 1,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct DecoderConfig {
    pub vocab_size: usize,
    pub n_layer: usize,
    pub n_head: usize,
    pub d: usize,
    pub d_mlp: usize,
    pub embed_dim: usize,
    pub prefix_length: usize,
    pub adapter: AdapterConfig,
    /// Longest sequence: prefix, `bos`, question, answer.
    pub max_positions: usize,
    pub dropout: f64,
}

/// Adapter and language model. The adapter turns one embedding, or the regions that queries look at, into
/// `prefix_length` input positions. The token embedding doubles as the vocabulary projection.
#[derive(Module, Debug)]
pub struct Decoder {
    /// All of a linear adapter, the first layer before the transformer, or the last after the queries.
    pub adapter: Linear,
    pub query: Option<QueryAdapter>,
    pub transformer: Option<TransformerAdapter>,
    pub token_embedding: Param<Tensor<2>>,
    pub position_embedding: Param<Tensor<2>>,
    pub blocks: Vec<Block>,
    pub norm: LayerNorm,
    dropout: Dropout,
    prefix_length: usize,
}

impl Decoder {
    pub fn new(config: &DecoderConfig, device: &Device) -> Decoder {
        let normal = Initializer::Normal { mean: 0.0, std: 0.02 };
        let block =
            |_| Block::new(config.d, config.n_head, config.d_mlp, config.n_layer, config.dropout, device);
        let DecoderConfig { prefix_length, d, embed_dim, dropout, .. } = *config;
        let (query, transformer) = match config.adapter {
            AdapterConfig::Linear => (None, None),
            AdapterConfig::Transformer { n_layer } => {
                (None, Some(TransformerAdapter::new(prefix_length, d, n_layer, dropout, device)))
            }
            AdapterConfig::Queries { .. } => {
                (Some(QueryAdapter::new(prefix_length, d, embed_dim, dropout, device)), None)
            }
        };
        // A unit embedding has coordinates of about 1/sqrt(D): this starts the prefix at the tokens' scale.
        let (d_in, d_out) = if query.is_some() { (d, d) } else { (embed_dim, prefix_length * d) };
        Decoder {
            adapter: linear(d_in, d_out, 0.02, device),
            query,
            transformer,
            token_embedding: normal.init([config.vocab_size, config.d], device),
            position_embedding: normal.init([config.max_positions, config.d], device),
            blocks: (0..config.n_layer).map(block).collect(),
            norm: LayerNormConfig::new(config.d).init(device),
            dropout: DropoutConfig::new(config.dropout).init(),
            prefix_length: config.prefix_length,
        }
    }

    /// Its language model with the words and blocks of `other`, of the same shape; the adapter stays.
    #[must_use]
    pub fn with_language_model(mut self, other: Decoder) -> Decoder {
        self.token_embedding = other.token_embedding;
        self.position_embedding = other.position_embedding;
        self.blocks = other.blocks;
        self.norm = other.norm;
        self
    }

    /// Vocabulary logits (B, S, V) at every token position, of what [`Self::hidden`] takes. The loss makes them piece by
    /// piece.
    #[cfg(test)]
    pub fn forward(&self, regions: Tensor<3>, ids: Tensor<2, Int>) -> Tensor<3> {
        let x = self.hidden(regions, ids);
        let [b, s, d] = x.dims();
        let table = self.token_embedding.val();
        let vocab_size = table.dims()[0];
        x.reshape([b * s, d]).matmul(table.transpose()).reshape([b, s, vocab_size])
    }

    /// What the vocabulary is compared with at every token position, (B, S, d).
    ///
    /// `regions` (B, R, D), one row but for queries; `ids` (B, S) start with `bos` and may be padded at the end:
    /// attention is causal, so padding is seen by nothing before it.
    pub fn hidden(&self, regions: Tensor<3>, ids: Tensor<2, Int>) -> Tensor<3> {
        let [b, s] = ids.dims();
        let device = ids.device();
        let p = self.prefix_length;
        let d = self.token_embedding.dims()[1];
        let table = self.token_embedding.val();
        let rows = match &self.query {
            Some(query) => query.forward(regions),
            None => regions,
        };
        let prefix = self.adapter.forward(rows).reshape([b, p, d]);
        let prefix = match &self.transformer {
            Some(transformer) => transformer.forward(prefix),
            None => prefix,
        };
        let tokens = table.select(0, ids.reshape([b * s])).reshape([b, s, d]);
        let positions = self.position_embedding.val().narrow(0, 0, p + s).unsqueeze_dim(0);
        let x = self.dropout.forward(Tensor::cat(vec![prefix, tokens], 1) + positions);
        let mask = Some(prefix_mask(p, s, &device));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x, mask.clone()));
        self.norm.forward(x.narrow(1, p, s))
    }
}

/// The prefix sees itself in both directions, tokens see the prefix and the tokens before them.
fn prefix_mask(p: usize, s: usize, device: &Device) -> Tensor<4> {
    let n = p + s;
    let seen = |row: usize, column: usize| column < p || column <= row;
    let mask: Vec<f32> = (0..n * n).map(|i| if seen(i / n, i % n) { 0.0 } else { -1e9 }).collect();
    Tensor::<1>::from_data(mask.as_slice(), device).reshape([1, 1, n, n])
}
