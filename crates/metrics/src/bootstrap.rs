//! How far a score would move with other images of the same kind: the bootstrap over images.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{DocumentFrequency, Example, MetricsError, cider_d};

/// How to resample.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    /// Draws of as many images as there are, with replacement.
    pub resamples: usize,
    /// The same seed gives the same interval on every machine.
    pub seed: u64,
    /// The share of resamples inside the interval, between 0 and 1.
    pub level: f64,
}

impl Default for Bootstrap {
    fn default() -> Bootstrap {
        Bootstrap { resamples: 1000, seed: 1, level: 0.95 }
    }
}

impl Bootstrap {
    /// The source of every draw, or why there can be none.
    pub(crate) fn rng(&self) -> Result<ChaCha8Rng, MetricsError> {
        let Bootstrap { resamples, seed, level } = *self;
        if resamples == 0 || !(level > 0.0 && level < 1.0) {
            return Err(MetricsError::Bootstrap(resamples, level.to_string()));
        }
        Ok(ChaCha8Rng::seed_from_u64(seed))
    }
}

/// Percentiles of the resampled means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Two systems on the same images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Mean of the first less mean of the second.
    pub difference: f64,
    /// Of the difference. An interval that holds 0 shows no order.
    pub interval: Interval,
    /// The share of resamples in which the first is not above the second: 0 to 1, the smaller the surer.
    pub not_above: f64,
}

/// The percentile interval of the mean of per-image values. The values themselves stay: for CIDEr-D this means that
/// the document frequency is held at that of all images, not counted anew in each resample.
pub fn mean_interval(per_image: &[f64], bootstrap: &Bootstrap) -> Result<Interval, MetricsError> {
    Ok(percentiles(&resampled_means(per_image, bootstrap)?, bootstrap.level))
}

/// The paired bootstrap: both systems' values of one image are drawn together, so that images which are hard for both
/// do not blur the difference.
pub fn paired(first: &[f64], second: &[f64], bootstrap: &Bootstrap) -> Result<Comparison, MetricsError> {
    if first.len() != second.len() {
        return Err(MetricsError::Unpaired { left: first.len(), right: second.len() });
    }
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let means = resampled_means(&differences, bootstrap)?;
    let not_above = means.iter().filter(|&&mean| mean <= 0.0).count() as f64 / means.len() as f64;
    let difference = differences.iter().sum::<f64>() / differences.len() as f64;
    Ok(Comparison { difference, interval: percentiles(&means, bootstrap.level), not_above })
}

/// [`paired`] for several values an image: whole images are drawn, since what is asked about one photo is right or
/// wrong together. `images` has the image of each value; the difference is over values, not over images.
pub fn paired_within(
    first: &[f64],
    second: &[f64],
    images: &[usize],
    bootstrap: &Bootstrap,
) -> Result<Comparison, MetricsError> {
    if first.len() != second.len() || first.len() != images.len() {
        return Err(MetricsError::Unpaired { left: first.len(), right: second.len().min(images.len()) });
    }
    let mut by_image: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for ((a, b), image) in first.iter().zip(second).zip(images) {
        let (sum, n) = by_image.entry(*image).or_default();
        *sum += a - b;
        *n += 1.0;
    }
    let sums: Vec<(f64, f64)> = by_image.into_values().collect();
    let mean = |drawn: &mut dyn Iterator<Item = (f64, f64)>| {
        let (sum, n) = drawn.fold((0.0, 0.0), |(sum, n), (a, b)| (sum + a, n + b));
        sum / n
    };
    let means = resampled(sums.len(), bootstrap, |draws| mean(&mut draws.map(|at| sums[at])))?;
    let not_above = means.iter().filter(|&&mean| mean <= 0.0).count() as f64 / means.len() as f64;
    let difference = mean(&mut sums.iter().copied());
    Ok(Comparison { difference, interval: percentiles(&means, bootstrap.level), not_above })
}

/// [`paired`] on the CIDEr-D of two systems. Both lists must hold the same images in the same order, which is checked by
/// their references.
pub fn compare(
    first: &[Example],
    second: &[Example],
    frozen: Option<&DocumentFrequency>,
    bootstrap: &Bootstrap,
) -> Result<Comparison, MetricsError> {
    if first.len() != second.len() {
        return Err(MetricsError::Unpaired { left: first.len(), right: second.len() });
    }
    if let Some(index) = first.iter().zip(second).position(|(a, b)| a.references != b.references) {
        return Err(MetricsError::OtherReferences(index));
    }
    paired(&cider_d(first, frozen)?.per_image, &cider_d(second, frozen)?.per_image, bootstrap)
}

/// The mean of each resample, ascending.
fn resampled_means(values: &[f64], bootstrap: &Bootstrap) -> Result<Vec<f64>, MetricsError> {
    let n = values.len() as f64;
    resampled(values.len(), bootstrap, |draws| draws.map(|at| values[at]).sum::<f64>() / n)
}

/// A number of each resample of `n` things, ascending; `number` is given the drawn places.
fn resampled(
    n: usize,
    bootstrap: &Bootstrap,
    number: impl Fn(&mut dyn Iterator<Item = usize>) -> f64,
) -> Result<Vec<f64>, MetricsError> {
    let mut rng = bootstrap.rng()?;
    let Ok(n @ 1..) = u32::try_from(n) else { return Err(MetricsError::NoExamples) };
    // Drawing a u32, not a usize, keeps the interval the same on 32-bit machines.
    let mut numbers: Vec<f64> = (0..bootstrap.resamples)
        .map(|_| number(&mut (0..n).map(|_| rng.random_range(0..n) as usize)))
        .collect();
    numbers.sort_by(f64::total_cmp);
    Ok(numbers)
}

/// The interval that leaves half of the rest on either side, interpolated between neighbours.
pub(crate) fn percentiles(ascending: &[f64], level: f64) -> Interval {
    let at = |share: f64| {
        let place = share * (ascending.len() - 1) as f64;
        let (below, above) = (ascending[place.floor() as usize], ascending[place.ceil() as usize]);
        below + (above - below) * place.fract()
    };
    Interval { low: at((1.0 - level) / 2.0), high: at((1.0 + level) / 2.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize) -> Vec<f64> {
        (0..n).map(|i| (i * 7919 % 101) as f64 / 100.0).collect()
    }

    #[test]
    fn the_interval_holds_the_mean_and_has_about_the_width_of_the_normal_one() {
        let values = values(1000);
        let mean = values.iter().sum::<f64>() / 1000.0;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1000.0).sqrt();
        let interval = mean_interval(&values, &Bootstrap::default()).unwrap();
        assert!(interval.low < mean && mean < interval.high);
        let expected = 2.0 * 1.96 * deviation / 1000f64.sqrt();
        assert!(((interval.high - interval.low) / expected - 1.0).abs() < 0.1, "{interval:?}, {expected}");
    }

    #[test]
    fn one_seed_gives_one_interval_and_another_seed_another() {
        let values = values(50);
        let with = |seed| mean_interval(&values, &Bootstrap { seed, ..Bootstrap::default() }).unwrap();
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }

    #[test]
    fn a_small_constant_gain_is_certain_when_paired() {
        let second = values(200);
        let first: Vec<f64> = second.iter().map(|v| v + 0.01).collect();
        let comparison = paired(&first, &second, &Bootstrap::default()).unwrap();
        assert!((comparison.difference - 0.01).abs() < 1e-12);
        assert_eq!(comparison.not_above, 0.0);
        assert!(comparison.interval.low > 0.0);
        assert_eq!(paired(&second, &second, &Bootstrap::default()).unwrap().not_above, 1.0);
    }

    #[test]
    fn values_of_one_image_are_drawn_together() {
        let first: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i / 4 % 2 == 0))).collect();
        let none = vec![0.0; 400];
        let images: Vec<usize> = (0..400).map(|i| i / 4).collect();
        let apart: Vec<usize> = (0..400).collect();
        let width = |images: &[usize]| {
            let comparison = paired_within(&first, &none, images, &Bootstrap::default()).unwrap();
            assert!((comparison.difference - 0.5).abs() < 1e-12);
            comparison.interval.high - comparison.interval.low
        };
        assert!(width(&images) > 1.5 * width(&apart), "four equal values an image are worth one");
        let unpaired = paired_within(&first, &none, &images[1..], &Bootstrap::default());
        assert_eq!(unpaired, Err(MetricsError::Unpaired { left: 400, right: 399 }));
    }

    #[test]
    fn percentiles_interpolate_between_neighbours() {
        let interval = percentiles(&[0.0, 1.0, 2.0, 3.0, 4.0], 0.5);
        assert_eq!(interval, Interval { low: 1.0, high: 3.0 });
        assert_eq!(percentiles(&[7.0], 0.95), Interval { low: 7.0, high: 7.0 });
    }

    #[test]
    fn refuses_what_cannot_be_resampled() {
        let bootstrap = Bootstrap::default();
        assert_eq!(mean_interval(&[], &bootstrap), Err(MetricsError::NoExamples));
        assert_eq!(paired(&[1.0], &[], &bootstrap), Err(MetricsError::Unpaired { left: 1, right: 0 }));
        let none = Bootstrap { resamples: 0, ..bootstrap.clone() };
        assert!(matches!(mean_interval(&[1.0], &none), Err(MetricsError::Bootstrap(0, _))));
        let level = Bootstrap { level: f64::NAN, ..bootstrap };
        assert!(matches!(mean_interval(&[1.0], &level), Err(MetricsError::Bootstrap(1000, _))));
    }

    #[test]
    fn compare_refuses_other_images() {
        let example =
            |reference: &str| Example { candidate: "a dog".into(), references: vec![reference.into()] };
        let (first, second) = ([example("a dog runs")], [example("a cat sleeps")]);
        assert_eq!(
            compare(&first, &second, None, &Bootstrap::default()),
            Err(MetricsError::OtherReferences(0))
        );
    }
}
