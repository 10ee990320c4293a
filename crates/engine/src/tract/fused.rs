//! Our own layers as operators of tract.

use std::sync::Arc;

use tract_core::tract_linalg::multithread::{Executor, current_tract_executor};
use tract_onnx::Onnx;
use tract_onnx::tract_hir::internal::*;

use super::attributes::{attention, channels, convolution, dense, quantization, row_product};
use crate::kernels::Isa;
use crate::kernels::attention::{Attention, Heads, Sizes, attend};
use crate::quantized::convolution::Convolution;
use crate::quantized::dense::Dense;
use crate::quantized::rows::RowProduct;
use crate::quantized::{self, Quantization, steps, stored_channels};

/// Makes tract know the nodes of [`quantized::fuse`].
pub(super) fn register(onnx: &mut Onnx) {
    let register = &mut onnx.op_register;
    register.insert(quantized::CONVOLVE, |_, node| Ok(operator(Layer::Convolve(convolution(node)?))));
    register.insert(quantized::MULTIPLY, |_, node| Ok(operator(Layer::Multiply(dense(node)?))));
    register
        .insert(quantized::MULTIPLY_ROWS, |_, node| Ok(operator(Layer::MultiplyRows(row_product(node)?))));
    register.insert(quantized::ATTEND, |_, node| Ok(operator(attention(node)?)));
    register.insert(quantized::QUANTIZE_PICTURE, |_, node| {
        Ok(operator(Layer::QuantizePicture(quantization(node)?)))
    });
    register
        .insert(quantized::QUANTIZE_ROWS, |_, node| Ok(operator(Layer::QuantizeRows(quantization(node)?))));
    register.insert(quantized::DEQUANTIZE_PICTURE, |_, node| {
        Ok(operator(Layer::DequantizePicture {
            quantization: quantization(node)?,
            n_channels: channels(node)?,
        }))
    });
}

fn operator(layer: Layer) -> (Box<dyn InferenceOp>, Vec<String>) {
    (expand(Fused(Arc::new(layer))), vec![])
}

#[derive(Debug)]
pub(super) enum Layer {
    Convolve(Convolution),
    Multiply(Dense),
    MultiplyRows(RowProduct),
    /// Keys are `[N, R, H, D]` instead of `[N, H, R, D]` where they lie in rows.
    Attend {
        isa: Isa,
        scale: f32,
        rows: bool,
    },
    QuantizePicture(Quantization),
    QuantizeRows(Quantization),
    DequantizePicture {
        quantization: Quantization,
        n_channels: usize,
    },
}

/// One of our layers; its output is one tensor.
#[derive(Clone, Debug)]
struct Fused(Arc<Layer>);

impl PartialEq for Fused {
    fn eq(&self, other: &Fused) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Fused {}

impl Fused {
    fn out_type(&self) -> DatumType {
        match *self.0 {
            Layer::Convolve(_) | Layer::QuantizePicture(_) | Layer::QuantizeRows(_) => DatumType::U8,
            Layer::Multiply(_)
            | Layer::MultiplyRows(_)
            | Layer::Attend { .. }
            | Layer::DequantizePicture { .. } => DatumType::F32,
        }
    }

    fn out_shape(&self, shape: &[TDim]) -> TractResult<TVec<TDim>> {
        let picture = || -> TractResult<[usize; 3]> {
            ensure!(shape.len() == 4, "a picture of shape {shape:?}");
            Ok([shape[1].to_usize()?, shape[2].to_usize()?, shape[3].to_usize()?])
        };
        let with = |dims: [usize; 3]| std::iter::once(shape[0].clone()).chain(dims.map(TDim::from)).collect();
        let product = |depth: usize, n_columns: usize| -> TractResult<TVec<TDim>> {
            let Some((found, rows)) = shape.split_last() else { bail!("a product with a scalar") };
            ensure!(*found == depth.to_dim(), "rows of {found} for a depth of {depth}");
            Ok(rows.iter().cloned().chain([n_columns.to_dim()]).collect())
        };
        Ok(match &*self.0 {
            Layer::Convolve(convolution) => {
                with(convolution.out_shape(picture()?).map_err(|why| anyhow!(why))?)
            }
            Layer::Multiply(dense) => product(dense.depth(), dense.n_columns())?,
            Layer::MultiplyRows(rows) => product(rows.depth(), rows.n_columns())?,
            Layer::Attend { .. } => {
                ensure!(shape.len() == 4, "queries of shape {shape:?}");
                [0, 2, 1, 3].map(|axis| shape[axis].clone()).into_iter().collect()
            }
            Layer::QuantizeRows(_) => shape.into(),
            Layer::QuantizePicture(_) => {
                let [n_channels, height, width] = picture()?;
                with([height, width, stored_channels(n_channels)])
            }
            Layer::DequantizePicture { n_channels, .. } => {
                let [height, width, n_stored] = picture()?;
                ensure!(n_stored == stored_channels(*n_channels), "{n_stored} channels for {n_channels}");
                with([*n_channels, height, width])
            }
        })
    }

    /// Runs the layer on the slices of one picture, or of all rows.
    fn run(
        &self,
        inputs: &[PlainView<'_>],
        shapes: &[&[usize]],
        out: &mut PlainViewMut<'_>,
    ) -> TractResult<()> {
        let shape = shapes[0];
        let executor = current_tract_executor();
        let pool = match &executor {
            Executor::MultiThread(pool) => Some(&**pool),
            _ => None,
        };
        // Pictures are taken one by one; a batch of none has none.
        let n = shape.first().copied().unwrap_or(1).max(1);
        match &*self.0 {
            Layer::Multiply(dense) => {
                let (rows, out) = (inputs[0].as_slice::<u8>()?, out.as_slice_mut::<f32>()?);
                dense.run(rows, pool, out).map_err(|why| anyhow!(why))?;
            }
            Layer::MultiplyRows(product) => {
                let (rows, out) = (inputs[0].as_slice::<f32>()?, out.as_slice_mut::<f32>()?);
                product.run(rows, pool, out).map_err(|why| anyhow!(why))?;
            }
            Layer::Attend { isa, scale, rows } => {
                let attention = attention_of(inputs, shapes, *scale, *rows)?;
                attend(*isa, &attention, out.as_slice_mut::<f32>()?);
            }
            Layer::QuantizeRows(quantization) => {
                steps::quantize(inputs[0].as_slice::<f32>()?, *quantization, out.as_slice_mut::<u8>()?);
            }
            Layer::Convolve(convolution) => {
                let (pictures, out) = (inputs[0].as_slice::<u8>()?, out.as_slice_mut::<u8>()?);
                let others = inputs.get(1).map(|others| others.as_slice::<u8>()).transpose()?;
                ensure!(others.is_none_or(|others| others.len() == out.len()), "pictures of two shapes");
                let (len, out_len) = (pictures.len() / n, out.len() / n);
                for idx in 0..n {
                    let other = others.map(|others| &others[idx * out_len..][..out_len]);
                    convolution
                        .run(
                            &pictures[idx * len..][..len],
                            [shape[1], shape[2], shape[3]],
                            other,
                            pool,
                            &mut out[idx * out_len..][..out_len],
                        )
                        .map_err(|why| anyhow!(why))?;
                }
            }
            Layer::QuantizePicture(quantization) => {
                let (pictures, out) = (inputs[0].as_slice::<f32>()?, out.as_slice_mut::<u8>()?);
                let (len, out_len) = ((pictures.len() / n).max(1), (out.len() / n).max(1));
                for (picture, out) in pictures.chunks(len).zip(out.chunks_mut(out_len)) {
                    steps::quantize_picture(picture, [shape[1], shape[2], shape[3]], *quantization, out);
                }
            }
            Layer::DequantizePicture { quantization, n_channels } => {
                let (pictures, out) = (inputs[0].as_slice::<u8>()?, out.as_slice_mut::<f32>()?);
                let (len, out_len) = ((pictures.len() / n).max(1), (out.len() / n).max(1));
                for (picture, out) in pictures.chunks(len).zip(out.chunks_mut(out_len)) {
                    steps::dequantize_picture(picture, [*n_channels, shape[1], shape[2]], *quantization, out);
                }
            }
        }
        Ok(())
    }
}

/// Queries, keys, values and perhaps a mask as they lie in the inputs.
fn attention_of<'v>(
    inputs: &'v [PlainView<'_>],
    shapes: &[&[usize]],
    scale: f32,
    rows: bool,
) -> TractResult<Attention<'v>> {
    ensure!(
        inputs.len() >= 3 && shapes[..3].iter().all(|shape| shape.len() == 4),
        "attention over {shapes:?}"
    );
    let &[n_sequences, n_heads, n_queries, dim] = shapes[0] else { bail!("queries of {:?}", shapes[0]) };
    let n_keys = shapes[2][2];
    let keys = if rows { [n_sequences, n_keys, n_heads, dim] } else { [n_sequences, n_heads, n_keys, dim] };
    let values = [n_sequences, n_heads, n_keys, dim];
    ensure!(shapes[1] == keys && shapes[2] == values, "attention over {shapes:?}");
    let mask = inputs.get(3).map(|mask| mask.as_slice::<f32>()).transpose()?;
    let is_wide = mask.is_none_or(|mask| mask.len() == n_queries * n_keys);
    ensure!(is_wide, "a mask that is not [{n_queries}, {n_keys}]");
    let heads = |idx: usize, n: usize| -> TractResult<Heads<'v>> {
        let data = inputs[idx].as_slice::<f32>()?;
        Ok(Heads { data, sequence: n_heads * n * dim, head: n * dim, row: dim })
    };
    let keys =
        if rows { Heads { head: dim, row: n_heads * dim, ..heads(1, n_keys)? } } else { heads(1, n_keys)? };
    let sizes = Sizes { n_sequences, n_heads, n_queries, n_keys, dim };
    Ok(Attention { queries: heads(0, n_queries)?, keys, values: heads(2, n_keys)?, mask, scale, sizes })
}

impl Op for Fused {
    fn name(&self) -> StaticName {
        match *self.0 {
            Layer::Convolve(_) => quantized::CONVOLVE,
            Layer::Multiply(_) => quantized::MULTIPLY,
            Layer::MultiplyRows(_) => quantized::MULTIPLY_ROWS,
            Layer::Attend { .. } => quantized::ATTEND,
            Layer::QuantizePicture(_) => quantized::QUANTIZE_PICTURE,
            Layer::QuantizeRows(_) => quantized::QUANTIZE_ROWS,
            Layer::DequantizePicture { .. } => quantized::DEQUANTIZE_PICTURE,
        }
        .into()
    }

    op_as_typed_op!();
}

impl EvalOp for Fused {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        ensure!(!inputs.is_empty(), "no input");
        let shape = inputs[0].shape();
        let dims: TVec<TDim> = shape.iter().map(|dim| dim.to_dim()).collect();
        let out_shape: TVec<usize> =
            self.out_shape(&dims)?.iter().map(|dim| dim.to_usize()).collect::<Result<_, _>>()?;
        let mut out = Tensor::zero_dt(self.out_type(), &out_shape)?;
        let views: TVec<PlainView<'_>> =
            inputs.iter().map(|input| input.try_as_plain_ram()).collect::<TractResult<_>>()?;
        let shapes: TVec<&[usize]> = inputs.iter().map(|input| input.shape()).collect();
        self.run(&views, &shapes, &mut out.try_as_plain_ram_mut()?)?;
        Ok(tvec!(out.into_tvalue()))
    }
}

impl TypedOp for Fused {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(!inputs.is_empty(), "no input");
        let shape: TVec<TDim> = inputs[0].shape.iter().cloned().collect();
        let out_shape = self.out_shape(&shape)?;
        if let (Layer::Convolve(_), Some(other)) = (&*self.0, inputs.get(1)) {
            ensure!(other.shape.iter().eq(&out_shape), "the sum of {out_shape:?} and {:?}", other.shape);
        }
        Ok(tvec!(self.out_type().fact(out_shape)))
    }

    as_op!();
}

impl Expansion for Fused {
    fn name(&self) -> StaticName {
        Op::name(self)
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(
            !inputs.is_empty() && outputs.len() == 1,
            "{} inputs, {} outputs",
            inputs.len(),
            outputs.len()
        );
        s.equals(&outputs[0].datum_type, self.out_type())?;
        s.given(&inputs[0].shape, move |s, shape| s.equals(&outputs[0].shape, self.out_shape(&shape)?))
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}
