//! The adapter as an ONNX graph: linear from one embedding, with a transformer after it, or queries that look at
//! regions.

use anyhow::Result;
use engine::onnx::pb::tensor_proto::DataType;

use super::builder::{Attr, Builder, Dim, Storage};
use super::transformer::{Context, attention, block, heads, layer_norm, linear};
use super::values;
use crate::model::{AdapterConfig, Decoder, DecoderConfig, QueryAdapter, TransformerAdapter};

/// `embedding` [B,D], or `regions` [B,R,D], to `prefix` [B,P,d].
pub fn adapter(model: &Decoder, config: &DecoderConfig) -> Result<Vec<u8>> {
    let mut b = Builder::new("adapter");
    if let (Some(query), AdapterConfig::Queries { n_regions }) = (&model.query, config.adapter) {
        let dims = [Dim::S("B"), Dim::N(n_regions), Dim::N(config.embed_dim)];
        let regions = b.input("regions", DataType::Float, &dims);
        let rows = queries(&mut b, query, &regions)?;
        let prefix = linear(&mut b, "adapter", &model.adapter, &rows)?;
        b.node_to("Identity", &[&prefix], &["prefix"], vec![]);
    } else {
        let dims = [Dim::S("B"), Dim::N(config.embed_dim)];
        let embedding = b.input("embedding", DataType::Float, &dims);
        let flat = linear(&mut b, "adapter", &model.adapter, &embedding)?;
        let shape = b.ints(&[0, config.prefix_length as i64, config.d as i64]);
        if let Some(mapper) = &model.transformer {
            let rows = b.node("Reshape", &[&flat, &shape], vec![]);
            map(&mut b, mapper, &rows)?;
        } else {
            b.node_to("Reshape", &[&flat, &shape], &["prefix"], vec![]);
        }
    }
    b.output("prefix", DataType::Float, &[Dim::S("B"), Dim::N(config.prefix_length), Dim::N(config.d)]);
    Ok(b.finish())
}

/// As `TransformerAdapter::forward`, into the output `prefix`.
fn map(b: &mut Builder, mapper: &TransformerAdapter, rows: &str) -> Result<()> {
    let [p, d] = mapper.constants.dims();
    let constants = b.weight("constants", &[1, p, d], &values(mapper.constants.val())?, Storage::F32);
    // As many copies of the constants as there are rows, whatever the batch: nothing times a row is nothing.
    let zero = b.scalar(0.0);
    let nothing = b.node("Mul", &[rows, &zero], vec![]);
    let constants = b.node("Add", &[&nothing, &constants], vec![]);
    let mut x = b.node("Concat", &[rows, &constants], vec![("axis", Attr::Int(1))]);
    for (i, layer) in mapper.blocks.iter().enumerate() {
        x = block(b, &format!("block{i}"), layer, &x, &Context::Whole)?;
    }
    let (from, to, axis) = (b.ints(&[p as i64]), b.ints(&[2 * p as i64]), b.ints(&[1]));
    b.node_to("Slice", &[&x, &from, &to, &axis], &["prefix"], vec![]);
    Ok(())
}

/// As `QueryAdapter::forward`; what depends on the queries alone is stored as a constant.
fn queries(b: &mut Builder, adapter: &QueryAdapter, regions: &str) -> Result<String> {
    let settled = adapter.settled_queries();
    let dims = settled.dims();
    let d = dims[2];
    let x = b.weight("queries", &dims, &values(settled)?, Storage::F32);
    let key_value = linear(b, "cross_key_value", &adapter.cross_key_value, regions)?;
    let query = linear(b, "cross_query", &adapter.cross_query, &x)?;
    let (axis, start, middle, end) =
        (b.ints(&[2]), b.ints(&[0]), b.ints(&[d as i64]), b.ints(&[2 * d as i64]));
    let key = b.node("Slice", &[&key_value, &start, &middle, &axis], vec![]);
    let value = b.node("Slice", &[&key_value, &middle, &end, &axis], vec![]);
    let heads_shape = b.ints(&[0, 0, adapter.n_head as i64, (d / adapter.n_head) as i64]);
    let query = heads(b, &query, &heads_shape);
    let key = heads(b, &key, &heads_shape);
    let value = heads(b, &value, &heads_shape);
    let mixed = attention(b, [&query, &key, &value], [adapter.n_head, d / adapter.n_head], None);
    let out = linear(b, "cross_out", &adapter.cross_out, &mixed)?;
    let x = b.node("Add", &[&x, &out], vec![]);
    let x = layer_norm(b, "norm_cross", &adapter.norm_cross, &x)?;
    let hidden = linear(b, "mlp_in", &adapter.mlp_in, &x)?;
    let hidden = b.node("Relu", &[&hidden], vec![]);
    let out = linear(b, "mlp_out", &adapter.mlp_out, &hidden)?;
    let x = b.node("Add", &[&x, &out], vec![]);
    let mut x = layer_norm(b, "norm_mlp", &adapter.norm_mlp, &x)?;
    for (i, layer) in adapter.project.iter().enumerate() {
        let y = linear(b, &format!("project{i}"), layer, &x)?;
        x = b.node("Relu", &[&y], vec![]);
    }
    Ok(x)
}
