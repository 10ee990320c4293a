//! A small ONNX graph builder: nodes by operator name, weights stored f32, f16 or int8.

use std::collections::HashMap;

pub use engine::onnx::Attr;
use engine::onnx::{attribute, pb};
use prost::Message;

use pb::tensor_proto::DataType;

const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// How a weight lies in the file; the engine computes in f32 all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    F32,
    F16,
    /// Symmetric, one scale for each index of the given axis.
    Int8 {
        axis: usize,
    },
}

/// A dimension of a port: fixed, or chosen at run time.
#[derive(Clone, Copy)]
pub enum Dim {
    N(usize),
    S(&'static str),
}

/// Builds one graph; names are given by the caller and must be unique.
#[derive(Default)]
pub struct Builder {
    graph: pb::GraphProto,
    metadata: Vec<pb::StringStringEntryProto>,
    n_names: usize,
    constants: HashMap<String, String>,
}

impl Builder {
    pub fn new(name: &str) -> Builder {
        Builder {
            graph: pb::GraphProto { name: name.to_owned(), ..Default::default() },
            ..Default::default()
        }
    }

    /// Starts from the nodes and weights of another graph; its ports are dropped.
    pub fn from_graph(name: &str, mut graph: pb::GraphProto) -> Builder {
        graph.name = name.to_owned();
        graph.input.clear();
        graph.output.clear();
        graph.value_info.clear();
        Builder { graph, ..Default::default() }
    }

    pub fn input(&mut self, name: &str, element_type: DataType, dims: &[Dim]) -> String {
        self.graph.input.push(value_info(name, element_type, dims));
        name.to_owned()
    }

    pub fn output(&mut self, name: &str, element_type: DataType, dims: &[Dim]) {
        self.graph.output.push(value_info(name, element_type, dims));
    }

    fn fresh(&mut self, op: &str) -> String {
        self.n_names += 1;
        format!("{}_{}", op.to_lowercase(), self.n_names)
    }

    /// One node with one output, which gets a name of its own.
    pub fn node(&mut self, op: &str, inputs: &[&str], attrs: Vec<(&str, Attr)>) -> String {
        let name = self.fresh(op);
        self.node_to(op, inputs, &[&name], attrs);
        name
    }

    /// One node whose outputs are named.
    pub fn node_to(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attrs: Vec<(&str, Attr)>) {
        self.graph.node.push(pb::NodeProto {
            name: format!("n_{}", outputs.first().unwrap_or(&op)),
            op_type: op.to_owned(),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: outputs.iter().map(|s| (*s).to_owned()).collect(),
            attribute: attrs.into_iter().map(|(name, attr)| attribute(name, attr)).collect(),
            ..Default::default()
        });
    }

    /// A weight, stored as asked; the returned name always stands for f32.
    pub fn weight(&mut self, name: &str, dims: &[usize], values: &[f32], storage: Storage) -> String {
        debug_assert_eq!(dims.iter().product::<usize>(), values.len());
        match storage {
            Storage::F32 => {
                let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                self.initializer(name, DataType::Float, dims, raw);
                name.to_owned()
            }
            Storage::F16 => {
                let raw = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
                let stored = format!("{name}_f16");
                self.initializer(&stored, DataType::Float16, dims, raw);
                self.node_to("Cast", &[&stored], &[name], vec![("to", Attr::Int(DataType::Float as i64))]);
                name.to_owned()
            }
            Storage::Int8 { axis } => {
                let [codes, scales] = self.store_int8(name, dims, values, axis);
                let attrs = vec![("axis", Attr::Int(axis as i64))];
                self.node_to("DequantizeLinear", &[&codes, &scales], &[name], attrs);
                name.to_owned()
            }
        }
    }

    /// Codes and scales of a weight, and nothing that expands them.
    pub fn store_int8(&mut self, name: &str, dims: &[usize], values: &[f32], axis: usize) -> [String; 2] {
        let (codes, scales) = quantize_int8(dims, values, axis);
        let names = [format!("{name}_i8"), format!("{name}_scale")];
        self.initializer(&names[0], DataType::Int8, dims, codes.iter().map(|c| *c as u8).collect());
        self.weight(&names[1], &[scales.len()], &scales, Storage::F32);
        names
    }

    /// Rows `ids` of a table with codes and scales of axis 0: only the rows that are asked for are ever expanded.
    pub fn int8_rows(&mut self, [codes, scales]: &[String; 2], ids: &str) -> String {
        let axis = || vec![("axis", Attr::Int(0))];
        let codes = self.node("Gather", &[codes, ids], axis());
        let codes = self.node("Cast", &[&codes], vec![("to", Attr::Int(DataType::Float as i64))]);
        let scales = self.node("Gather", &[scales, ids], axis());
        let last = self.ints(&[-1]);
        let scales = self.node("Unsqueeze", &[&scales, &last], vec![]);
        self.node("Mul", &[&codes, &scales], vec![])
    }

    /// Nodes of another graph, after the weights that they need.
    pub fn append(&mut self, nodes: Vec<pb::NodeProto>) {
        self.graph.node.extend(nodes);
    }

    /// A constant vector of integers (shapes, axes), shared between equal uses.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let key = format!("{values:?}");
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.fresh("ints");
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(&name, DataType::Int64, &[values.len()], raw);
        self.constants.insert(key, name.clone());
        name
    }

    /// A constant scalar.
    pub fn scalar(&mut self, value: f32) -> String {
        let key = format!("scalar {value}");
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.fresh("scalar");
        self.initializer(&name, DataType::Float, &[], value.to_le_bytes().to_vec());
        self.constants.insert(key, name.clone());
        name
    }

    fn initializer(&mut self, name: &str, data_type: DataType, dims: &[usize], raw_data: Vec<u8>) {
        self.graph.initializer.push(pb::TensorProto {
            name: name.to_owned(),
            dims: dims.iter().map(|d| *d as i64).collect(),
            data_type: data_type as i32,
            raw_data,
            ..Default::default()
        });
    }

    /// Says something about the whole file, which no engine acts on.
    pub fn describe(&mut self, key: &str, value: &str) {
        self.metadata.push(pb::StringStringEntryProto { key: key.to_owned(), value: value.to_owned() });
    }

    /// Serialises the graph.
    pub fn finish(self) -> Vec<u8> {
        pb::ModelProto {
            ir_version: IR_VERSION,
            producer_name: "captiond-train".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: OPSET }],
            graph: Some(self.graph),
            metadata_props: self.metadata,
            ..Default::default()
        }
        .encode_to_vec()
    }
}

/// Symmetric int8 codes and one scale for each index of `axis`.
pub fn quantize_int8(dims: &[usize], values: &[f32], axis: usize) -> (Vec<i8>, Vec<f32>) {
    let n = dims[axis];
    let inner: usize = dims[axis + 1..].iter().product();
    let channel = |idx: usize| idx / inner % n;
    let mut peaks = vec![0.0f32; n];
    for (idx, value) in values.iter().enumerate() {
        let peak = &mut peaks[channel(idx)];
        *peak = peak.max(value.abs());
    }
    let scales: Vec<f32> = peaks.iter().map(|peak| if *peak > 0.0 { peak / 127.0 } else { 1.0 }).collect();
    let codes = values
        .iter()
        .enumerate()
        .map(|(idx, value)| (value / scales[channel(idx)]).round().clamp(-127.0, 127.0) as i8)
        .collect();
    (codes, scales)
}

fn value_info(name: &str, element_type: DataType, dims: &[Dim]) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = dims
        .iter()
        .map(|dim| Dimension {
            value: Some(match dim {
                Dim::N(n) => Value::DimValue(*n as i64),
                Dim::S(name) => Value::DimParam((*name).to_owned()),
            }),
            ..Default::default()
        })
        .collect();
    pb::ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(pb::TypeProto {
            value: Some(pb::type_proto::Value::TensorType(pb::type_proto::Tensor {
                elem_type: element_type as i32,
                shape: Some(pb::TensorShapeProto { dim }),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int8_codes_restore_each_channel_within_half_a_step() {
        let values = [0.1, -0.2, 0.05, 10.0, -3.0, 7.0];
        let (codes, scales) = quantize_int8(&[2, 3], &values, 0);
        for (idx, value) in values.iter().enumerate() {
            let scale = scales[idx / 3];
            assert!((codes[idx] as f32 * scale - value).abs() <= scale / 2.0 + 1e-6);
        }
        let (_, by_column) = quantize_int8(&[2, 3], &values, 1);
        assert_eq!(by_column.len(), 3);
    }
}
