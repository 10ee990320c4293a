//! 512 bits with VNNI: sixteen sums of four products each in one instruction.
#![expect(unsafe_code, reason = "instruction sets that the processor was asked for")]

use std::arch::x86_64::*;

use super::product::{BLOCK, Dot, QUAD, Rows, Sink, Tile, Weights, panel};

pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni")
}

pub(crate) fn multiply(rows: &Rows<'_>, weights: Weights<'_>, initial: &[i32], sink: &mut impl Sink) {
    assert!(is_available());
    // SAFETY: the processor has it.
    unsafe { panels(rows, weights, initial, sink) }
}

/// As many rows as leave 24 registers of sums.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn panels(rows: &Rows<'_>, weights: Weights<'_>, initial: &[i32], sink: &mut impl Sink) {
    let mut block = 0;
    while block < weights.n_blocks() {
        let left = weights.n_blocks() - block;
        // Five are better taken as three and two than as four and one.
        let taken = if left == 5 { 3 } else { left.min(4) };
        // SAFETY: the processor has it, and the caller has checked the arguments.
        unsafe {
            match taken {
                4 => panel::<Vnni, 6, 4>(rows, weights, block, initial, sink),
                3 => panel::<Vnni, 8, 3>(rows, weights, block, initial, sink),
                2 => panel::<Vnni, 12, 2>(rows, weights, block, initial, sink),
                _ => panel::<Vnni, 14, 1>(rows, weights, block, initial, sink),
            }
        }
        block += taken;
    }
}

struct Vnni;

impl Dot for Vnni {
    #[expect(
        clippy::needless_range_loop,
        reason = "with iterators the sums leave their registers: 75 instead of 180 products a nanosecond"
    )]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    unsafe fn dot<const R: usize, const B: usize>(
        rows: &Rows<'_>,
        at: usize,
        blocks: &[i8],
        tile: &mut Tile<R, B>,
    ) {
        let block_len = BLOCK * rows.n_runs * rows.run_len;
        // SAFETY: the caller promises that all of it lies within the slices; a sum is 64 bytes.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); B]; R];
            for r in 0..R {
                for b in 0..B {
                    sums[r][b] = _mm512_loadu_si512(tile[r][b].as_ptr().cast());
                }
            }
            let mut weights = blocks.as_ptr();
            for run in 0..rows.n_runs {
                let start = rows.data.as_ptr().add(at + run * rows.run_stride);
                for quad in 0..rows.run_len / QUAD {
                    let mut columns = [_mm512_setzero_si512(); B];
                    for b in 0..B {
                        columns[b] = _mm512_loadu_si512(weights.add(b * block_len).cast());
                    }
                    for r in 0..R {
                        let four = start.add(r * rows.row_stride + quad * QUAD).cast::<i32>();
                        let four = _mm512_set1_epi32(four.read_unaligned());
                        for b in 0..B {
                            sums[r][b] = _mm512_dpbusd_epi32(sums[r][b], four, columns[b]);
                        }
                    }
                    weights = weights.add(BLOCK * QUAD);
                }
            }
            for r in 0..R {
                for b in 0..B {
                    _mm512_storeu_si512(tile[r][b].as_mut_ptr().cast(), sums[r][b]);
                }
            }
        }
    }
}
