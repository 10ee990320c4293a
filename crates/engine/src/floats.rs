//! Layers of transformers on f32, and how they are found in an ONNX graph.
//!
//! An exporter writes attention, normalization and activations as chains of small operators. [`fuse`] replaces such a chain
//! by one node that computes the same in one pass, and products with stored weights, where there is a kernel for them, by
//! nodes that have the weights packed.

pub(crate) mod elementwise;
mod fuse;
#[cfg(target_arch = "x86_64")]
pub(crate) mod product;

pub(crate) use fuse::{ATTEND, NORMALIZE, SWISH, fuse};
#[cfg(target_arch = "x86_64")]
pub(crate) use fuse::{CONVOLVE_PATCHES, MULTIPLY_FLOATS};

#[cfg(test)]
mod tests;
