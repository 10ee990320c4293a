//! Pieces of a graph for those who write or change one.

use std::collections::HashSet;

use super::pb;
use pb::attribute_proto::AttributeType;

/// What an attribute of a node holds.
#[derive(Clone, Debug)]
pub enum Attr {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Floats(Vec<f32>),
    Tensor(Box<pb::TensorProto>),
}

/// An attribute of a node.
pub fn attribute(name: &str, attr: Attr) -> pb::AttributeProto {
    let mut proto = pb::AttributeProto { name: name.to_owned(), ..Default::default() };
    let of_type = match attr {
        Attr::Int(i) => {
            proto.i = i;
            AttributeType::Int
        }
        Attr::Ints(ints) => {
            proto.ints = ints;
            AttributeType::Ints
        }
        Attr::Float(f) => {
            proto.f = f;
            AttributeType::Float
        }
        Attr::Floats(floats) => {
            proto.floats = floats;
            AttributeType::Floats
        }
        Attr::Tensor(tensor) => {
            proto.t = Some(*tensor);
            AttributeType::Tensor
        }
    };
    proto.r#type = of_type as i32;
    proto
}

/// Leaves out nodes and stored tensors that no output of the graph comes from. Nodes come after those they read from, as
/// ONNX demands.
pub fn prune(graph: &mut pb::GraphProto) {
    let outputs: Vec<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    keep(graph, outputs);
}

/// Leaves out nodes and stored tensors that none of the values `wanted` comes from.
pub fn keep(graph: &mut pb::GraphProto, wanted: impl IntoIterator<Item = String>) {
    let mut wanted: HashSet<String> = wanted.into_iter().collect();
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in graph.node.drain(..).rev() {
        if node.output.iter().any(|name| wanted.contains(name)) {
            wanted.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
    graph.initializer.retain(|tensor| wanted.contains(&tensor.name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::OnnxFile;

    #[test]
    fn what_no_output_comes_from_is_left_out() {
        let file = OnnxFile::new()
            .stored_f32("a", &[1], &[1.0])
            .stored_f32("b", &[1], &[1.0])
            .node("Add", &["x", "a"], &["y"], &[])
            .node("Mul", &["y", "b"], &["unread"], &[])
            .node("Relu", &["y"], &["z"], &[])
            .output(crate::Port::f32("z", [1.into()]));
        let mut graph = file.model().graph.unwrap();
        prune(&mut graph);
        let made: Vec<&str> = graph.node.iter().map(|node| node.output[0].as_str()).collect();
        assert_eq!(made, ["y", "z"]);
        assert_eq!(graph.initializer.len(), 1);
        keep(&mut graph, ["y".to_owned()]);
        assert_eq!(graph.node.len(), 1);
    }
}
