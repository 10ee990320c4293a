//! `captiond-train quantize`: the activations of a bundle's image encoder as u8, with ranges measured on photos.
//!
//! The graph stays a standard one: `QuantizeLinear` and `DequantizeLinear` around what is computed (Jacob et al., CVPR
//! 2018, section 3). Where they stand differs by engine, since each fuses other groups of nodes.

mod calibrate;
mod places;
mod rewrite;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use caption::Bundle;
use caption::bundle::{self, PreprocessSettings, Role};
use engine::onnx;
use rand::seq::SliceRandom as _;

use crate::data;
use crate::training::step_rng;

#[derive(Clone, Debug, clap::Args)]
pub struct QuantizeArgs {
    #[arg(long)]
    pub bundle: PathBuf,
    /// Folder with `pairs.jsonl` and `images`
    #[arg(long)]
    pub data: PathBuf,
    #[arg(long)]
    pub out: PathBuf,
    /// Photos of the training split on which ranges are measured
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(8..))]
    pub photos: u16,
    /// The engine that the graph is for
    #[arg(long, value_enum, default_value_t = EngineArg::Tract)]
    pub engine: EngineArg,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineArg {
    /// Our layers add in f32 before they quantize
    Tract,
    /// Both sides of a sum are quantized before it
    Onnxruntime,
}

/// Other photos on which the embeddings before and after are compared.
const N_COMPARED: usize = 100;

pub fn run(args: &QuantizeArgs) -> Result<()> {
    let source = Bundle::open(&args.bundle)?;
    let mut manifest = source.manifest().clone();
    let bytes =
        source.file(file_of(&manifest, Role::ImageEncoder)).context("the bundle has no image encoder")?;
    let mut photos: Vec<PathBuf> =
        data::pairs(&args.data, "train")?.into_iter().map(|pair| pair.image).collect();
    photos.shuffle(&mut step_rng(args.seed, 0));
    let mut compared = photos.split_off(photos.len().min(args.photos.into()));
    compared.truncate(N_COMPARED);

    let (quantized, how) = encoder(args, bytes, &photos, &manifest.preprocess)?;
    let images = args.data.join("images");
    let cosines = calibrate::cosines([bytes, &quantized], &images, &compared, &manifest.preprocess)?;
    // What a bundle says of its decoder is the last thing that it says.
    manifest.provenance = format!("{how}; {}", manifest.provenance);
    write(&args.out, &source, manifest, &quantized, args.engine)?;
    let mean = cosines.iter().sum::<f32>() / cosines.len().max(1) as f32;
    let least = cosines.iter().copied().fold(1.0, f32::min);
    crate::report(&format!(
        "{how}; cosine with the embeddings before, {} other photos: mean {mean:.4}, least {least:.4}",
        cosines.len()
    ))
}

/// The image encoder in int8, and how that was done. One of convolutions gets ranges that photos have; a transformer,
/// whose one convolution cuts the picture into patches, leave to quantize rows as they come.
fn encoder(
    args: &QuantizeArgs,
    bytes: &[u8],
    photos: &[PathBuf],
    preprocess: &PreprocessSettings,
) -> Result<(Vec<u8>, String)> {
    let mut model = onnx::parse(bytes)?;
    let mut graph = model.graph.clone().context("the encoder holds no graph")?;
    if graph.node.iter().filter(|node| node.op_type == "Conv").count() <= 1 {
        ensure!(args.engine == EngineArg::Tract, "--engine: rows are quantized as they come by tract alone");
        return Ok((int8_rows(model)?, "rows of the image encoder in int8".to_owned()));
    }
    let values = places::find(&graph, args.engine == EngineArg::Onnxruntime);
    ensure!(
        !values.is_empty(),
        "{}: the image encoder has no convolution or product with stored weights whose activations are f32",
        args.bundle.display()
    );
    let ranges = calibrate::ranges(&model, &values, &args.data.join("images"), photos, preprocess)?;
    rewrite::rewrite(&mut graph, &ranges)?;
    model.graph = Some(graph);
    let how = format!(
        "activations of the image encoder as u8, ranges measured on {} training photos",
        photos.len()
    );
    Ok((onnx::encode(&model), how))
}

/// The name of a graph's file; empty where the bundle has no such graph.
fn file_of(manifest: &caption::Manifest, role: Role) -> &str {
    manifest.graphs.get(role).map_or("", |graph| &graph.file)
}

/// A graph with int8 weights, and leave to quantize the rows that they are multiplied with.
fn int8_rows(mut model: onnx::pb::ModelProto) -> Result<Vec<u8>> {
    rewrite::store_weights(model.graph.as_mut().context("the file holds no graph")?)?;
    onnx::allow_int8_rows(&mut model);
    Ok(onnx::encode(&model))
}

/// The bundle with another image encoder, and leave for the engine to quantize rows in the other graphs.
fn write(
    out: &Path,
    source: &Bundle,
    manifest: caption::Manifest,
    encoder: &[u8],
    engine: EngineArg,
) -> Result<()> {
    let [encoder_file, of_rows @ ..] = [Role::ImageEncoder, Role::TextEncoder, Role::Adapter, Role::Decoder]
        .map(|role| file_of(&manifest, role).to_owned());
    let mut files = Vec::new();
    for (name, bytes) in source.files() {
        let bytes = if name == encoder_file {
            encoder.to_vec()
        } else if engine == EngineArg::Tract && of_rows.iter().any(|file| file == name) {
            int8_rows(onnx::parse(bytes)?)?
        } else {
            bytes.to_vec()
        };
        files.push((name, bytes));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    bundle::write(out, manifest, &files)?;
    Ok(())
}
