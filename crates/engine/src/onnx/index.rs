//! An ONNX graph to look things up in: who makes a value, who reads it, what is stored.

use std::collections::HashMap;

use super::{attribute_int, floats, integers, pb, signed_bytes, tensor_dims};
use crate::quantized::Quantization;

/// So many copies of copies of a stored tensor are looked through.
const IDENTITIES_MAX: usize = 8;

pub(crate) struct Index<'g> {
    graph: &'g pb::GraphProto,
    makers: HashMap<&'g str, usize>,
    readers: HashMap<&'g str, Vec<usize>>,
    stored: HashMap<&'g str, &'g pb::TensorProto>,
}

/// Stored i8 weights and the scale of each index of one axis.
pub(crate) struct Weight {
    pub dims: Vec<usize>,
    pub values: Vec<i8>,
    pub scales: Vec<f32>,
}

impl<'g> Index<'g> {
    pub(crate) fn new(graph: &'g pb::GraphProto) -> Index<'g> {
        let mut makers = HashMap::new();
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (idx, node) in graph.node.iter().enumerate() {
            makers.extend(node.output.iter().map(|name| (name.as_str(), idx)));
            for name in &node.input {
                readers.entry(name).or_default().push(idx);
            }
        }
        // Whoever runs the graph reads its outputs: no node may be left out for them.
        for output in &graph.output {
            readers.entry(&output.name).or_default().push(usize::MAX);
        }
        let stored = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        Index { graph, makers, readers, stored }
    }

    /// The node that makes `name`, if it is of this type and the standard operator set.
    pub(crate) fn maker(&self, name: &str, op_type: &str) -> Option<(usize, &'g pb::NodeProto)> {
        let idx = *self.makers.get(name)?;
        let node = &self.graph.node[idx];
        (node.op_type == op_type && node.domain.is_empty()).then_some((idx, node))
    }

    /// The nodes that read `name`; a reader that is no node stands for the graph's output.
    pub(crate) fn readers(&self, name: &str) -> &[usize] {
        self.readers.get(name).map_or(&[], Vec::as_slice)
    }

    /// The one node that reads the one output of `node`, if it is of this type.
    pub(crate) fn only_reader(
        &self,
        node: &pb::NodeProto,
        op_type: &str,
    ) -> Option<(usize, &'g pb::NodeProto)> {
        let [output] = &node.output[..] else { return None };
        let [idx] = self.readers(output) else { return None };
        let reader = self.graph.node.get(*idx)?;
        (reader.op_type == op_type && reader.domain.is_empty()).then_some((*idx, reader))
    }

    pub(crate) fn is_read_once(&self, name: &str) -> bool {
        self.readers(name).len() == 1
    }

    pub(crate) fn is_stored(&self, name: &str) -> bool {
        self.tensor(name).is_some()
    }

    /// A stored tensor, by the name of any of its `Identity`s: exporters store equal ones once.
    fn tensor(&self, name: &str) -> Option<&'g pb::TensorProto> {
        if let Some(tensor) = self.stored.get(name) {
            return Some(tensor);
        }
        let identity = |name: &str| Some(self.maker(name, "Identity")?.1.input.first()?.as_str());
        // A graph that goes round in circles is not followed.
        std::iter::successors(identity(name), |name| identity(name))
            .take(IDENTITIES_MAX)
            .find_map(|name| self.stored.get(name).copied())
    }

    pub(crate) fn stored_dims(&self, name: &str) -> Option<Vec<usize>> {
        tensor_dims(self.tensor(name)?)
    }

    /// A single f32 that is stored, or the value of a `Constant`.
    pub(crate) fn scalar(&self, name: &str) -> Option<f32> {
        let stored = self.stored_floats(name).or_else(|| {
            let (_, constant) = self.maker(name, "Constant")?;
            floats(constant.attribute.iter().find(|attribute| attribute.name == "value")?.t.as_ref()?)
        });
        let [value] = stored?[..] else { return None };
        Some(value)
    }

    /// What lies behind a `Transpose` of `name`, if there is one, and whether there is: of two axes, which can only have
    /// been exchanged.
    pub(crate) fn before_transpose<'n>(&self, name: &'n str) -> Option<(&'n str, bool)>
    where
        'g: 'n,
    {
        match self.maker(name, "Transpose") {
            None => Some((name, false)),
            Some((_, transpose)) => Some((transpose.input.first()?, true)),
        }
    }

    /// The number of axes of an input of the graph or a stored tensor.
    pub(crate) fn rank(&self, name: &str) -> Option<usize> {
        if let Some(stored) = self.tensor(name) {
            return Some(stored.dims.len());
        }
        let input = self.graph.input.iter().find(|input| input.name == name)?;
        let pb::type_proto::Value::TensorType(tensor) = input.r#type.as_ref()?.value.as_ref()?;
        Some(tensor.shape.as_ref()?.dim.len())
    }

    /// Whether `name` is what a `Transpose` by `order` made, and of what.
    pub(crate) fn transposed(&self, name: &str, order: &[i64]) -> Option<&'g str> {
        let (_, node) = self.maker(name, "Transpose")?;
        let found = node.attribute.iter().find(|attribute| attribute.name == "perm")?;
        (found.ints == order).then_some(node.input.first()?.as_str())
    }

    pub(crate) fn stored_floats(&self, name: &str) -> Option<Vec<f32>> {
        floats(self.tensor(name)?)
    }

    /// One scale and one zero point for a whole u8 tensor, as `node` names them (inputs 1 and 2).
    pub(crate) fn quantization(&self, node: &pb::NodeProto) -> Option<Quantization> {
        let [_, scale, zero] = &node.input[..] else { return None };
        let zero = self.tensor(zero)?;
        let unsigned = zero.data_type == pb::tensor_proto::DataType::Uint8 as i32;
        let ([scale], [zero]) = (&self.stored_floats(scale)?[..], &integers(zero)?[..]) else { return None };
        let zero = u8::try_from(*zero).ok().filter(|_| unsigned)?;
        (scale.is_finite() && *scale > 0.0).then_some(Quantization { scale: *scale, zero })
    }

    /// What `name` was before it was dequantized at run time: a u8 value.
    pub(crate) fn dequantized(&self, name: &str) -> Option<(&'g str, Quantization)> {
        let (_, node) = self.maker(name, "DequantizeLinear")?;
        let from = node.input.first().filter(|from| !self.is_stored(from))?;
        Some((from, self.quantization(node)?))
    }

    /// The stored i8 weights behind `name`, with one scale for all or one for each index of `axis`.
    pub(crate) fn weight(&self, name: &str, axis: usize) -> Option<Weight> {
        let (_, node) = self.maker(name, "DequantizeLinear")?;
        let tensor = self.tensor(node.input.first()?)?;
        let dims = tensor_dims(tensor)?;
        let values = signed_bytes(tensor)?;
        let n = *dims.get(axis)?;
        let scales = self.stored_floats(node.input.get(1)?)?;
        let scales = match scales[..] {
            [scale] => vec![scale; n],
            _ => {
                let found = attribute_int(node, "axis").unwrap_or(1);
                let found = if found < 0 { found + dims.len() as i64 } else { found };
                (usize::try_from(found) == Ok(axis) && scales.len() == n).then_some(scales)?
            }
        };
        if let Some(zero) = node.input.get(2).filter(|name| !name.is_empty()) {
            integers(self.tensor(zero)?)?.iter().all(|zero| *zero == 0).then_some(())?;
        }
        let blocked = attribute_int(node, "block_size").unwrap_or(0) != 0;
        (!blocked && scales.iter().all(|scale| scale.is_finite())).then_some(Weight { dims, values, scales })
    }
}
