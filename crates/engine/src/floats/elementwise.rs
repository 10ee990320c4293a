//! Normalization and activations, one row or one element for itself.

use rayon::ThreadPool;

use crate::kernels::Isa;
use crate::kernels::rowwise::{self, ELEMENT_NS, Normalization};
use crate::share::share;

/// Normalization of each row to a mean of 0 and a variance of 1, then a factor and an offset for each element
/// (Ba, Kiros and Hinton, "Layer Normalization", 2016).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Normalize {
    pub isa: Isa,
    pub by: Normalization,
}

impl Normalize {
    /// Normalizes `rows`, of as many elements each as there are factors, into `out`.
    ///
    /// # Errors
    /// When a slice does not fill its shape.
    pub(crate) fn run(&self, rows: &[f32], pool: Option<&ThreadPool>, out: &mut [f32]) -> Result<(), String> {
        let len = self.by.factors.len();
        if len == 0
            || self.by.offsets.len() != len
            || rows.len() != out.len()
            || !rows.len().is_multiple_of(len)
        {
            return Err(format!("{} elements in rows of {len}", rows.len()));
        }
        share(pool, out, len, ELEMENT_NS, |first, out| {
            rowwise::normalize(self.isa, &rows[first * len..][..out.len()], &self.by, out);
        });
        Ok(())
    }
}

/// `x * sigmoid(beta * x)` of each element into `out` (Ramachandran, Zoph and Le, "Searching for Activation Functions",
/// 2017): CLIP's activation with a beta of 1.702.
///
/// # Panics
/// When the slices differ in length.
pub(crate) fn swish(isa: Isa, values: &[f32], beta: f32, pool: Option<&ThreadPool>, out: &mut [f32]) {
    assert_eq!(values.len(), out.len());
    share(pool, out, 1, ELEMENT_NS, |first, out| {
        rowwise::swish(isa, &values[first..][..out.len()], beta, out);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tests::Numbers;

    fn floats(numbers: &mut Numbers, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| scale * (numbers.between(0, 2000) as f32 / 1e3 - 1.0)).collect()
    }

    #[test]
    fn rows_are_normalized_on_every_instruction_set_as_written_down_plainly() {
        let mut numbers = Numbers(5);
        for _ in 0..20 {
            let (n, len) = (numbers.between(1, 9), numbers.between(2, 90));
            let rows = floats(&mut numbers, n * len, 30.0);
            let (factors, offsets) = (floats(&mut numbers, len, 1.0), floats(&mut numbers, len, 1.0));
            for isa in Isa::available() {
                let by = Normalization { epsilon: 1e-5, factors: factors.clone(), offsets: offsets.clone() };
                let by = Normalize { isa, by };
                let mut out = vec![f32::NAN; n * len];
                by.run(&rows, None, &mut out).unwrap();
                for (row, out) in rows.chunks(len).zip(out.chunks(len)) {
                    let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / len as f64;
                    let square = |x: &f32| (f64::from(*x) - mean).powi(2);
                    let scale = (row.iter().map(square).sum::<f64>() / len as f64 + 1e-5).sqrt().recip();
                    for (i, out) in out.iter().enumerate() {
                        let expected = (f64::from(row[i]) - mean) * scale * f64::from(factors[i])
                            + f64::from(offsets[i]);
                        assert!((f64::from(*out) - expected).abs() < 1e-5, "{isa:?} {out} {expected}");
                    }
                }
            }
        }
        let by = Normalization { epsilon: 0.0, factors: vec![1.0; 3], offsets: vec![0.0; 3] };
        let by = Normalize { isa: Isa::Portable, by };
        assert!(by.run(&[0.0; 4], None, &mut [0.0; 4]).is_err());
    }

    #[test]
    fn swish_is_that_of_the_library_for_values_of_every_size() {
        let mut numbers = Numbers(6);
        for scale in [1e-3, 1.0, 20.0, 1e4] {
            let values = floats(&mut numbers, 999, scale);
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; values.len()];
                swish(isa, &values, 1.702, None, &mut out);
                for (value, out) in values.iter().zip(out) {
                    let value = f64::from(*value);
                    let expected = value / (1.0 + (-1.702 * value).exp());
                    // The exponent's own rounding grows with it.
                    let most = (1e-6 + 2e-7 * value.abs()) * expected.abs() + 1e-30;
                    assert!((f64::from(out) - expected).abs() <= most, "{value} {out}");
                }
            }
        }
        let mut out = [0.0];
        swish(Isa::best(), &[f32::NAN], 1.0, None, &mut out);
        assert!(out[0].is_nan());
    }
}
