//! Our layers in standard operators, for engines that know no others: the same numbers, bit for bit.
//!
//! The sums of a quantized layer are sums of whole numbers, so f32 holds them exactly (up to 2^24) in whatever order they
//! are added, and GPUs that multiply in TF32 do so exactly, too. As a graph states them (`DequantizeLinear`, `Conv`,
//! `QuantizeLinear`) each term carries a scale and each sum is rounded; now and then one ends on the other side of a half,
//! a step apart, and each layer after it multiplies the steps.

use std::collections::HashSet;

use pb::tensor_proto::DataType;

use super::Quantization;
use super::fuse::{
    CONVOLVE, DEQUANTIZE_PICTURE, MULTIPLY, MULTIPLY_ROWS, QUANTIZE_PICTURE, QUANTIZE_ROWS, fuse,
};
use crate::kernels::rowwise::{N_STEPS, ZERO};
use crate::onnx::{Attr, attribute, attribute_int, opset, pb, signed_bytes, tensor_dims};

/// The first operator set that has all that is spelled with.
const OPSET_MIN: i64 = 13;
/// From this one on the axes of a maximum are an input.
const OPSET_AXES: i64 = 18;
/// A row whose largest element is below it counts as zeros.
const PEAK_MIN: f32 = 1e-30;

/// Replaces the quantized layers that are recognized, see [`fuse`], by standard operators on whole numbers in f32. What is
/// not recognized stays, and so does a graph of an operator set before 13.
///
/// # Errors
/// When a layer's attributes do not fit each other.
pub(crate) fn spell(model: &mut pb::ModelProto, int8_rows: bool) -> Result<(), String> {
    let opset = opset(model);
    let Some(graph) = model.graph.as_mut().filter(|_| opset >= OPSET_MIN) else { return Ok(()) };
    fuse(graph, int8_rows);
    let mut speller = Speller { opset, nodes: Vec::new(), stored: Vec::new(), whole: HashSet::new() };
    for node in std::mem::take(&mut graph.node) {
        let reads_whole = node.input.first().is_some_and(|name| speller.whole.contains(name));
        match node.op_type.as_str() {
            CONVOLVE => speller.convolve(&node),
            MULTIPLY => speller.multiply(&node),
            MULTIPLY_ROWS => speller.multiply_rows(&node),
            QUANTIZE_PICTURE | QUANTIZE_ROWS => speller.quantize(&node),
            DEQUANTIZE_PICTURE => speller.dequantize(&node),
            // One whose value is needed in f32, too, so that it is part of no layer.
            "DequantizeLinear" if reads_whole => speller.dequantize_plainly(&node),
            _ => {
                speller.nodes.push(node);
                continue;
            }
        }
        .ok_or_else(|| format!("the quantized layer {} is malformed", node.name))?;
        // What was u8 is f32 now.
        graph.value_info.retain(|info| !node.output.contains(&info.name));
    }
    graph.node = speller.nodes;
    graph.initializer.append(&mut speller.stored);
    Ok(())
}

struct Speller {
    opset: i64,
    nodes: Vec<pb::NodeProto>,
    stored: Vec<pb::TensorProto>,
    /// Values that were u8 and are whole numbers in f32 now.
    whole: HashSet<String>,
}

/// What the attributes of a layer say.
struct Layer {
    dims: Vec<usize>,
    weights: Vec<i8>,
    zero: f32,
    factors: Vec<f32>,
    offsets: Vec<f32>,
    low: f32,
}

impl Speller {
    fn convolve(&mut self, node: &pb::NodeProto) -> Option<()> {
        let layer = layer(node)?;
        let n_out = *layer.dims.first()?;
        let depthwise = attribute_int(node, "depthwise")? != 0;
        let picture = self.centred(node.input.first()?, layer.zero);
        let weights = self.numbers(&layer.dims, layer.weights.iter().map(|w| f32::from(*w)));
        let sums = self.add("Conv", &[&picture, &weights]);
        if let Some(conv) = self.nodes.last_mut() {
            let group = if depthwise { i64::try_from(n_out).ok()? } else { 1 };
            conv.attribute.push(attribute("group", Attr::Int(group)));
            let kept = ["strides", "pads", "auto_pad"];
            conv.attribute.extend(node.attribute.iter().filter(|a| kept.contains(&a.name.as_str())).cloned());
        }
        let mut value = self.scaled(&sums, &layer, &[1, n_out, 1, 1], None);
        if let Some(other) = node.input.get(1) {
            let share = self.number(node.attribute.iter().find(|a| a.name == "share")?.f);
            let other = self.in_f32(other);
            let other = self.add("Mul", &[&other, &share]);
            value = self.add("Add", &[&value, &other]);
        }
        self.rounded(&value, layer.low, node.output.first()?);
        Some(())
    }

    fn multiply(&mut self, node: &pb::NodeProto) -> Option<()> {
        let layer = layer(node)?;
        let [_, n_columns] = layer.dims[..] else { return None };
        let rows = self.centred(node.input.first()?, layer.zero);
        let weights = self.numbers(&layer.dims, layer.weights.iter().map(|w| f32::from(*w)));
        let sums = self.add("MatMul", &[&rows, &weights]);
        let value = self.scaled(&sums, &layer, &[n_columns], None);
        self.at_least(&value, layer.low, node.output.first()?);
        Some(())
    }

    /// Each row's scale follows its own largest element, as in [`super::rows`].
    fn multiply_rows(&mut self, node: &pb::NodeProto) -> Option<()> {
        let layer = layer(node)?;
        let [a, b] = layer.dims[..] else { return None };
        let transposed = attribute_int(node, "transposed")? != 0;
        let (depth, n_columns) = if transposed { (b, a) } else { (a, b) };
        let weight = |at: usize| {
            let at = if transposed { at % n_columns * depth + at / n_columns } else { at };
            f32::from(layer.weights[at])
        };
        let weights: Vec<f32> = (0..depth * n_columns).map(weight).collect();
        let weights = self.numbers(&[depth, n_columns], weights);
        let rows = node.input.first()?;
        let peak = self.peak(rows);
        let (least, steps, one, zero) =
            (self.number(PEAK_MIN), self.number(N_STEPS), self.number(1.0), self.number(f32::from(ZERO)));
        let peak = self.add("Max", &[&peak, &least]);
        let scale = self.add("Div", &[&peak, &steps]);
        let steps = self.add("Div", &[&one, &scale]);
        let value = self.add("Mul", &[rows, &steps]);
        // Rounded where the kernels round: not around zero.
        let value = self.add("Add", &[&value, &zero]);
        let value = self.add("Round", &[&value]);
        let value = self.add("Sub", &[&value, &zero]);
        let sums = self.add("MatMul", &[&value, &weights]);
        let value = self.scaled(&sums, &layer, &[n_columns], Some(&scale));
        self.at_least(&value, layer.low, node.output.first()?);
        Some(())
    }

    fn quantize(&mut self, node: &pb::NodeProto) -> Option<()> {
        let Quantization { scale, zero } = quantization(node)?;
        let (scale, zero) = (self.number(scale), self.number(f32::from(zero)));
        let value = self.add("Div", &[node.input.first()?, &scale]);
        let value = self.add("Add", &[&value, &zero]);
        self.rounded(&value, 0.0, node.output.first()?);
        Some(())
    }

    fn dequantize(&mut self, node: &pb::NodeProto) -> Option<()> {
        let Quantization { scale, zero } = quantization(node)?;
        let value = self.centred(node.input.first()?, f32::from(zero));
        let scale = self.number(scale);
        self.add_to("Mul", &[&value, &scale], node.output.first()?);
        Some(())
    }

    /// The largest size in each row, with its axis.
    fn peak(&mut self, rows: &str) -> String {
        let sizes = self.add("Abs", &[rows]);
        if self.opset >= OPSET_AXES {
            let axes = self.name();
            self.stored.push(pb::TensorProto {
                name: axes.clone(),
                dims: vec![1],
                data_type: DataType::Int64 as i32,
                raw_data: (-1i64).to_le_bytes().to_vec(),
                ..Default::default()
            });
            return self.add("ReduceMax", &[&sizes, &axes]);
        }
        let peak = self.add("ReduceMax", &[&sizes]);
        if let Some(node) = self.nodes.last_mut() {
            node.attribute.push(attribute("axes", Attr::Ints(vec![-1])));
        }
        peak
    }

    /// With the scale and the zero point that are stored for it, one of each.
    fn dequantize_plainly(&mut self, node: &pb::NodeProto) -> Option<()> {
        let (value, scale) = (node.input.first()?, node.input.get(1)?);
        let mut value = value.clone();
        if let Some(zero) = node.input.get(2).filter(|zero| !zero.is_empty()) {
            let zero = self.cast(zero);
            value = self.add("Sub", &[&value, &zero]);
        }
        self.add_to("Mul", &[&value, scale], node.output.first()?);
        Some(())
    }

    fn cast(&mut self, value: &str) -> String {
        let cast = self.add("Cast", &[value]);
        if let Some(node) = self.nodes.last_mut() {
            node.attribute.push(attribute("to", Attr::Int(DataType::Float as i64)));
        }
        cast
    }

    /// What a layer takes, which is u8 still where what made it is part of no layer.
    fn in_f32(&mut self, value: &str) -> String {
        if self.whole.contains(value) { value.to_owned() } else { self.cast(value) }
    }

    fn centred(&mut self, value: &str, zero: f32) -> String {
        let value = self.in_f32(value);
        let zero = self.number(zero);
        self.add("Sub", &[&value, &zero])
    }

    /// Sums times factors plus offsets, one of each for an index of the axis that is not 1 in `dims`; times the scale of
    /// their row, where rows have one.
    ///
    /// The rounding is none where a product was exact, and mends one that a library took another way (Winograd's). It also
    /// keeps optimizers from multiplying the factors into the weights, which would no longer be whole numbers.
    fn scaled(&mut self, sums: &str, layer: &Layer, dims: &[usize], row_scale: Option<&str>) -> String {
        let sums = self.add("Round", &[sums]);
        let mut factors = self.numbers(dims, layer.factors.iter().copied());
        if let Some(scale) = row_scale {
            factors = self.add("Mul", &[scale, &factors]);
        }
        let offsets = self.numbers(dims, layer.offsets.iter().copied());
        let value = self.add("Mul", &[&sums, &factors]);
        self.add("Add", &[&value, &offsets])
    }

    /// The nearest whole number between `low` and 255, ties to even.
    fn rounded(&mut self, value: &str, low: f32, output: &str) {
        let (low, high) = (self.number(low), self.number(255.0));
        let value = self.add("Clip", &[value, &low, &high]);
        self.add_to("Round", &[&value], output);
        self.whole.insert(output.to_owned());
    }

    fn at_least(&mut self, value: &str, low: f32, output: &str) {
        if low == f32::NEG_INFINITY {
            return self.add_to("Identity", &[value], output);
        }
        let low = self.number(low);
        self.add_to("Max", &[value, &low], output);
    }

    fn name(&self) -> String {
        format!("captiond_spelled_{}", self.nodes.len() + self.stored.len())
    }

    fn number(&mut self, value: f32) -> String {
        self.numbers(&[], [value])
    }

    fn numbers(&mut self, dims: &[usize], values: impl IntoIterator<Item = f32>) -> String {
        let name = self.name();
        self.stored.push(pb::TensorProto {
            name: name.clone(),
            dims: dims.iter().map(|dim| *dim as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: values.into_iter().flat_map(f32::to_le_bytes).collect(),
            ..Default::default()
        });
        name
    }

    fn add(&mut self, op_type: &str, inputs: &[&str]) -> String {
        let output = self.name();
        self.add_to(op_type, inputs, &output);
        output
    }

    fn add_to(&mut self, op_type: &str, inputs: &[&str], output: &str) {
        self.nodes.push(pb::NodeProto {
            name: format!("captiond_{output}"),
            op_type: op_type.to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            ..Default::default()
        });
    }
}

fn layer(node: &pb::NodeProto) -> Option<Layer> {
    let find = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let tensor = find("weight")?.t.as_ref()?;
    let layer = Layer {
        dims: tensor_dims(tensor)?,
        weights: signed_bytes(tensor)?,
        zero: byte(node, "zero")?,
        factors: find("factors")?.floats.clone(),
        offsets: find("offsets")?.floats.clone(),
        low: find("low")?.f,
    };
    (layer.factors.len() == layer.offsets.len()).then_some(layer)
}

fn byte(node: &pb::NodeProto, name: &str) -> Option<f32> {
    attribute_int(node, name).and_then(|value| u8::try_from(value).ok()).map(f32::from)
}

fn quantization(node: &pb::NodeProto) -> Option<Quantization> {
    let scale = node.attribute.iter().find(|attribute| attribute.name == "scale")?.f;
    Some(Quantization { scale, zero: u8::try_from(attribute_int(node, "zero")?).ok()? })
}
