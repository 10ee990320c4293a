//! What range each value takes on photos, and what quantization does to embeddings.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use caption::bundle::PreprocessSettings;
use caption::{dot, preprocess};
use engine::onnx::{self, Attr, pb};
use engine::{Graph, Port};

use crate::data::read_photo;
use crate::graph;
use crate::training::Progress;
use crate::workers::Workers;

/// Share of the photos whose extremes lie beyond the range: a rare extreme would cost all others their digits.
const TAIL: f64 = 0.02;
/// Photos between two progress lines.
const CHUNK: usize = 32;

/// A value and the range that u8 is to stand for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Range {
    pub value: String,
    pub low: f32,
    pub high: f32,
}

/// Measures the range of each of `values` on `photos`, paths under `images`. Blocks.
///
/// # Errors
/// When a photo cannot be read or the graph fails.
pub(super) fn ranges(
    model: &pb::ModelProto,
    values: &[String],
    images: &Path,
    photos: &[PathBuf],
    settings: &PreprocessSettings,
) -> Result<Vec<Range>> {
    let watched = onnx::encode(&with_extremes(model.clone(), values)?);
    let all = run("calibrate", &watched, images, photos, settings, |outputs| {
        let n = outputs.len() - 2 * values.len();
        Ok(outputs[n..].iter().filter_map(|tensor| tensor.as_f32()?.first().copied()).collect::<Vec<f32>>())
    })?;
    let column = |idx: usize| {
        let mut column: Vec<f32> = all.iter().filter_map(|extremes| extremes.get(idx).copied()).collect();
        column.sort_by(f32::total_cmp);
        column
    };
    let at =
        |sorted: &[f32], q: f64| sorted.get((q * (sorted.len().max(1) - 1) as f64).round() as usize).copied();
    values
        .iter()
        .enumerate()
        .map(|(idx, value)| {
            let low = at(&column(2 * idx), TAIL).context("no photo was looked at")?;
            let high = at(&column(2 * idx + 1), 1.0 - TAIL).context("no photo was looked at")?;
            // Zero must have an exact u8: borders and ReLU are made of it.
            Ok(Range { value: value.clone(), low: low.min(0.0), high: high.max(0.0) })
        })
        .collect()
}

/// The graph with the least and the greatest element of each value as outputs more.
fn with_extremes(mut model: pb::ModelProto, values: &[String]) -> Result<pb::ModelProto> {
    let graph = model.graph.as_mut().context("the encoder holds no graph")?;
    for (idx, value) in values.iter().enumerate() {
        for op_type in ["ReduceMin", "ReduceMax"] {
            let name = format!("{op_type}_of_{idx}");
            graph.node.push(pb::NodeProto {
                op_type: op_type.to_owned(),
                name: name.clone(),
                input: vec![value.clone()],
                output: vec![name.clone()],
                attribute: vec![onnx::attribute("keepdims", Attr::Int(0))],
                ..Default::default()
            });
            graph.output.push(onnx::value_info(&Port::f32(name, [])));
        }
    }
    Ok(model)
}

/// The cosine of each photo's embedding by the one graph with that by the other. Blocks.
///
/// # Errors
/// When a photo cannot be read or a graph fails.
pub(super) fn cosines(
    graphs: [&[u8]; 2],
    images: &Path,
    photos: &[PathBuf],
    settings: &PreprocessSettings,
) -> Result<Vec<f32>> {
    let [before, after] = graphs.map(|onnx| {
        run("compare", onnx, images, photos, settings, |outputs| {
            Ok(outputs[0].as_f32().context("the encoder gives no embedding")?.to_vec())
        })
    });
    Ok(std::iter::zip(&before?, &after?).map(|(before, after)| dot(before, after)).collect())
}

/// What `take` makes of the graph's outputs for every photo.
fn run<T: Send>(
    name: &'static str,
    onnx: &[u8],
    images: &Path,
    photos: &[PathBuf],
    settings: &PreprocessSettings,
    take: impl Fn(&[engine::Tensor]) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let workers: Workers<Box<dyn Graph>> = Workers::new(|| graph::load("image_encoder", onnx))?;
    let mut progress = Progress::new(name, 0, photos.len(), "photos");
    let mut all = Vec::with_capacity(photos.len());
    for chunk in photos.chunks(CHUNK) {
        all.extend(workers.map(chunk, |graph, photo| {
            let pixels = preprocess(&read_photo(&images.join(photo))?, settings);
            let port = graph.signature().inputs.first().context("the encoder has no input")?.name.clone();
            take(&graph.run(&[(&port, pixels.view())])?)
        })?);
        progress.count(all.len(), chunk.len());
    }
    Ok(all)
}
