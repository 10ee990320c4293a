//! The files of `crates/engine/src/kernels` as they are, a place without memory behind what they read, and one product
//! to count.
#![expect(dead_code, reason = "the engine uses all of it")]

pub mod kernels;

#[cfg(test)]
mod guard;

use kernels::Isa;
use kernels::depthwise::{Windows, convolve};
use kernels::product::{BLOCK, Packed, Rows, Sink, multiply};

/// Keeps the sums from being optimized away.
struct Seen;

impl Sink for Seen {
    #[inline(always)]
    fn put(&mut self, row: usize, column: usize, sums: &[i32; BLOCK]) {
        std::hint::black_box((row, column, sums));
    }
}

/// What this processor has, by name, the slowest first.
pub fn available() -> Vec<String> {
    Isa::available().into_iter().map(|isa| format!("{isa:?}")).collect()
}

/// Multiplies `[rows, depth]` with `[depth, columns]` so many times.
///
/// # Panics
/// When the processor has no such instruction set.
pub fn products(isa: &str, [n_rows, depth, n_columns]: [usize; 3], times: usize) {
    let isa = by_name(isa);
    let data = vec![7; n_rows * depth];
    // From -127 to 127, as captiond quantizes.
    let weight = |column: usize, k: usize| ((column * 31 + k * 7) % 255) as u8 ^ 128;
    let weights = Packed::new(n_columns, depth, |column, k| (weight(column, k) | 1).cast_signed());
    let initial = vec![0; weights.all().n_blocks() * BLOCK];
    for _ in 0..times {
        multiply(isa, &Rows::dense(&data, n_rows, depth), weights.all(), &initial, &mut Seen);
    }
}

/// Convolves a picture of `[size, size, channels]`, border included, by a kernel for each channel, so many times.
///
/// # Panics
/// When the processor has no such instruction set.
pub fn windows(isa: &str, [size, kernel, n_channels]: [usize; 3], times: usize) {
    let isa = by_name(isa);
    let data = vec![7; size * size * n_channels];
    let weights = vec![3; kernel * kernel * n_channels];
    let out = size - kernel + 1;
    let windows = Windows {
        data: &data,
        width: size,
        n_channels,
        out_height: out,
        out_width: out,
        kernel: [kernel; 2],
        strides: [1; 2],
    };
    for _ in 0..times {
        convolve(isa, &windows, &weights, &vec![0; n_channels], &mut Seen);
    }
}

fn by_name(name: &str) -> Isa {
    let found = Isa::available().into_iter().find(|isa| format!("{isa:?}") == name);
    found.unwrap_or_else(|| panic!("this processor has no {name}, but {:?}", available()))
}
