//! Plain Rust, in loops that compilers turn into whatever vectors the target has.
#![expect(unsafe_code, reason = "instruction sets that the processor was asked for")]

use super::product::{BLOCK, Dot, QUAD, Rows, Sink, Tile, Weights, panel};

pub(crate) fn multiply(rows: &Rows<'_>, weights: Weights<'_>, initial: &[i32], sink: &mut impl Sink) {
    for block in 0..weights.n_blocks() {
        // SAFETY: no instruction set is needed, and `Plain` checks its bounds.
        unsafe { panel::<Plain, 2, 1>(rows, weights, block, initial, sink) }
    }
}

struct Plain;

impl Dot for Plain {
    #[inline(always)]
    unsafe fn dot<const R: usize, const B: usize>(
        rows: &Rows<'_>,
        at: usize,
        blocks: &[i8],
        tile: &mut Tile<R, B>,
    ) {
        let block_len = BLOCK * rows.n_runs * rows.run_len;
        for (r, sums) in tile.iter_mut().enumerate() {
            for (b, sums) in sums.iter_mut().enumerate() {
                let (quads, _) = blocks[b * block_len..][..block_len].as_chunks::<{ BLOCK * QUAD }>();
                let mut quads = quads.iter();
                for run in 0..rows.n_runs {
                    let start = at + r * rows.row_stride + run * rows.run_stride;
                    let (fours, _) = rows.data[start..][..rows.run_len].as_chunks::<QUAD>();
                    for (four, weights) in fours.iter().zip(&mut quads) {
                        for (sum, weights) in sums.iter_mut().zip(weights.as_chunks::<QUAD>().0) {
                            for k in 0..QUAD {
                                *sum += i32::from(four[k]) * i32::from(weights[k]);
                            }
                        }
                    }
                }
            }
        }
    }
}
