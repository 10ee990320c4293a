//! What becomes of the sums of a layer: u8 for the next layer, or f32.

use crate::kernels::product::{BLOCK, Sink};

/// Added to a value between 0 and 2^22, it leaves the nearest integer (ties to even) in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// Multiplies each column's sum by its factor, adds its offset, and stores the result between `low` and 255.
pub(crate) struct Requantize<'a> {
    /// `[row][column]`.
    pub out: &'a mut [u8],
    pub n_columns: usize,
    /// These two fill the last block.
    pub factors: &'a [f32],
    pub offsets: &'a [f32],
    pub low: f32,
}

impl Sink for Requantize<'_> {
    #[inline(always)]
    fn put(&mut self, row: usize, column: usize, sums: &[i32; BLOCK]) {
        let scaled = scaled(sums, self.factors, self.offsets, column);
        let n = (self.n_columns - column).min(BLOCK);
        store_rounded(&scaled, self.low, &mut self.out[row * self.n_columns + column..][..n]);
    }
}

/// The same with another picture of the same shape added, times `share`, before it is stored.
pub(crate) struct RequantizeSum<'a> {
    pub requantize: Requantize<'a>,
    pub other: &'a [u8],
    pub share: f32,
}

impl Sink for RequantizeSum<'_> {
    #[inline(always)]
    fn put(&mut self, row: usize, column: usize, sums: &[i32; BLOCK]) {
        let to = &mut self.requantize;
        let mut scaled = scaled(sums, to.factors, to.offsets, column);
        let n = (to.n_columns - column).min(BLOCK);
        let at = row * to.n_columns + column;
        if let Some(other) = self.other[at..][..n].first_chunk::<BLOCK>() {
            for (value, other) in scaled.iter_mut().zip(other) {
                *value += f32::from(*other) * self.share;
            }
        } else {
            for (value, other) in scaled.iter_mut().zip(&self.other[at..][..n]) {
                *value += f32::from(*other) * self.share;
            }
        }
        store_rounded(&scaled, to.low, &mut to.out[at..][..n]);
    }
}

/// Multiplies each column's sum by its factor, adds its offset, and stores the result, at least `low`, as f32.
pub(crate) struct Rescale<'a> {
    /// `[row][column]`.
    pub out: &'a mut [f32],
    pub n_columns: usize,
    /// These two fill the last block.
    pub factors: &'a [f32],
    pub offsets: &'a [f32],
    pub low: f32,
}

impl Sink for Rescale<'_> {
    #[inline(always)]
    fn put(&mut self, row: usize, column: usize, sums: &[i32; BLOCK]) {
        let mut scaled = scaled(sums, self.factors, self.offsets, column);
        for value in &mut scaled {
            *value = at_least(*value, self.low);
        }
        let n = (self.n_columns - column).min(BLOCK);
        store(&scaled, &mut self.out[row * self.n_columns + column..][..n]);
    }
}

#[inline(always)]
fn scaled(sums: &[i32; BLOCK], factors: &[f32], offsets: &[f32], column: usize) -> [f32; BLOCK] {
    let (factors, offsets) = (&factors[column..][..BLOCK], &offsets[column..][..BLOCK]);
    let mut scaled = [0.0; BLOCK];
    for i in 0..BLOCK {
        scaled[i] = sums[i] as f32 * factors[i] + offsets[i];
    }
    scaled
}

#[inline(always)]
fn store_rounded(scaled: &[f32; BLOCK], low: f32, out: &mut [u8]) {
    let mut rounded = [0; BLOCK];
    for i in 0..BLOCK {
        rounded[i] = round(scaled[i], low);
    }
    store(&rounded, out);
}

/// The first of a block's columns that `out` has room for: a whole block in one instruction.
#[inline(always)]
pub(super) fn store<T: Copy>(block: &[T; BLOCK], out: &mut [T]) {
    if let Some(out) = out.first_chunk_mut::<BLOCK>() {
        *out = *block;
    } else {
        out.copy_from_slice(&block[..out.len()]);
    }
}

/// The nearest integer between `low` and 255, ties to even; `low` for what is not a number.
#[inline(always)]
pub(crate) fn round(value: f32, low: f32) -> u8 {
    let value = at_least(value, low);
    let value = if value < 255.0 { value } else { 255.0 };
    // Cut to the low bits on purpose.
    (value + ROUND).to_bits() as u8
}

/// One instruction where `f32::max` needs three for a number that is none.
#[inline(always)]
fn at_least(value: f32, low: f32) -> f32 {
    if value > low { value } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_even_and_stays_in_range() {
        for (value, expected) in
            [(0.5, 0), (1.5, 2), (2.5, 2), (3.49, 3), (254.5, 254), (254.51, 255), (1e9, 255), (-3.0, 0)]
        {
            assert_eq!(round(value, 0.0), expected, "{value}");
        }
        assert_eq!(round(3.0, 7.0), 7);
        assert_eq!(round(f32::NAN, 7.0), 7);
        assert_eq!(round(f32::INFINITY, 7.0), 255);
    }
}
