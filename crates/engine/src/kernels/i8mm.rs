//! 128 bits with matrix products of bytes (Armv8.6): the sums of two rows for two columns, of eight products each, in one
//! instruction that takes u8 on the left and i8 on the right as they are.
//!
//! By assembly, as stable Rust has no functions for these instructions.
#![expect(unsafe_code, reason = "instruction sets that the processor was asked for")]

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::dotprod::{Instruction, dot};
use super::product::{BLOCK, Dot, QUAD, Rows, Sink, Tile, Weights, panel};

pub(crate) fn is_available() -> bool {
    is_aarch64_feature_detected!("i8mm")
}

/// Six rows leave 24 registers of sums, one for each two rows and four for weights.
pub(crate) fn multiply(rows: &Rows<'_>, weights: Weights<'_>, initial: &[i32], sink: &mut impl Sink) {
    assert!(is_available());
    for block in 0..weights.n_blocks() {
        // SAFETY: the processor has it, and the caller has checked the arguments.
        unsafe { panel::<Matrix, 6, 1>(rows, weights, block, initial, sink) }
    }
}

struct Matrix;

impl Dot for Matrix {
    #[inline(always)]
    unsafe fn dot<const R: usize, const B: usize>(
        rows: &Rows<'_>,
        at: usize,
        blocks: &[i8],
        tile: &mut Tile<R, B>,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            if R.is_multiple_of(2) {
                pairs(rows, at, blocks, tile);
            } else {
                // A row alone would leave half of every matrix empty.
                dot::<Mixed, R, B>(rows, at, blocks, tile);
            }
        }
    }
}

/// The dot product of i8 with u8 that comes with the matrix products.
struct Mixed;

impl Instruction for Mixed {
    type Bytes = uint8x16_t;

    #[inline(always)]
    fn bytes(activations: uint8x16_t) -> uint8x16_t {
        activations
    }

    #[inline(always)]
    unsafe fn add<const LANE: usize>(
        mut sums: int32x4_t,
        weights: int8x16_t,
        bytes: uint8x16_t,
    ) -> int32x4_t {
        // SAFETY: the caller promises that the processor has it; registers alone are touched.
        unsafe {
            asm!(
                ".arch_extension i8mm",
                "sudot {sums:v}.4s, {weights:v}.16b, {bytes:v}.4b[{lane}]",
                sums = inout(vreg) sums,
                weights = in(vreg) weights,
                bytes = in(vreg) bytes,
                lane = const LANE,
                options(nostack, preserves_flags),
            );
        }
        sums
    }
}

/// `sums` (`[2 rows, 2 columns]`) and the products of `bytes` (`[2 rows, 8]`) with `weights` (`[2 columns, 8]`).
///
/// # Safety
/// The processor has it.
#[inline(always)]
unsafe fn matrix(mut sums: int32x4_t, bytes: uint8x16_t, weights: int8x16_t) -> int32x4_t {
    // SAFETY: the caller promises that the processor has it; registers alone are touched.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "usmmla {sums:v}.4s, {bytes:v}.16b, {weights:v}.16b",
            sums = inout(vreg) sums,
            bytes = in(vreg) bytes,
            weights = in(vreg) weights,
            options(nostack, preserves_flags),
        );
    }
    sums
}

/// [`Dot::dot`] for an even number of rows.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn pairs<const R: usize, const B: usize>(
    rows: &Rows<'_>,
    at: usize,
    blocks: &[i8],
    tile: &mut Tile<R, B>,
) {
    let block_len = BLOCK * rows.n_runs * rows.run_len;
    // SAFETY: the caller promises the instructions, and that all of it lies within the slices.
    unsafe {
        for b in 0..B {
            // Of two rows, which make the first half of the array, two columns a register.
            let mut sums = [[vdupq_n_s32(0); 8]; R];
            for (two, sums) in tile.as_chunks::<2>().0.iter().zip(&mut sums) {
                for c in 0..4 {
                    let [first, second] = [0, 1].map(|r| vld1q_s32(two[r][b].as_ptr().add(4 * c)));
                    [sums[2 * c], sums[2 * c + 1]] = halves(first, second);
                }
            }
            let mut weights = blocks.as_ptr().add(b * block_len);
            for run in 0..rows.n_runs {
                let start = rows.data.as_ptr().add(at + run * rows.run_stride);
                let mut k = 0;
                while k + 2 * QUAD <= rows.run_len {
                    let eight = |r: usize| vld1_u8(start.add(r * rows.row_stride + k));
                    add_eights(&mut sums, eight, |c| {
                        let columns = weights.add(4 * QUAD * c);
                        [vld1q_s8(columns), vld1q_s8(columns.add(BLOCK * QUAD))]
                    });
                    weights = weights.add(2 * BLOCK * QUAD);
                    k += 2 * QUAD;
                }
                if k < rows.run_len {
                    // The other half of the depth is zeros.
                    let eight = |r: usize| {
                        let four = start.add(r * rows.row_stride + k).cast::<u32>();
                        vcreate_u8(four.read_unaligned().into())
                    };
                    add_eights(&mut sums, eight, |c| [vld1q_s8(weights.add(4 * QUAD * c)), vdupq_n_s8(0)]);
                    weights = weights.add(BLOCK * QUAD);
                }
            }
            for (two, sums) in tile.as_chunks_mut::<2>().0.iter_mut().zip(&sums) {
                for c in 0..4 {
                    let rows = halves(sums[2 * c], sums[2 * c + 1]);
                    for (row, four) in two.iter_mut().zip(rows) {
                        vst1q_s32(row[b].as_mut_ptr().add(4 * c), four);
                    }
                }
            }
        }
    }
}

/// Adds eight products to the sums of each two rows for each two columns. `eight` gives the bytes of a row, `columns` two
/// quads of the four columns from `4 * c` on.
///
/// # Safety
/// The processor has the instructions.
#[inline(always)]
unsafe fn add_eights<const R: usize>(
    sums: &mut [[int32x4_t; 8]; R],
    eight: impl Fn(usize) -> uint8x8_t,
    columns: impl Fn(usize) -> [int8x16_t; 2],
) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut bytes = [vdupq_n_u8(0); R];
        for p in 0..R / 2 {
            bytes[p] = vcombine_u8(eight(2 * p), eight(2 * p + 1));
        }
        for c in 0..BLOCK / 4 {
            let [first, second] = columns(c).map(|quads| vreinterpretq_s32_s8(quads));
            let left = vreinterpretq_s8_s32(vzip1q_s32(first, second));
            let right = vreinterpretq_s8_s32(vzip2q_s32(first, second));
            for p in 0..R / 2 {
                sums[p][2 * c] = matrix(sums[p][2 * c], bytes[p], left);
                sums[p][2 * c + 1] = matrix(sums[p][2 * c + 1], bytes[p], right);
            }
        }
    }
}

/// The first halves of two registers beside each other, and the second halves: four columns of two rows become two columns
/// of both and two of both, and the other way round.
#[inline(always)]
fn halves(first: int32x4_t, second: int32x4_t) -> [int32x4_t; 2] {
    // SAFETY: every processor of this architecture has the instructions.
    unsafe {
        let [first, second] = [first, second].map(|four| vreinterpretq_s64_s32(four));
        [vreinterpretq_s32_s64(vzip1q_s64(first, second)), vreinterpretq_s32_s64(vzip2q_s64(first, second))]
    }
}
