//! Finds quantized layers in an ONNX graph and replaces each by one node.

use std::collections::HashMap;

use super::{Quantization, stored_channels};
use crate::onnx::index::{Index, Weight};
use crate::onnx::tail::{Tail, tail};
use crate::onnx::{self, Attr, attribute, attribute_int, pb};

/// u8 picture (, another to be added) to u8 picture.
pub(crate) const CONVOLVE: &str = "CaptiondConvolve";
/// u8 rows to f32 rows.
pub(crate) const MULTIPLY: &str = "CaptiondMultiply";
/// f32 rows to f32 rows, quantized on the way.
pub(crate) const MULTIPLY_ROWS: &str = "CaptiondMultiplyRows";
/// f32 `[N, C, H, W]` to u8 `[N, H, W, stored channels]`.
pub(crate) const QUANTIZE_PICTURE: &str = "CaptiondQuantizePicture";
/// u8 `[N, H, W, stored channels]` to f32 `[N, C, H, W]`.
pub(crate) const DEQUANTIZE_PICTURE: &str = "CaptiondDequantizePicture";
/// f32 to u8, whatever the shape.
pub(crate) const QUANTIZE_ROWS: &str = "CaptiondQuantizeRows";

/// Replaces the quantized layers that are recognized; what is not stays. The values that are left keep their names.
/// With `int8_rows`, products of f32 with stored i8 weights are layers too.
pub(crate) fn fuse(graph: &mut pb::GraphProto, int8_rows: bool) {
    let index = Index::new(graph);
    let mut found = Found::default();
    for node in &graph.node {
        if let Some(convolution) = convolution(&index, node) {
            found.add_convolution(node, convolution);
        } else if let Some((output, product, rows)) = product(&index, node) {
            found.rows.push((rows, output.clone()));
            found.replaced.insert(output, product);
        } else if let Some((output, product)) = row_product(&index, node).filter(|_| int8_rows) {
            found.replaced.insert(output, product);
        }
    }
    found.leave_products_of_pictures();
    if found.replaced.is_empty() {
        return;
    }
    let nodes = graph.node.iter().flat_map(|node| found.nodes(&index, node)).collect();
    graph.node = nodes;
    onnx::prune(graph);
}

/// What is to be put in the place of the node that makes the value of this name.
#[derive(Default)]
struct Found {
    replaced: HashMap<String, pb::NodeProto>,
    /// u8 pictures in our order of axes, and their channels.
    pictures: HashMap<String, usize>,
    /// u8 rows, and the product that reads them.
    rows: Vec<(String, String)>,
}

impl Found {
    fn add_convolution(&mut self, quantize: &pb::NodeProto, found: Convolution) {
        let output = &quantize.output[0];
        for (name, n_channels) in found.reads {
            self.pictures.insert(name, n_channels);
        }
        self.pictures.insert(output.clone(), found.n_out);
        self.replaced.insert(output.clone(), found.node);
    }

    /// A picture's axes are in another order than those of rows.
    fn leave_products_of_pictures(&mut self) {
        let Found { replaced, pictures, rows } = self;
        rows.retain(|(rows, product)| {
            let is_plain = !pictures.contains_key(rows);
            if !is_plain {
                replaced.remove(product);
            }
            is_plain
        });
    }

    /// What comes in the place of `node`. A replacement is given out once: it holds the layer's weights.
    fn nodes(&mut self, index: &Index<'_>, node: &pb::NodeProto) -> Vec<pb::NodeProto> {
        let [output] = &node.output[..] else { return vec![node.clone()] };
        if let Some(replacement) = self.replaced.remove(output) {
            return vec![replacement];
        }
        match node.op_type.as_str() {
            "QuantizeLinear" if self.pictures.contains_key(output) => {
                step(index, node, QUANTIZE_PICTURE, None)
            }
            "QuantizeLinear" if self.rows.iter().any(|(rows, _)| rows == output) => {
                step(index, node, QUANTIZE_ROWS, None)
            }
            "DequantizeLinear" => match node.input.first().and_then(|from| self.pictures.get(from)) {
                Some(n_channels) => step(index, node, DEQUANTIZE_PICTURE, Some(*n_channels)),
                None => vec![node.clone()],
            },
            _ => vec![node.clone()],
        }
    }
}

struct Convolution {
    node: pb::NodeProto,
    /// The pictures that it reads, and their channels.
    reads: Vec<(String, usize)>,
    n_out: usize,
}

/// The convolution that ends in `quantize`: `DequantizeLinear`, `Conv`, and, if they are there, the sum with another
/// quantized picture and ReLU.
fn convolution(index: &Index<'_>, quantize: &pb::NodeProto) -> Option<Convolution> {
    let (to, mut value) = quantized(index, quantize)?;
    let relu = relu_before(index, &mut value)?;
    let (conv, other) = match index.maker(value, "Conv") {
        Some((_, conv)) => (conv, None),
        None => sum_before(index, value)?,
    };
    let [output] = &conv.output[..] else { return None };
    index.is_read_once(output).then_some(())?;
    let (from, quantization) = index.dequantized(conv.input.first()?)?;
    let weight = index.weight(conv.input.get(1)?, 0)?;
    let [n_out, n_in, _, _] = weight.dims[..] else { return None };
    let group = usize::try_from(attribute_int(conv, "group").unwrap_or(1)).ok()?;
    let depthwise = group > 1;
    ((group == 1 || (group == n_out && n_in == 1)) && onnx::is_all(conv, "dilations", 1)).then_some(())?;
    let bias = match conv.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => index.stored_floats(name).filter(|bias| bias.len() == n_out)?,
        None => vec![0.0; n_out],
    };
    let zero = f32::from(to.zero);
    let factors = weight.scales.iter().map(|scale| quantization.scale * scale / to.scale).collect();
    let share = other.map_or(0.0, |(_, other): (_, Quantization)| other.scale / to.scale);
    let base = zero - other.map_or(0.0, |(_, other)| f32::from(other.zero) * share);
    let offsets = bias.iter().map(|bias| bias / to.scale + base).collect();
    let mut node = pb::NodeProto {
        op_type: CONVOLVE.to_owned(),
        name: quantize.name.clone(),
        input: std::iter::once(from).chain(other.map(|(name, _)| name)).map(str::to_owned).collect(),
        output: quantize.output.clone(),
        attribute: layer(weight, quantization.zero, factors, offsets, if relu { zero } else { 0.0 }),
        ..Default::default()
    };
    node.attribute.push(attribute("depthwise", Attr::Int(depthwise.into())));
    if other.is_some() {
        node.attribute.push(attribute("share", Attr::Float(share)));
    }
    node.attribute.extend(
        conv.attribute.iter().filter(|a| ["strides", "pads", "auto_pad"].contains(&a.name.as_str())).cloned(),
    );
    let n_in = if depthwise { n_out } else { n_in };
    let reads = std::iter::once((from.to_owned(), n_in))
        .chain(other.map(|(name, _)| (name.to_owned(), n_out)))
        .collect();
    Some(Convolution { node, reads, n_out })
}

/// What `node` quantizes, and how, if it does.
fn quantized<'n>(index: &Index<'_>, node: &'n pb::NodeProto) -> Option<(Quantization, &'n str)> {
    (node.op_type == "QuantizeLinear" && node.domain.is_empty() && node.output.len() == 1).then_some(())?;
    Some((index.quantization(node)?, node.input.first()?))
}

/// Steps over a ReLU that only the quantization reads. None if something else reads `value` too.
fn relu_before<'g>(index: &Index<'g>, value: &mut &'g str) -> Option<bool> {
    index.is_read_once(value).then_some(())?;
    let Some((_, relu)) = index.maker(value, "Relu") else { return Some(false) };
    *value = relu.input.first()?;
    index.is_read_once(value).then_some(true)
}

type Other<'g> = (&'g str, Quantization);

/// A convolution and a dequantized picture whose sum is `value`.
fn sum_before<'g>(index: &Index<'g>, value: &str) -> Option<(&'g pb::NodeProto, Option<Other<'g>>)> {
    let (_, add) = index.maker(value, "Add")?;
    let [a, b] = &add.input[..] else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(conv, other)| {
        let (_, conv) = index.maker(conv, "Conv")?;
        Some((conv, Some(index.dequantized(other)?)))
    })
}

/// The product of dequantized rows with stored weights that `node` (a `MatMul`) is, with a bias and ReLU after it if they
/// are there: the name of its value, the node, the u8 rows that it reads.
fn product(index: &Index<'_>, node: &pb::NodeProto) -> Option<(String, pb::NodeProto, String)> {
    (node.op_type == "MatMul" && node.domain.is_empty()).then_some(())?;
    let [rows, weight] = &node.input[..] else { return None };
    let (from, quantization) = index.dequantized(rows)?;
    let weight = index.weight(weight, 1)?;
    let [depth, n_columns] = weight.dims[..] else { return None };
    (stored_channels(depth) == depth).then_some(())?;
    let Tail { last, bias, low } = tail(index, node, n_columns);
    let factors = weight.scales.iter().map(|scale| quantization.scale * scale).collect();
    let output = last.output.first()?.clone();
    let product = pb::NodeProto {
        op_type: MULTIPLY.to_owned(),
        name: last.name.clone(),
        input: vec![from.to_owned()],
        output: vec![output.clone()],
        attribute: layer(weight, quantization.zero, factors, bias, low),
        ..Default::default()
    };
    Some((output, product, from.to_owned()))
}

/// The product of f32 rows with stored i8 weights that `node` (a `MatMul`) is, with what follows it: the name of its value
/// and the node.
fn row_product(index: &Index<'_>, node: &pb::NodeProto) -> Option<(String, pb::NodeProto)> {
    (node.op_type == "MatMul" && node.domain.is_empty()).then_some(())?;
    let [rows, weight] = &node.input[..] else { return None };
    let (weight, transposed) = index.before_transpose(weight)?;
    let weight = index.weight(weight, usize::from(!transposed))?;
    let [a, b] = weight.dims[..] else { return None };
    let (depth, n_columns) = if transposed { (b, a) } else { (a, b) };
    (!index.is_stored(rows) && stored_channels(depth) == depth).then_some(())?;
    let Tail { last, bias, low } = tail(index, node, n_columns);
    let output = last.output.first()?.clone();
    let scales = weight.scales.clone();
    let mut attributes = layer(weight, 0, scales, bias, low);
    attributes.push(attribute("transposed", Attr::Int(transposed.into())));
    let product = pb::NodeProto {
        op_type: MULTIPLY_ROWS.to_owned(),
        name: last.name.clone(),
        input: vec![rows.clone()],
        output: vec![output.clone()],
        attribute: attributes,
        ..Default::default()
    };
    Some((output, product))
}

fn layer(
    weight: Weight,
    zero: u8,
    factors: Vec<f32>,
    offsets: Vec<f32>,
    low: f32,
) -> Vec<pb::AttributeProto> {
    let tensor = pb::TensorProto {
        data_type: pb::tensor_proto::DataType::Int8 as i32,
        dims: weight.dims.iter().map(|dim| *dim as i64).collect(),
        raw_data: weight.values.iter().map(|value| value.cast_unsigned()).collect(),
        ..Default::default()
    };
    vec![
        attribute("weight", Attr::Tensor(Box::new(tensor))),
        attribute("zero", Attr::Int(zero.into())),
        attribute("factors", Attr::Floats(factors)),
        attribute("offsets", Attr::Floats(offsets)),
        attribute("low", Attr::Float(low)),
    ]
}

/// `node` as a step between f32 and u8.
fn step(
    index: &Index<'_>,
    node: &pb::NodeProto,
    op_type: &str,
    n_channels: Option<usize>,
) -> Vec<pb::NodeProto> {
    let (Some(from), Some(Quantization { scale, zero })) = (node.input.first(), index.quantization(node))
    else {
        return vec![node.clone()];
    };
    vec![pb::NodeProto {
        op_type: op_type.to_owned(),
        name: node.name.clone(),
        input: vec![from.clone()],
        output: node.output.clone(),
        attribute: [("scale", Attr::Float(scale)), ("zero", Attr::Int(zero.into()))]
            .into_iter()
            .chain(n_channels.map(|n| ("channels", Attr::Int(n as i64))))
            .map(|(name, attr)| attribute(name, attr))
            .collect(),
        ..Default::default()
    }]
}
