//! An image tower to the image encoder of a bundle: its embedding, and, where it pools tokens or a grid, the same for
//! each patch, with the share that each has in the embedding.
//!
//! What follows the pooling (a norm, a projection) works on the last axis alone. So a copy of it over all tokens gives
//! each patch what the pooled one gets, without knowing how the exporter spelled a norm.

use std::collections::{HashMap, HashSet};

use engine::onnx::{Attr, attribute, pb};
use engine::{Dim, Port};

use crate::net::Net;
use crate::towers::ImageTower;
use crate::{ImportError, probe};

const EMBEDDING: &str = "embedding";
/// Least cosine of the copied path's own pooled row with the embedding.
const SAME: f32 = 0.9999;

/// An image encoder with the ports of `docs/bundle.md`.
pub(crate) struct ImageEncoder {
    pub(crate) onnx: Vec<u8>,
    pub(crate) dim: usize,
    /// Rows and columns.
    pub(crate) patches: [usize; 2],
    /// Why there are no sub-regions, when there are none.
    pub(crate) whole: Option<String>,
}

/// How a tower makes one row of many.
enum Pooling {
    /// Takes the first of the tokens (1, T, C).
    FirstToken { tokens: String, pooled: String },
    /// The mean over a grid (1, C, h, w).
    Mean { grid: String, pooled: String },
}

/// Derives the encoder and compares it with the tower. Blocks for a few runs.
pub(crate) fn image_encoder(tower: &ImageTower, size: [usize; 2]) -> Result<ImageEncoder, ImportError> {
    let mut net = tower.net.clone();
    let [width, height] = size;
    net.rename(&tower.input, "pixels");
    net.declare_input(&Port::f32("pixels", [1.into(), 3.into(), height.into(), width.into()]));
    let features = tower.output.clone();
    let dim = match probe::shape(&net, &features, size, tower.file())?[..] {
        [1, dim] => dim,
        ref other => {
            return Err(tower.unusable(format!("its {features} has the shape {other:?}, not [1, width]")));
        }
    };
    let whole = match regions(&net, tower, size, dim) {
        Ok(found) => return Ok(found),
        Err(why) => why,
    };
    net.normalize(&features, EMBEDDING);
    let one = net.floats(&[1, 1], &[1.0]);
    let shape = net.ints(&[1, 1, dim as i64]);
    net.add_to("Reshape", &[EMBEDDING, &shape], "patches", vec![]);
    net.add_to("Identity", &[&one], "weights", vec![]);
    let onnx = finish(net, dim, 1);
    probe::image(&onnx, size, dim, 1, tower.file())?;
    Ok(ImageEncoder { onnx, dim, patches: [1, 1], whole: Some(whole) })
}

/// The encoder with its patches; a reason where the graph does not show any.
fn regions(plain: &Net, tower: &ImageTower, size: [usize; 2], dim: usize) -> Result<ImageEncoder, String> {
    let features = &tower.output;
    let pooling = pooling(plain, features)?;
    let many = match &pooling {
        Pooling::FirstToken { tokens, .. } => tokens,
        Pooling::Mean { grid, .. } => grid,
    };
    let shape = probe::shape(plain, many, size, tower.file()).map_err(|e| e.to_string())?;
    let (n_patches, grid) = match (&pooling, &shape[..]) {
        (Pooling::FirstToken { .. }, [1, n_tokens, _]) if *n_tokens > 1 => {
            (n_tokens - 1, tower.grid(n_tokens - 1))
        }
        (Pooling::Mean { .. }, [1, _, rows, columns]) => (rows * columns, [*rows, *columns]),
        (_, shape) => return Err(format!("{many} has the shape {shape:?}")),
    };
    let mut net = plain.clone();
    let (rows, pooled, first) = match &pooling {
        Pooling::FirstToken { tokens, pooled } => (tokens.clone(), pooled, 1),
        Pooling::Mean { grid, pooled } => {
            let shape = net.ints(&[1, -1, n_patches as i64]);
            let flat = net.add("Reshape", &[grid, &shape], vec![]);
            let rows = net.add("Transpose", &[&flat], vec![("perm", Attr::Ints(vec![0, 2, 1]))]);
            (rows, pooled, 0)
        }
    };
    let all = copied(&mut net, &rows, pooled, features)?;
    let patches = if first == 1 { net.slice(&all, 1, 1, i64::MAX) } else { all.clone() };
    net.normalize(features, EMBEDDING);
    net.normalize(&patches, "patches");
    // What the copy makes of the pooled row, beside what the tower makes of it.
    let own = if first == 1 { net.slice(&all, 1, 0, 1) } else { net.reduce("ReduceMean", &all, 1) };
    let flat = net.ints(&[1, dim as i64]);
    let own = net.add("Reshape", &[&own, &flat], vec![]);
    let mut check = net.clone();
    check.normalize(&own, "own");
    probe::agree(&check, [EMBEDDING, "own"], size, SAME).map_err(|why| format!("per patch, {why}"))?;
    if first == 1 {
        attention(&mut net, features, n_patches)?;
    } else {
        let equal = net.floats(&[1, n_patches], &vec![1.0 / n_patches as f32; n_patches]);
        net.add_to("Identity", &[&equal], "weights", vec![]);
    }
    let onnx = finish(net, dim, n_patches);
    probe::image(&onnx, size, dim, n_patches, tower.file()).map_err(|e| e.to_string())?;
    Ok(ImageEncoder { onnx, dim, patches: grid, whole: None })
}

fn finish(mut net: Net, dim: usize, n_patches: usize) -> Vec<u8> {
    net.keep(&[EMBEDDING, "patches", "weights"]);
    net.declare_output(&Port::f32(EMBEDDING, [1.into(), dim.into()]));
    net.declare_output(&Port::f32("patches", [1.into(), n_patches.into(), dim.into()]));
    net.declare_output(&Port::f32("weights", [Dim::Fixed(1), n_patches.into()]));
    engine::onnx::encode(net.model())
}

/// Goes back from the features to where one row is made of many.
fn pooling(net: &Net, features: &str) -> Result<Pooling, String> {
    let (producers, constants) = (net.producers(), net.constants());
    let mut pending = vec![features.to_owned()];
    let mut seen = HashSet::new();
    let mut found = None;
    while let Some(name) = pending.pop() {
        if constants.contains(&name) || !seen.insert(name.clone()) {
            continue;
        }
        let Some(node) = producers.get(&name).map(|at| &net.graph().node[*at]) else { continue };
        if let Some(pooling) = pools(net, node) {
            found = found.or(Some(pooling));
            continue;
        }
        if node.op_type == "Softmax" || node.op_type.contains("Attention") {
            return Err("it pools by attention".to_owned());
        }
        pending.extend(node.input.iter().cloned());
    }
    found.ok_or_else(|| "no pooling of tokens or of a grid was found in it".to_owned())
}

fn pools(net: &Net, node: &pb::NodeProto) -> Option<Pooling> {
    let (data, pooled) = (node.input.first()?.clone(), node.output.first()?.clone());
    let int = |name: &str| node.attribute.iter().find(|a| a.name == name).map(|a| a.i);
    match node.op_type.as_str() {
        "Gather" if int("axis") == Some(1) && net.stored_ints(node.input.get(1)?)? == [0] => {
            Some(Pooling::FirstToken { tokens: data, pooled })
        }
        "GlobalAveragePool" => Some(Pooling::Mean { grid: data, pooled }),
        "ReduceMean" => {
            let mut axes = match node.input.get(1) {
                Some(axes) => net.stored_ints(axes)?,
                None => node.attribute.iter().find(|a| a.name == "axes")?.ints.clone(),
            };
            axes.sort_unstable();
            (axes == [2, 3] || axes == [-2, -1]).then_some(Pooling::Mean { grid: data, pooled })
        }
        _ => None,
    }
}

/// Copies what lies between `pooled` and `features`, to work on `rows` (1, T, C) in the place of (1, C).
fn copied(net: &mut Net, rows: &str, pooled: &str, features: &str) -> Result<String, String> {
    let mut copies = HashMap::from([(pooled.to_owned(), rows.to_owned())]);
    let nodes = net.graph().node.clone();
    for node in nodes.iter().filter(|node| node.input.iter().all(|name| !name.starts_with("captiond_"))) {
        if !node.input.iter().any(|name| copies.contains_key(name)) {
            continue;
        }
        let inputs: Vec<String> =
            node.input.iter().map(|name| copies.get(name).unwrap_or(name).clone()).collect();
        let outputs = copy(net, node, inputs)?;
        copies.extend(node.output.iter().cloned().zip(outputs));
    }
    copies.remove(features).ok_or_else(|| "the embedding does not follow from what is pooled".to_owned())
}

/// The counterpart of one node, one axis more in front of the last.
fn copy(net: &mut Net, node: &pb::NodeProto, inputs: Vec<String>) -> Result<Vec<String>, String> {
    const PLAIN: [&str; 25] = [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Sqrt",
        "Max",
        "Min",
        "Clip",
        "Cast",
        "Identity",
        "Erf",
        "Sigmoid",
        "Tanh",
        "Relu",
        "MatMul",
        "MatMulInteger",
        "DynamicQuantizeLinear",
        "QuantizeLinear",
        "DequantizeLinear",
        "Shape",
        "Expand",
        "Reciprocal",
        "Abs",
        "MatMulNBits",
    ];
    let op = node.op_type.as_str();
    let mut node = node.clone();
    match op {
        _ if PLAIN.contains(&op) => {}
        // What makes (1, C) of (1, C, 1, 1) has nothing to do here.
        "Flatten" | "Squeeze" => return Ok(inputs.into_iter().take(1).collect()),
        "LayerNormalization" | "Softmax" | "LpNormalization" => {
            node.attribute.retain(|attribute| attribute.name != "axis");
            node.attribute.push(attribute("axis", Attr::Int(-1)));
        }
        "ReduceMean" | "ReduceSum" | "ReduceL2" => return reduced(net, node, inputs),
        "Gemm" => return product(net, &node, &inputs),
        _ => return Err(format!("{op} stands between the pooling and the embedding")),
    }
    Ok(net.add_copy(&node, inputs))
}

fn reduced(net: &mut Net, mut node: pb::NodeProto, mut inputs: Vec<String>) -> Result<Vec<String>, String> {
    let last = |axes: &[i64]| axes == [-1] || axes == [1];
    if let Some(axes) = node.attribute.iter_mut().find(|attribute| attribute.name == "axes") {
        if !last(&axes.ints) {
            return Err(format!("{} goes over another axis than the last", node.op_type));
        }
        axes.ints = vec![-1];
    } else {
        let axes = inputs.get(1).and_then(|name| net.stored_ints(name));
        if !axes.is_some_and(|axes| last(&axes)) {
            return Err(format!("{} goes over another axis than the last", node.op_type));
        }
        inputs[1] = net.ints(&[-1]);
    }
    Ok(net.add_copy(&node, inputs))
}

/// `Gemm` knows two axes, `MatMul` any number.
fn product(net: &mut Net, node: &pb::NodeProto, inputs: &[String]) -> Result<Vec<String>, String> {
    let int = |name: &str| node.attribute.iter().find(|a| a.name == name).map_or(0, |a| a.i);
    let plain = |name: &str| node.attribute.iter().find(|a| a.name == name).is_none_or(|a| a.f == 1.0);
    let [x, weight, rest @ ..] = inputs else { return Err("a Gemm has one input".to_owned()) };
    if int("transA") != 0 || !plain("alpha") || !plain("beta") {
        return Err("a Gemm transposes or scales what it is given".to_owned());
    }
    let weight = match int("transB") {
        0 => weight.clone(),
        _ => net.add("Transpose", &[weight], vec![("perm", Attr::Ints(vec![1, 0]))]),
    };
    let y = net.add("MatMul", &[x, &weight], vec![]);
    Ok(vec![match rest {
        [bias, ..] => net.add("Add", &[&y, bias], vec![]),
        [] => y,
    }])
}

/// The share of each patch in the embedding: the attention of the first token in the last layer, mean over the heads.
fn attention(net: &mut Net, features: &str, n_patches: usize) -> Result<(), String> {
    let (producers, n_tokens) = (net.producers(), n_patches + 1);
    let mut pending = std::collections::BinaryHeap::from([producers.get(features).copied().unwrap_or(0)]);
    let mut seen = HashSet::new();
    let shares = loop {
        // The last node first: no softmax is passed by on the way to an earlier one.
        let at = pending.pop().ok_or("no attention was found in it")?;
        let node = &net.graph().node[at];
        if node.op_type == "Softmax" {
            break node.output.first().cloned().unwrap_or_default();
        }
        let before: Vec<usize> = node
            .input
            .iter()
            .filter_map(|name| producers.get(name).copied())
            .filter(|at| seen.insert(*at))
            .collect();
        pending.extend(before);
    };
    let shape = net.ints(&[-1, n_tokens as i64, n_tokens as i64]);
    let heads = net.add("Reshape", &[&shares, &shape], vec![]);
    let first = net.slice(&heads, 1, 0, 1);
    let patches = net.slice(&first, 2, 1, i64::MAX);
    let mean = net.reduce("ReduceMean", &patches, 0);
    let flat = net.ints(&[1, n_patches as i64]);
    let mean = net.add("Reshape", &[&mean, &flat], vec![]);
    let sum = net.reduce("ReduceSum", &mean, -1);
    net.add_to("Div", &[&mean, &sum], "weights", vec![]);
    Ok(())
}
