//! Graphs that compute in f16, made to compute in f32 from the same weights: an engine has kernels for f32 wherever it
//! runs, and for f16 on some processors only.

use engine::onnx::{Attr, attribute, pb};
use pb::tensor_proto::DataType;

use crate::net::Net;

const F16: i32 = DataType::Float16 as i32;
const F32: i32 = DataType::Float as i32;

/// Whether anything in the graph is f16.
pub(crate) fn computes_in_f16(net: &Net) -> bool {
    net.graph().initializer.iter().any(|tensor| tensor.data_type == F16)
        || net.inputs().iter().any(|input| input.data_type == DataType::Float16)
}

/// Leaves the weights as they are stored, behind casts, and makes everything after them f32.
pub(crate) fn compute_in_f32(net: &mut Net) {
    let graph = net.graph_mut();
    let mut casts = Vec::new();
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_type == F16) {
        let name = tensor.name.clone();
        tensor.name = format!("{name}_f16");
        casts.push(pb::NodeProto {
            op_type: "Cast".to_owned(),
            input: vec![tensor.name.clone()],
            output: vec![name],
            attribute: vec![attribute("to", Attr::Int(i64::from(F32)))],
            ..Default::default()
        });
    }
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            let is_type = attribute.name == "to" || attribute.name == "dtype";
            if is_type && attribute.i == i64::from(F16) {
                attribute.i = i64::from(F32);
            }
            if let Some(tensor) = &mut attribute.t {
                widen(tensor);
            }
        }
    }
    casts.append(&mut graph.node);
    graph.node = casts;
    for info in graph.input.iter_mut().chain(&mut graph.output) {
        if let Some(pb::type_proto::Value::TensorType(tensor)) =
            info.r#type.as_mut().and_then(|t| t.value.as_mut())
            && tensor.elem_type == F16
        {
            tensor.elem_type = F32;
        }
    }
    graph.value_info.clear();
}

/// The elements of an f16 tensor as f32, as many as there are.
pub(crate) fn values(tensor: &pb::TensorProto) -> Vec<f32> {
    let bits: Vec<u16> = if tensor.raw_data.is_empty() {
        tensor.int32_data.iter().map(|word| *word as u16).collect()
    } else {
        tensor.raw_data.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect()
    };
    bits.into_iter().map(|bits| half::f16::from_bits(bits).to_f32()).collect()
}

/// A constant among the nodes: few numbers, so that their f32 form costs nothing.
fn widen(tensor: &mut pb::TensorProto) {
    if tensor.data_type != F16 {
        return;
    }
    // What f16 calls infinite is a mask; it must stay finite where it is added to another.
    let widened = values(tensor).into_iter().map(|value| value.clamp(-1e9, 1e9));
    tensor.raw_data = widened.flat_map(f32::to_le_bytes).collect();
    tensor.int32_data.clear();
    tensor.data_type = F32;
}
