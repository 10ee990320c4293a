//! The image encoder as an ONNX graph: the frozen backbone followed by the trained head.

use anyhow::{Context, Result, ensure};
use engine::Port;
use engine::onnx::{self, pb};
use prost::Message;

use pb::tensor_proto::DataType;

use super::builder::{Attr, Builder, Dim, Storage};
use super::transformer::{Weights, linear, normalize, stored_linear};
use super::values;
use crate::model::{GRID_CHANNELS, GRID_SIDE, ImageHead, SCORE_SCALE};

/// Name of the backbone's input and of the tensor where its frozen part ends.
const BACKBONE_INPUT: &str = "image";
const BACKBONE_GRID: &str = "t71";
/// Its own expansion to 1280 channels, from which the head's starts.
const BACKBONE_EXPAND: [&str; 2] = ["w72", "b72"];

/// Side of the backbone's input in pixels.
pub const INPUT_SIDE: usize = 224;

/// What an image encoder says of itself: it may have been made for larger photos than the backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Side of the square photo, in pixels.
    pub side: usize,
    /// Side of the square of patches.
    pub patches: usize,
}

impl Geometry {
    /// Reads the ports of the graph.
    ///
    /// # Errors
    /// When `onnx` is no encoder of square photos with a square of patches.
    pub fn of(onnx: &[u8]) -> Result<Geometry> {
        let signature = onnx::signature_of(onnx)?;
        let fixed = |ports: &[Port], name: &str, axis: usize| {
            let port = ports.iter().find(|port| port.name == name)?;
            let engine::Dim::Fixed(n) = port.dims.get(axis)? else { return None };
            Some(*n)
        };
        let pixels = [2, 3].map(|axis| fixed(&signature.inputs, "pixels", axis));
        let n_patches = fixed(&signature.outputs, "patches", 1);
        let ([Some(side), Some(width)], Some(n_patches)) = (pixels, n_patches) else {
            anyhow::bail!("the image encoder does not say how large `pixels` and `patches` are");
        };
        let patches = n_patches.isqrt();
        ensure!(
            side == width && patches * patches == n_patches,
            "the image encoder has {side} x {width} pixels and {n_patches} patches: both must be squares"
        );
        Ok(Geometry { side, patches })
    }
}

/// The frozen part of the backbone: `image` [1,3,224,224] to its last bottleneck [1,192,7,7].
pub fn backbone_grid(onnx: &[u8]) -> Result<Vec<u8>> {
    let graph = frozen_part(onnx)?;
    let mut b = Builder::from_graph("backbone", graph);
    b.input(BACKBONE_INPUT, DataType::Float, &image_dims());
    let side = Dim::N(GRID_SIDE);
    b.output(BACKBONE_GRID, DataType::Float, &[Dim::N(1), Dim::N(GRID_CHANNELS), side, side]);
    Ok(b.finish())
}

/// Weight (192, 1280) row-major and bias (1280) of the backbone's last convolution.
pub fn backbone_expansion(onnx: &[u8]) -> Result<(Vec<f32>, Vec<f32>)> {
    let graph =
        pb::ModelProto::decode(onnx).context("parse backbone")?.graph.context("backbone has no graph")?;
    let read = |name: &str| -> Result<Vec<f32>> {
        let tensor = graph
            .initializer
            .iter()
            .find(|t| t.name == name)
            .with_context(|| format!("backbone has no initializer {name}"))?;
        Ok(floats(tensor))
    };
    let (weight, bias) = (read(BACKBONE_EXPAND[0])?, read(BACKBONE_EXPAND[1])?);
    let n_out = bias.len();
    // A 1x1 convolution stores (out, in); a linear layer (in, out).
    let transposed = (0..weight.len()).map(|idx| weight[idx % n_out * GRID_CHANNELS + idx / n_out]).collect();
    Ok((transposed, bias))
}

/// `pixels` [1,3,224,224] to `embedding` [1,D], `patches` [1,49,D], `weights` [1,49].
pub fn image_encoder(backbone: &[u8], head: &ImageHead, n_pool: usize) -> Result<Vec<u8>> {
    let mut graph = frozen_part(backbone)?;
    for node in &mut graph.node {
        node.input.iter_mut().filter(|name| *name == BACKBONE_INPUT).for_each(|name| *name = "pixels".into());
    }
    let stored = std::mem::take(&mut graph.initializer);
    let nodes = std::mem::take(&mut graph.node);
    let mut b = Builder::from_graph("image_encoder", graph);
    b.input("pixels", DataType::Float, &image_dims());
    for tensor in &stored {
        let dims: Vec<usize> = tensor.dims.iter().map(|d| *d as usize).collect();
        let storage = match dims[..] {
            // A depthwise kernel has nine weights a channel: rounding them to int8 costs much and saves nothing.
            [_, 1, _, _] => Storage::F16,
            [_, _, _, _] => Storage::Int8 { axis: 0 },
            _ => Storage::F32,
        };
        b.weight(&tensor.name, &dims, &floats(tensor), storage);
    }
    b.append(nodes);
    let (n, c) = ((GRID_SIDE * GRID_SIDE) as i64, GRID_CHANNELS as i64);
    let flat = b.ints(&[0, c, n]);
    let grid = b.node("Reshape", &[BACKBONE_GRID, &flat], vec![]);
    let grid = b.node("Transpose", &[&grid], vec![("perm", Attr::Ints(vec![0, 2, 1]))]);
    let cells = linear(&mut b, "expand", &head.expand, &grid)?;
    let cells = b.node("Relu", &[&cells], vec![]);
    let mut score = Weights::of(&head.score)?;
    score.weight.iter_mut().chain(&mut score.bias).for_each(|x| *x *= SCORE_SCALE as f32);
    let scores = stored_linear(&mut b, "score", &score, &cells);
    let weights = b.node("Softmax", &[&scores], vec![("axis", Attr::Int(1))]); // (1, 49, heads)
    let d_expand = head.expand.weight.dims()[1];
    let split = b.ints(&[0, n, n_pool as i64, (d_expand / n_pool) as i64]);
    let per_head = b.node("Reshape", &[&cells, &split], vec![]);
    let axis = b.ints(&[3]);
    let column = b.node("Unsqueeze", &[&weights, &axis], vec![]);
    let weighted = b.node("Mul", &[&per_head, &column], vec![]);
    let axis = b.ints(&[1]);
    let pooled = b.node("ReduceSum", &[&weighted, &axis], vec![("keepdims", Attr::Int(0))]);
    let row = b.ints(&[0, 1, d_expand as i64]);
    let pooled = b.node("Reshape", &[&pooled, &row], vec![]);
    // One multiplication for both: tract packs a large weight that two nodes read anew at each run.
    let both = b.node("Concat", &[&pooled, &cells], vec![("axis", Attr::Int(1))]); // (1, 1 + 49, E)
    let both = project(&mut b, head, &both)?;
    let (axis, first, second, end) = (b.ints(&[1]), b.ints(&[0]), b.ints(&[1]), b.ints(&[i64::MAX]));
    let embedding = b.node("Slice", &[&both, &first, &second, &axis], vec![]);
    let embed_dim = head.out.weight.dims()[1];
    let flat = b.ints(&[0, embed_dim as i64]);
    let embedding = b.node("Reshape", &[&embedding, &flat], vec![]);
    normalize(&mut b, &embedding, "embedding");
    let patches = b.node("Slice", &[&both, &second, &end, &axis], vec![]);
    normalize(&mut b, &patches, "patches");
    let attrs = vec![("axes", Attr::Ints(vec![2])), ("keepdims", Attr::Int(0))];
    b.node_to("ReduceMean", &[&weights], &["weights"], attrs);
    let embed_dim = Dim::N(embed_dim);
    let n = Dim::N(GRID_SIDE * GRID_SIDE);
    b.output("embedding", DataType::Float, &[Dim::N(1), embed_dim]);
    b.output("patches", DataType::Float, &[Dim::N(1), n, embed_dim]);
    b.output("weights", DataType::Float, &[Dim::N(1), n]);
    Ok(b.finish())
}

/// The head's projection of every row.
fn project(b: &mut Builder, head: &ImageHead, cells: &str) -> Result<String> {
    let hidden = stored_linear(b, "hidden", &standardised(head)?, cells);
    let hidden = b.node("Relu", &[&hidden], vec![]);
    linear(b, "out", &head.out, &hidden)
}

/// The hidden layer with the standardisation of its input folded in: ((x - m) s) W + b = x (s W) + (b - (m s) W).
fn standardised(head: &ImageHead) -> Result<Weights> {
    let mut folded = Weights::of(&head.hidden)?;
    let (shift, scale) = (values(head.shift.val())?, values(head.scale.val())?);
    let n_out = folded.dims[1];
    for (row, (shift, scale)) in folded.weight.chunks_exact_mut(n_out).zip(shift.iter().zip(&scale)) {
        for (weight, bias) in row.iter_mut().zip(&mut folded.bias) {
            *weight *= scale;
            *bias -= shift * *weight;
        }
    }
    Ok(folded)
}

/// The elements of an f32 tensor, however it stores them.
pub fn floats(tensor: &pb::TensorProto) -> Vec<f32> {
    if tensor.raw_data.is_empty() {
        return tensor.float_data.clone();
    }
    tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn image_dims() -> [Dim; 4] {
    [Dim::N(1), Dim::N(3), Dim::N(INPUT_SIDE), Dim::N(INPUT_SIDE)]
}

/// The backbone's nodes up to its grid, and the weights that they use.
fn frozen_part(onnx: &[u8]) -> Result<pb::GraphProto> {
    let model = pb::ModelProto::decode(onnx).context("parse backbone")?;
    let mut graph = model.graph.context("backbone has no graph")?;
    let end = graph
        .node
        .iter()
        .position(|node| node.output.iter().any(|name| name == BACKBONE_GRID))
        .with_context(|| format!("backbone has no tensor {BACKBONE_GRID}"))?;
    graph.node.truncate(end + 1);
    let used: std::collections::HashSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
    graph.initializer.retain(|tensor| used.contains(&tensor.name));
    Ok(graph)
}
