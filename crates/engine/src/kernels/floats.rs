//! Products of f32 rows with packed f32 weights, by registers of 512 bits. Other processors are served by tract's kernels.
//!
//! Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008, with weights in the
//! part of the matrix that is packed once.
#![expect(unsafe_code, reason = "instruction sets that the processor was asked for")]

use std::arch::x86_64::*;

use super::aligned::Aligned;
use super::avx512;
use super::columns::{Columns, store};

/// Columns that are packed together: what two registers have sums for.
pub(crate) const PANEL: usize = 32;
/// Products that one thread does in a nanosecond, roughly.
pub(crate) const PRODUCTS_PER_NS: f32 = 90.0;
/// Terms of a sum that are added before other columns have their turn: the rows' share of them stays in the cache.
const CHUNK: usize = 384;
/// Rows at a time: two registers of sums for each leave some for two of weights and one of a row's element.
const N_ROWS: usize = 13;

pub(crate) fn is_available() -> bool {
    avx512::is_available()
}

/// Weights of `[depth, columns]` in the order in which they are read:
/// `[depth / CHUNK][column / PANEL][depth % CHUNK][column % PANEL]`, padded with zeros to whole panels.
#[derive(Debug)]
pub(crate) struct PackedFloats {
    n_columns: usize,
    depth: usize,
    values: Aligned<f32>,
}

impl PackedFloats {
    /// Packs the weights that `weight(column, k)` gives.
    pub(crate) fn new(n_columns: usize, depth: usize, weight: impl Fn(usize, usize) -> f32) -> PackedFloats {
        let n_stored = n_columns.next_multiple_of(PANEL);
        let mut values = Aligned::zeros(n_stored * depth);
        for start in (0..depth).step_by(CHUNK) {
            let len = CHUNK.min(depth - start);
            let panels = values[n_stored * start..][..n_stored * len].chunks_exact_mut(PANEL * len);
            for (panel, values) in panels.enumerate() {
                let columns = panel * PANEL..n_columns.min((panel + 1) * PANEL);
                for (k, values) in values.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                    for (column, value) in columns.clone().zip(values) {
                        *value = weight(column, start + k);
                    }
                }
            }
        }
        PackedFloats { n_columns, depth, values }
    }

    pub(crate) fn n_columns(&self) -> usize {
        self.n_columns
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The panel that begins with `column`, of the terms from `start` on.
    fn panel(&self, start: usize, column: usize) -> &[f32] {
        let len = CHUNK.min(self.depth - start);
        &self.values[self.n_columns.next_multiple_of(PANEL) * start + column * len..][..PANEL * len]
    }
}

/// Packs rows for [`multiply`] into the beginning of `packed`, which grows as needed: `[depth / CHUNK][row / N_ROWS][depth % CHUNK][row % N_ROWS]`, with groups of about as
/// many rows each.
pub(crate) fn pack_rows(rows: &[f32], depth: usize, packed: &mut Vec<f32>) {
    assert!(is_available());
    let n_rows = rows.len() / depth.max(1);
    if packed.len() < n_rows * depth {
        packed.resize(n_rows * depth, 0.0);
    }
    for start in (0..depth).step_by(CHUNK) {
        let len = CHUNK.min(depth - start);
        for (first, n) in groups(n_rows) {
            let packed = &mut packed[n_rows * start + first * len..][..n * len];
            for r in 0..n {
                let row = &rows[(first + r) * depth + start..][..len];
                for (packed, value) in packed[r..].iter_mut().step_by(n).zip(row) {
                    *packed = *value;
                }
            }
        }
    }
}

/// The first row and the number of rows of each group: at most `N_ROWS`, and as even as can be.
fn groups(n_rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let n_groups = n_rows.div_ceil(N_ROWS);
    let end = move |group: usize| group * n_rows / n_groups.max(1);
    (0..n_groups).map(move |group| (end(group), end(group + 1) - end(group)))
}

/// Multiplies packed rows with the columns from `first` on that `out` has room for. Each sum begins with its column's entry
/// of `bias`, and is stored as `low` at least.
///
/// # Panics
/// When `first` begins no panel, or there are too few rows or biases.
pub(crate) fn multiply(
    rows: &[f32],
    weights: &PackedFloats,
    first: usize,
    bias: &[f32],
    low: f32,
    mut out: Columns<'_>,
) {
    assert!(is_available() && first.is_multiple_of(PANEL), "columns from {first} on");
    let (n_rows, depth) = (out.n_rows(), weights.depth);
    assert!(rows.len() >= n_rows * depth, "{} elements for {n_rows} rows of {depth}", rows.len());
    for start in (0..depth).step_by(CHUNK) {
        let len = CHUNK.min(depth - start);
        let place = Place { starts: start == 0, ends: start + len == depth, low };
        for column in (0..out.n_columns()).step_by(PANEL) {
            let panel = weights.panel(start, first + column);
            let n = PANEL.min(out.n_columns() - column);
            let bias = &bias[first + column..][..n];
            for (row, n_group) in groups(n_rows) {
                let rows = &rows[n_rows * start + row * len..][..n_group * len];
                let block = Block { rows, panel, n_rows, row, column };
                // SAFETY: the processor has it.
                unsafe { of_size(n_group, &block, place, bias, &mut out) }
            }
        }
    }
}

/// Whether these are the first terms of their sums, and the last.
#[derive(Clone, Copy)]
struct Place {
    starts: bool,
    ends: bool,
    low: f32,
}

/// A group of rows, `[depth][row]`, of `n_rows` in all, and a panel of weights, `[depth][PANEL]`.
struct Block<'a> {
    rows: &'a [f32],
    panel: &'a [f32],
    n_rows: usize,
    /// The group's first.
    row: usize,
    column: usize,
}

macro_rules! by_size {
    ($n:expr, $($size:literal)+, $arguments:tt) => {
        match $n {
            $($size => block::<$size> $arguments,)+
            _ => unreachable!("a group of {} rows", $n),
        }
    };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn of_size(n: usize, of: &Block<'_>, place: Place, bias: &[f32], out: &mut Columns<'_>) {
    by_size!(n, 1 2 3 4 5 6 7 8 9 10 11 12 13, (of, place, bias, out));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn block<const R: usize>(of: &Block<'_>, place: Place, bias: &[f32], out: &mut Columns<'_>) {
    let mut sums = [[0.0; PANEL]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        let before = if place.starts { bias } else { &out.of_row(of.row + r, of.column)[..bias.len()] };
        copy(before, sums);
    }
    let ((rows, _), (panel, _)) = (of.rows.as_chunks::<R>(), of.panel.as_chunks::<PANEL>());
    // The next panel follows this one; each group asks for as much of it as it is of the rows.
    let bytes = size_of_val(of.panel) * of.row / of.n_rows;
    let next = of.panel.as_ptr_range().end.cast::<i8>().wrapping_add(bytes);
    add_products::<R>(rows, panel, next, size_of::<[f32; PANEL]>() * R / of.n_rows, &mut sums);
    for (r, sums) in sums.iter_mut().enumerate() {
        if place.ends {
            // Written so that what is no number stays none.
            sums.iter_mut().for_each(|sum| *sum = if *sum < place.low { place.low } else { *sum });
        }
        store(sums, out.of_row(of.row + r, of.column));
    }
}

#[inline(always)]
fn copy(from: &[f32], to: &mut [f32; PANEL]) {
    match from.first_chunk::<PANEL>() {
        Some(from) => *to = *from,
        None => to[..from.len()].copy_from_slice(from),
    }
}

/// Adds the products of each term's elements of `R` rows and of the panel. At each term the line at `next` is asked for,
/// `step` bytes further each time.
#[expect(clippy::needless_range_loop, reason = "with iterators the sums leave their registers")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn add_products<const R: usize>(
    rows: &[[f32; R]],
    panel: &[[f32; PANEL]],
    mut next: *const i8,
    step: usize,
    tile: &mut [[f32; PANEL]; R],
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for r in 0..R {
        for b in 0..2 {
            // SAFETY: a row of the tile is two registers.
            sums[r][b] = unsafe { _mm512_loadu_ps(tile[r].as_ptr().add(16 * b)) };
        }
    }
    for (elements, weights) in rows.iter().zip(panel) {
        // SAFETY: to ask for a line reads nothing, wherever it lies; the weights of a term are two registers.
        let weights = unsafe {
            _mm_prefetch::<_MM_HINT_T1>(next);
            [0, 16].map(|at| _mm512_loadu_ps(weights.as_ptr().add(at)))
        };
        next = next.wrapping_add(step);
        for r in 0..R {
            let element = _mm512_set1_ps(elements[r]);
            for b in 0..2 {
                sums[r][b] = _mm512_fmadd_ps(element, weights[b], sums[r][b]);
            }
        }
    }
    for r in 0..R {
        for b in 0..2 {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(tile[r].as_mut_ptr().add(16 * b), sums[r][b]) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Numbers;
    use super::*;

    #[test]
    fn sums_are_those_written_down_plainly_whoever_adds_them() {
        if !is_available() {
            println!("skipped: this processor has no AVX-512");
            return;
        }
        let mut numbers = Numbers(9);
        for round in 0..60 {
            let (n_rows, n_columns) = (numbers.between(1, 60), numbers.between(1, 150));
            let depth = if round % 10 == 0 { numbers.between(385, 1200) } else { numbers.between(1, 90) };
            let mut floats = |n: usize| -> Vec<f32> {
                (0..n).map(|_| numbers.between(0, 2000) as f32 / 1e3 - 1.0).collect()
            };
            let (rows, weights, bias) =
                (floats(n_rows * depth), floats(depth * n_columns), floats(n_columns));
            let packed = PackedFloats::new(n_columns, depth, |column, k| weights[k * n_columns + column]);
            let (mut packed_rows, mut out) = (Vec::new(), vec![f32::NAN; n_rows * n_columns]);
            pack_rows(&rows, depth, &mut packed_rows);
            let low = if round % 2 == 0 { 0.0 } else { f32::NEG_INFINITY };
            let n_part = [PANEL, 2 * PANEL, 1 << 10][round % 3];
            for (part, out) in Columns::all(&mut out, n_columns).split(n_part).enumerate() {
                multiply(&packed_rows, &packed, part * n_part, &bias, low, out);
            }
            for (at, found) in out.iter().enumerate() {
                let (row, column) = (at / n_columns, at % n_columns);
                let term =
                    |k: usize| f64::from(rows[row * depth + k]) * f64::from(weights[k * n_columns + column]);
                let expected = (f64::from(bias[column]) + (0..depth).map(term).sum::<f64>()).max(low.into());
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-5 * (depth as f64).sqrt() + 1e-5,
                    "{found} {expected}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_number_does_not_vanish() {
        if is_available() {
            let packed = PackedFloats::new(1, 2, |_, _| 1.0);
            let (mut rows, mut out) = (Vec::new(), [0.0]);
            pack_rows(&[f32::NAN, 1.0], 2, &mut rows);
            multiply(&rows, &packed, 0, &[0.0], 0.0, Columns::all(&mut out, 1));
            assert!(out[0].is_nan());
        }
    }
}
