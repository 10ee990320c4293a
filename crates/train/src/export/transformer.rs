//! The transformer block as ONNX nodes.

use anyhow::Result;
use burn::nn::{LayerNorm, Linear};

use super::builder::{Attr, Builder, Storage};
use super::values;
use crate::model::Block;

/// Where a block's attention looks: at its own sequence, whole or under a mask, or at a cache followed by it.
pub(super) enum Context<'a> {
    Whole,
    Mask(&'a str),
    Past { key: &'a str, value: &'a str, key_out: &'a str, value_out: &'a str },
}

/// x (B, S, C) to (B, S, C).
pub(super) fn block(
    b: &mut Builder,
    name: &str,
    block: &Block,
    x: &str,
    context: &Context<'_>,
) -> Result<String> {
    let c = block.norm_attention.gamma.dims()[0];
    let n_head = block.n_head();
    let dh = c / n_head;
    let normed = layer_norm(b, &format!("{name}_norm_attention"), &block.norm_attention, x)?;
    let qkv = linear(b, &format!("{name}_qkv"), &block.qkv, &normed)?;
    let heads_shape = b.ints(&[0, 0, n_head as i64, dh as i64]);
    let head = |b: &mut Builder, i: usize| {
        let (from, to, axis) = (b.ints(&[(i * c) as i64]), b.ints(&[((i + 1) * c) as i64]), b.ints(&[2]));
        let part = b.node("Slice", &[&qkv, &from, &to, &axis], vec![]);
        heads(b, &part, &heads_shape)
    };
    let (q, mut k, mut v) = (head(b, 0), head(b, 1), head(b, 2));
    if let Context::Past { key, value, key_out, value_out } = context {
        b.node_to("Concat", &[key, &k], &[key_out], vec![("axis", Attr::Int(2))]);
        b.node_to("Concat", &[value, &v], &[value_out], vec![("axis", Attr::Int(2))]);
        (k, v) = ((*key_out).to_owned(), (*value_out).to_owned());
    }
    let mask = match context {
        Context::Mask(mask) => Some(*mask),
        Context::Whole | Context::Past { .. } => None,
    };
    let mixed = attention(b, [&q, &k, &v], [n_head, dh], mask);
    let out = linear(b, &format!("{name}_attention_out"), &block.attention_out, &mixed)?;
    let x = b.node("Add", &[x, &out], vec![]);

    let normed = layer_norm(b, &format!("{name}_norm_mlp"), &block.norm_mlp, &x)?;
    let hidden = linear(b, &format!("{name}_mlp_in"), &block.mlp_in, &normed)?;
    let hidden = b.node("Relu", &[&hidden], vec![]);
    let hidden = b.node("Mul", &[&hidden, &hidden], vec![]);
    let out = linear(b, &format!("{name}_mlp_out"), &block.mlp_out, &hidden)?;
    Ok(b.node("Add", &[&x, &out], vec![]))
}

/// (B, S, C) to (B, H, S, dh); `shape` is `[0, 0, H, dh]`.
pub(super) fn heads(b: &mut Builder, x: &str, shape: &str) -> String {
    let split = b.node("Reshape", &[x, shape], vec![]);
    b.node("Transpose", &[&split], vec![("perm", Attr::Ints(vec![0, 2, 1, 3]))])
}

/// Attention of heads (B, H, P, dh) over keys and values (B, H, R, dh), to (B, P, H dh); `mask` is added to the logits.
pub(super) fn attention(
    b: &mut Builder,
    [query, key, value]: [&str; 3],
    [n_head, dh]: [usize; 2],
    mask: Option<&str>,
) -> String {
    let key = b.node("Transpose", &[key], vec![("perm", Attr::Ints(vec![0, 1, 3, 2]))]);
    let scale = b.scalar(1.0 / (dh as f32).sqrt());
    let query = b.node("Mul", &[query, &scale], vec![]);
    let mut logits = b.node("MatMul", &[&query, &key], vec![]);
    if let Some(mask) = mask {
        logits = b.node("Add", &[&logits, mask], vec![]);
    }
    let shares = b.node("Softmax", &[&logits], vec![("axis", Attr::Int(3))]);
    let mixed = b.node("MatMul", &[&shares, value], vec![]);
    let mixed = b.node("Transpose", &[&mixed], vec![("perm", Attr::Ints(vec![0, 2, 1, 3]))]);
    let flat_shape = b.ints(&[0, 0, (n_head * dh) as i64]);
    b.node("Reshape", &[&mixed, &flat_shape], vec![])
}

/// Weight (in, out), row-major, and bias of a linear layer.
pub(super) struct Weights {
    pub(super) dims: [usize; 2],
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Weights {
    pub(super) fn of(linear: &Linear) -> Result<Weights> {
        let bias = linear.bias.as_ref().map(|bias| values(bias.val())).transpose()?.unwrap_or_default();
        Ok(Weights { dims: linear.weight.dims(), weight: values(linear.weight.val())?, bias })
    }
}

/// x W + b.
pub(super) fn linear(b: &mut Builder, name: &str, linear: &Linear, x: &str) -> Result<String> {
    Ok(stored_linear(b, name, &Weights::of(linear)?, x))
}

/// x W + b, the weight stored as int8 with a scale for each output.
pub(super) fn stored_linear(b: &mut Builder, name: &str, stored: &Weights, x: &str) -> String {
    let storage = Storage::Int8 { axis: 1 };
    let weight = b.weight(&format!("{name}_weight"), &stored.dims, &stored.weight, storage);
    let y = b.node("MatMul", &[x, &weight], vec![]);
    if stored.bias.is_empty() {
        return y;
    }
    let bias = b.weight(&format!("{name}_bias"), &[stored.bias.len()], &stored.bias, Storage::F32);
    b.node("Add", &[&y, &bias], vec![])
}

pub(super) fn layer_norm(b: &mut Builder, name: &str, norm: &LayerNorm, x: &str) -> Result<String> {
    let gamma =
        b.weight(&format!("{name}_gamma"), &norm.gamma.dims(), &values(norm.gamma.val())?, Storage::F32);
    let attrs = vec![("axis", Attr::Int(-1)), ("epsilon", Attr::Float(1e-5))];
    let mut inputs = vec![x.to_owned(), gamma];
    if let Some(beta) = &norm.beta {
        inputs.push(b.weight(&format!("{name}_beta"), &beta.dims(), &values(beta.val())?, Storage::F32));
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    Ok(b.node("LayerNormalization", &inputs, attrs))
}

/// Unit rows along the last axis.
pub(super) fn normalize(b: &mut Builder, x: &str, out: &str) {
    let norm = b.node("ReduceL2", &[x], vec![("axes", Attr::Ints(vec![-1])), ("keepdims", Attr::Int(1))]);
    let floor = b.scalar(1e-6);
    let norm = b.node("Max", &[&norm, &floor], vec![]);
    b.node_to("Div", &[x, &norm], &[out], vec![]);
}
