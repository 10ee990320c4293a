//! Products of one f32 vector with many stored i8 rows, as a bank of embeddings is searched.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instruction sets that the processor was asked for")
)]

use super::{Isa, compiled_for};

/// The product of `vector` (dim) with each row of `rows` (n, dim) into `products` (n). Blocks for a millisecond or so a
/// million elements.
///
/// # Panics
/// When the rows do not fill the products.
pub fn bank_products(rows: &[i8], vector: &[f32], products: &mut [f32]) {
    assert_eq!(rows.len(), products.len() * vector.len(), "rows of {} elements", vector.len());
    compiled_for!(Isa::here(), all, rows: &[i8], vector: &[f32], products: &mut [f32]);
}

#[inline(always)]
fn all(rows: &[i8], vector: &[f32], products: &mut [f32]) {
    for (row, product) in rows.chunks_exact(vector.len().max(1)).zip(products) {
        *product = dot(row, vector);
    }
}

/// Sums in lanes, which become the elements of registers.
#[inline(always)]
fn dot(row: &[i8], vector: &[f32]) -> f32 {
    const LANES: usize = 16;
    let ((quants, quants_rest), (floats, floats_rest)) =
        (row.as_chunks::<LANES>(), vector.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (quants, floats) in std::iter::zip(quants, floats) {
        for lane in 0..LANES {
            lanes[lane] += f32::from(quants[lane]) * floats[lane];
        }
    }
    let rest: f32 = std::iter::zip(quants_rest, floats_rest).map(|(q, x)| f32::from(*q) * x).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_sum_as_one_by_one() {
        for dim in [1, 16, 37, 384] {
            let rows: Vec<i8> = (0..3 * dim).map(|i| (i * 7 % 255) as u8 as i8).collect();
            let x: Vec<f32> = (0..dim).map(|i| (i as f32 * 0.7).sin()).collect();
            let mut products = [0.0; 3];
            let most = 1e-3 * (dim as f32 / 37.0).max(1.0);
            bank_products(&rows, &x, &mut products);
            for (row, product) in rows.chunks(dim).zip(products) {
                let plain: f32 = std::iter::zip(row, &x).map(|(q, x)| f32::from(*q) * x).sum();
                assert!((product - plain).abs() < most, "{dim}: {product} {plain}");
            }
        }
    }
}
