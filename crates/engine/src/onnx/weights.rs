//! Weights stored small: int8 behind `DequantizeLinear`, f16 behind `Cast`.
//!
//! An inference engine may convert such weights anew at each run (tract folds constants only up to
//! 4 MiB), so they become plain f32 initializers before it sees the graph. A conversion whose input
//! is computed at run time is none of ours and stays.

use std::collections::{HashMap, HashSet};

use super::pb::tensor_proto::DataType;
use super::{OnnxError, n_elements, pb, tensor_dims};

/// The weights of one element type that a graph stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// As ONNX names it, in lower case: `int8`, `float16`, `float`.
    pub element_type: String,
    pub n_elements: usize,
}

/// What a graph stores, by element type, most elements first. Shapes and axes (int64) are no weights.
///
/// # Errors
/// When [`parse`](super::parse) fails.
pub fn stored(bytes: &[u8]) -> Result<Vec<Stored>, OnnxError> {
    let model = super::parse(bytes)?;
    let mut sums = std::collections::BTreeMap::<DataType, usize>::new();
    for tensor in &super::graph_of(&model)?.initializer {
        let element_type = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
        if element_type != DataType::Int64 {
            *sums.entry(element_type).or_default() += tensor_dims(tensor).and_then(n_elements).unwrap_or(0);
        }
    }
    let mut all: Vec<Stored> = sums
        .into_iter()
        .map(|(element_type, n_elements)| Stored {
            element_type: element_type.as_str_name().to_lowercase(),
            n_elements,
        })
        .collect();
    all.sort_by_key(|stored| std::cmp::Reverse(stored.n_elements));
    Ok(all)
}

/// Replaces every `DequantizeLinear` of a stored int8 or uint8 tensor (one scale, or one per index of
/// `axis`; optional zero point) and every `Cast` of a stored f16 tensor to f32 by a stored f32 tensor.
///
/// # Errors
/// When such a node is malformed: data that does not fill its shape, scales that do not fit the axis,
/// blocked quantization, a scale that is not finite.
pub fn expand_weights(model: &mut pb::ModelProto) -> Result<(), OnnxError> {
    let graph = model.graph.as_mut().ok_or_else(|| OnnxError::new("it holds no graph"))?;
    let mut stored: HashMap<String, pb::TensorProto> =
        graph.initializer.drain(..).map(|tensor| (tensor.name.clone(), tensor)).collect();
    let mut consumed = HashSet::new();
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in graph.node.drain(..) {
        match expand(&node, &stored)? {
            Some(tensor) => {
                consumed.extend(node.input);
                stored.insert(tensor.name.clone(), tensor);
            }
            None => kept.push(node),
        }
    }
    graph.node = kept;
    // What only the replaced nodes read is dead weight now.
    for name in graph.node.iter().flat_map(|node| &node.input) {
        consumed.remove(name);
    }
    for output in &graph.output {
        consumed.remove(&output.name);
    }
    let mut tensors: Vec<_> =
        stored.into_values().filter(|tensor| !consumed.contains(&tensor.name)).collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    graph.initializer = tensors;
    Ok(())
}

fn expand(
    node: &pb::NodeProto,
    stored: &HashMap<String, pb::TensorProto>,
) -> Result<Option<pb::TensorProto>, OnnxError> {
    let Some(input) = node.input.first().and_then(|name| stored.get(name)) else {
        return Ok(None);
    };
    let [output] = &node.output[..] else { return Ok(None) };
    let fail = |why: &str| OnnxError::new(format!("expand weight `{}`: {why}", input.name));
    let from = DataType::try_from(input.data_type).unwrap_or(DataType::Undefined);
    let values = match (node.op_type.as_str(), from) {
        ("Cast", DataType::Float16) if attribute_int(node, "to") == Some(DataType::Float as i64) => {
            halves(input).ok_or_else(|| fail("its data does not fill its shape"))?
        }
        ("DequantizeLinear", DataType::Int8 | DataType::Uint8) => {
            let Some(scale) = node.input.get(1).and_then(|name| stored.get(name)) else { return Ok(None) };
            let zero = match node.input.get(2).filter(|name| !name.is_empty()).map(|name| stored.get(name)) {
                Some(None) => return Ok(None),
                zero => zero.flatten(),
            };
            dequantize(node, input, scale, zero).map_err(fail)?
        }
        _ => return Ok(None),
    };
    if !values.iter().all(|x| x.is_finite()) {
        return Err(fail("a value is not finite"));
    }
    Ok(Some(pb::TensorProto {
        name: output.clone(),
        dims: input.dims.clone(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ..Default::default()
    }))
}

fn dequantize(
    node: &pb::NodeProto,
    input: &pb::TensorProto,
    scale: &pb::TensorProto,
    zero: Option<&pb::TensorProto>,
) -> Result<Vec<f32>, &'static str> {
    const NO_DATA: &str = "its data does not fill its shape";
    if attribute_int(node, "block_size").unwrap_or(0) != 0 {
        return Err("blocked quantization is not supported");
    }
    let dims = tensor_dims(input).ok_or(NO_DATA)?;
    let quants = integers(input).ok_or(NO_DATA)?;
    let scales = floats(scale).ok_or("its scale is no f32 tensor that fills its shape")?;
    let zeros = match zero {
        Some(zero) => integers(zero).ok_or("its zero point is no int8 tensor that fills its shape")?,
        None => vec![0; scales.len()],
    };
    if zeros.len() != scales.len() {
        return Err("it has another number of zero points than of scales");
    }
    if let ([scale], [zero]) = (&scales[..], &zeros[..]) {
        return Ok(quants.iter().map(|q| f32::from(q - zero) * scale).collect());
    }
    let axis = attribute_int(node, "axis").unwrap_or(1);
    let axis = if axis < 0 { axis + dims.len() as i64 } else { axis };
    let axis =
        usize::try_from(axis).ok().filter(|axis| *axis < dims.len()).ok_or("its axis is out of range")?;
    if scales.len() != dims[axis] {
        return Err("it has another number of scales than its axis has entries");
    }
    let inner: usize = dims[axis + 1..].iter().product();
    Ok(quants
        .chunks(inner.max(1))
        .enumerate()
        .flat_map(|(idx, run)| {
            let (scale, zero) = (scales[idx % scales.len()], zeros[idx % scales.len()]);
            run.iter().map(move |q| f32::from(q - zero) * scale)
        })
        .collect())
}

/// Whether every number of an attribute is `n`, also where there is no such attribute.
pub(crate) fn is_all(node: &pb::NodeProto, name: &str, n: i64) -> bool {
    node.attribute
        .iter()
        .filter(|attribute| attribute.name == name)
        .all(|a| a.ints.iter().all(|found| *found == n))
}

pub(crate) fn attribute_int(node: &pb::NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.i)
}

/// The elements of an int8 or uint8 tensor, if they fill its shape.
pub(crate) fn integers(tensor: &pb::TensorProto) -> Option<Vec<i16>> {
    let n = n_elements(tensor_dims(tensor)?)?;
    let words = &tensor.int32_data;
    let values: Vec<i16> = match (DataType::try_from(tensor.data_type).ok()?, tensor.raw_data.is_empty()) {
        (DataType::Int8, false) => tensor.raw_data.iter().map(|byte| byte.cast_signed().into()).collect(),
        (DataType::Uint8, false) => tensor.raw_data.iter().map(|byte| (*byte).into()).collect(),
        (DataType::Int8, true) => {
            words.iter().map(|word| i8::try_from(*word).ok().map(i16::from)).collect::<Option<_>>()?
        }
        (DataType::Uint8, true) => {
            words.iter().map(|word| u8::try_from(*word).ok().map(i16::from)).collect::<Option<_>>()?
        }
        _ => return None,
    };
    (values.len() == n).then_some(values)
}

/// The elements of an int8 tensor, if they fill its shape.
pub(crate) fn signed_bytes(tensor: &pb::TensorProto) -> Option<Vec<i8>> {
    let stored_raw = !tensor.raw_data.is_empty() && tensor.data_type == DataType::Int8 as i32;
    if stored_raw && Some(tensor.raw_data.len()) == tensor_dims(tensor).and_then(n_elements) {
        // Megabytes of them at each start.
        return Some(tensor.raw_data.iter().map(|byte| byte.cast_signed()).collect());
    }
    integers(tensor)?.into_iter().map(|value| i8::try_from(value).ok()).collect()
}

/// The elements of an f32 tensor, if they fill its shape.
pub fn floats(tensor: &pb::TensorProto) -> Option<Vec<f32>> {
    let n = n_elements(tensor_dims(tensor)?)?;
    if tensor.data_type != DataType::Float as i32 {
        return None;
    }
    let values = if tensor.raw_data.is_empty() {
        tensor.float_data.clone()
    } else {
        let (words, rest) = tensor.raw_data.as_chunks::<4>();
        if !rest.is_empty() {
            return None;
        }
        words.iter().map(|word| f32::from_le_bytes(*word)).collect()
    };
    (values.len() == n).then_some(values)
}

/// The elements of an f16 tensor as f32, if they fill its shape.
fn halves(tensor: &pb::TensorProto) -> Option<Vec<f32>> {
    let n = n_elements(tensor_dims(tensor)?)?;
    let bits: Vec<u16> = if tensor.raw_data.is_empty() {
        tensor.int32_data.iter().map(|bits| u16::try_from(*bits).ok()).collect::<Option<_>>()?
    } else {
        let (words, rest) = tensor.raw_data.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        words.iter().map(|word| u16::from_le_bytes(*word)).collect()
    };
    (bits.len() == n).then(|| bits.into_iter().map(|bits| half::f16::from_bits(bits).to_f32()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::OnnxFile;

    fn expanded(file: &OnnxFile) -> Result<pb::GraphProto, OnnxError> {
        let mut model = file.model();
        expand_weights(&mut model)?;
        Ok(model.graph.unwrap())
    }

    fn tensor<'g>(graph: &'g pb::GraphProto, name: &str) -> Option<&'g pb::TensorProto> {
        graph.initializer.iter().find(|tensor| tensor.name == name)
    }

    #[test]
    fn every_axis_has_its_own_scales() {
        let quants: Vec<i8> = (1..=12).collect();
        for (axis, scales) in [(0, vec![1.0, 10.0]), (1, vec![1.0, 10.0, 100.0]), (2, vec![2.0, 3.0])] {
            let file = OnnxFile::new()
                .stored_i8("q", &[2, 3, 2], &quants)
                .stored_f32("s", &[scales.len()], &scales)
                .node("DequantizeLinear", &["q", "s"], &["w"], &[("axis", axis)]);
            let graph = expanded(&file).unwrap();
            assert!(graph.node.is_empty());
            let found = floats(tensor(&graph, "w").unwrap()).unwrap();
            for (idx, value) in found.iter().enumerate() {
                let place = [idx / 6, idx / 2 % 3, idx % 2][axis as usize];
                assert_eq!(*value, f32::from(quants[idx]) * scales[place]);
            }
        }
    }

    #[test]
    fn zero_points_shift_before_the_scale() {
        let file = OnnxFile::new()
            .stored("q", DataType::Uint8, &[2, 2], vec![0, 128, 129, 255])
            .stored_f32("s", &[], &[0.5])
            .stored("z", DataType::Uint8, &[], vec![128])
            .node("DequantizeLinear", &["q", "s", "z"], &["w"], &[]);
        let graph = expanded(&file).unwrap();
        assert_eq!(floats(tensor(&graph, "w").unwrap()).unwrap(), [-64.0, 0.0, 0.5, 63.5]);
    }

    #[test]
    fn small_weights_go_unless_something_else_reads_them() {
        let file = OnnxFile::new()
            .stored_f16("h", &[2], &[1.0, 2.0])
            .node("Cast", &["h"], &["w"], &[("to", DataType::Float as i64)])
            .node("Relu", &["w"], &["y"], &[]);
        assert!(tensor(&expanded(&file).unwrap(), "h").is_none());
        let shared = file.node("Shape", &["h"], &["shape"], &[]);
        let graph = expanded(&shared).unwrap();
        assert!(tensor(&graph, "h").is_some() && tensor(&graph, "w").is_some());
        assert_eq!(graph.node.len(), 2);
    }

    #[test]
    fn stored_weights_are_counted_by_type_and_shapes_are_not() {
        let file = OnnxFile::new().stored_i8("q", &[2, 3], &[1; 6]).stored_f32("s", &[2], &[1.0; 2]).stored(
            "shape",
            DataType::Int64,
            &[1],
            vec![0; 8],
        );
        let count =
            |element_type: &str, n_elements| Stored { element_type: element_type.to_owned(), n_elements };
        assert_eq!(stored(&file.bytes()).unwrap(), [count("int8", 6), count("float", 2)]);
        assert!(stored(b"garbage").is_err());
    }

    #[test]
    fn conversions_of_what_is_computed_stay() {
        let file = OnnxFile::new()
            .stored_f32("s", &[], &[0.5])
            .node("DequantizeLinear", &["x", "s"], &["y"], &[])
            .node("Cast", &["x"], &["z"], &[("to", DataType::Float as i64)]);
        assert_eq!(expanded(&file).unwrap().node.len(), 2);
    }

    #[test]
    fn malformed_weights_are_named() {
        let scaled = |dims: &[usize], scales: &[f32], attributes: &[(&str, i64)]| {
            OnnxFile::new()
                .stored("q", DataType::Int8, dims, vec![1; 6])
                .stored_f32("s", &[scales.len()], scales)
                .node("DequantizeLinear", &["q", "s"], &["w"], attributes)
        };
        for file in [
            scaled(&[2, 4], &[1.0], &[]),
            scaled(&[2, 3], &[1.0, 2.0], &[]),
            scaled(&[2, 3], &[1.0, 2.0, 3.0], &[("axis", 2)]),
            scaled(&[2, 3], &[1.0, 2.0, 3.0], &[("axis", -3)]),
            scaled(&[2, 3], &[1.0, 2.0, 3.0], &[("block_size", 2)]),
            scaled(&[2, 3], &[f32::NAN], &[]),
            scaled(&[2, 3], &[f32::INFINITY, 1.0, 1.0], &[]),
            scaled(&[2, 3], &[], &[]),
            scaled(&[0, 3], &[1.0, 2.0, 3.0], &[]),
        ] {
            let error = expanded(&file).unwrap_err().to_string();
            assert!(error.contains("`q`"), "{error}");
        }
        let half = OnnxFile::new().stored("h", DataType::Float16, &[2], vec![0; 3]).node(
            "Cast",
            &["h"],
            &["w"],
            &[("to", DataType::Float as i64)],
        );
        assert!(expanded(&half).unwrap_err().to_string().contains("`h`"));
    }
}
