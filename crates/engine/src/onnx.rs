//! ONNX files as data: the protobuf types, a graph's own signature, our limits on untrusted graphs,
//! and the expansion of stored weights.
//!
//! What runs a graph does not belong here.

mod edit;
pub(crate) mod index;
pub(crate) mod tail;
mod weights;

pub use edit::{Attr, attribute, keep, prune};
use prost::Message as _;
pub use tract_onnx::pb;
pub use weights::{Stored, expand_weights, floats, stored};
pub(crate) use weights::{attribute_int, integers, is_all, signed_bytes};

use crate::{Dim, ElementType, Port, Signature};

/// Largest ONNX file that is looked at, in bytes: no message of protobuf may be longer.
pub const MAX_FILE_BYTES: usize = (1 << 31) - 1;
/// Most elements that one tensor may declare, stored or at a port with its symbols taken as 1.
pub const MAX_ELEMENTS: usize = 1 << 28;
/// Most axes of one tensor.
pub const MAX_RANK: usize = 8;
const MAX_NODES: usize = 20_000;
const MAX_TENSORS: usize = 20_000;
const MAX_PORTS: usize = 512;

/// Why bytes are no ONNX graph that captiond takes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OnnxError(String);

impl OnnxError {
    pub(crate) fn new(why: impl Into<String>) -> OnnxError {
        OnnxError(why.into())
    }
}

/// Parses an ONNX file and checks it against the limits of this module.
///
/// # Errors
/// When the bytes are too many, no protobuf, hold no graph or operator set, refer to other files, or
/// declare more nodes, tensors or elements than the limits.
pub fn parse(bytes: &[u8]) -> Result<pb::ModelProto, OnnxError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(OnnxError::new(format!("{} bytes exceed the limit of {MAX_FILE_BYTES}", bytes.len())));
    }
    let model = pb::ModelProto::decode(bytes).map_err(|e| OnnxError::new(format!("no ONNX file: {e}")))?;
    let graph = model.graph.as_ref().ok_or_else(|| OnnxError::new("no ONNX file: it holds no graph"))?;
    // Also what a file looks like whose end is missing.
    if !model.opset_import.iter().any(|set| set.domain.is_empty() || set.domain == "ai.onnx") {
        return Err(OnnxError::new("it names no operator set"));
    }
    check_limits(graph)?;
    Ok(model)
}

/// The bytes of an ONNX file.
pub fn encode(model: &pb::ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// Reads the signature that the ONNX file `bytes` declares; a `dim_param` becomes a [`Dim::Symbol`].
///
/// # Errors
/// When [`parse`] fails, or a port has no shape, an unnamed dimension or a type other than f32 and i64.
pub fn signature_of(bytes: &[u8]) -> Result<Signature, OnnxError> {
    let model = parse(bytes)?;
    declared_signature(graph_of(&model)?)
}

/// The metadata entry by which a graph allows [`allow_int8_rows`].
const INT8_ROWS: (&str, &str) = ("captiond.row_activations", "int8");

/// Notes in the graph's metadata that products of f32 rows with stored int8 weights may quantize each row to int8 as it
/// comes. An engine that does not know the entry computes them in f32.
pub fn allow_int8_rows(model: &mut pb::ModelProto) {
    if !allows_int8_rows(model) {
        let (key, value) = INT8_ROWS;
        model.metadata_props.retain(|entry| entry.key != key);
        model
            .metadata_props
            .push(pb::StringStringEntryProto { key: key.to_owned(), value: value.to_owned() });
    }
}

/// Whether a graph has the note of [`allow_int8_rows`].
pub(crate) fn allows_int8_rows(model: &pb::ModelProto) -> bool {
    let (key, value) = INT8_ROWS;
    model.metadata_props.iter().any(|entry| entry.key == key && entry.value == value)
}

/// Whether standard operators multiply with many stored weights.
pub(crate) fn has_large_products(graph: &pb::GraphProto) -> bool {
    const LARGE: usize = 1 << 14;
    let is_large =
        |tensor: &&pb::TensorProto| tensor_dims(tensor).and_then(n_elements).is_some_and(|n| n >= LARGE);
    let large: std::collections::HashSet<&str> =
        graph.initializer.iter().filter(is_large).map(|tensor| tensor.name.as_str()).collect();
    let is_product = |node: &&pb::NodeProto| {
        ["MatMul", "Gemm", "Conv", "ConvTranspose", "Transpose"].contains(&&*node.op_type)
    };
    graph.node.iter().filter(is_product).flat_map(|node| &node.input).any(|name| large.contains(&**name))
}

/// The version of the standard operators; 0 where the model names none.
#[cfg(any(feature = "ort", test))]
pub(crate) fn opset(model: &pb::ModelProto) -> i64 {
    let standard = |set: &&pb::OperatorSetIdProto| set.domain.is_empty() || set.domain == "ai.onnx";
    model.opset_import.iter().find(standard).map_or(0, |set| set.version)
}

pub(crate) fn graph_of(model: &pb::ModelProto) -> Result<&pb::GraphProto, OnnxError> {
    model.graph.as_ref().ok_or_else(|| OnnxError::new("it holds no graph"))
}

pub(crate) fn declared_signature(graph: &pb::GraphProto) -> Result<Signature, OnnxError> {
    // Before IR version 4 every initializer was listed among the inputs too.
    let stored: std::collections::HashSet<&str> =
        graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    Ok(Signature {
        inputs: graph
            .input
            .iter()
            .filter(|info| !stored.contains(info.name.as_str()))
            .map(port)
            .collect::<Result<_, _>>()?,
        outputs: graph.output.iter().map(port).collect::<Result<_, _>>()?,
    })
}

fn port(info: &pb::ValueInfoProto) -> Result<Port, OnnxError> {
    use pb::tensor_proto::DataType;
    let fail = |why: &str| OnnxError::new(format!("port `{}` {why}", info.name));
    let Some(pb::type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Err(fail("is no tensor"));
    };
    let element_type = match DataType::try_from(tensor.elem_type) {
        Ok(DataType::Float) => ElementType::F32,
        Ok(DataType::Int64) => ElementType::I64,
        _ => return Err(fail("is neither f32 nor i64")),
    };
    let shape = tensor.shape.as_ref().ok_or_else(|| fail("has no shape"))?;
    if shape.dim.len() > MAX_RANK {
        return Err(fail("has too many axes"));
    }
    let dims = shape
        .dim
        .iter()
        .map(|dim| match &dim.value {
            Some(pb::tensor_shape_proto::dimension::Value::DimValue(n)) => {
                usize::try_from(*n).map(Dim::Fixed).map_err(|_negative| fail("has a negative dimension"))
            }
            Some(pb::tensor_shape_proto::dimension::Value::DimParam(name)) if !name.is_empty() => {
                Ok(Dim::Symbol(name.clone()))
            }
            _ => Err(fail("has a dimension that is neither a number nor a symbol")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    n_elements(dims.iter().map(|dim| if let Dim::Fixed(n) = dim { *n } else { 1 }))
        .ok_or_else(|| fail("declares too many elements"))?;
    Ok(Port { name: info.name.clone(), element_type, dims })
}

/// A port as a graph declares it.
pub fn value_info(port: &Port) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let elem_type = match port.element_type {
        ElementType::F32 => pb::tensor_proto::DataType::Float,
        ElementType::I64 => pb::tensor_proto::DataType::Int64,
    };
    let dim = port
        .dims
        .iter()
        .map(|dim| Dimension {
            value: Some(match dim {
                Dim::Fixed(n) => Value::DimValue(i64::try_from(*n).unwrap_or(i64::MAX)),
                Dim::Symbol(name) => Value::DimParam(name.clone()),
            }),
            ..Default::default()
        })
        .collect();
    pb::ValueInfoProto {
        name: port.name.clone(),
        r#type: Some(pb::TypeProto {
            value: Some(pb::type_proto::Value::TensorType(pb::type_proto::Tensor {
                elem_type: elem_type as i32,
                shape: Some(pb::TensorShapeProto { dim }),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The product of `dims`, if it is within [`MAX_ELEMENTS`].
pub(crate) fn n_elements(dims: impl IntoIterator<Item = usize>) -> Option<usize> {
    dims.into_iter().try_fold(1usize, |n, dim| n.checked_mul(dim)).filter(|n| *n <= MAX_ELEMENTS)
}

fn check_limits(graph: &pb::GraphProto) -> Result<(), OnnxError> {
    for (what, n, max) in [
        ("nodes", graph.node.len(), MAX_NODES),
        ("stored tensors", graph.initializer.len(), MAX_TENSORS),
        ("inputs", graph.input.len(), MAX_TENSORS + MAX_PORTS),
        ("outputs", graph.output.len(), MAX_PORTS),
    ] {
        if n > max {
            return Err(OnnxError::new(format!("{n} {what} exceed the limit of {max}")));
        }
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(OnnxError::new("sparse tensors are not supported"));
    }
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    // tract would read another file, or recurse, on the word of the graph.
    if attributes.clone().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty()) {
        return Err(OnnxError::new("nodes with a graph inside (If, Loop, Scan) are not supported"));
    }
    graph
        .initializer
        .iter()
        .chain(attributes.flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors)))
        .try_for_each(check_tensor)
}

fn check_tensor(tensor: &pb::TensorProto) -> Result<(), OnnxError> {
    let fail = |why: &str| OnnxError::new(format!("tensor `{}` {why}", tensor.name));
    if tensor.data_location == Some(pb::tensor_proto::DataLocation::External as i32)
        || !tensor.external_data.is_empty()
    {
        return Err(fail("lies in another file"));
    }
    if tensor.dims.len() > MAX_RANK {
        return Err(fail("has too many axes"));
    }
    tensor_dims(tensor).and_then(n_elements).map(drop).ok_or_else(|| fail("declares too many elements"))
}

pub(crate) fn tensor_dims(tensor: &pb::TensorProto) -> Option<Vec<usize>> {
    tensor.dims.iter().map(|dim| usize::try_from(*dim).ok()).collect()
}
