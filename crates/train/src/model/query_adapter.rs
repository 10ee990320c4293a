//! MacCap's adapter (Qiu et al. 2024): learned queries that look at the regions of an image, or, in training, at noisy
//! copies of a text embedding.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Initializer, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::transformer::{attend, linear};

/// One post-norm decoder layer (self-attention, attention to the regions, MLP) and two layers of the projection; the
/// third is the decoder's `adapter`.
#[derive(Module, Debug)]
pub struct QueryAdapter {
    /// (P, d).
    pub queries: Param<Tensor<2>>,
    pub self_qkv: Linear,
    pub self_out: Linear,
    pub norm_self: LayerNorm,
    pub cross_query: Linear,
    pub cross_key_value: Linear,
    pub cross_out: Linear,
    pub norm_cross: LayerNorm,
    pub mlp_in: Linear,
    pub mlp_out: Linear,
    pub norm_mlp: LayerNorm,
    pub project: Vec<Linear>,
    dropout: Dropout,
    pub n_head: usize,
}

impl QueryAdapter {
    /// `n_queries` rows of `d` from regions of `embed_dim`.
    pub fn new(n_queries: usize, d: usize, embed_dim: usize, dropout: f64, device: &Device) -> QueryAdapter {
        let std = |d_in: usize| (1.0 / d_in as f64).sqrt();
        let square = || linear(d, d, std(d), device);
        QueryAdapter {
            queries: Initializer::Normal { mean: 0.0, std: 1.0 }.init([n_queries, d], device),
            self_qkv: linear(d, 3 * d, std(d), device),
            self_out: square(),
            norm_self: LayerNormConfig::new(d).init(device),
            cross_query: square(),
            // Unit rows have coordinates of about 1 / sqrt(D): this starts keys and values at the queries' scale.
            cross_key_value: linear(embed_dim, 2 * d, 1.0, device),
            cross_out: square(),
            norm_cross: LayerNormConfig::new(d).init(device),
            mlp_in: linear(d, 2 * d, std(d), device),
            mlp_out: linear(2 * d, d, std(2 * d), device),
            norm_mlp: LayerNormConfig::new(d).init(device),
            project: (0..2).map(|_| square()).collect(),
            dropout: DropoutConfig::new(dropout).init(),
            n_head: d / 64,
        }
    }

    /// What of the layer depends on the queries alone, (1, P, d): a constant once it is trained.
    pub fn settled_queries(&self) -> Tensor<3> {
        let queries: Tensor<3> = self.queries.val().unsqueeze();
        let d = queries.dims()[2];
        let qkv = self.self_qkv.forward(queries.clone());
        let part = |i: usize| qkv.clone().narrow(2, i * d, d);
        let mixed = attend(part(0), part(1), part(2), self.n_head, None);
        self.norm_self.forward(queries + self.dropout.forward(self.self_out.forward(mixed)))
    }

    /// `regions` (B, R, D) to (B, P, d).
    pub fn forward(&self, regions: Tensor<3>) -> Tensor<3> {
        let b = regions.dims()[0];
        let x = self.settled_queries().repeat_dim(0, b);
        let d = x.dims()[2];
        let key_value = self.cross_key_value.forward(regions);
        let (key, value) = (key_value.clone().narrow(2, 0, d), key_value.narrow(2, d, d));
        let mixed = attend(self.cross_query.forward(x.clone()), key, value, self.n_head, None);
        let x = self.norm_cross.forward(x + self.dropout.forward(self.cross_out.forward(mixed)));
        let hidden = self.mlp_out.forward(relu(self.mlp_in.forward(x.clone())));
        let x = self.norm_mlp.forward(x + self.dropout.forward(hidden));
        self.project.iter().fold(x, |x, layer| relu(layer.forward(x)))
    }
}
