//! One product with stored i8 weights on f32 rows, each quantized for itself as it comes.
//!
//! A row's scale follows its own largest element, so that what a row becomes does not depend on the rows beside it.

use std::cell::Cell;

use rayon::ThreadPool;

use super::filled;
use crate::kernels::Isa;
use crate::kernels::columns::{Columns, store};
use crate::kernels::product::{BLOCK, Packed, QUAD, Rows, Sink, multiply};
use crate::kernels::rowwise::{ELEMENT_NS, ZERO, quantize_rows};
use crate::share::{share_columns, share_rows};

thread_local! {
    /// Rows as u8 and their scales, kept for the next product.
    static QUANTIZED: Cell<(Vec<u8>, Vec<f32>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// A product with its weights packed: `[rows, depth] x [depth, columns]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowProduct {
    isa: Isa,
    weights: Packed,
    depth: usize,
    initial: Vec<i32>,
    scales: Vec<f32>,
    bias: Vec<f32>,
    low: f32,
}

impl RowProduct {
    /// Packs the weights that `weight(column, k)` gives, with one scale for each column. The output is at least `low`.
    ///
    /// # Errors
    /// When the depth is no multiple of four, or the numbers of scales or biases do not fit.
    pub(crate) fn new(
        isa: Isa,
        depth: usize,
        scales: &[f32],
        bias: &[f32],
        low: f32,
        weight: impl Fn(usize, usize) -> i8,
    ) -> Result<RowProduct, String> {
        if depth == 0 || !depth.is_multiple_of(QUAD) || scales.len() != bias.len() {
            return Err(format!("a depth of {depth}, {} scales, {} biases", scales.len(), bias.len()));
        }
        let weights = Packed::new(scales.len(), depth, weight);
        Ok(RowProduct {
            isa,
            depth,
            initial: weights.column_sums().iter().map(|sum| -sum * i32::from(ZERO)).collect(),
            scales: filled(scales),
            bias: filled(bias),
            low,
            weights,
        })
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn n_columns(&self) -> usize {
        self.weights.n_columns()
    }

    /// Multiplies `rows` (`[n, depth]`) into `out` (`[n, columns]`); `pool` shares the columns out.
    ///
    /// # Errors
    /// When a slice does not fill its shape.
    pub(crate) fn run(&self, rows: &[f32], pool: Option<&ThreadPool>, out: &mut [f32]) -> Result<(), String> {
        let n = rows.len() / self.depth;
        if n * self.depth != rows.len() || n * self.n_columns() != out.len() {
            return Err(format!("rows of {} elements for a depth of {}", rows.len(), self.depth));
        }
        // Taken out and not borrowed: whoever waits for other threads may be given other work.
        let (mut bytes, mut row_scales) = QUANTIZED.take();
        // They only grow: to fill anew what is overwritten takes its time.
        if bytes.len() < rows.len() {
            bytes.resize(rows.len(), ZERO);
        }
        row_scales.resize(n, 0.0);
        share_rows(pool, &mut bytes[..rows.len()], &mut row_scales, ELEMENT_NS, |first, bytes, scales| {
            quantize_rows(self.isa, &rows[first * self.depth..][..bytes.len()], bytes, scales);
        });
        let element_ns = self.depth as f32 / self.isa.products_per_ns();
        share_columns(pool, out, self.n_columns(), 2 * BLOCK, element_ns, |first, out| {
            let n_columns = out.n_columns();
            let (factors, offsets) = (&self.scales[first..], &self.bias[first..]);
            let mut to = ScaleRows { out, row_scales: &row_scales, factors, offsets, low: self.low };
            let rows = Rows::dense(&bytes[..n * self.depth], n, self.depth);
            multiply(self.isa, &rows, self.weights.part(first, n_columns), &self.initial[first..], &mut to);
        });
        QUANTIZED.set((bytes, row_scales));
        Ok(())
    }
}

/// Multiplies each sum by the scales of its row and its column, adds the column's offset, and stores at least `low`.
struct ScaleRows<'a> {
    out: Columns<'a>,
    row_scales: &'a [f32],
    factors: &'a [f32],
    offsets: &'a [f32],
    low: f32,
}

impl Sink for ScaleRows<'_> {
    #[inline(always)]
    fn put(&mut self, row: usize, column: usize, sums: &[i32; BLOCK]) {
        let (factors, offsets) = (&self.factors[column..][..BLOCK], &self.offsets[column..][..BLOCK]);
        let scale = self.row_scales[row];
        let mut scaled = [0.0; BLOCK];
        for i in 0..BLOCK {
            let value = sums[i] as f32 * (scale * factors[i]) + offsets[i];
            // Written so that what is no number stays none.
            scaled[i] = if value < self.low { self.low } else { value };
        }
        store(&scaled, self.out.of_row(row, column));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::rowwise::N_STEPS;
    use crate::kernels::tests::Numbers;

    #[test]
    fn products_of_rows_are_near_those_of_f32_whatever_lies_beside_them() {
        let mut numbers = Numbers(8);
        for _ in 0..40 {
            let (n, depth, n_columns) =
                (numbers.between(1, 20), 4 * numbers.between(1, 40), numbers.between(1, 90));
            let rows: Vec<f32> =
                (0..n * depth).map(|_| (numbers.between(0, 2000) as f32 - 1000.0) / 300.0).collect();
            let weights = numbers.weights(depth * n_columns);
            let scales: Vec<f32> = (0..n_columns).map(|_| 1e-3 * numbers.between(1, 9) as f32).collect();
            let bias: Vec<f32> = (0..n_columns).map(|_| numbers.between(0, 9) as f32 - 4.0).collect();
            for isa in Isa::available() {
                let weight = |column: usize, k: usize| weights[k * n_columns + column];
                let product = RowProduct::new(isa, depth, &scales, &bias, f32::NEG_INFINITY, weight).unwrap();
                let mut out = vec![0.0; n * n_columns];
                product.run(&rows, None, &mut out).unwrap();
                for (r, row) in rows.chunks(depth).enumerate() {
                    let peak = row.iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
                    for column in 0..n_columns {
                        let terms = row.iter().enumerate().map(|(k, x)| x * f32::from(weight(column, k)));
                        let expected = scales[column] * terms.sum::<f32>() + bias[column];
                        // Half a step for each element at most.
                        let absolute: f32 = (0..depth).map(|k| f32::from(weight(column, k)).abs()).sum();
                        let most = 0.51 * peak / N_STEPS * scales[column] * absolute + 1e-3;
                        let found = out[r * n_columns + column];
                        assert!((found - expected).abs() <= most, "{isa:?} {found} {expected} {most}");
                    }
                }
                let mut alone = vec![0.0; n_columns];
                product.run(&rows[..depth], None, &mut alone).unwrap();
                assert_eq!(alone, out[..n_columns]);
            }
        }
    }

    #[test]
    fn what_is_no_number_does_not_vanish() {
        let product = RowProduct::new(Isa::best(), 4, &[1.0], &[0.0], 0.0, |_, _| 1).unwrap();
        for broken in [f32::NAN, f32::INFINITY] {
            let mut out = [0.0];
            product.run(&[1.0, broken, 0.0, 0.0], None, &mut out).unwrap();
            assert!(!out[0].is_finite());
        }
        let mut out = [7.0];
        product.run(&[0.0; 4], None, &mut out).unwrap();
        assert_eq!(out, [0.0]);
    }
}
