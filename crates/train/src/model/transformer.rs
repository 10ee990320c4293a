//! One pre-norm transformer block, shared by the text encoder and the caption decoder.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor};

/// Standard deviation of the initial weights (GPT-2).
const INIT_STD: f64 = 0.02;

/// x + attention(norm(x)), then x + mlp(norm(x)); the MLP's activation is relu squared (Primer, So et al.
/// 2021), which costs an engine one multiplication where GELU costs an error function.
#[derive(Module, Debug)]
pub struct Block {
    pub norm_attention: LayerNorm,
    pub qkv: Linear,
    pub attention_out: Linear,
    pub norm_mlp: LayerNorm,
    pub mlp_in: Linear,
    pub mlp_out: Linear,
    dropout: Dropout,
    n_head: usize,
}

impl Block {
    /// `n_layer` scales the initial residual projections, so that depth does not grow the stream (GPT-2).
    pub fn new(
        d: usize,
        n_head: usize,
        d_mlp: usize,
        n_layer: usize,
        dropout: f64,
        device: &Device,
    ) -> Block {
        let residual_std = INIT_STD / (2.0 * n_layer as f64).sqrt();
        Block {
            norm_attention: LayerNormConfig::new(d).init(device),
            qkv: linear(d, 3 * d, INIT_STD, device),
            attention_out: linear(d, d, residual_std, device),
            norm_mlp: LayerNormConfig::new(d).init(device),
            mlp_in: linear(d, d_mlp, INIT_STD, device),
            mlp_out: linear(d_mlp, d, residual_std, device),
            dropout: DropoutConfig::new(dropout).init(),
            n_head,
        }
    }

    /// `x` (B, S, C); `mask` (1, 1, S, S) is added to the attention logits.
    pub fn forward(&self, x: Tensor<3>, mask: Tensor<4>) -> Tensor<3> {
        let [b, s, c] = x.dims();
        let dh = c / self.n_head;
        let qkv = self.qkv.forward(self.norm_attention.forward(x.clone())); // (B, S, 3C)
        let head = |i: usize| {
            qkv.clone().narrow(2, i * c, c).reshape([b, s, self.n_head, dh]).swap_dims(1, 2) // (B, H, S, dh)
        };
        let logits = head(0).matmul(head(1).swap_dims(2, 3)).mul_scalar(1.0 / (dh as f64).sqrt()); // (B, H, S, S)
        let attention = softmax(logits + mask, 3);
        let mixed = attention.matmul(head(2)).swap_dims(1, 2).reshape([b, s, c]);
        let x = x + self.dropout.forward(self.attention_out.forward(mixed));
        let hidden = relu(self.mlp_in.forward(self.norm_mlp.forward(x.clone())));
        x + self.dropout.forward(self.mlp_out.forward(hidden.clone() * hidden))
    }

    pub fn n_head(&self) -> usize {
        self.n_head
    }
}

pub(super) fn linear(d_in: usize, d_out: usize, std: f64, device: &Device) -> Linear {
    let mut linear =
        LinearConfig::new(d_in, d_out).with_initializer(Initializer::Normal { mean: 0.0, std }).init(device);
    linear.bias = Some(Initializer::Zeros.init([d_out], device));
    linear
}
