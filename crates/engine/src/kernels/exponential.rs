//! Soft maxima, in loops that compilers turn into vector instructions.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instruction sets that the processor was asked for")
)]

use super::rounding::ROUND;
use super::{Isa, compiled_for};

/// Sums and maxima are taken in so many lanes.
const LANES: usize = 16;

/// Log-softmax in place.
pub fn log_softmax(scores: &mut [f32]) {
    compiled_for!(Isa::here(), logs, scores: &mut [f32]);
}

#[inline(always)]
fn logs(scores: &mut [f32]) {
    let max = greatest(scores);
    let log_sum = sum_by(scores, |x| exp(x - max)).ln();
    // The maximum goes first: added to the logarithm it would swallow its digits.
    scores.iter_mut().for_each(|x| *x = *x - max - log_sum);
}

/// Softmax in place; of nothing, nothing. Takes the instruction set of whoever calls it.
#[inline(always)]
pub fn softmax(scores: &mut [f32]) {
    let max = greatest(scores);
    scores.iter_mut().for_each(|x| *x = exp(*x - max));
    let sum = sum_by(scores, |x| x);
    scores.iter_mut().for_each(|x| *x /= sum);
}

/// The sum of `term` of each value, in lanes.
#[inline(always)]
pub(super) fn sum_by(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += term(*value);
        }
    }
    sums.into_iter().sum::<f32>() + rest.iter().map(|value| term(*value)).sum::<f32>()
}

/// The largest value; negative infinity of nothing. Takes the instruction set of whoever calls it.
#[inline(always)]
pub fn greatest(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut greatest = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (greatest, value) in greatest.iter_mut().zip(chunk) {
            *greatest = if *value > *greatest { *value } else { *greatest };
        }
    }
    greatest.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, f32::max)
}

/// e^x of an `x` of at most zero, to a relative 4e-7; that of -87 for what is below. Without a branch or a call.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// The logarithm of 2 in two parts, the first exact in few bits.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let rest = x - whole * LN_2[0] - whole * LN_2[1];
    // Taylor's series; the rest is at most half the logarithm of 2.
    let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let power = series.into_iter().fold(0.0, |sum, factor| sum * rest + factor);
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    power * f32::from_bits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_sums_to_one_even_for_large_scores() {
        let mut scores = [1000.0, 999.0, -1000.0];
        softmax(&mut scores);
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6 && scores[0] > scores[1]);
        let mut logs = [1000.0, 999.0, -1000.0];
        log_softmax(&mut logs);
        assert!((logs[0].exp() - scores[0]).abs() < 1e-6);
        softmax(&mut []);
    }

    #[test]
    fn the_exponential_is_that_of_the_library_to_six_digits() {
        for n in 0..=87_000 {
            let x = -(n as f32) / 1000.0;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 4e-7, "{x}: {found} {expected}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_do_not_depend_on_where_a_chunk_ends() {
        for n in 0..40 {
            let mut logs: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            log_softmax(&mut logs);
            let sum: f32 = logs.iter().map(|x| x.exp()).sum();
            assert!(n == 0 || (sum - 1.0).abs() < 1e-5, "{n}: {sum}");
        }
    }
}
