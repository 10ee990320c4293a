//! 256 bits without VNNI: bytes are widened, and sixteen products become eight sums of two.
#![expect(unsafe_code, reason = "instruction sets that the processor was asked for")]

use std::arch::x86_64::*;

use super::product::{BLOCK, Dot, QUAD, Rows, Sink, Tile, Weights, panel};

pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

pub(crate) fn multiply(rows: &Rows<'_>, weights: Weights<'_>, initial: &[i32], sink: &mut impl Sink) {
    assert!(is_available());
    // SAFETY: the processor has it.
    unsafe { panels(rows, weights, initial, sink) }
}

#[target_feature(enable = "avx2,fma")]
fn panels(rows: &Rows<'_>, weights: Weights<'_>, initial: &[i32], sink: &mut impl Sink) {
    for block in 0..weights.n_blocks() {
        // SAFETY: the processor has it, and the caller has checked the arguments.
        unsafe { panel::<Pairs, 2, 1>(rows, weights, block, initial, sink) }
    }
}

struct Pairs;

impl Dot for Pairs {
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn dot<const R: usize, const B: usize>(
        rows: &Rows<'_>,
        at: usize,
        blocks: &[i8],
        tile: &mut Tile<R, B>,
    ) {
        let block_len = BLOCK * rows.n_runs * rows.run_len;
        // SAFETY: the caller promises that all of it lies within the slices.
        unsafe {
            for b in 0..B {
                // Of each column the sum of the even pairs beside that of the odd ones; four columns a register.
                let mut sums = [[_mm256_setzero_si256(); 4]; R];
                let mut weights = blocks.as_ptr().add(b * block_len);
                for run in 0..rows.n_runs {
                    let start = rows.data.as_ptr().add(at + run * rows.run_stride);
                    for quad in 0..rows.run_len / QUAD {
                        let mut columns = [_mm256_setzero_si256(); 4];
                        for (c, columns) in columns.iter_mut().enumerate() {
                            *columns = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(16 * c).cast()));
                        }
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let four = start.add(r * rows.row_stride + quad * QUAD).cast::<i32>();
                            let four = _mm256_cvtepu8_epi16(_mm_set1_epi32(four.read_unaligned()));
                            for (sums, columns) in sums.iter_mut().zip(&columns) {
                                *sums = _mm256_add_epi32(*sums, _mm256_madd_epi16(four, *columns));
                            }
                        }
                        weights = weights.add(BLOCK * QUAD);
                    }
                }
                for (sums, tile) in sums.iter().zip(tile.iter_mut()) {
                    let mut halves = [0i32; 2 * BLOCK];
                    for (c, sums) in sums.iter().enumerate() {
                        _mm256_storeu_si256(halves.as_mut_ptr().add(8 * c).cast(), *sums);
                    }
                    for (sum, halves) in tile[b].iter_mut().zip(halves.as_chunks::<2>().0) {
                        *sum += halves[0] + halves[1];
                    }
                }
            }
        }
    }
}
