//! Which values of a graph are to be quantized.

use std::collections::{HashMap, HashSet};

use engine::onnx::pb;

/// The names of the values that convolutions and products with stored weights read, and of those that end a convolution
/// with what follows it: a sum, ReLU, ReLU6. With `sums`, also what goes into such a sum. In the order of the graph.
pub(super) fn find(graph: &pb::GraphProto, sums: bool) -> Vec<String> {
    let makers: HashMap<&str, &pb::NodeProto> = graph
        .node
        .iter()
        .flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node)))
        .collect();
    let mut readers: HashMap<&str, Vec<&pb::NodeProto>> = HashMap::new();
    for node in &graph.node {
        for name in &node.input {
            readers.entry(name).or_default().push(node);
        }
    }
    let stored: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let is_stored = |name: &str| {
        stored.contains(name)
            || makers.get(name).is_some_and(|node| {
                ["DequantizeLinear", "Cast"].contains(&node.op_type.as_str())
                    && node.input.first().is_some_and(|from| stored.contains(from.as_str()))
            })
    };
    let only_reader = |name: &str, op_type: &str| {
        let [reader] = readers.get(name)?[..] else { return None };
        (reader.op_type == op_type).then(|| reader.output.first().map(String::as_str)).flatten()
    };
    let mut found: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if !found.iter().any(|known| known == name) {
            found.push(name.to_owned());
        }
    };
    for node in &graph.node {
        let ([input, weight, ..], Some(output)) = (&node.input[..], node.output.first()) else { continue };
        // What was quantized before stays as it is.
        let is_layer = ["Conv", "MatMul"].contains(&node.op_type.as_str())
            && is_stored(weight)
            && makers.get(input.as_str()).is_none_or(|maker| maker.op_type != "DequantizeLinear");
        if !is_layer {
            continue;
        }
        add(input);
        if node.op_type == "Conv" {
            let mut last = output.as_str();
            if let Some(sum) = only_reader(last, "Add") {
                if sums {
                    add(last);
                }
                last = sum;
            }
            add(["Relu", "Clip"].iter().find_map(|op_type| only_reader(last, op_type)).unwrap_or(last));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use engine::testing::OnnxFile;

    use super::*;

    /// A convolution, its sum with what it read, ReLU, a product.
    fn graph() -> pb::GraphProto {
        let file = OnnxFile::new()
            .stored_f32("w", &[4, 4, 1, 1], &[0.5; 16])
            .stored_f32("m", &[4, 2], &[0.5; 8])
            .node("Conv", &["x", "w"], &["c"], &[])
            .node("Add", &["c", "x"], &["s"], &[])
            .node("Relu", &["s"], &["r"], &[])
            .node("MatMul", &["r", "m"], &["y"], &[])
            .node("MatMul", &["y", "y"], &["z"], &[]);
        file.model().graph.unwrap()
    }

    #[test]
    fn layers_with_stored_weights_are_quantized_where_they_begin_and_end() {
        assert_eq!(find(&graph(), false), ["x", "r"]);
    }

    #[test]
    fn a_convolution_ends_behind_its_relu6() {
        let file = OnnxFile::new()
            .stored_f32("w", &[4, 4, 1, 1], &[0.5; 16])
            .node("Conv", &["x", "w"], &["c"], &[])
            .node("Clip", &["c", "least", "most"], &["r"], &[]);
        assert_eq!(find(&file.model().graph.unwrap(), false), ["x", "r"]);
    }

    #[test]
    fn sums_of_quantized_values_are_for_engines_that_want_them() {
        assert_eq!(find(&graph(), true), ["x", "c", "r"]);
    }
}
