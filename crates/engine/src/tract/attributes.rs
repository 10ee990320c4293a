//! Layers read back from the attributes of their nodes.

use tract_onnx::tract_hir::internal::{TractResult, anyhow};

use super::fused::Layer;
use crate::floats::elementwise::Normalize;
use crate::kernels::Isa;
use crate::kernels::rowwise::Normalization;
use crate::onnx::{attribute_int, pb, signed_bytes, tensor_dims};
use crate::quantized::Quantization;
use crate::quantized::convolution::{self, Convolution, Padding};
use crate::quantized::dense::{self, Dense};
use crate::quantized::rows::RowProduct;

pub(super) fn convolution(node: &pb::NodeProto) -> TractResult<Convolution> {
    let (dims, weights) = weight(node)?;
    let spec = convolution::Spec {
        dims: dims.try_into().map_err(|dims| anyhow!("weights of {dims:?}"))?,
        weights,
        depthwise: int(node, "depthwise")? != 0,
        strides: match find(node, "strides") {
            Some(strides) => sizes(&strides.ints)?,
            None => [1, 1],
        },
        padding: padding(node)?,
        zero: byte(node, "zero")?,
        factors: floats(node, "factors")?,
        offsets: floats(node, "offsets")?,
        low: float(node, "low")?,
        share: find(node, "share").map(|share| share.f),
    };
    Convolution::new(&spec, Isa::best()).map_err(|why| anyhow!(why))
}

pub(super) fn dense(node: &pb::NodeProto) -> TractResult<Dense> {
    let (dims, weights) = weight(node)?;
    let [depth, n_columns] = dims.try_into().map_err(|dims| anyhow!("weights of {dims:?}"))?;
    let spec = dense::Spec {
        depth,
        n_columns,
        weights,
        zero: byte(node, "zero")?,
        factors: floats(node, "factors")?,
        offsets: floats(node, "offsets")?,
        low: float(node, "low")?,
    };
    Dense::new(&spec, Isa::best()).map_err(|why| anyhow!(why))
}

pub(super) fn row_product(node: &pb::NodeProto) -> TractResult<RowProduct> {
    let (dims, weights) = weight(node)?;
    let [a, b] = dims.try_into().map_err(|dims| anyhow!("weights of {dims:?}"))?;
    let (scales, bias, low) = (floats(node, "factors")?, floats(node, "offsets")?, float(node, "low")?);
    let transposed = int(node, "transposed")? != 0;
    let (depth, n_columns) = if transposed { (b, a) } else { (a, b) };
    if scales.len() != n_columns || weights.len() != depth * n_columns {
        return Err(anyhow!("{} scales for {n_columns} columns", scales.len()));
    }
    RowProduct::new(Isa::best(), depth, &scales, &bias, low, |column, k| {
        weights[if transposed { column * depth + k } else { k * n_columns + column }]
    })
    .map_err(|why| anyhow!(why))
}

pub(super) fn attention(node: &pb::NodeProto) -> TractResult<Layer> {
    let rows = ["query_rows", "key_rows", "value_rows"].map(|name| attribute_int(node, name) == Some(1));
    Ok(Layer::Attend { isa: Isa::best(), scale: float(node, "scale")?, rows })
}

pub(super) fn normalization(node: &pb::NodeProto) -> TractResult<Normalize> {
    let (factors, offsets) = (floats(node, "factors")?, floats(node, "offsets")?);
    let by = Normalization { factors, offsets, epsilon: float(node, "epsilon")? };
    Ok(Normalize { isa: Isa::best(), by })
}

pub(super) fn beta(node: &pb::NodeProto) -> TractResult<f32> {
    float(node, "beta")
}

pub(super) fn quantization(node: &pb::NodeProto) -> TractResult<Quantization> {
    Ok(Quantization { scale: float(node, "scale")?, zero: byte(node, "zero")? })
}

pub(super) fn channels(node: &pb::NodeProto) -> TractResult<usize> {
    Ok(usize::try_from(int(node, "channels")?)?)
}

fn padding(node: &pb::NodeProto) -> TractResult<Padding> {
    match find(node, "auto_pad").map(|pad| &pad.s[..]) {
        None | Some(b"" | b"NOTSET" | b"VALID") => {}
        Some(b"SAME_UPPER") => return Ok(Padding::Same),
        Some(_) => return Err(anyhow!("padding by auto_pad other than SAME_UPPER and VALID")),
    }
    match find(node, "pads") {
        Some(pads) => Ok(Padding::Explicit(sizes(&pads.ints)?)),
        None => Ok(Padding::Explicit([0; 4])),
    }
}

fn sizes<const N: usize>(values: &[i64]) -> TractResult<[usize; N]> {
    let values: Vec<usize> = values.iter().map(|n| usize::try_from(*n)).collect::<Result<_, _>>()?;
    values.try_into().map_err(|values: Vec<usize>| anyhow!("{} sizes instead of {N}", values.len()))
}

fn weight(node: &pb::NodeProto) -> TractResult<(Vec<usize>, Vec<i8>)> {
    let tensor = get(node, "weight")?.t.as_ref().ok_or_else(|| anyhow!("no weights"))?;
    tensor_dims(tensor)
        .zip(signed_bytes(tensor))
        .ok_or_else(|| anyhow!("weights that do not fill their shape"))
}

fn find<'n>(node: &'n pb::NodeProto, name: &str) -> Option<&'n pb::AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn get<'n>(node: &'n pb::NodeProto, name: &str) -> TractResult<&'n pb::AttributeProto> {
    find(node, name).ok_or_else(|| anyhow!("no attribute `{name}`"))
}

pub(super) fn int(node: &pb::NodeProto, name: &str) -> TractResult<i64> {
    attribute_int(node, name).ok_or_else(|| anyhow!("no attribute `{name}`"))
}

fn byte(node: &pb::NodeProto, name: &str) -> TractResult<u8> {
    Ok(u8::try_from(int(node, name)?)?)
}

pub(super) fn float(node: &pb::NodeProto, name: &str) -> TractResult<f32> {
    Ok(get(node, name)?.f)
}

pub(super) fn floats(node: &pb::NodeProto, name: &str) -> TractResult<Vec<f32>> {
    Ok(get(node, name)?.floats.clone())
}
