//! One product with i8 weights on u8 rows, with bias and ReLU in the same pass; its output is f32.

use rayon::ThreadPool;

use super::filled;
use super::sink::Rescale;
use crate::kernels::Isa;
use crate::kernels::product::{BLOCK, Packed, QUAD, Rows, multiply};
use crate::share::share_columns;

/// A product as a graph states it: `[rows, depth] x [depth, columns]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spec {
    pub depth: usize,
    pub n_columns: usize,
    /// `[depth, columns]`.
    pub weights: Vec<i8>,
    /// What u8 stands for zero in the input.
    pub zero: u8,
    /// The output is `sum * factor + offset`, at least `low`; one of each for a column.
    pub factors: Vec<f32>,
    pub offsets: Vec<f32>,
    pub low: f32,
}

/// A product with its weights packed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dense {
    isa: Isa,
    weights: Packed,
    depth: usize,
    initial: Vec<i32>,
    factors: Vec<f32>,
    offsets: Vec<f32>,
    low: f32,
}

impl Dense {
    /// Packs the weights for `isa`.
    ///
    /// # Errors
    /// When the depth is no multiple of four, or the numbers of weights, factors or offsets do not fit.
    pub(crate) fn new(spec: &Spec, isa: Isa) -> Result<Dense, String> {
        let Spec { depth, n_columns, .. } = *spec;
        if depth == 0
            || !depth.is_multiple_of(QUAD)
            || depth.checked_mul(n_columns) != Some(spec.weights.len())
        {
            return Err(format!("{} weights for [{depth}, {n_columns}]", spec.weights.len()));
        }
        if spec.factors.len() != n_columns || spec.offsets.len() != n_columns {
            return Err(format!("factors or offsets do not fit {n_columns} columns"));
        }
        let weights = Packed::new(n_columns, depth, |column, k| spec.weights[k * n_columns + column]);
        Ok(Dense {
            isa,
            depth,
            initial: weights.column_sums().iter().map(|sum| -sum * i32::from(spec.zero)).collect(),
            factors: filled(&spec.factors),
            offsets: filled(&spec.offsets),
            low: spec.low,
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
    pub(crate) fn run(&self, rows: &[u8], pool: Option<&ThreadPool>, out: &mut [f32]) -> Result<(), String> {
        let n = rows.len() / self.depth;
        if n * self.depth != rows.len() || n * self.n_columns() != out.len() {
            return Err(format!("rows of {} bytes for a depth of {}", rows.len(), self.depth));
        }
        let element_ns = self.depth as f32 / self.isa.products_per_ns();
        share_columns(pool, out, self.n_columns(), 2 * BLOCK, element_ns, |first, out| {
            let weights = self.weights.part(first, out.n_columns());
            let (factors, offsets) = (&self.factors[first..], &self.offsets[first..]);
            let mut to = Rescale { out, factors, offsets, low: self.low };
            let rows = Rows::dense(rows, n, self.depth);
            multiply(self.isa, &rows, weights, &self.initial[first..], &mut to);
        });
        Ok(())
    }
}
