//! 256 bits with VNNI, which processors without AVX-512 have (Alder Lake-N and later): eight sums of four products each in
//! one instruction.
#![expect(unsafe_code, reason = "instruction sets that the processor was asked for")]

use std::arch::x86_64::*;

use super::avx2;
use super::product::{BLOCK, Dot, QUAD, Rows, Sink, Tile, Weights, panel};

pub(crate) fn is_available() -> bool {
    avx2::is_available() && is_x86_feature_detected!("avxvnni")
}

pub(crate) fn multiply(rows: &Rows<'_>, weights: Weights<'_>, initial: &[i32], sink: &mut impl Sink) {
    assert!(is_available());
    // SAFETY: the processor has it.
    unsafe { panels(rows, weights, initial, sink) }
}

/// As many rows as leave three of sixteen registers for what is multiplied.
#[target_feature(enable = "avx2,fma,avxvnni")]
fn panels(rows: &Rows<'_>, weights: Weights<'_>, initial: &[i32], sink: &mut impl Sink) {
    for block in 0..weights.n_blocks() {
        // SAFETY: the processor has it, and the caller has checked the arguments.
        unsafe { panel::<Vnni, 6, 1>(rows, weights, block, initial, sink) }
    }
}

struct Vnni;

impl Dot for Vnni {
    #[expect(clippy::needless_range_loop, reason = "with iterators the sums leave their registers")]
    #[target_feature(enable = "avx2,fma,avxvnni")]
    #[inline]
    unsafe fn dot<const R: usize, const B: usize>(
        rows: &Rows<'_>,
        at: usize,
        blocks: &[i8],
        tile: &mut Tile<R, B>,
    ) {
        let block_len = BLOCK * rows.n_runs * rows.run_len;
        // SAFETY: the caller promises that all of it lies within the slices; half a block's sums are 32 bytes.
        unsafe {
            for b in 0..B {
                let mut sums = [[_mm256_setzero_si256(); 2]; R];
                for r in 0..R {
                    for half in 0..2 {
                        sums[r][half] = _mm256_loadu_si256(tile[r][b].as_ptr().add(8 * half).cast());
                    }
                }
                let mut weights = blocks.as_ptr().add(b * block_len);
                for run in 0..rows.n_runs {
                    let start = rows.data.as_ptr().add(at + run * rows.run_stride);
                    for quad in 0..rows.run_len / QUAD {
                        let columns = [0, 1].map(|half| _mm256_loadu_si256(weights.add(32 * half).cast()));
                        for r in 0..R {
                            let four = start.add(r * rows.row_stride + quad * QUAD).cast::<i32>();
                            let four = _mm256_set1_epi32(four.read_unaligned());
                            for half in 0..2 {
                                sums[r][half] = _mm256_dpbusd_avx_epi32(sums[r][half], four, columns[half]);
                            }
                        }
                        weights = weights.add(BLOCK * QUAD);
                    }
                }
                for r in 0..R {
                    for half in 0..2 {
                        _mm256_storeu_si256(tile[r][b].as_mut_ptr().add(8 * half).cast(), sums[r][half]);
                    }
                }
            }
        }
    }
}
