//! Our own layers as operators of tract.

use std::sync::Arc;

use tract_core::tract_linalg::multithread::{Executor, current_tract_executor};
use tract_onnx::Onnx;
use tract_onnx::tract_hir::internal::*;

use super::attributes::{
    attention, beta, channels, convolution, dense, normalization, quantization, row_product,
};
use crate::floats;
use crate::floats::elementwise::{Normalize, swish};
#[cfg(target_arch = "x86_64")]
use crate::floats::product::{FloatProduct, Patches};
use crate::kernels::Isa;
use crate::kernels::attention::{Attention, Heads, PRODUCTS_PER_NS, Sizes, attend};
use crate::quantized::convolution::Convolution;
use crate::quantized::dense::Dense;
use crate::quantized::rows::RowProduct;
use crate::quantized::{self, Quantization, steps, stored_channels};
use crate::share::share_columns;

/// Makes tract know the nodes of [`quantized::fuse`] and [`floats::fuse`].
pub(super) fn register(onnx: &mut Onnx) {
    let register = &mut onnx.op_register;
    register.insert(quantized::CONVOLVE, |_, node| Ok(operator(Layer::Convolve(convolution(node)?))));
    register.insert(quantized::MULTIPLY, |_, node| Ok(operator(Layer::Multiply(dense(node)?))));
    register
        .insert(quantized::MULTIPLY_ROWS, |_, node| Ok(operator(Layer::MultiplyRows(row_product(node)?))));
    register.insert(floats::ATTEND, |_, node| Ok(operator(attention(node)?)));
    register.insert(floats::NORMALIZE, |_, node| Ok(operator(Layer::Normalize(normalization(node)?))));
    register
        .insert(floats::SWISH, |_, node| Ok(operator(Layer::Swish { isa: Isa::best(), beta: beta(node)? })));
    #[cfg(target_arch = "x86_64")]
    for name in [floats::MULTIPLY_FLOATS, floats::CONVOLVE_PATCHES] {
        register.insert(name, |_, node| Ok((expand(super::product::Unpacked::of(node)?), vec![])));
    }
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
    #[cfg(target_arch = "x86_64")]
    MultiplyFloats(FloatProduct),
    #[cfg(target_arch = "x86_64")]
    ConvolvePatches(Patches),
    Attend {
        isa: Isa,
        scale: f32,
        /// Which of queries, keys and values lie in rows: `[N, R, H, D]` instead of `[N, H, R, D]`.
        rows: [bool; 3],
    },
    Normalize(Normalize),
    Swish {
        isa: Isa,
        beta: f32,
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
pub(super) struct Fused(pub(super) Arc<Layer>);

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
            #[cfg(target_arch = "x86_64")]
            Layer::MultiplyFloats(_) | Layer::ConvolvePatches(_) => DatumType::F32,
            Layer::Multiply(_)
            | Layer::MultiplyRows(_)
            | Layer::Attend { .. }
            | Layer::Normalize(_)
            | Layer::Swish { .. }
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
            #[cfg(target_arch = "x86_64")]
            Layer::MultiplyFloats(floats) => product(floats.depth(), floats.n_columns())?,
            #[cfg(target_arch = "x86_64")]
            Layer::ConvolvePatches(patches) => {
                let [rows, columns] = patches.grid(picture()?).map_err(|why| anyhow!(why))?;
                with([patches.product.n_columns(), rows, columns])
            }
            Layer::Attend { rows: [query_rows, ..], .. } => {
                ensure!(shape.len() == 4, "queries of shape {shape:?}");
                let axes = if *query_rows { [0, 1, 2, 3] } else { [0, 2, 1, 3] };
                axes.map(|axis| shape[axis].clone()).into_iter().collect()
            }
            Layer::QuantizeRows(_) | Layer::Normalize(_) | Layer::Swish { .. } => shape.into(),
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
        let n = shape.first().copied().unwrap_or(1);
        let picture = || [shape[1], shape[2], shape[3]];
        match &*self.0 {
            Layer::Multiply(dense) => {
                dense.run(inputs[0].as_slice::<u8>()?, pool, out.as_slice_mut::<f32>()?)
            }
            Layer::MultiplyRows(product) => {
                product.run(inputs[0].as_slice::<f32>()?, pool, out.as_slice_mut::<f32>()?)
            }
            #[cfg(target_arch = "x86_64")]
            Layer::MultiplyFloats(product) => {
                product.run(inputs[0].as_slice::<f32>()?, pool, out.as_slice_mut::<f32>()?)
            }
            #[cfg(target_arch = "x86_64")]
            Layer::ConvolvePatches(patches) => {
                by_picture(n, inputs[0].as_slice::<f32>()?, out.as_slice_mut::<f32>()?, |_, pixels, out| {
                    patches.run(pixels, picture(), pool, out)
                })
            }
            Layer::Attend { isa, scale, rows } => {
                let attention = attention_of(inputs, shapes, *scale, *rows)?;
                let Sizes { n_heads, n_keys, dim, .. } = attention.sizes;
                let out = out.as_slice_mut::<f32>()?;
                let element_ns = 2.0 * n_keys as f32 / PRODUCTS_PER_NS;
                share_columns(pool, out, n_heads * dim, dim, element_ns, |first, out| {
                    attend(*isa, &attention, first / dim, out);
                });
                Ok(())
            }
            Layer::Normalize(normalize) => {
                normalize.run(inputs[0].as_slice::<f32>()?, pool, out.as_slice_mut::<f32>()?)
            }
            Layer::Swish { isa, beta } => {
                swish(*isa, inputs[0].as_slice::<f32>()?, *beta, pool, out.as_slice_mut::<f32>()?);
                Ok(())
            }
            Layer::QuantizeRows(quantization) => {
                steps::quantize(inputs[0].as_slice::<f32>()?, *quantization, out.as_slice_mut::<u8>()?);
                Ok(())
            }
            Layer::Convolve(convolution) => {
                let out = out.as_slice_mut::<u8>()?;
                let others = inputs.get(1).map(|others| others.as_slice::<u8>()).transpose()?;
                ensure!(others.is_none_or(|others| others.len() == out.len()), "pictures of two shapes");
                by_picture(n, inputs[0].as_slice::<u8>()?, out, |idx, pixels, out| {
                    let other = others.map(|others| &others[idx * out.len()..][..out.len()]);
                    convolution.run(pixels, picture(), other, pool, out)
                })
            }
            Layer::QuantizePicture(quantization) => {
                by_picture(n, inputs[0].as_slice::<f32>()?, out.as_slice_mut::<u8>()?, |_, pixels, out| {
                    steps::quantize_picture(pixels, picture(), *quantization, out);
                    Ok(())
                })
            }
            Layer::DequantizePicture { quantization, n_channels } => {
                let shape = [*n_channels, shape[1], shape[2]];
                by_picture(n, inputs[0].as_slice::<u8>()?, out.as_slice_mut::<f32>()?, |_, pixels, out| {
                    steps::dequantize_picture(pixels, shape, *quantization, out);
                    Ok(())
                })
            }
        }
        .map_err(|why| anyhow!(why))
    }
}

/// Calls `work` with each of `n` pictures, its number, and the part of `out` that is its own.
fn by_picture<T, U>(
    n: usize,
    pictures: &[T],
    out: &mut [U],
    mut work: impl FnMut(usize, &[T], &mut [U]) -> Result<(), String>,
) -> Result<(), String> {
    // A batch of none has none.
    let [len, out_len] = [pictures.len(), out.len()].map(|len| len / n.max(1));
    let out = out.chunks_exact_mut(out_len.max(1));
    pictures
        .chunks_exact(len.max(1))
        .zip(out)
        .enumerate()
        .try_for_each(|(idx, (pixels, out))| work(idx, pixels, out))
}

/// Queries, keys, values and perhaps a mask as they lie in the inputs.
fn attention_of<'v>(
    inputs: &'v [PlainView<'_>],
    shapes: &[&[usize]],
    scale: f32,
    rows: [bool; 3],
) -> TractResult<Attention<'v>> {
    ensure!(
        inputs.len() >= 3 && shapes[..3].iter().all(|shape| shape.len() == 4),
        "attention over {shapes:?}"
    );
    // In the order [N, H, R, D].
    let of = |idx: usize| -> [usize; 4] {
        let order = if rows[idx] { [0, 2, 1, 3] } else { [0, 1, 2, 3] };
        order.map(|axis| shapes[idx][axis])
    };
    let ([n_sequences, n_heads, n_queries, dim], n_keys) = (of(0), of(2)[2]);
    ensure!([of(1), of(2)] == [[n_sequences, n_heads, n_keys, dim]; 2], "attention over {shapes:?}");
    let mask = inputs.get(3).map(|mask| mask.as_slice::<f32>()).transpose()?;
    let is_wide = mask.is_none_or(|mask| mask.len() == n_queries * n_keys);
    ensure!(is_wide, "a mask that is not [{n_queries}, {n_keys}]");
    let heads = |idx: usize| -> TractResult<Heads<'v>> {
        let [_, n_heads, n, dim] = of(idx);
        let (head, row) = if rows[idx] { (dim, n_heads * dim) } else { (n * dim, dim) };
        Ok(Heads { data: inputs[idx].as_slice::<f32>()?, sequence: n_heads * n * dim, head, row })
    };
    let sizes = Sizes { n_sequences, n_heads, n_queries, n_keys, dim };
    Ok(Attention { queries: heads(0)?, keys: heads(1)?, values: heads(2)?, mask, scale, sizes })
}

impl Op for Fused {
    fn name(&self) -> StaticName {
        match *self.0 {
            Layer::Convolve(_) => quantized::CONVOLVE,
            Layer::Multiply(_) => quantized::MULTIPLY,
            Layer::MultiplyRows(_) => quantized::MULTIPLY_ROWS,
            #[cfg(target_arch = "x86_64")]
            Layer::MultiplyFloats(_) => floats::MULTIPLY_FLOATS,
            #[cfg(target_arch = "x86_64")]
            Layer::ConvolvePatches(_) => floats::CONVOLVE_PATCHES,
            Layer::Attend { .. } => floats::ATTEND,
            Layer::Normalize(_) => floats::NORMALIZE,
            Layer::Swish { .. } => floats::SWISH,
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
