//! The caption decoder as one ONNX graph, which serves prefill and step.

use anyhow::Result;
use engine::onnx::pb::tensor_proto::DataType;

use super::builder::{Attr, Builder, Dim, Storage};
use super::transformer::{Context, block, layer_norm};
use super::values;
use crate::model::Decoder;
use crate::tokenizer::PAD;

/// `ids` [B,S], `positions` [S], `prefix` [B,S,d] and the cache to `logits` [B,V] and the longer cache.
pub fn decoder(model: &Decoder) -> Result<Vec<u8>> {
    let mut b = Builder::new("decoder");
    let [vocab_size, d] = model.token_embedding.dims();
    let n_head = model.blocks.first().map_or(1, |block| block.n_head());
    let cache = |t| [Dim::S("B"), Dim::N(n_head), Dim::S(t), Dim::N(d / n_head)];
    let ids = b.input("ids", DataType::Int64, &[Dim::S("B"), Dim::S("S")]);
    let positions = b.input("positions", DataType::Int64, &[Dim::S("S")]);
    let prefix = b.input("prefix", DataType::Float, &[Dim::S("B"), Dim::S("S"), Dim::N(d)]);
    for i in 0..model.blocks.len() {
        b.input(&format!("past_key_{i}"), DataType::Float, &cache("T"));
        b.input(&format!("past_value_{i}"), DataType::Float, &cache("T"));
    }
    let mut table_values = values(model.token_embedding.val())?;
    // The prefix runs as `pad` tokens: their embedding must add nothing. No logit of `pad` is ever used.
    table_values[PAD as usize * d..(PAD as usize + 1) * d].fill(0.0);
    let table = b.store_int8("token_embedding", &[vocab_size, d], &table_values, 0);
    let position_table = b.weight(
        "position_embedding",
        &model.position_embedding.dims(),
        &values(model.position_embedding.val())?,
        Storage::F16,
    );
    let tokens = b.int8_rows(&table, &ids);
    let places = b.node("Gather", &[&position_table, &positions], vec![("axis", Attr::Int(0))]);
    let x = b.node("Add", &[&tokens, &prefix], vec![]);
    let mut x = b.node("Add", &[&x, &places], vec![]);
    for (i, layer) in model.blocks.iter().enumerate() {
        let names =
            [format!("past_key_{i}"), format!("past_value_{i}"), format!("key_{i}"), format!("value_{i}")];
        let context =
            Context::Past { key: &names[0], value: &names[1], key_out: &names[2], value_out: &names[3] };
        x = block(&mut b, &format!("block{i}"), layer, &x, &context)?;
    }
    let (from, to, axis) = (b.ints(&[-1]), b.ints(&[i64::MAX]), b.ints(&[1]));
    let last = b.node("Slice", &[&x, &from, &to, &axis], vec![]);
    let flat = b.ints(&[-1, d as i64]);
    let last = b.node("Reshape", &[&last, &flat], vec![]);
    let normed = layer_norm(&mut b, "norm", &model.norm, &last)?;
    let head = b.node("DequantizeLinear", &[&table[0], &table[1]], vec![("axis", Attr::Int(0))]);
    let head = b.node("Transpose", &[&head], vec![("perm", Attr::Ints(vec![1, 0]))]);
    b.node_to("MatMul", &[&normed, &head], &["logits"], vec![]);
    b.output("logits", DataType::Float, &[Dim::S("B"), Dim::N(vocab_size)]);
    for i in 0..model.blocks.len() {
        b.output(&format!("key_{i}"), DataType::Float, &cache("T+S"));
        b.output(&format!("value_{i}"), DataType::Float, &cache("T+S"));
    }
    Ok(b.finish())
}
