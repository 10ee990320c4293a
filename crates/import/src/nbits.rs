//! Matrices of four or eight bits in blocks (`MatMulNBits` of ONNX Runtime), made f16: no standard operator below set 21
//! knows blocks, and an f16 holds what such a block says to eleven bits.

use engine::onnx::{floats, pb};
use pb::tensor_proto::DataType;

use crate::halves;
use crate::net::Net;

/// The most elements of one matrix.
const ELEMENTS_MAX: usize = engine::onnx::MAX_ELEMENTS;

/// Replaces every `MatMulNBits` with stored weights by `MatMul` with the same matrix in f16, which
/// [`halves`](crate::halves) puts behind a cast.
///
/// # Errors
/// When a node's tensors do not fit its attributes, or reorder its blocks.
pub(crate) fn compute_in_f16(net: &mut Net) -> Result<(), String> {
    let graph = net.graph_mut();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        if node.op_type != "MatMulNBits" {
            nodes.push(node);
            continue;
        }
        let (matrix, mut spelled) = spell(graph, &node).map_err(|why| format!("{}: {why}", node.name))?;
        graph.initializer.push(matrix);
        nodes.append(&mut spelled);
    }
    graph.node = nodes;
    Ok(())
}

/// The matrix and the nodes that multiply with it.
fn spell(
    graph: &pb::GraphProto,
    node: &pb::NodeProto,
) -> Result<(pb::TensorProto, Vec<pb::NodeProto>), String> {
    let at = |idx: usize| node.input.get(idx).filter(|name| !name.is_empty());
    let stored = |idx: usize| at(idx).and_then(|name| graph.initializer.iter().find(|t| t.name == *name));
    let (Some(rows), Some(output)) = (at(0), node.output.first()) else {
        return Err("it multiplies nothing".to_owned());
    };
    if at(4).is_some() {
        return Err("its groups are in another order than its rows".to_owned());
    }
    let blocks = Blocks::of(node)?;
    let codes = blocks.codes(stored(1))?;
    let scales = stored(2).and_then(any_floats).unwrap_or_default();
    let zeros = match at(3) {
        Some(_) => blocks.zeros(stored(3))?,
        None => vec![f32::from(1u8 << (blocks.bits - 1)); scales.len()],
    };
    if scales.len() != blocks.columns * blocks.n_blocks || zeros.len() != scales.len() {
        return Err(format!("{} scales and {} zero points", scales.len(), zeros.len()));
    }
    let mut raw = vec![0; 2 * blocks.depth * blocks.columns];
    for (column, codes) in codes.chunks_exact(blocks.n_blocks * blocks.size).enumerate() {
        for (k, code) in codes.iter().take(blocks.depth).enumerate() {
            let block = column * blocks.n_blocks + k / blocks.size;
            let value = (f32::from(*code) - zeros[block]) * scales[block];
            let at = 2 * (k * blocks.columns + column);
            raw[at..at + 2].copy_from_slice(&half::f16::from_f32(value).to_le_bytes());
        }
    }
    let matrix = pb::TensorProto {
        name: format!("{output}_matrix"),
        dims: vec![blocks.depth as i64, blocks.columns as i64],
        data_type: DataType::Float16 as i32,
        raw_data: raw,
        ..Default::default()
    };
    let made = |op: &str, a: &str, b: &str, output: &str| pb::NodeProto {
        op_type: op.to_owned(),
        input: vec![a.to_owned(), b.to_owned()],
        output: vec![output.to_owned()],
        ..Default::default()
    };
    let spelled = match at(5) {
        None => vec![made("MatMul", rows, &matrix.name, output)],
        Some(bias) => {
            let product = format!("{output}_product");
            vec![made("MatMul", rows, &matrix.name, &product), made("Add", &product, bias, output)]
        }
    };
    Ok((matrix, spelled))
}

/// How a matrix of `depth` rows lies in blocks: column by column, each in blocks of `size` codes.
struct Blocks {
    depth: usize,
    columns: usize,
    bits: usize,
    size: usize,
    n_blocks: usize,
}

impl Blocks {
    fn of(node: &pb::NodeProto) -> Result<Blocks, String> {
        let int = |name: &str| {
            let found = node.attribute.iter().find(|attribute| attribute.name == name);
            found.and_then(|attribute| usize::try_from(attribute.i).ok()).filter(|n| *n > 0)
        };
        let (Some(depth), Some(columns), Some(size)) = (int("K"), int("N"), int("block_size")) else {
            return Err("K, N or block_size is missing".to_owned());
        };
        let bits = int("bits").unwrap_or(4);
        let is_small = depth.checked_mul(columns).is_some_and(|n| n <= ELEMENTS_MAX) && size <= 4096;
        if ![4, 8].contains(&bits) || !size.is_multiple_of(2) || !is_small {
            return Err(format!("{bits} bits in blocks of {size} for [{depth}, {columns}]"));
        }
        Ok(Blocks { depth, columns, bits, size, n_blocks: depth.div_ceil(size) })
    }

    /// Each column's codes, with those that fill its last block.
    fn codes(&self, tensor: Option<&pb::TensorProto>) -> Result<Vec<u8>, String> {
        let codes = self.unpacked(tensor, "weights")?;
        let n = self.columns * self.n_blocks * self.size;
        if codes.len() == n { Ok(codes) } else { Err(format!("{} weights where {n} must be", codes.len())) }
    }

    /// A zero point for each block; a column's begin with a byte of their own.
    fn zeros(&self, tensor: Option<&pb::TensorProto>) -> Result<Vec<f32>, String> {
        if let Some(zeros) = tensor.and_then(any_floats) {
            return Ok(zeros);
        }
        let codes = self.unpacked(tensor, "zero points")?;
        let stride = self.n_blocks.next_multiple_of(8 / self.bits);
        if codes.len() != self.columns * stride {
            return Err(format!("{} zero points", codes.len()));
        }
        Ok(codes
            .chunks_exact(stride)
            .flat_map(|codes| &codes[..self.n_blocks])
            .copied()
            .map(f32::from)
            .collect())
    }

    /// The low half of a byte comes first.
    fn unpacked(&self, tensor: Option<&pb::TensorProto>, what: &str) -> Result<Vec<u8>, String> {
        let tensor = tensor.filter(|tensor| tensor.data_type == DataType::Uint8 as i32);
        let tensor = tensor.ok_or_else(|| format!("its {what} are no stored bytes"))?;
        let bytes = if tensor.raw_data.is_empty() {
            tensor.int32_data.iter().map(|word| *word as u8).collect()
        } else {
            tensor.raw_data.clone()
        };
        if self.bits == 8 {
            return Ok(bytes);
        }
        Ok(bytes.into_iter().flat_map(|byte| [byte & 15, byte >> 4]).collect())
    }
}

/// The elements of an f32 or f16 tensor.
fn any_floats(tensor: &pb::TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type == DataType::Float16 as i32 { Some(halves::values(tensor)) } else { floats(tensor) }
}
