//! What an image's embedding less its caption's looks like, beside Gaussian noise of the same length.

use caption::{dot, normal};
use rand::Rng;

use super::Paired;
use crate::report::saved::{Difference, rounded};
use crate::training::step_rng;

/// Bins of the histogram, and how far it reaches on either side in standard deviations.
const N_BINS: usize = 40;
const REACH: f64 = 4.0;

pub(super) fn measure(paired: &Paired, seed: u64) -> Difference {
    let images: Vec<Vec<f32>> = paired.views.iter().map(|view| view.embedding.clone()).collect();
    let texts: Vec<Vec<f32>> = paired.texts.iter().map(|(_, text)| text.clone()).collect();
    let differences: Vec<Vec<f32>> =
        paired.texts.iter().map(|(photo, text)| less(&images[*photo], text)).collect();
    let neighbours = || paired.texts.windows(2).filter(|two| two[0].0 == two[1].0);
    let siblings: Vec<Vec<f32>> = neighbours().map(|two| less(&two[0].1, &two[1].1)).collect();
    let gauss = noise(differences.len(), images[0].len(), &mut step_rng(seed, 0));

    let of_images = Spread::of(&images);
    let of_texts = Spread::of(&texts);
    let of_differences = Spread::of(&differences);
    let paired_cosine = average(paired.texts.iter().map(|(photo, text)| dot(&images[*photo], text)));
    let sibling_cosine = average(neighbours().map(|two| dot(&two[0].1, &two[1].1)));
    let pooled = Pooled::of(&differences);
    let ratios = deviation_ratios(&of_images, &of_texts);
    Difference {
        paired_cosine: rounded(paired_cosine),
        sibling_cosine: rounded(sibling_cosine),
        mean_image: rounded(of_images.mean_norm()),
        mean_text: rounded(of_texts.mean_norm()),
        mean_norm: rounded(of_differences.mean_norm()),
        rms_norm: rounded(average(differences.iter().map(|row| dot(row, row))).sqrt()),
        pooled_mean: rounded(pooled.mean),
        pooled_deviation: rounded(pooled.deviation),
        skewness: rounded(pooled.skewness),
        excess_kurtosis: rounded(pooled.excess_kurtosis),
        histogram: pooled.histogram,
        deviation_ratios: ratios.map(rounded),
        directions: [
            ("images", &of_images),
            ("captions", &of_texts),
            ("image less caption", &of_differences),
            ("caption less caption of the same photo", &Spread::of(&siblings)),
            ("Gaussian noise, as many rows", &Spread::of(&gauss)),
        ]
        .map(|(what, spread)| (what.to_owned(), rounded(spread.participation())))
        .to_vec(),
    }
}

fn less(a: &[f32], b: &[f32]) -> Vec<f32> {
    std::iter::zip(a, b).map(|(a, b)| a - b).collect()
}

fn noise(n: usize, dim: usize, rng: &mut impl Rng) -> Vec<Vec<f32>> {
    (0..n).map(|_| (0..dim).map(|_| normal(rng)).collect()).collect()
}

fn average(values: impl Iterator<Item = f32>) -> f64 {
    let (sum, n) = values.fold((0.0, 0usize), |(sum, n), x| (sum + f64::from(x), n + 1));
    sum / n.max(1) as f64
}

/// Mean and covariance of rows.
struct Spread {
    mean: Vec<f64>,
    /// (D, D), row-major.
    covariance: Vec<f64>,
}

impl Spread {
    fn of(rows: &[Vec<f32>]) -> Spread {
        let dim = rows.first().map_or(0, Vec::len);
        let n = rows.len().max(1) as f64;
        let mut mean = vec![0.0; dim];
        for row in rows {
            mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += f64::from(*x) / n);
        }
        let mut covariance = vec![0.0; dim * dim];
        for row in rows {
            let centred: Vec<f64> =
                std::iter::zip(row, &mean).map(|(x, mean)| f64::from(*x) - mean).collect();
            for (line, x) in covariance.chunks_exact_mut(dim.max(1)).zip(&centred) {
                line.iter_mut().zip(&centred).for_each(|(sum, y)| *sum += x * y / n);
            }
        }
        Spread { mean, covariance }
    }

    fn mean_norm(&self) -> f64 {
        self.mean.iter().map(|x| x * x).sum::<f64>().sqrt()
    }

    fn variances(&self) -> impl Iterator<Item = f64> {
        let dim = self.mean.len();
        (0..dim).map(move |i| self.covariance[i * dim + i])
    }

    /// Over how many directions the variance spreads: `(sum of eigenvalues)^2 / sum of their squares`, D where all
    /// directions have the same, 1 where one has all.
    fn participation(&self) -> f64 {
        let trace: f64 = self.variances().sum();
        let squares: f64 = self.covariance.iter().map(|x| x * x).sum();
        if squares > 0.0 { trace * trace / squares } else { 0.0 }
    }
}

/// All coordinates of all rows as one sample.
struct Pooled {
    mean: f64,
    deviation: f64,
    skewness: f64,
    excess_kurtosis: f64,
    /// Density of the coordinates in units of their deviation, at the middle of each bin.
    histogram: Vec<[f64; 2]>,
}

impl Pooled {
    fn of(rows: &[Vec<f32>]) -> Pooled {
        let all = || rows.iter().flatten().map(|x| f64::from(*x));
        let n = all().count().max(1) as f64;
        let mean = all().sum::<f64>() / n;
        let moment = |power| all().map(|x| (x - mean).powi(power)).sum::<f64>() / n;
        let deviation = moment(2).sqrt();
        let width = 2.0 * REACH / N_BINS as f64;
        let mut counts = [0usize; N_BINS];
        for x in all() {
            let at = ((x - mean) / deviation + REACH) / width;
            if (0.0..N_BINS as f64).contains(&at) {
                counts[at as usize] += 1;
            }
        }
        let bin = |(at, count): (usize, &usize)| {
            [(at as f64 + 0.5) * width - REACH, *count as f64 / (n * width)].map(rounded)
        };
        Pooled {
            mean,
            deviation,
            skewness: moment(3) / deviation.powi(3),
            excess_kurtosis: moment(4) / deviation.powi(4) - 3.0,
            histogram: counts.iter().enumerate().map(bin).collect(),
        }
    }
}

/// Deviation of a coordinate over images by that over texts: the 5th, 50th and 95th percentile of the coordinates.
fn deviation_ratios(images: &Spread, texts: &Spread) -> [f64; 3] {
    let mut ratios: Vec<f64> =
        images.variances().zip(texts.variances()).map(|(image, text)| (image / text).sqrt()).collect();
    ratios.sort_by(f64::total_cmp);
    [0.05, 0.5, 0.95].map(|at| ratios[((ratios.len() - 1) as f64 * at).round() as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaussian_noise_spreads_over_all_directions_and_has_no_skew() {
        let rows = noise(20_000, 16, &mut step_rng(3, 0));
        assert!(Spread::of(&rows).participation() > 15.5);
        let pooled = Pooled::of(&rows);
        assert!(pooled.mean.abs() < 0.01 && (pooled.deviation - 1.0).abs() < 0.01);
        assert!(pooled.skewness.abs() < 0.02 && pooled.excess_kurtosis.abs() < 0.05);
        let at_zero = pooled.histogram.iter().find(|bin| bin[0] > 0.0).unwrap();
        assert!((at_zero[1] - 0.397).abs() < 0.01, "{at_zero:?}");
    }

    #[test]
    fn variance_along_one_line_is_one_direction() {
        let rows: Vec<Vec<f32>> = (0..100).map(|i| vec![i as f32, 2.0 * i as f32, 0.0]).collect();
        assert!((Spread::of(&rows).participation() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_mean_of_the_gap_is_told_from_its_length() {
        let view = |x: f32| caption::ImageView {
            embedding: vec![x, 0.6],
            patches: vec![x, 0.6],
            weights: vec![1.0],
        };
        // Captions lie at the same distance to either side: a gap of length 0.1 whose mean is zero.
        let texts =
            vec![(0, vec![0.9, 0.6]), (0, vec![0.7, 0.6]), (1, vec![-0.9, 0.6]), (1, vec![-0.7, 0.6])];
        let found = measure(&Paired { views: vec![view(0.8), view(-0.8)], texts }, 1);
        assert!(found.mean_norm < 1e-6 && (found.rms_norm - 0.1).abs() < 1e-5, "{found:?}");
        assert!((found.mean_image - 0.6).abs() < 1e-5);
    }
}
