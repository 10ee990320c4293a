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
    pub fn forward(&self, x: Tensor<3>, mask: Option<Tensor<4>>) -> Tensor<3> {
        let c = x.dims()[2];
        let qkv = self.qkv.forward(self.norm_attention.forward(x.clone())); // (B, S, 3C)
        let part = |i: usize| qkv.clone().narrow(2, i * c, c);
        let mixed = attend(part(0), part(1), part(2), self.n_head, mask);
        let x = x + self.dropout.forward(self.attention_out.forward(mixed));
        let hidden = relu(self.mlp_in.forward(self.norm_mlp.forward(x.clone())));
        x + self.dropout.forward(self.mlp_out.forward(hidden.clone() * hidden))
    }

    pub fn n_head(&self) -> usize {
        self.n_head
    }
}

/// Multi-head attention of `query` (B, P, C) over `key` and `value` (B, R, C); `mask`, which broadcasts to (B, H, P, R),
/// is added to the logits.
pub(super) fn attend(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    n_head: usize,
    mask: Option<Tensor<4>>,
) -> Tensor<3> {
    let [b, p, c] = query.dims();
    let dh = c / n_head;
    let heads = |x: Tensor<3>| {
        let s = x.dims()[1];
        x.reshape([b, s, n_head, dh]).swap_dims(1, 2) // (B, H, S, dh)
    };
    let logits = heads(query).matmul(heads(key).swap_dims(2, 3)).mul_scalar(1.0 / (dh as f64).sqrt());
    let logits = match mask {
        Some(mask) => logits + mask,
        None => logits,
    };
    softmax(logits, 3).matmul(heads(value)).swap_dims(1, 2).reshape([b, p, c])
}

pub(super) fn linear(d_in: usize, d_out: usize, std: f64, device: &Device) -> Linear {
    let mut linear =
        LinearConfig::new(d_in, d_out).with_initializer(Initializer::Normal { mean: 0.0, std }).init(device);
    linear.bias = Some(Initializer::Zeros.init([d_out], device));
    linear
}
