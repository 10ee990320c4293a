//! Every instruction set that this processor has, against sums written down plainly.

use super::depthwise::{Windows, convolve};
use super::product::{BLOCK, Packed, Rows, Sink, multiply};
use super::*;

/// Small whole numbers in an order that has no pattern (Knuth, MMIX).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.next() as usize % (high - low + 1)
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    pub(crate) fn weights(&mut self, n: usize) -> Vec<i8> {
        (0..n).map(|_| (self.next() as u8).cast_signed()).collect()
    }
}

/// Keeps the sums as they are.
struct Sums {
    sums: Vec<i32>,
    n_columns: usize,
}

impl Sink for Sums {
    fn put(&mut self, row: usize, column: usize, sums: &[i32; BLOCK]) {
        let n = (self.n_columns - column).min(BLOCK);
        self.sums[row * self.n_columns + column..][..n].copy_from_slice(&sums[..n]);
    }
}

#[test]
fn every_instruction_set_gives_the_sums_of_products() {
    let mut numbers = Numbers(1);
    for _ in 0..60 {
        let (n_rows, n_columns, depth) =
            (numbers.between(1, 40), numbers.between(1, 150), 4 * numbers.between(1, 30));
        let (rows, weights) = (numbers.bytes(n_rows * depth), numbers.weights(n_columns * depth));
        let packed = Packed::new(n_columns, depth, |column, k| weights[column * depth + k]);
        let initial: Vec<i32> =
            (0..packed.all().n_blocks() * BLOCK).map(|_| numbers.next().cast_signed() >> 12).collect();
        let mut expected = Vec::new();
        for row in rows.chunks(depth) {
            for (column, weights) in weights.chunks(depth).enumerate() {
                let products = std::iter::zip(row, weights).map(|(a, w)| i32::from(*a) * i32::from(*w));
                expected.push(initial[column] + products.sum::<i32>());
            }
        }
        for isa in Isa::available() {
            let mut found = Sums { sums: vec![0; n_rows * n_columns], n_columns };
            multiply(isa, &Rows::dense(&rows, n_rows, depth), packed.all(), &initial, &mut found);
            assert_eq!(found.sums, expected, "{isa:?} {n_rows}x{depth}x{n_columns}");
        }
    }
}

#[test]
fn the_largest_products_do_not_overflow_what_they_are_added_in() {
    let mut numbers = Numbers(12);
    for round in 0..40 {
        let (n_rows, n_columns, depth) =
            (numbers.between(1, 7), numbers.between(1, 33), 4 * numbers.between(1, 9));
        // Half of the rounds without -128, for which a kernel may have a way of its own.
        let least = if round % 2 == 0 { i8::MIN } else { -127 };
        let rows: Vec<u8> =
            (0..n_rows * depth).map(|_| if numbers.between(0, 4) == 0 { 255 } else { 0 }).collect();
        let weights: Vec<i8> =
            (0..n_columns * depth).map(|_| if numbers.between(0, 4) == 0 { 127 } else { least }).collect();
        let packed = Packed::new(n_columns, depth, |column, k| weights[column * depth + k]);
        let expected: Vec<i32> = rows
            .chunks(depth)
            .flat_map(|row| weights.chunks(depth).map(move |weights| (row, weights)))
            .map(|(row, weights)| {
                std::iter::zip(row, weights).map(|(a, w)| i32::from(*a) * i32::from(*w)).sum()
            })
            .collect();
        let initial = vec![0; packed.all().n_blocks() * BLOCK];
        for isa in Isa::available() {
            let mut found = Sums { sums: vec![0; n_rows * n_columns], n_columns };
            multiply(isa, &Rows::dense(&rows, n_rows, depth), packed.all(), &initial, &mut found);
            assert_eq!(found.sums, expected, "{isa:?} {n_rows}x{depth}x{n_columns}");
        }
    }
}

#[test]
fn rows_that_overlap_are_windows_of_a_picture() {
    let mut numbers = Numbers(2);
    for (width, n_channels, kernel, stride) in [(11, 8, 3, 2), (35, 24, 3, 2), (18, 64, 3, 1), (53, 4, 5, 3)]
    {
        let (n_lines, n_rows) = (4, (width - kernel) / stride + 1);
        let picture = numbers.bytes(((n_lines - 1) * stride + kernel) * width * n_channels);
        let n_columns = 20;
        let depth = kernel * kernel * n_channels;
        let weights = numbers.weights(n_columns * depth);
        let packed = Packed::new(n_columns, depth, |column, k| weights[column * depth + k]);
        let rows = Rows {
            data: &picture,
            n_lines,
            line_stride: stride * width * n_channels,
            n_rows,
            row_stride: stride * n_channels,
            n_runs: kernel,
            run_stride: width * n_channels,
            run_len: kernel * n_channels,
        };
        let mut expected = Vec::new();
        for (y, x) in (0..n_lines).flat_map(|y| (0..n_rows).map(move |x| (y, x))) {
            for weights in weights.chunks(depth) {
                let pixel = |k: usize| {
                    let (ky, rest) = (k / (kernel * n_channels), k % (kernel * n_channels));
                    picture[((y * stride + ky) * width + x * stride) * n_channels + rest]
                };
                expected.push((0..depth).map(|k| i32::from(pixel(k)) * i32::from(weights[k])).sum::<i32>());
            }
        }
        let initial = vec![0; packed.all().n_blocks() * BLOCK];
        for isa in Isa::available() {
            let mut found = Sums { sums: vec![0; n_lines * n_rows * n_columns], n_columns };
            multiply(isa, &rows, packed.all(), &initial, &mut found);
            assert_eq!(found.sums, expected, "{isa:?} {width} pixels of {n_channels} channels");
        }
    }
}

#[test]
fn every_instruction_set_convolves_channels_by_themselves() {
    let mut numbers = Numbers(3);
    for _ in 0..30 {
        let (n_channels, kernel) = (4 * numbers.between(1, 24), numbers.between(1, 5));
        let (out_height, out_width, stride) =
            (numbers.between(1, 6), numbers.between(1, 6), numbers.between(1, 2));
        let [height, width] = [out_height, out_width].map(|n| (n - 1) * stride + kernel);
        let picture = numbers.bytes(height * width * n_channels);
        let weights: Vec<i16> =
            numbers.weights(kernel * kernel * n_channels).into_iter().map(i16::from).collect();
        let initial: Vec<i32> = (0..n_channels).map(|_| numbers.next().cast_signed() >> 12).collect();
        let mut expected = Vec::new();
        for (y, x) in (0..out_height).flat_map(|y| (0..out_width).map(move |x| (y, x))) {
            for c in 0..n_channels {
                let mut sum = initial[c];
                for (ky, kx) in (0..kernel).flat_map(|ky| (0..kernel).map(move |kx| (ky, kx))) {
                    let pixel = picture[((y * stride + ky) * width + x * stride + kx) * n_channels + c];
                    sum += i32::from(pixel) * i32::from(weights[(ky * kernel + kx) * n_channels + c]);
                }
                expected.push(sum);
            }
        }
        let windows = Windows {
            data: &picture,
            width,
            n_channels,
            out_height,
            out_width,
            kernel: [kernel; 2],
            strides: [stride; 2],
        };
        for isa in Isa::available() {
            let mut found = Sums { sums: vec![0; expected.len()], n_columns: n_channels };
            convolve(isa, &windows, &weights, &initial, &mut found);
            assert_eq!(found.sums, expected, "{isa:?} {n_channels} channels, kernel {kernel}");
        }
    }
}

#[test]
#[should_panic(expected = "rows beyond the activations")]
fn rows_that_end_beyond_the_data_are_refused() {
    let packed = Packed::new(1, 4, |_, _| 1);
    let rows = Rows::dense(&[0; 7], 2, 4);
    multiply(Isa::best(), &rows, packed.all(), &[0; BLOCK], &mut Sums { sums: vec![0; 2], n_columns: 1 });
}

#[test]
fn the_sums_of_the_columns_are_those_of_their_weights() {
    let packed = Packed::new(17, 8, |column, k| if k < 3 { column as i8 } else { 0 });
    let sums = packed.column_sums();
    assert_eq!(sums.len(), 32);
    assert!(
        sums.iter().enumerate().all(|(column, sum)| *sum == if column < 17 { 3 * column as i32 } else { 0 })
    );
}
