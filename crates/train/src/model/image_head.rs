//! The trained part of the image tower: from the backbone's 7x7 grid to one embedding and 49 patch embeddings.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::normalize;
use super::transformer::linear;

/// Channels of the backbone's last bottleneck, where its frozen part ends.
pub const GRID_CHANNELS: usize = 192;
/// Cells along each side of the grid.
pub const GRID_SIDE: usize = 7;

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ImageHeadConfig {
    /// Channels of the backbone's own last convolution.
    pub d_expand: usize,
    pub d_hidden: usize,
    pub n_pool: usize,
    pub embed_dim: usize,
    /// Of the pooled features.
    pub dropout_in: f64,
    /// Of the hidden layer.
    pub dropout: f64,
}

/// Expands each cell with the backbone's own frozen convolution, pools the cells with learned attention
/// (`n_pool` heads, each over its share of the channels), and projects. A patch embedding is the same
/// projection of one cell without pooling, so both live in one space.
///
/// A few thousand photos overfit easily: training the expansion too, or sparing the dropout, costs retrieval.
#[derive(Module, Debug)]
pub struct ImageHead {
    /// Frozen.
    pub expand: Linear,
    /// Mean and inverse deviation of each expanded channel over the training photos; frozen.
    pub shift: Param<Tensor<1>>,
    pub scale: Param<Tensor<1>>,
    pub score: Linear,
    pub hidden: Linear,
    pub out: Linear,
    dropout_in: Dropout,
    dropout: Dropout,
    n_pool: usize,
}

/// What the pooling scores are multiplied by. Adam moves every weight by about the learning rate a step, and the sum
/// over 1280 channels would make the attention peaky, and overfit, long before the projection has learned.
pub const SCORE_SCALE: f64 = 0.1;

/// What the head makes of a batch of grids.
#[cfg(test)]
pub struct HeadOutput {
    /// (B, D), unit rows.
    pub embedding: Tensor<2>,
    /// (B, 49, D), unit rows.
    pub patches: Tensor<3>,
    /// (B, 49), sums to 1: the pooling attention, averaged over its heads.
    pub weights: Tensor<2>,
}

impl ImageHead {
    /// With random weights; [`ImageHead::freeze`] gives it the backbone's.
    pub fn new(config: &ImageHeadConfig, device: &Device) -> ImageHead {
        let std = |d_in: usize| (1.0 / d_in as f64).sqrt();
        ImageHead {
            expand: linear(GRID_CHANNELS, config.d_expand, std(GRID_CHANNELS), device),
            shift: Param::from_tensor(Tensor::zeros([config.d_expand], device)).set_require_grad(false),
            scale: Param::from_tensor(Tensor::ones([config.d_expand], device)).set_require_grad(false),
            // Starts as plain average pooling.
            score: linear(config.d_expand, config.n_pool, 1e-4, device),
            hidden: linear(config.d_expand, config.d_hidden, std(config.d_expand), device),
            out: linear(config.d_hidden, config.embed_dim, std(config.d_hidden), device),
            dropout_in: DropoutConfig::new(config.dropout_in).init(),
            dropout: DropoutConfig::new(config.dropout).init(),
            n_pool: config.n_pool,
        }
    }

    /// Takes over the backbone's expansion, `weight` (192, E) and `bias` (E), and standardises its channels over
    /// `grids` (B, 49, 192). None of this is trained.
    pub fn freeze(mut self, weight: Tensor<2>, bias: Tensor<1>, grids: Tensor<3>) -> ImageHead {
        self.expand.weight = Param::from_tensor(weight).set_require_grad(false);
        self.expand.bias = Some(Param::from_tensor(bias).set_require_grad(false));
        let pooled: Tensor<2> = relu(self.expand.forward(grids)).mean_dim(1).squeeze_dim(1).detach();
        let (variance, mean) = pooled.var_mean_bias(0);
        let inverse = variance.sqrt().add_scalar(1e-3).recip();
        self.shift = Param::from_tensor(mean.squeeze_dim(0)).set_require_grad(false);
        self.scale = Param::from_tensor(inverse.squeeze_dim(0)).set_require_grad(false);
        self
    }

    /// `grid` (B, 49, 192), cells row-major, as the frozen backbone leaves them.
    pub fn forward(&self, grid: Tensor<3>) -> Tensor<2> {
        self.pool(grid).0
    }

    /// As [`ImageHead::forward`], with the patches.
    #[cfg(test)]
    pub fn forward_all(&self, grid: Tensor<3>) -> HeadOutput {
        let (embedding, cells, weights) = self.pool(grid);
        HeadOutput { embedding, patches: self.project(cells), weights: weights.mean_dim(2).squeeze_dim(2) }
    }

    fn pool(&self, grid: Tensor<3>) -> (Tensor<2>, Tensor<3>, Tensor<3>) {
        let [b, n, _] = grid.dims();
        let cells = relu(self.expand.forward(grid)); // (B, 49, E)
        let scores = self.score.forward(cells.clone()).mul_scalar(SCORE_SCALE);
        let weights = softmax(scores, 1); // (B, 49, heads)
        let c = cells.dims()[2];
        let split = cells.clone().reshape([b, n, self.n_pool, c / self.n_pool]);
        let pooled = (split * weights.clone().unsqueeze_dim(3)).sum_dim(1).reshape([b, 1, c]);
        (self.project(pooled).squeeze_dim(1), cells, weights)
    }

    /// (B, N, E) to unit rows (B, N, D).
    fn project(&self, cells: Tensor<3>) -> Tensor<3> {
        let shift: Tensor<3> = self.shift.val().unsqueeze();
        let standard = (cells - shift) * self.scale.val().unsqueeze();
        let hidden = relu(self.hidden.forward(self.dropout_in.forward(standard)));
        normalize(self.out.forward(self.dropout.forward(hidden)))
    }
}
