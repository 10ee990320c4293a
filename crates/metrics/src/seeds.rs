//! How far a score would move with other images and with other training runs: the bootstrap over images and seeds.
//!
//! A recipe is trained once a seed and every run is scored on the same images. What is drawn anew in a resample are the
//! images, the same for every run of every system, and the runs of each system. Systems trained with the same seeds
//! share that draw: what a seed decides for both (the order of the sentences, the first weights) then does not blur
//! their difference, and where it decides nothing, the interval is as wide as with draws of their own.
//!
//! With few seeds the interval is somewhat too narrow: the spread of n values drawn with replacement has (n - 1) / n of
//! the variance. With one seed it speaks of the images alone.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::MetricsError;
use crate::bootstrap::{Bootstrap, Interval, percentiles};

/// Per-image values of every run of one recipe, by seed; the same images in the same order each time.
pub type Runs = BTreeMap<u64, Vec<f64>>;

/// A number made of several systems' means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Of all runs on all images.
    pub value: f64,
    /// Percentiles over the resamples.
    pub interval: Interval,
}

/// What `statistic` makes of the systems' means, and how far that moves. It is given one mean a system, over seeds and
/// images, in the order of `systems`: `|mean| mean[0]` estimates a score, `|mean| mean[1] - mean[0]` a difference
/// (the paired bootstrap), `|mean| mean[0] / mean[1]` a ratio.
///
/// # Errors
/// [`MetricsError::NoExamples`] without systems, runs or images, [`MetricsError::Unpaired`] where a run has another
/// number of images, [`MetricsError::Bootstrap`] for a bootstrap that draws nothing.
pub fn estimate(
    systems: &[&Runs],
    statistic: impl Fn(&[f64]) -> f64,
    bootstrap: &Bootstrap,
) -> Result<Estimate, MetricsError> {
    let mut rng = bootstrap.rng()?;
    let n_images = n_images(systems)?;
    let every_image = vec![1; n_images as usize];
    let means: Vec<f64> = systems.iter().map(|runs| mean(runs, &vec![1; runs.len()], &every_image)).collect();

    let mut values: Vec<f64> = Vec::with_capacity(bootstrap.resamples);
    for _ in 0..bootstrap.resamples {
        let images = draw(n_images, &mut rng);
        let mut drawn: BTreeMap<Vec<u64>, Vec<u32>> = BTreeMap::new();
        let mut means = Vec::with_capacity(systems.len());
        for runs in systems {
            let seeds: Vec<u64> = runs.keys().copied().collect();
            let counts = drawn.entry(seeds).or_insert_with(|| draw(runs.len() as u32, &mut rng));
            means.push(mean(runs, counts, &images));
        }
        values.push(statistic(&means));
    }
    values.sort_by(f64::total_cmp);
    Ok(Estimate { value: statistic(&means), interval: percentiles(&values, bootstrap.level) })
}

/// How often each of `n` is drawn in `n` draws with replacement.
fn draw(n: u32, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let mut counts = vec![0; n as usize];
    for _ in 0..n {
        // Drawing a u32, not a usize, keeps the interval the same on 32-bit machines.
        counts[rng.random_range(0..n) as usize] += 1;
    }
    counts
}

/// The mean over runs and images, each counted as often as it was drawn.
fn mean(runs: &Runs, run_counts: &[u32], image_counts: &[u32]) -> f64 {
    let of = |per_image: &[f64]| -> f64 {
        let sum: f64 = per_image.iter().zip(image_counts).map(|(value, n)| value * f64::from(*n)).sum();
        sum / per_image.len() as f64
    };
    let drawn = runs.values().zip(run_counts).filter(|(_, n)| **n > 0);
    drawn.map(|(per_image, n)| f64::from(*n) * of(per_image)).sum::<f64>() / runs.len() as f64
}

/// The number of images of every run.
fn n_images(systems: &[&Runs]) -> Result<u32, MetricsError> {
    let mut lengths = systems.iter().flat_map(|runs| runs.values()).map(Vec::len);
    let first = lengths.next().ok_or(MetricsError::NoExamples)?;
    if systems.iter().any(|runs| runs.is_empty()) {
        return Err(MetricsError::NoExamples);
    }
    if let Some(other) = lengths.find(|length| *length != first) {
        return Err(MetricsError::Unpaired { left: first, right: other });
    }
    match u32::try_from(first) {
        Ok(n @ 1..) => Ok(n),
        _ => Err(MetricsError::NoExamples),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::{mean_interval, paired};

    /// Runs whose values are `base(image) + shift(seed)` with a little noise.
    fn runs(seeds: &[u64], n: usize, shift: impl Fn(u64) -> f64, rng: &mut ChaCha8Rng) -> Runs {
        let values = |seed: &u64| {
            let of =
                |image: usize| (image * 7919 % 101) as f64 / 100.0 + shift(*seed) + 0.1 * rng.random::<f64>();
            (*seed, (0..n).map(of).collect())
        };
        seeds.iter().map(values).collect()
    }

    fn width(interval: Interval) -> f64 {
        interval.high - interval.low
    }

    fn difference(mean: &[f64]) -> f64 {
        mean[1] - mean[0]
    }

    #[test]
    fn one_seed_gives_the_bootstrap_over_images() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let one = runs(&[1], 500, |_| 0.0, &mut rng);
        let bootstrap = Bootstrap { resamples: 4000, ..Bootstrap::default() };
        let seeded = estimate(&[&one], |mean| mean[0], &bootstrap).unwrap();
        let plain = mean_interval(&one[&1], &bootstrap).unwrap();
        assert!((seeded.value - one[&1].iter().sum::<f64>() / 500.0).abs() < 1e-12);
        assert!((width(seeded.interval) / width(plain) - 1.0).abs() < 0.1, "{seeded:?} {plain:?}");
    }

    #[test]
    fn one_seed_each_gives_the_paired_bootstrap() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (a, b) = (runs(&[1], 300, |_| 0.0, &mut rng), runs(&[1], 300, |_| 0.02, &mut rng));
        let bootstrap = Bootstrap { resamples: 4000, ..Bootstrap::default() };
        let seeded = estimate(&[&a, &b], difference, &bootstrap).unwrap();
        let plain = paired(&b[&1], &a[&1], &bootstrap).unwrap();
        assert!((seeded.value - plain.difference).abs() < 1e-12);
        assert!((width(seeded.interval) / width(plain.interval) - 1.0).abs() < 0.1);
    }

    #[test]
    fn seeds_that_disagree_widen_the_interval() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let agreeing = runs(&[1, 2, 3], 400, |_| 0.0, &mut rng);
        let disagreeing = runs(&[1, 2, 3], 400, |seed| 0.2 * seed as f64, &mut rng);
        let bootstrap = Bootstrap::default();
        let of = |runs: &Runs| estimate(&[runs], |mean| mean[0], &bootstrap).unwrap().interval;
        assert!(width(of(&disagreeing)) > 3.0 * width(of(&agreeing)));
    }

    #[test]
    fn what_a_seed_does_to_both_systems_does_not_blur_their_difference() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let a = runs(&[1, 2, 3], 400, |seed| 0.2 * seed as f64, &mut rng);
        let b = runs(&[1, 2, 3], 400, |seed| 0.2 * seed as f64 + 0.05, &mut rng);
        let others = runs(&[4, 5, 6], 400, |seed| 0.2 * (seed - 3) as f64 + 0.05, &mut rng);
        let bootstrap = Bootstrap::default();
        let shared = estimate(&[&a, &b], difference, &bootstrap).unwrap();
        let own = estimate(&[&a, &others], difference, &bootstrap).unwrap();
        assert!(shared.interval.low > 0.0, "{shared:?}");
        assert!(own.interval.low < 0.0 && width(own.interval) > 5.0 * width(shared.interval), "{own:?}");
    }

    #[test]
    fn properties_hold_for_many_invented_systems() {
        for case in 0..40u64 {
            let mut rng = ChaCha8Rng::seed_from_u64(case);
            let (n, n_seeds) = (rng.random_range(2..60), rng.random_range(1..4));
            let seeds: Vec<u64> = (0..n_seeds).collect();
            let gain = rng.random::<f64>() - 0.5;
            let a = runs(&seeds, n, |seed| 0.1 * seed as f64, &mut rng);
            let shifted: Runs =
                a.iter().map(|(seed, v)| (*seed, v.iter().map(|x| x + gain).collect())).collect();
            let bootstrap = Bootstrap { resamples: 50, seed: case, level: 0.9 };
            let of = |systems: &[&Runs], s: fn(&[f64]) -> f64| estimate(systems, s, &bootstrap).unwrap();

            // A constant gain is the whole difference in every resample.
            let constant = of(&[&a, &shifted], difference);
            assert!((constant.value - gain).abs() < 1e-9, "case {case}: {constant:?} {gain}");
            assert!(
                (constant.interval.low - gain).abs() < 1e-9 && (constant.interval.high - gain).abs() < 1e-9
            );
            // A difference turned round is its negative, interval and all.
            let b = runs(&seeds, n, |_| gain, &mut rng);
            let (there, back) = (of(&[&a, &b], difference), of(&[&b, &a], difference));
            assert!((there.value + back.value).abs() < 1e-9);
            assert!(
                (there.interval.low + back.interval.high).abs() < 1e-9,
                "case {case}: {there:?} {back:?}"
            );
            // The interval of a mean stays between the smallest and the largest value.
            let mean = of(&[&b], |mean| mean[0]);
            let values = || b.values().flatten().copied();
            assert!(mean.interval.low >= values().fold(f64::MAX, f64::min) - 1e-9);
            assert!(mean.interval.high <= values().fold(f64::MIN, f64::max) + 1e-9);
            assert!(mean.interval.low <= mean.interval.high);
            // The same seed gives the same interval.
            assert_eq!(there, of(&[&a, &b], difference));
        }
    }

    #[test]
    fn refuses_what_cannot_be_resampled() {
        let bootstrap = Bootstrap::default();
        let of = |systems: &[&Runs]| estimate(systems, |mean| mean[0], &bootstrap);
        let one = Runs::from([(1, vec![1.0, 2.0])]);
        assert_eq!(of(&[]), Err(MetricsError::NoExamples));
        assert_eq!(of(&[&Runs::new()]), Err(MetricsError::NoExamples));
        assert_eq!(of(&[&one, &Runs::new()]), Err(MetricsError::NoExamples));
        assert_eq!(of(&[&Runs::from([(1, vec![])])]), Err(MetricsError::NoExamples));
        let other = Runs::from([(1, vec![1.0])]);
        assert_eq!(of(&[&one, &other]), Err(MetricsError::Unpaired { left: 2, right: 1 }));
        let none = Bootstrap { resamples: 0, ..Bootstrap::default() };
        assert!(matches!(estimate(&[&one], |m| m[0], &none), Err(MetricsError::Bootstrap(0, _))));
    }
}
