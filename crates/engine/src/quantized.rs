//! Layers on u8 activations and i8 weights, and how they are found in an ONNX graph.
//!
//! A quantized graph says what it computes with standard operators: `DequantizeLinear`, a convolution or product in f32,
//! `QuantizeLinear`. [`fuse`] replaces such groups by nodes of our own that compute the same in integers, with pictures
//! as `[height, width, channels]`. What it does not recognize stays as it is, and is computed as the graph says.
//!
//! Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
//! CVPR 2018, section 2, with f32 instead of fixed-point multipliers.

pub(crate) mod convolution;
pub(crate) mod dense;
mod fuse;
pub(crate) mod rows;
pub(crate) mod sink;
#[cfg(any(feature = "ort", test))]
mod spelled;
pub(crate) mod steps;

pub(crate) use fuse::{
    CONVOLVE, DEQUANTIZE_PICTURE, MULTIPLY, MULTIPLY_ROWS, QUANTIZE_PICTURE, QUANTIZE_ROWS, fuse,
};
#[cfg(any(feature = "ort", test))]
pub(crate) use spelled::spell;

/// How u8 stands for f32: `(u8 - zero) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quantization {
    pub scale: f32,
    pub zero: u8,
}

/// Channels that a picture is stored with: activations are read by fours.
pub(crate) fn stored_channels(n_channels: usize) -> usize {
    n_channels.next_multiple_of(crate::kernels::product::QUAD)
}

/// One value for each column, and zeros for the columns that fill the last block.
fn filled(columns: &[f32]) -> Vec<f32> {
    let mut filled = columns.to_vec();
    filled.resize(columns.len().next_multiple_of(crate::kernels::product::BLOCK), 0.0);
    filled
}

#[cfg(test)]
mod tests;
