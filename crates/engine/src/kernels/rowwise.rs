//! Loops that see one row, or one element, for itself.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instruction sets that the processor was asked for")
)]

use super::exponential::{exp, sum_by};
use super::rounding::round;
use super::{Isa, compiled_for};

/// What these loops take for an element, roughly.
pub(crate) const ELEMENT_NS: f32 = 0.25;
/// What u8 stands for zero in a quantized row.
pub(crate) const ZERO: u8 = 128;
/// Steps on either side of it.
pub(crate) const N_STEPS: f32 = 127.0;
/// Elements of the widest register.
const LANES: usize = 16;

/// A factor and an offset for each element of a normalized row, and what is added to its variance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Normalization {
    pub factors: Vec<f32>,
    pub offsets: Vec<f32>,
    pub epsilon: f32,
}

/// Rows with a mean of 0 and a variance of 1, times the factors, plus the offsets.
pub(crate) fn normalize(isa: Isa, rows: &[f32], by: &Normalization, out: &mut [f32]) {
    compiled_for!(isa, all_normalized, rows: &[f32], by: &Normalization, out: &mut [f32]);
}

#[inline(always)]
fn all_normalized(rows: &[f32], by: &Normalization, out: &mut [f32]) {
    let len = by.factors.len().max(1);
    for (row, out) in rows.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
        let mean = sum_by(row, |x| x) / len as f32;
        let variance = sum_by(row, |x| (x - mean) * (x - mean)) / len as f32;
        let scale = (variance + by.epsilon).sqrt().recip();
        let of_element = by.factors.iter().zip(&by.offsets);
        for ((out, value), (factor, offset)) in out.iter_mut().zip(row).zip(of_element) {
            *out = (value - mean) * scale * factor + offset;
        }
    }
}

/// `x * sigmoid(beta * x)` of each element.
pub(crate) fn swish(isa: Isa, values: &[f32], beta: f32, out: &mut [f32]) {
    compiled_for!(isa, swish_all, values: &[f32], beta: f32, out: &mut [f32]);
}

#[inline(always)]
fn swish_all(values: &[f32], beta: f32, out: &mut [f32]) {
    for (out, value) in out.iter_mut().zip(values) {
        let x = beta * value;
        // Of what is at most zero, where the exponential is precise and ends well.
        let power = exp(-x.abs());
        let sigmoid = if x < 0.0 { power } else { 1.0 } / (1.0 + power);
        *out = value * sigmoid;
    }
}

/// Quantizes rows of one length, each by a scale of its own, which is NaN for a row that holds what is no number.
pub(crate) fn quantize_rows(isa: Isa, rows: &[f32], bytes: &mut [u8], scales: &mut [f32]) {
    compiled_for!(isa, all_quantized, rows: &[f32], bytes: &mut [u8], scales: &mut [f32]);
}

#[inline(always)]
fn all_quantized(rows: &[f32], bytes: &mut [u8], scales: &mut [f32]) {
    let depth = (rows.len() / scales.len().max(1)).max(1);
    let rows = rows.chunks_exact(depth).zip(bytes.chunks_exact_mut(depth));
    for ((row, bytes), scale) in rows.zip(scales) {
        *scale = quantize(row, bytes);
    }
}

/// Quantizes one row; tells its scale.
#[inline(always)]
fn quantize(row: &[f32], bytes: &mut [u8]) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let (mut peaks, mut broken) = ([0.0f32; LANES], [0.0f32; LANES]);
    for chunk in chunks {
        for lane in 0..LANES {
            let size = chunk[lane].abs();
            peaks[lane] = if size > peaks[lane] { size } else { peaks[lane] };
            broken[lane] += chunk[lane] * 0.0;
        }
    }
    for value in rest {
        peaks[0] = if value.abs() > peaks[0] { value.abs() } else { peaks[0] };
        broken[0] += value * 0.0;
    }
    let peak = peaks.into_iter().fold(0.0, f32::max);
    let scale = if peak > 0.0 { peak / N_STEPS } else { 1.0 };
    let steps = scale.recip();
    for (byte, value) in bytes.iter_mut().zip(row) {
        *byte = round(value * steps + f32::from(ZERO), 0.0);
    }
    scale + broken.into_iter().sum::<f32>()
}
