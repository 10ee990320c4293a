//! Between f32 and u8, and between the two orders of a picture's axes.

use super::{Quantization, stored_channels};
use crate::kernels::rounding::round;

/// Quantizes `values` one by one (ONNX `QuantizeLinear`: to the nearest, ties to even).
pub(crate) fn quantize(values: &[f32], quantization: Quantization, out: &mut [u8]) {
    let Quantization { scale, zero } = quantization;
    for (out, value) in out.iter_mut().zip(values) {
        *out = round(value / scale + f32::from(zero), 0.0);
    }
}

/// Quantizes a picture of `[channels, height, width]` into `[height, width, stored channels]`.
///
/// # Panics
/// When a slice does not fill its shape.
pub(crate) fn quantize_picture(
    picture: &[f32],
    [n_channels, height, width]: [usize; 3],
    quantization: Quantization,
    out: &mut [u8],
) {
    let n_stored = stored_channels(n_channels);
    assert_eq!([picture.len(), out.len()], [n_channels, n_stored].map(|n| n * height * width));
    let Quantization { scale, zero } = quantization;
    if n_stored > n_channels {
        out.fill(0);
    }
    for (c, plane) in picture.chunks_exact((height * width).max(1)).enumerate() {
        for (pixel, value) in out.chunks_exact_mut(n_stored).zip(plane) {
            pixel[c] = round(value / scale + f32::from(zero), 0.0);
        }
    }
}

/// Turns a picture of `[height, width, stored channels]` into f32 of `[channels, height, width]`.
///
/// # Panics
/// When a slice does not fill its shape.
pub(crate) fn dequantize_picture(
    picture: &[u8],
    [n_channels, height, width]: [usize; 3],
    quantization: Quantization,
    out: &mut [f32],
) {
    let n_stored = stored_channels(n_channels);
    assert_eq!([out.len(), picture.len()], [n_channels, n_stored].map(|n| n * height * width));
    let Quantization { scale, zero } = quantization;
    for (c, plane) in out.chunks_exact_mut((height * width).max(1)).enumerate() {
        for (value, pixel) in plane.iter_mut().zip(picture.chunks_exact(n_stored)) {
            *value = f32::from(i16::from(pixel[c]) - i16::from(zero)) * scale;
        }
    }
}
