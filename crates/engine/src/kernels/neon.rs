//! 128 bits as every 64-bit Arm has them: bytes become products of 16 bits, which are added in pairs to sums of 32.
//!
//! The instructions take bytes of one sign. Activations are taken less 128, which is one bit flipped, and each sum starts
//! with 128 times the sum of its column's weights, which is known since they were packed. Weights more 128 would want the
//! sum of every row, which is not.
#![expect(unsafe_code, reason = "instruction sets that the processor was asked for")]

use std::arch::aarch64::*;

use super::product::{BLOCK, Dot, QUAD, Rows, Sink, Tile, Weights, panel};

/// What is taken from every activation.
const SHIFT: u8 = 128;

pub(crate) fn multiply(rows: &Rows<'_>, weights: Weights<'_>, initial: &[i32], sink: &mut impl Sink) {
    let initial = raised(weights, initial);
    for block in 0..weights.n_blocks() {
        // SAFETY: every processor of this architecture has it, and the caller has checked the arguments.
        unsafe {
            if weights.is_symmetric() {
                panel::<Widened<true>, 2, 1>(rows, weights, block, &initial, sink);
            } else {
                panel::<Widened<false>, 2, 1>(rows, weights, block, &initial, sink);
            }
        }
    }
}

/// What the sums start with where activations are taken less [`SHIFT`].
pub(super) fn raised(weights: Weights<'_>, initial: &[i32]) -> Vec<i32> {
    let raise = |(initial, sum): (&i32, &i32)| initial.wrapping_add(sum.wrapping_mul(i32::from(SHIFT)));
    initial.iter().zip(weights.column_sums()).map(raise).collect()
}

/// Activations less [`SHIFT`].
#[inline(always)]
pub(super) fn shifted(bytes: uint8x16_t) -> int8x16_t {
    // SAFETY: every processor of this architecture has it.
    unsafe { vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(SHIFT))) }
}

/// The four bytes at `from`, four times.
///
/// # Safety
/// They may be read.
#[inline(always)]
unsafe fn four(from: *const u8) -> uint8x16_t {
    // SAFETY: as the caller promises; every processor of this architecture has the instruction.
    unsafe { vreinterpretq_u8_u32(vdupq_n_u32(from.cast::<u32>().read_unaligned())) }
}

/// With `SYMMETRIC`, no weight is -128: two products fit 16 bits and are widened together.
struct Widened<const SYMMETRIC: bool>;

impl<const SYMMETRIC: bool> Dot for Widened<SYMMETRIC> {
    #[inline(always)]
    unsafe fn dot<const R: usize, const B: usize>(
        rows: &Rows<'_>,
        at: usize,
        blocks: &[i8],
        tile: &mut Tile<R, B>,
    ) {
        let block_len = BLOCK * rows.n_runs * rows.run_len;
        let n_quads = rows.run_len / QUAD;
        let n_paired = if SYMMETRIC { n_quads / 2 * 2 } else { 0 };
        // SAFETY: the caller promises that all of it lies within the slices.
        unsafe {
            for b in 0..B {
                // Of each column the sum of the first two of each four beside that of the last two; two columns a register.
                let mut sums = [[vdupq_n_s32(0); 8]; R];
                let mut weights = blocks.as_ptr().add(b * block_len);
                for run in 0..rows.n_runs {
                    let start = rows.data.as_ptr().add(at + run * rows.run_stride);
                    let fours =
                        |r: usize, quad: usize| shifted(four(start.add(r * rows.row_stride + quad * QUAD)));
                    for quad in (0..n_paired).step_by(2) {
                        add_two(
                            &mut sums,
                            weights,
                            [quad, quad + 1].map(|quad| std::array::from_fn(|r| fours(r, quad))),
                        );
                        weights = weights.add(2 * BLOCK * QUAD);
                    }
                    for quad in n_paired..n_quads {
                        add_one(&mut sums, weights, std::array::from_fn(|r| fours(r, quad)));
                        weights = weights.add(BLOCK * QUAD);
                    }
                }
                for (sums, tile) in sums.iter().zip(tile.iter_mut()) {
                    for (two, tile) in sums.as_chunks::<2>().0.iter().zip(tile[b].as_chunks_mut::<4>().0) {
                        let four = vaddq_s32(vld1q_s32(tile.as_ptr()), vpaddq_s32(two[0], two[1]));
                        vst1q_s32(tile.as_mut_ptr(), four);
                    }
                }
            }
        }
    }
}

/// Adds the products of a block's quad with one quad of each row.
///
/// # Safety
/// The block's quad may be read at `weights`.
#[inline(always)]
unsafe fn add_one<const R: usize>(sums: &mut [[int32x4_t; 8]; R], weights: *const i8, fours: [int8x16_t; R]) {
    // SAFETY: as the caller promises; every processor of this architecture has the instructions.
    unsafe {
        for c in 0..BLOCK / 4 {
            let columns = vld1q_s8(weights.add(4 * QUAD * c));
            for r in 0..R {
                let low = vmull_s8(vget_low_s8(columns), vget_low_s8(fours[r]));
                let high = vmull_high_s8(columns, fours[r]);
                sums[r][2 * c] = vpadalq_s16(sums[r][2 * c], low);
                sums[r][2 * c + 1] = vpadalq_s16(sums[r][2 * c + 1], high);
            }
        }
    }
}

/// Adds the products of a block's two quads with two quads of each row; no weight is -128.
///
/// # Safety
/// The block's quads may be read at `weights`.
#[inline(always)]
unsafe fn add_two<const R: usize>(
    sums: &mut [[int32x4_t; 8]; R],
    weights: *const i8,
    [first, second]: [[int8x16_t; R]; 2],
) {
    // SAFETY: as the caller promises; every processor of this architecture has the instructions.
    unsafe {
        for c in 0..BLOCK / 4 {
            let columns = vld1q_s8(weights.add(4 * QUAD * c));
            let others = vld1q_s8(weights.add(4 * QUAD * c + BLOCK * QUAD));
            for r in 0..R {
                let low = vmull_s8(vget_low_s8(columns), vget_low_s8(first[r]));
                let low = vmlal_s8(low, vget_low_s8(others), vget_low_s8(second[r]));
                let high = vmull_high_s8(columns, first[r]);
                let high = vmlal_high_s8(high, others, second[r]);
                sums[r][2 * c] = vpadalq_s16(sums[r][2 * c], low);
                sums[r][2 * c + 1] = vpadalq_s16(sums[r][2 * c + 1], high);
            }
        }
    }
}
