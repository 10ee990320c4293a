//! A network from the graphs of a bundle, to be trained on: what `export` wrote, read back. The weights come back as
//! exactly as int8 holds them.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use burn::module::Param;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::{Device, Tensor};
use caption::Bundle;
use caption::bundle::Role;
use engine::onnx::{self, pb};

use crate::export::image::floats;
use crate::model::{AdapterConfig, Block, Decoder, DecoderConfig};

/// Dimensions and f32 elements of stored tensors, by name.
struct Stored(HashMap<String, (Vec<usize>, Vec<f32>)>);

impl Stored {
    fn read(onnx: &[u8]) -> Result<Stored> {
        let mut model = onnx::parse(onnx)?;
        let table = token_table(&model)?;
        onnx::expand_weights(&mut model)?;
        let graph = model.graph.context("it holds no graph")?;
        let is_float =
            |tensor: &pb::TensorProto| tensor.data_type == pb::tensor_proto::DataType::Float as i32;
        let mut stored: HashMap<String, (Vec<usize>, Vec<f32>)> = graph
            .initializer
            .iter()
            .filter(|tensor| is_float(tensor))
            .map(|tensor| (tensor.name.clone(), (dims(tensor), floats(tensor))))
            .collect();
        stored.extend(table.map(|table| ("token_embedding".to_owned(), table)));
        Ok(Stored(stored))
    }

    fn dims(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.0.get(name).with_context(|| format!("it stores no {name}"))?.0)
    }

    fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Result<Tensor<D>> {
        let (dims, values) = self.0.get(name).with_context(|| format!("it stores no {name}"))?;
        let shape: [usize; D] =
            dims.as_slice().try_into().map_err(|_other| anyhow::anyhow!("{name} has {} axes", dims.len()))?;
        Ok(Tensor::<1>::from_data(values.as_slice(), device).reshape(shape))
    }

    fn linear(&self, name: &str, into: &mut Linear, device: &Device) -> Result<()> {
        into.weight = Param::from_tensor(self.tensor(&format!("{name}_weight"), device)?);
        into.bias = Some(Param::from_tensor(self.tensor(&format!("{name}_bias"), device)?));
        Ok(())
    }

    fn norm(&self, name: &str, into: &mut LayerNorm, device: &Device) -> Result<()> {
        into.gamma = Param::from_tensor(self.tensor(&format!("{name}_gamma"), device)?);
        into.beta = Some(Param::from_tensor(self.tensor(&format!("{name}_beta"), device)?));
        Ok(())
    }

    fn block(&self, name: &str, into: &mut Block, device: &Device) -> Result<()> {
        self.norm(&format!("{name}_norm_attention"), &mut into.norm_attention, device)?;
        self.linear(&format!("{name}_qkv"), &mut into.qkv, device)?;
        self.linear(&format!("{name}_attention_out"), &mut into.attention_out, device)?;
        self.norm(&format!("{name}_norm_mlp"), &mut into.norm_mlp, device)?;
        self.linear(&format!("{name}_mlp_in"), &mut into.mlp_in, device)?;
        self.linear(&format!("{name}_mlp_out"), &mut into.mlp_out, device)
    }
}

fn dims(tensor: &pb::TensorProto) -> Vec<usize> {
    tensor.dims.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect()
}

/// The token embedding, whose int8 codes are gathered before they are expanded, so that no node stands for all of it.
fn token_table(model: &pb::ModelProto) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
    let graph = model.graph.as_ref().context("it holds no graph")?;
    let find = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name);
    let (Some(codes), Some(scales)) = (find("token_embedding_i8"), find("token_embedding_scale")) else {
        return Ok(None);
    };
    let (shape, scales) = (dims(codes), floats(scales));
    let width = shape.last().copied().unwrap_or(0);
    ensure!(
        width > 0 && codes.raw_data.len() == width * scales.len(),
        "its token embedding does not fit its scales"
    );
    let rows = codes.raw_data.chunks_exact(width).zip(&scales);
    let values =
        rows.flat_map(|(row, scale)| row.iter().map(move |code| f32::from(code.cast_signed()) * scale));
    Ok(Some((shape, values.collect())))
}

/// The decoder of a bundle, with its shape.
///
/// # Errors
/// When its adapter is not linear, or its graphs were not written by this program.
pub fn decoder(bundle: &Bundle, dropout: f64, device: &Device) -> Result<(DecoderConfig, Decoder)> {
    read(bundle, dropout, device).with_context(|| format!("take the decoder out of {}", bundle.id()))
}

fn read(bundle: &Bundle, dropout: f64, device: &Device) -> Result<(DecoderConfig, Decoder)> {
    let manifest = bundle.manifest();
    let graph =
        |role| manifest.graphs.get(role).and_then(|graph| bundle.file(&graph.file)).unwrap_or_default();
    let settings = manifest.decoder.as_ref().context("it has none")?;
    let language = Stored::read(graph(Role::Decoder))?;
    let adapter = Stored::read(graph(Role::Adapter))?;
    ensure!(adapter.0.len() == 2, "its adapter is not linear: no other can be read back");
    let config = DecoderConfig {
        vocab_size: manifest.decoder_tokenizer().vocab_size,
        n_layer: settings.n_layer,
        n_head: settings.n_head,
        d: settings.n_embd(),
        d_mlp: language.dims("block0_mlp_in_weight")?.last().copied().unwrap_or(0),
        embed_dim: manifest.embedding.dim,
        prefix_length: settings.prefix_length,
        adapter: AdapterConfig::Linear,
        max_positions: settings.n_positions,
        dropout,
    };
    let mut model = Decoder::new(&config, device);
    adapter.linear("adapter", &mut model.adapter, device)?;
    model.token_embedding = Param::from_tensor(language.tensor("token_embedding", device)?);
    model.position_embedding = Param::from_tensor(language.tensor("position_embedding", device)?);
    for (i, block) in model.blocks.iter_mut().enumerate() {
        language.block(&format!("block{i}"), block, device)?;
    }
    language.norm("norm", &mut model.norm, device)?;
    Ok((config, model))
}
