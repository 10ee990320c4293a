//! Layers with stored f32 weights, which are packed when their tensor is at hand.

use std::sync::Arc;

use tract_onnx::tract_hir::internal::*;

use super::attributes::{float, floats};
use super::fused::{Fused, Layer};
use crate::floats::product::{FloatProduct, Patches};
use crate::floats::{CONVOLVE_PATCHES, MULTIPLY_FLOATS};
use crate::onnx::{attribute_int, pb};

/// What a node says of such a layer but for the weights, which are its second input.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unpacked {
    form: Form,
    bias: Vec<f32>,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Product { transposed: bool, low: f32 },
    Patches,
}

// No number in it is none: they were stored in a graph, or are infinite.
impl Eq for Unpacked {}

impl Unpacked {
    pub(super) fn of(node: &pb::NodeProto) -> TractResult<Unpacked> {
        let form = if node.op_type == CONVOLVE_PATCHES {
            Form::Patches
        } else {
            Form::Product {
                transposed: attribute_int(node, "transposed") == Some(1),
                low: float(node, "low")?,
            }
        };
        Ok(Unpacked { form, bias: floats(node, "offsets")? })
    }

    fn pack(&self, weights: &Tensor) -> TractResult<Layer> {
        let (view, n_columns) = (weights.try_as_plain_ram()?, self.bias.len());
        let values = view.as_slice::<f32>()?;
        let product = |depth: usize, low: f32, transposed: bool| -> TractResult<FloatProduct> {
            ensure!(values.len() == depth * n_columns, "weights of {:?} for {n_columns}", weights.shape());
            Ok(FloatProduct::new(depth, self.bias.clone(), low, |column, k| {
                values[if transposed { column * depth + k } else { k * n_columns + column }]
            }))
        };
        Ok(match (&self.form, weights.shape()) {
            (Form::Product { transposed, low }, &[a, b]) => {
                let depth = if *transposed { b } else { a };
                Layer::MultiplyFloats(product(depth, *low, *transposed)?)
            }
            (Form::Patches, &[_, n_channels, height, width]) => Layer::ConvolvePatches(Patches {
                product: product(n_channels * height * width, f32::NEG_INFINITY, true)?,
                n_channels,
                window: [height, width],
            }),
            (_, shape) => bail!("weights of {shape:?}"),
        })
    }
}

impl Expansion for Unpacked {
    fn name(&self) -> StaticName {
        match self.form {
            Form::Product { .. } => MULTIPLY_FLOATS,
            Form::Patches => CONVOLVE_PATCHES,
        }
        .into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, DatumType::F32)?;
        s.given_2(&inputs[0].shape, &inputs[1].shape, move |s, shape, weights| {
            let n_columns = self.bias.len().to_dim();
            let out: TVec<TDim> = match (&self.form, &shape[..], &weights[..]) {
                (Form::Product { .. }, [rows @ .., _], _) => {
                    rows.iter().cloned().chain([n_columns]).collect()
                }
                (Form::Patches, [n, _, height, width], [_, _, down, across]) => tvec!(
                    n.clone(),
                    n_columns,
                    height.clone() / down.to_usize()?,
                    width.clone() / across.to_usize()?
                ),
                _ => bail!("{shape:?} with weights of {weights:?}"),
            };
            s.equals(&outputs[0].shape, out)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let weights = model.outlet_fact(inputs[1])?.konst.clone();
        let weights = weights.with_context(|| format!("{prefix}: weights that are not stored"))?;
        model.wire_node(prefix, Fused(Arc::new(self.pack(&weights)?)), &inputs[..1])
    }
}
