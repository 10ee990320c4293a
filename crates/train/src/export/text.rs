//! The text encoder as an ONNX graph.

use anyhow::Result;
use engine::onnx::pb::tensor_proto::DataType;

use super::builder::{Attr, Builder, Dim, Storage};
use super::transformer::{Context, block, layer_norm, linear, normalize};
use super::values;
use crate::model::TextEncoder;

/// Where the file says which tokenizer its ids come from: the sha256 of its `tokenizer.json`.
const TOKENIZER_KEY: &str = "tokenizer_sha256";

/// The sha256 of the tokenizer that a text encoder was trained with, if the file says so.
///
/// # Errors
/// When it is no ONNX file.
pub fn tokenizer_of(onnx: &[u8]) -> Result<Option<String>> {
    let model = engine::onnx::parse(onnx)?;
    let entry = model.metadata_props.into_iter().find(|entry| entry.key == TOKENIZER_KEY);
    Ok(entry.map(|entry| entry.value))
}

/// `ids` [B,S], `mask` [S,S] to `embedding` [B,D], for the ids of the tokenizer with this sha256.
pub fn text_encoder(model: &TextEncoder, tokenizer_sha256: &str) -> Result<Vec<u8>> {
    let mut b = Builder::new("text_encoder");
    b.describe(TOKENIZER_KEY, tokenizer_sha256);
    let ids = b.input("ids", DataType::Int64, &[Dim::S("B"), Dim::S("S")]);
    let mask = b.input("mask", DataType::Float, &[Dim::S("S"), Dim::S("S")]);
    let table_values = values(model.token_embedding.val())?;
    let table = b.store_int8("token_embedding", &model.token_embedding.dims(), &table_values, 0);
    let positions = b.weight(
        "position_embedding",
        &model.position_embedding.dims(),
        &values(model.position_embedding.val())?,
        Storage::F16,
    );
    let tokens = b.int8_rows(&table, &ids);
    // The first S positions: S is read off the ids.
    let shape = b.node("Shape", &[&ids], vec![("start", Attr::Int(1)), ("end", Attr::Int(2))]);
    let (zero, axis) = (b.ints(&[0]), b.ints(&[0]));
    let positions = b.node("Slice", &[&positions, &zero, &shape, &axis], vec![]);
    let mut x = b.node("Add", &[&tokens, &positions], vec![]);
    for (i, layer) in model.blocks.iter().enumerate() {
        x = block(&mut b, &format!("block{i}"), layer, &x, &Context::Mask(&mask))?;
    }
    let (from, to, axis) = (b.ints(&[-1]), b.ints(&[i64::MAX]), b.ints(&[1]));
    let last = b.node("Slice", &[&x, &from, &to, &axis], vec![]);
    let d = model.token_embedding.dims()[1];
    let flat = b.ints(&[-1, d as i64]);
    let last = b.node("Reshape", &[&last, &flat], vec![]);
    let normed = layer_norm(&mut b, "norm", &model.norm, &last)?;
    let projected = linear(&mut b, "projection", &model.projection, &normed)?;
    normalize(&mut b, &projected, "embedding");
    let embed_dim = model.projection.weight.dims()[1];
    b.output("embedding", DataType::Float, &[Dim::S("B"), Dim::N(embed_dim)]);
    Ok(b.finish())
}
