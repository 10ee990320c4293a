//! An ONNX graph under the knife: who makes what, cutting it down to one output, adding nodes.

use std::collections::{HashMap, HashSet};

use engine::Port;
use engine::onnx::{self, Attr, attribute, pb, value_info};
use pb::tensor_proto::DataType;
use pb::tensor_shape_proto::dimension::Value as DimValue;

/// A graph with its operator set, whose nodes are in an order in which they can run.
#[derive(Clone)]
pub(crate) struct Net {
    model: pb::ModelProto,
    n_added: usize,
}

impl Net {
    /// `model` must hold a graph, as those of [`engine::onnx::parse`] do.
    pub(crate) fn new(model: pb::ModelProto) -> Net {
        Net { model, n_added: 0 }
    }

    pub(crate) fn model(&self) -> &pb::ModelProto {
        &self.model
    }

    pub(crate) fn graph(&self) -> &pb::GraphProto {
        static NONE: std::sync::LazyLock<pb::GraphProto> = std::sync::LazyLock::new(pb::GraphProto::default);
        self.model.graph.as_ref().unwrap_or(&NONE)
    }

    pub(crate) fn graph_mut(&mut self) -> &mut pb::GraphProto {
        self.model.graph.get_or_insert_default()
    }

    /// The version of the standard operators.
    pub(crate) fn opset(&self) -> i64 {
        let standard = |set: &&pb::OperatorSetIdProto| set.domain.is_empty() || set.domain == "ai.onnx";
        self.model.opset_import.iter().find(standard).map_or(0, |set| set.version)
    }

    /// The inputs that are fed at run time, by their declared rank and element type.
    pub(crate) fn inputs(&self) -> Vec<Given> {
        let stored: HashSet<&str> = self.graph().initializer.iter().map(|t| t.name.as_str()).collect();
        self.graph()
            .input
            .iter()
            .filter(|info| !stored.contains(info.name.as_str()))
            .filter_map(given)
            .collect()
    }

    pub(crate) fn output_names(&self) -> Vec<String> {
        self.graph().output.iter().map(|info| info.name.clone()).collect()
    }

    /// The place of the node that makes each value.
    pub(crate) fn producers(&self) -> HashMap<String, usize> {
        let nodes = self.graph().node.iter().enumerate();
        nodes.flat_map(|(at, node)| node.output.iter().map(move |name| (name.clone(), at))).collect()
    }

    /// The values that depend on no input.
    pub(crate) fn constants(&self) -> HashSet<String> {
        let graph = self.graph();
        let mut known: HashSet<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
        // What is left out is written as an empty name.
        known.insert(String::new());
        for node in &graph.node {
            if node.input.iter().all(|name| known.contains(name)) {
                known.extend(node.output.iter().cloned());
            }
        }
        known
    }

    /// The integers of a stored or constant tensor.
    pub(crate) fn stored_ints(&self, name: &str) -> Option<Vec<i64>> {
        let graph = self.graph();
        let held = graph.initializer.iter().find(|t| t.name == name).or_else(|| {
            let node = graph.node.iter().find(|node| node.output.first().is_some_and(|o| o == name))?;
            let value = node.attribute.iter().find(|attribute| attribute.name == "value")?;
            (node.op_type == "Constant").then_some(value.t.as_ref()).flatten()
        })?;
        match DataType::try_from(held.data_type).ok()? {
            DataType::Int64 if held.raw_data.is_empty() => Some(held.int64_data.clone()),
            DataType::Int64 => {
                let (words, rest) = held.raw_data.as_chunks::<8>();
                rest.is_empty().then(|| words.iter().map(|word| i64::from_le_bytes(*word)).collect())
            }
            _ => None,
        }
    }

    /// Keeps what the values `wanted` need and drops the rest, declared outputs and shapes included.
    pub(crate) fn keep(&mut self, wanted: &[&str]) {
        let graph = self.graph_mut();
        onnx::keep(graph, wanted.iter().map(|name| (*name).to_owned()));
        let read: HashSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
        graph.input.retain(|info| read.contains(&info.name) || wanted.contains(&info.name.as_str()));
        graph.output.clear();
        graph.value_info.clear();
    }

    /// Gives a value another name wherever it stands. `to` must be free.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let graph = self.graph_mut();
        let names = graph.node.iter_mut().flat_map(|node| node.input.iter_mut().chain(&mut node.output));
        for name in names.filter(|name| *name == from) {
            to.clone_into(name);
        }
        for info in graph.input.iter_mut().filter(|info| info.name == from) {
            to.clone_into(&mut info.name);
        }
        for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.name == from) {
            to.clone_into(&mut tensor.name);
        }
    }

    /// Makes every node read `by` in the place of `value`, and puts what makes `by` in front of them. Nodes that were
    /// added last must make it.
    pub(crate) fn replace(&mut self, value: &str, by: &str) {
        let graph = self.graph_mut();
        for name in graph.node.iter_mut().flat_map(|node| &mut node.input).filter(|name| *name == value) {
            by.clone_into(name);
        }
        let first_reader = graph.node.iter().position(|node| node.input.iter().any(|name| name == by));
        let added = graph.node.iter().position(|node| node.name.starts_with("captiond_"));
        if let (Some(first_reader), Some(added)) = (first_reader, added)
            && first_reader < added
        {
            let moved: Vec<pb::NodeProto> = graph.node.drain(added..).collect();
            graph.node.splice(first_reader..first_reader, moved);
        }
    }

    /// Frees the names of a bundle's ports, which exporters also use; returns what `name` is called then.
    pub(crate) fn free_ports(&mut self, name: &str) -> String {
        const PORTS: [&str; 7] = ["pixels", "ids", "mask", "embedding", "patches", "weights", "own"];
        for port in PORTS {
            self.rename(port, &given_name(port));
        }
        if PORTS.contains(&name) { given_name(name) } else { name.to_owned() }
    }

    pub(crate) fn declare_input(&mut self, port: &Port) {
        let graph = self.graph_mut();
        graph.input.retain(|info| info.name != port.name);
        graph.input.push(value_info(port));
    }

    pub(crate) fn declare_output(&mut self, port: &Port) {
        self.graph_mut().output.push(value_info(port));
    }

    fn fresh(&mut self) -> String {
        self.n_added += 1;
        format!("captiond_{}", self.n_added)
    }

    /// One more node at the end, with one output.
    pub(crate) fn add(&mut self, op: &str, inputs: &[&str], attrs: Vec<(&str, Attr)>) -> String {
        let output = self.fresh();
        self.add_to(op, inputs, &output, attrs);
        output
    }

    pub(crate) fn add_to(&mut self, op: &str, inputs: &[&str], output: &str, attrs: Vec<(&str, Attr)>) {
        let node = node(op, inputs, output, attrs);
        self.graph_mut().node.push(node);
    }

    /// One more node at the beginning.
    pub(crate) fn add_first(&mut self, op: &str, inputs: &[&str], output: &str, attrs: Vec<(&str, Attr)>) {
        let node = node(op, inputs, output, attrs);
        self.graph_mut().node.insert(0, node);
    }

    /// A copy of a node with other inputs and one fresh output.
    pub(crate) fn add_copy(&mut self, node: &pb::NodeProto, inputs: Vec<String>) -> Vec<String> {
        let outputs: Vec<String> = node.output.iter().map(|_| self.fresh()).collect();
        let copy = pb::NodeProto {
            name: outputs.first().cloned().unwrap_or_default(),
            input: inputs,
            output: outputs.clone(),
            ..node.clone()
        };
        self.graph_mut().node.push(copy);
        outputs
    }

    pub(crate) fn ints(&mut self, values: &[i64]) -> String {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.store(DataType::Int64, &[values.len()], raw)
    }

    pub(crate) fn floats(&mut self, dims: &[usize], values: &[f32]) -> String {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.store(DataType::Float, dims, raw)
    }

    fn store(&mut self, data_type: DataType, dims: &[usize], raw_data: Vec<u8>) -> String {
        let name = self.fresh();
        self.graph_mut().initializer.push(pb::TensorProto {
            name: name.clone(),
            dims: dims.iter().map(|dim| *dim as i64).collect(),
            data_type: data_type as i32,
            raw_data,
            ..Default::default()
        });
        name
    }

    /// `x[.., from..to, ..]` along an axis.
    pub(crate) fn slice(&mut self, x: &str, axis: i64, from: i64, to: i64) -> String {
        let (from, to, axis) = (self.ints(&[from]), self.ints(&[to]), self.ints(&[axis]));
        self.add("Slice", &[x, &from, &to, &axis], vec![])
    }

    /// `ReduceMean`, `ReduceSum` or `ReduceL2` along an axis, which stays with length 1.
    pub(crate) fn reduce(&mut self, op: &str, x: &str, axis: i64) -> String {
        // The axes moved from the attributes to the inputs, one operator before the others.
        let moved = if op == "ReduceSum" { 13 } else { 18 };
        if self.opset() < moved {
            return self.add(op, &[x], vec![("axes", Attr::Ints(vec![axis])), ("keepdims", Attr::Int(1))]);
        }
        let axes = self.ints(&[axis]);
        self.add(op, &[x, &axes], vec![("keepdims", Attr::Int(1))])
    }

    /// Unit rows along the last axis, as `output`.
    pub(crate) fn normalize(&mut self, x: &str, output: &str) {
        let norm = self.reduce("ReduceL2", x, -1);
        let floor = self.floats(&[], &[1e-12]);
        let norm = self.add("Max", &[&norm, &floor], vec![]);
        self.add_to("Div", &[x, &norm], output, vec![]);
    }
}

fn given_name(port: &str) -> String {
    format!("{port}_of_export")
}

/// An input as it is declared.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    /// A number, or nothing where the caller chooses.
    pub(crate) dims: Vec<Option<usize>>,
}

fn given(info: &pb::ValueInfoProto) -> Option<Given> {
    let pb::type_proto::Value::TensorType(tensor) = info.r#type.as_ref()?.value.as_ref()?;
    let dims = tensor.shape.as_ref()?.dim.iter().map(|dim| match dim.value {
        Some(DimValue::DimValue(n)) => usize::try_from(n).ok().filter(|n| *n > 0),
        _ => None,
    });
    let data_type = DataType::try_from(tensor.elem_type).ok()?;
    Some(Given { name: info.name.clone(), data_type, dims: dims.collect() })
}

fn node(op: &str, inputs: &[&str], output: &str, attrs: Vec<(&str, Attr)>) -> pb::NodeProto {
    pb::NodeProto {
        name: format!("captiond_{output}"),
        op_type: op.to_owned(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute: attrs.into_iter().map(|(name, attr)| attribute(name, attr)).collect(),
        ..Default::default()
    }
}
