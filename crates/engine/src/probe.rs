//! A graph of one node, by which a device is known to run anything at all.

use crate::onnx::{self, pb};
use crate::{EngineError, Graph, Port, Signature, TensorView};

const INPUT: &str = "probe";
const OUTPUT: &str = "doubled";

/// An ONNX file that adds a number to itself, and its signature.
pub(crate) fn graph() -> (Vec<u8>, Signature) {
    let signature = Signature {
        inputs: vec![Port::f32(INPUT, [1.into()])],
        outputs: vec![Port::f32(OUTPUT, [1.into()])],
    };
    (onnx::encode(&model(&[INPUT, INPUT], "Add", OUTPUT, &signature)), signature)
}

/// An ONNX model of one node without attributes.
pub(crate) fn model(inputs: &[&str], op_type: &str, output: &str, signature: &Signature) -> pb::ModelProto {
    let node = pb::NodeProto {
        op_type: op_type.to_owned(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    };
    let graph = pb::GraphProto {
        name: op_type.to_lowercase(),
        node: vec![node],
        input: signature.inputs.iter().map(onnx::value_info).collect(),
        output: signature.outputs.iter().map(onnx::value_info).collect(),
        ..Default::default()
    };
    let opset = pb::OperatorSetIdProto { domain: String::new(), version: 17 };
    pb::ModelProto { ir_version: 8, opset_import: vec![opset], graph: Some(graph), ..Default::default() }
}

/// Runs it once.
pub(crate) fn run(graph: &mut dyn Graph) -> Result<(), EngineError> {
    let outputs = graph.run(&[(INPUT, TensorView::F32 { shape: &[1], data: &[21.0] })])?;
    match outputs.first().and_then(|doubled| doubled.as_f32()) {
        Some([doubled]) if (doubled - 42.0).abs() < f32::EPSILON => Ok(()),
        other => Err(EngineError::Run { graph: INPUT.to_owned(), why: format!("21 + 21 is {other:?}") }),
    }
}
