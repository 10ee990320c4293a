//! One product with stored f32 weights on f32 rows, with bias and ReLU in the same pass, and what is one in disguise.

use std::cell::Cell;

use rayon::ThreadPool;

use crate::kernels::floats::{PANEL, PRODUCTS_PER_NS, PackedFloats, multiply, pack_rows};
use crate::share::share_columns;

thread_local! {
    /// Rows in the order of the kernel, kept for the next product.
    static PACKED: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// A product with its weights packed: `[rows, depth] x [depth, columns]`.
#[derive(Debug)]
pub(crate) struct FloatProduct {
    weights: PackedFloats,
    bias: Vec<f32>,
    low: f32,
}

impl FloatProduct {
    /// Packs the weights that `weight(column, k)` gives. The output is at least `low`.
    pub(crate) fn new(
        depth: usize,
        bias: Vec<f32>,
        low: f32,
        weight: impl Fn(usize, usize) -> f32,
    ) -> FloatProduct {
        FloatProduct { weights: PackedFloats::new(bias.len(), depth, weight), bias, low }
    }

    pub(crate) fn depth(&self) -> usize {
        self.weights.depth()
    }

    pub(crate) fn n_columns(&self) -> usize {
        self.weights.n_columns()
    }

    /// Multiplies `rows` (`[n, depth]`) into `out` (`[n, columns]`); `pool` shares the columns out.
    ///
    /// # Errors
    /// When a slice does not fill its shape.
    pub(crate) fn run(&self, rows: &[f32], pool: Option<&ThreadPool>, out: &mut [f32]) -> Result<(), String> {
        let depth = self.depth();
        let n = rows.len() / depth.max(1);
        if n * depth != rows.len() || n * self.n_columns() != out.len() {
            return Err(format!("rows of {} elements for a depth of {depth}", rows.len()));
        }
        // Taken out and not borrowed: whoever waits for other threads may be given other work.
        let mut packed = PACKED.take();
        pack_rows(rows, depth, &mut packed);
        share_columns(pool, out, self.n_columns(), PANEL, depth as f32 / PRODUCTS_PER_NS, |first, out| {
            multiply(&packed, &self.weights, first, &self.bias, self.low, out);
        });
        PACKED.set(packed);
        Ok(())
    }
}

/// A convolution whose windows lie side by side, as those of a vision transformer's patches do: a product of the windows.
#[derive(Debug)]
pub(crate) struct Patches {
    /// Of `[patches, channels * height * width]`.
    pub product: FloatProduct,
    pub n_channels: usize,
    /// Height and width of a window.
    pub window: [usize; 2],
}

impl Patches {
    /// Windows below and beside each other in a picture of `[channels, height, width]`; what is no whole window is left.
    ///
    /// # Errors
    /// When the picture has other channels, or no window in it.
    pub(crate) fn grid(&self, [n_channels, height, width]: [usize; 3]) -> Result<[usize; 2], String> {
        let grid = [height / self.window[0].max(1), width / self.window[1].max(1)];
        if n_channels != self.n_channels || grid.contains(&0) {
            return Err(format!(
                "a picture of {n_channels} x {height} x {width} in patches of {:?}",
                self.window
            ));
        }
        Ok(grid)
    }

    /// Convolves `picture` of `shape` into `out`, `[columns, patches]`.
    ///
    /// # Errors
    /// When a slice does not fill its shape, and as [`grid`](Patches::grid).
    pub(crate) fn run(
        &self,
        picture: &[f32],
        shape: [usize; 3],
        pool: Option<&ThreadPool>,
        out: &mut [f32],
    ) -> Result<(), String> {
        let ([rows, columns], [n_channels, height, width]) = (self.grid(shape)?, shape);
        let n = rows * columns;
        if picture.len() != n_channels * height * width || out.len() != n * self.product.n_columns() {
            return Err("a picture that does not fill its shape".to_owned());
        }
        let [window_height, window_width] = self.window;
        let mut patches = Vec::with_capacity(n * self.product.depth());
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            for (c, y) in (0..n_channels).flat_map(|c| (0..window_height).map(move |y| (c, y))) {
                let at = (c * height + row * window_height + y) * width + column * window_width;
                patches.extend_from_slice(&picture[at..][..window_width]);
            }
        }
        let mut products = vec![0.0; out.len()];
        self.product.run(&patches, pool, &mut products)?;
        for (patch, products) in products.chunks_exact(self.product.n_columns()).enumerate() {
            for (value, out) in products.iter().zip(out[patch..].iter_mut().step_by(n)) {
                *out = *value;
            }
        }
        Ok(())
    }
}
