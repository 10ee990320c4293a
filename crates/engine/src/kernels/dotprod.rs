//! 128 bits with dot products (Armv8.2): four sums of four products each in one instruction.
//!
//! By assembly, as Rust has had functions for these instructions since 1.98 alone. Of the two that take bytes of one sign,
//! the one of signed bytes serves, for the reason that `neon.rs` gives.
#![expect(unsafe_code, reason = "instruction sets that the processor was asked for")]

use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

use super::neon::{raised, shifted};
use super::product::{BLOCK, Dot, QUAD, Rows, Sink, Tile, Weights, panel};

pub(crate) fn is_available() -> bool {
    is_aarch64_feature_detected!("dotprod")
}

/// Six rows leave 24 registers of sums, one for each row and two for weights.
pub(crate) fn multiply(rows: &Rows<'_>, weights: Weights<'_>, initial: &[i32], sink: &mut impl Sink) {
    assert!(is_available());
    let initial = raised(weights, initial);
    for block in 0..weights.n_blocks() {
        // SAFETY: the processor has it, and the caller has checked the arguments.
        unsafe { panel::<Signed, 6, 1>(rows, weights, block, &initial, sink) }
    }
}

/// An instruction that adds four products to each of four sums.
///
/// Its assembly is no `pure` and no `nomem`: weights would be loaded long before they are wanted, as the compiler knows
/// nothing of the instruction, and the sums would leave their registers.
pub(super) trait Instruction {
    /// Activations as the instruction wants them.
    type Bytes: Copy;

    fn bytes(activations: uint8x16_t) -> Self::Bytes;

    /// Adds the products of four columns' weights with the four activations of `LANE`.
    ///
    /// # Safety
    /// The processor has the instruction.
    unsafe fn add<const LANE: usize>(sums: int32x4_t, weights: int8x16_t, bytes: Self::Bytes) -> int32x4_t;
}

struct Signed;

impl Instruction for Signed {
    type Bytes = int8x16_t;

    #[inline(always)]
    fn bytes(activations: uint8x16_t) -> int8x16_t {
        shifted(activations)
    }

    #[inline(always)]
    unsafe fn add<const LANE: usize>(mut sums: int32x4_t, weights: int8x16_t, bytes: int8x16_t) -> int32x4_t {
        // SAFETY: the caller promises that the processor has it; registers alone are touched.
        unsafe {
            asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {weights:v}.16b, {bytes:v}.4b[{lane}]",
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

impl Dot for Signed {
    #[inline(always)]
    unsafe fn dot<const R: usize, const B: usize>(
        rows: &Rows<'_>,
        at: usize,
        blocks: &[i8],
        tile: &mut Tile<R, B>,
    ) {
        // SAFETY: as the caller promises.
        unsafe { dot::<Signed, R, B>(rows, at, blocks, tile) }
    }
}

/// [`Dot::dot`] by an instruction.
///
/// # Safety
/// As there.
#[inline(always)]
pub(super) unsafe fn dot<I: Instruction, const R: usize, const B: usize>(
    rows: &Rows<'_>,
    at: usize,
    blocks: &[i8],
    tile: &mut Tile<R, B>,
) {
    let block_len = BLOCK * rows.n_runs * rows.run_len;
    // SAFETY: the caller promises the instruction, and that all of it lies within the slices.
    unsafe {
        for b in 0..B {
            // Four columns a register.
            let mut sums = [[vdupq_n_s32(0); 4]; R];
            for (sums, tile) in sums.iter_mut().zip(tile.iter()) {
                *sums = std::array::from_fn(|c| vld1q_s32(tile[b].as_ptr().add(4 * c)));
            }
            let mut weights = blocks.as_ptr().add(b * block_len);
            for run in 0..rows.n_runs {
                let start = rows.data.as_ptr().add(at + run * rows.run_stride);
                let mut k = 0;
                while k + 4 * QUAD <= rows.run_len {
                    let bytes =
                        std::array::from_fn(|r| I::bytes(vld1q_u8(start.add(r * rows.row_stride + k))));
                    add_quad::<I, R, 0>(&mut sums, weights, &bytes);
                    add_quad::<I, R, 1>(&mut sums, weights.add(BLOCK * QUAD), &bytes);
                    add_quad::<I, R, 2>(&mut sums, weights.add(2 * BLOCK * QUAD), &bytes);
                    add_quad::<I, R, 3>(&mut sums, weights.add(3 * BLOCK * QUAD), &bytes);
                    weights = weights.add(4 * BLOCK * QUAD);
                    k += 4 * QUAD;
                }
                while k < rows.run_len {
                    let bytes =
                        std::array::from_fn(|r| I::bytes(first_four(start.add(r * rows.row_stride + k))));
                    add_quad::<I, R, 0>(&mut sums, weights, &bytes);
                    weights = weights.add(BLOCK * QUAD);
                    k += QUAD;
                }
            }
            for (sums, tile) in sums.iter().zip(tile.iter_mut()) {
                for (c, sums) in sums.iter().enumerate() {
                    vst1q_s32(tile[b].as_mut_ptr().add(4 * c), *sums);
                }
            }
        }
    }
}

/// The four bytes at `from`, and zeros.
///
/// # Safety
/// They may be read.
#[inline(always)]
unsafe fn first_four(from: *const u8) -> uint8x16_t {
    // SAFETY: as the caller promises; every processor of this architecture has the instructions.
    unsafe { vreinterpretq_u8_u32(vsetq_lane_u32::<0>(from.cast::<u32>().read_unaligned(), vdupq_n_u32(0))) }
}

/// Adds the products of a block's quad with the quad `LANE` of each row.
///
/// # Safety
/// The processor has the instruction, and the block's quad may be read at `weights`.
#[inline(always)]
unsafe fn add_quad<I: Instruction, const R: usize, const LANE: usize>(
    sums: &mut [[int32x4_t; 4]; R],
    weights: *const i8,
    bytes: &[I::Bytes; R],
) {
    for c in 0..BLOCK / 4 {
        // SAFETY: as the caller promises.
        unsafe {
            let columns = vld1q_s8(weights.add(4 * QUAD * c));
            for r in 0..R {
                sums[r][c] = I::add::<LANE>(sums[r][c], columns, bytes[r]);
            }
        }
    }
}
