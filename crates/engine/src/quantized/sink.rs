//! What becomes of the sums of a layer: u8 for the next layer, or f32.

use crate::kernels::columns::{Columns, store};
use crate::kernels::product::{BLOCK, Sink};
use crate::kernels::rounding::{at_least, round};

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
    pub out: Columns<'a>,
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
        store(&scaled, self.out.of_row(row, column));
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
