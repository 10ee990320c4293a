//! The networks that are trained here, and nothing about how.
//!
//! Shapes are written in comments as (B, S, C): batch, sequence, channels.

mod decoder;
mod image_head;
mod query_adapter;
mod text_encoder;
mod transformer;
mod transformer_adapter;

pub use decoder::{AdapterConfig, Decoder, DecoderConfig};
pub use image_head::{GRID_CHANNELS, GRID_SIDE, ImageHead, ImageHeadConfig, SCORE_SCALE};
pub use query_adapter::QueryAdapter;
pub use text_encoder::{TextEncoder, TextEncoderConfig};
pub use transformer::Block;
pub use transformer_adapter::TransformerAdapter;

use burn::tensor::Tensor;

/// Scales every row to unit length; a zero row stays zero.
pub fn normalize<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let norm = x.clone().square().sum_dim(D - 1).sqrt().clamp_min(1e-6);
    x / norm
}
