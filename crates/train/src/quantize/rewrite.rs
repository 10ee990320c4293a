//! Puts `QuantizeLinear` and `DequantizeLinear` into a graph.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};
use engine::onnx::{self, Attr, pb};
use pb::tensor_proto::DataType;

use super::calibrate::Range;
use crate::export::builder::quantize_int8;

/// Steps of u8.
const N_STEPS: f32 = 255.0;

/// Makes every reader of a value in `ranges` read it through u8, after [`store_weights`].
///
/// # Errors
/// When weights cannot be read.
pub(super) fn rewrite(graph: &mut pb::GraphProto, ranges: &[Range]) -> Result<()> {
    store_weights(graph)?;
    let ranges: HashMap<&str, &Range> = ranges.iter().map(|range| (range.value.as_str(), range)).collect();
    let mut nodes = Vec::with_capacity(graph.node.len() + 2 * ranges.len());
    for input in &graph.input {
        if let Some(range) = ranges.get(input.name.as_str()) {
            nodes.extend(through_u8(range, &mut graph.initializer));
        }
    }
    for mut node in std::mem::take(&mut graph.node) {
        let range = node.output.first().and_then(|name| ranges.get(name.as_str()));
        if range.is_some_and(|range| is_relu_until(&node, range.high, &graph.initializer)) {
            node.op_type = "Relu".to_owned();
            node.input.truncate(1);
        }
        for name in &mut node.input {
            if ranges.contains_key(name.as_str()) {
                *name = dequantized(name);
            }
        }
        let made: Vec<&Range> =
            node.output.iter().filter_map(|name| ranges.get(name.as_str()).copied()).collect();
        nodes.push(node);
        for range in made {
            nodes.extend(through_u8(range, &mut graph.initializer));
        }
    }
    graph.node = nodes;
    Ok(())
}

/// Whether a node is `Clip` from zero to `high` or more. Where it is read through u8 that ends at `high`, u8 saturates in
/// its place, and ReLU is left of it, which engines fuse with the convolution before.
fn is_relu_until(node: &pb::NodeProto, high: f32, stored: &[pb::TensorProto]) -> bool {
    let bound = |at: usize| {
        let name = node.input.get(at)?;
        onnx::floats(stored.iter().find(|tensor| tensor.name == *name)?)?.first().copied()
    };
    node.op_type == "Clip" && bound(1) == Some(0.0) && bound(2).is_some_and(|most| most >= high)
}

fn dequantized(value: &str) -> String {
    format!("{value}_dequantized")
}

/// The two nodes that `range.value` goes through; their scale and zero point are stored.
fn through_u8(range: &Range, stored: &mut Vec<pb::TensorProto>) -> [pb::NodeProto; 2] {
    let Range { value, low, high } = range;
    let span = high - low;
    let scale = if span > 0.0 { span / N_STEPS } else { 1.0 };
    // Cut to the range of u8 on purpose.
    let zero = (-low / scale).round().clamp(0.0, N_STEPS) as u8;
    let names = ["scale", "zero", "u8"].map(|what| format!("{value}_{what}"));
    stored.push(tensor(&names[0], DataType::Float, &[], scale.to_le_bytes().to_vec()));
    stored.push(tensor(&names[1], DataType::Uint8, &[], vec![zero]));
    let node = |op_type: &str, from: &str, to: String| pb::NodeProto {
        op_type: op_type.to_owned(),
        name: to.clone(),
        input: vec![from.to_owned(), names[0].clone(), names[1].clone()],
        output: vec![to],
        ..Default::default()
    };
    [node("QuantizeLinear", value, names[2].clone()), node("DequantizeLinear", &names[2], dequantized(value))]
}

/// Convolutions and products whose weights are stored as f16 or f32 get i8 ones, with a scale for each output channel.
///
/// # Errors
/// When weights cannot be read.
pub(super) fn store_weights(graph: &mut pb::GraphProto) -> Result<()> {
    let mut expanded = pb::ModelProto { graph: Some(graph.clone()), ..Default::default() };
    onnx::expand_weights(&mut expanded)?;
    let plain: HashMap<String, pb::TensorProto> = (expanded.graph.into_iter())
        .flat_map(|graph| graph.initializer)
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect();
    let integers: HashSet<String> = (graph.node.iter())
        .filter(|node| node.op_type == "DequantizeLinear")
        .flat_map(|node| node.output.clone())
        .collect();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut node in std::mem::take(&mut graph.node) {
        let axis = match node.op_type.as_str() {
            "Conv" => Some(0),
            "MatMul" => Some(1),
            _ => None,
        };
        if let (Some(axis), Some(name)) = (axis, node.input.get(1).cloned())
            && !integers.contains(&name)
            && let Some(kernel) = plain.get(&name).filter(|kernel| axis == 0 || kernel.dims.len() == 2)
        {
            let dims: Vec<usize> =
                kernel.dims.iter().map(|dim| usize::try_from(*dim)).collect::<Result<_, _>>()?;
            let values = onnx::floats(kernel).with_context(|| format!("the weights `{name}` are not f32"))?;
            let (codes, scales) = quantize_int8(&dims, &values, axis);
            let [stored, scale, output] = ["i8", "i8_scale", "from_i8"].map(|what| format!("{name}_{what}"));
            graph.initializer.push(tensor(
                &stored,
                DataType::Int8,
                &dims,
                codes.iter().map(|c| c.cast_unsigned()).collect(),
            ));
            let bytes = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
            graph.initializer.push(tensor(&scale, DataType::Float, &[scales.len()], bytes));
            nodes.push(pb::NodeProto {
                op_type: "DequantizeLinear".to_owned(),
                name: output.clone(),
                input: vec![stored, scale],
                output: vec![output.clone()],
                attribute: vec![onnx::attribute("axis", Attr::Int(axis as i64))],
                ..Default::default()
            });
            node.input[1] = output;
        }
        nodes.push(node);
    }
    graph.node = nodes;
    onnx::prune(graph);
    Ok(())
}

fn tensor(name: &str, data_type: DataType, dims: &[usize], raw_data: Vec<u8>) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        data_type: data_type as i32,
        dims: dims.iter().map(|dim| *dim as i64).collect(),
        raw_data,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use engine::testing::OnnxFile;
    use engine::{Port, TensorView};

    use super::*;
    use crate::graph::load;

    #[test]
    fn relu6_is_relu_where_u8_saturates_at_six_or_before() {
        let file = OnnxFile::new().stored_f32("zero", &[], &[0.0]).stored_f32("six", &[], &[6.0]).node(
            "Clip",
            &["x", "zero", "six"],
            &["y"],
            &[],
        );
        let clip = &file.model().graph.unwrap();
        let is_relu = |high| is_relu_until(&clip.node[0], high, &clip.initializer);
        assert!(is_relu(6.0) && is_relu(2.5));
        assert!(!is_relu(6.5));
    }

    #[test]
    fn what_is_read_through_u8_is_nearly_what_it_was() {
        let pixels: Vec<f32> = (0..4 * 36).map(|n| (n as f32 * 0.37).sin()).collect();
        let weights: Vec<f32> = (0..4 * 4 * 9).map(|n| (n as f32 * 0.71).cos() / 6.0).collect();
        let file = OnnxFile::new()
            .input(Port::f32("x", [1.into(), 4.into(), 6.into(), 6.into()]))
            .stored_f16("h", &[4, 4, 3, 3], &weights)
            .node("Cast", &["h"], &["w"], &[("to", DataType::Float as i64)])
            .node("Conv", &["x", "w"], &["c"], &[])
            .node("Relu", &["c"], &["y"], &[])
            .output(Port::f32("y", [1.into(), 4.into(), 4.into(), 4.into()]));
        let mut model = file.model();
        let ranges = [("x", -1.0, 1.0), ("y", 0.0, 2.0)].map(|(value, low, high)| Range {
            value: value.to_owned(),
            low,
            high,
        });
        rewrite(model.graph.as_mut().unwrap(), &ranges).unwrap();
        let graph = model.graph.as_ref().unwrap();
        assert!(graph.initializer.iter().all(|tensor| tensor.data_type != DataType::Float16 as i32));
        // The output itself is what was computed; only its readers see it through u8.
        let input = TensorView::F32 { shape: &[1, 4, 6, 6], data: &pixels };
        let [before, after] = [file.bytes(), onnx::encode(&model)].map(|onnx| {
            load("convolution", &onnx).unwrap().run(&[("x", input)]).unwrap()[0].as_f32().unwrap().to_vec()
        });
        let far = std::iter::zip(&before, &after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 0.03, "{far}");
        assert!(far > 0.0, "nothing was quantized");
    }
}
