//! From trained networks to ONNX graphs, and from those to a bundle.

pub mod adapter;
pub mod builder;
pub mod decoder;
pub mod image;
pub mod text;
mod transformer;

use burn::tensor::Tensor;

/// Row-major elements of a parameter.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> anyhow::Result<Vec<f32>> {
    tensor.try_into_vec_as::<f32>().map_err(|e| anyhow::anyhow!("read parameter: {e:?}"))
}
