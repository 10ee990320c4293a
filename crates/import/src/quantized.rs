//! Graphs that quantize activations as they run (`DynamicQuantizeLinear`), made to keep the int8 weights and compute in
//! f32. The scale of an activation depends on everything else in its batch, so that a text would get another embedding
//! beside another one; and an engine that knows no such operators well runs them slower than f32.

use std::collections::HashMap;

use engine::onnx::{Attr, attribute, pb};

use crate::net::Net;

/// Replaces every product or convolution of a quantized activation with stored weights by one with the weights alone
/// dequantized.
pub(crate) fn compute_in_f32(net: &mut Net) {
    let nodes = net.graph().node.clone();
    let producers = net.producers();
    let made_by = |name: &str| producers.get(name).map(|at| &nodes[*at]);
    let mut replaced: HashMap<String, [pb::NodeProto; 2]> = HashMap::new();
    for node in nodes.iter().filter(|node| node.op_type == "Mul") {
        let [a, b] = &node.input[..] else { continue };
        let product = [(a, b), (b, a)].into_iter().find_map(|(product, scale)| {
            let cast = made_by(product).filter(|cast| cast.op_type == "Cast")?;
            let integer = made_by(cast.input.first()?)
                .filter(|node| ["MatMulInteger", "ConvInteger"].contains(&node.op_type.as_str()))?;
            Some((integer, made_by(scale).filter(|scale| scale.op_type == "Mul")?))
        });
        if let Some((integer, scale)) = product
            && let Some(dense) = dense(node, integer, scale, &made_by)
        {
            replaced.insert(node.output[0].clone(), dense);
        }
    }
    let graph = net.graph_mut();
    graph.node = nodes
        .into_iter()
        .flat_map(|node| match node.output.first().and_then(|name| replaced.remove(name)) {
            Some(dense) => dense.to_vec(),
            None => vec![node],
        })
        .collect();
}

/// `DequantizeLinear` of the stored weights, and the product or convolution of them with what was quantized.
fn dense<'n>(
    node: &pb::NodeProto,
    integer: &pb::NodeProto,
    scale: &pb::NodeProto,
    made_by: &impl Fn(&str) -> Option<&'n pb::NodeProto>,
) -> Option<[pb::NodeProto; 2]> {
    let [activation, matrix, rest @ ..] = &integer.input[..] else { return None };
    let quantize = made_by(activation).filter(|node| node.op_type == "DynamicQuantizeLinear")?;
    let own = quantize.output.get(1)?;
    let matrix_scale = scale.input.iter().find(|name| *name != own)?.clone();
    let output = node.output.first()?;
    let weight = format!("{output}_weight");
    let mut inputs = vec![matrix.clone(), matrix_scale];
    inputs.extend(rest.get(1).filter(|zero| !zero.is_empty()).cloned());
    // Scales are one for all or one for each column of a matrix, or each output channel of a kernel.
    let (op_type, axis) = if integer.op_type == "ConvInteger" { ("Conv", 0) } else { ("MatMul", 1) };
    let dequantize = pb::NodeProto {
        op_type: "DequantizeLinear".to_owned(),
        input: inputs,
        output: vec![weight.clone()],
        attribute: vec![attribute("axis", Attr::Int(axis))],
        ..Default::default()
    };
    let product = pb::NodeProto {
        op_type: op_type.to_owned(),
        input: vec![quantize.input.first()?.clone(), weight],
        output: vec![output.clone()],
        // Those of a convolution; a product has none.
        attribute: integer.attribute.clone(),
        ..Default::default()
    };
    Some([dequantize, product])
}
