//! Gaussian noise on unit vectors, given by the cosine that it leaves.

use rand::Rng;

/// Noise on a unit embedding, renormalised afterwards (CapDec, Nukrai et al. 2022, eq. 1).
///
/// CapDec gives a variance; that says little, since its effect depends on the width. Here the noise is
/// given by the cosine between the clean and the noisy vector: `variance = (1 / cosine^2 - 1) / dim`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Above 0, at most 1; drawn uniformly between the two for each vector.
    pub cosine_min: f32,
    pub cosine_max: f32,
}

impl Noise {
    /// No noise at all.
    pub const NONE: Noise = Noise::fixed(1.0);

    /// The same cosine for every vector.
    pub const fn fixed(cosine: f32) -> Noise {
        Noise { cosine_min: cosine, cosine_max: cosine }
    }

    /// The variance of each coordinate at which clean and noisy vector have this cosine on average.
    pub fn variance(cosine: f32, dim: usize) -> f32 {
        (1.0 / (cosine * cosine) - 1.0) / dim as f32
    }

    /// Adds noise to a unit vector in place and renormalises it. A cosine of 1 leaves it as it is.
    pub fn apply(&self, x: &mut [f32], rng: &mut impl Rng) {
        let cosine = self.cosine_min + (self.cosine_max - self.cosine_min) * rng.random::<f32>();
        if cosine >= 1.0 {
            return;
        }
        let std = Noise::variance(cosine, x.len()).sqrt();
        x.iter_mut().for_each(|v| *v += std * normal(rng));
        let norm = crate::vector::norm(x).max(1e-6);
        x.iter_mut().for_each(|v| *v /= norm);
    }
}

/// A standard normal number (Box and Muller 1958).
pub fn normal(rng: &mut impl Rng) -> f32 {
    let u: f32 = 1.0 - rng.random::<f32>();
    let v: f32 = rng.random();
    (-2.0 * u.ln()).sqrt() * (2.0 * std::f32::consts::PI * v).cos()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn noisy_embeddings_keep_the_stated_cosine() {
        let dim = 384;
        let clean: Vec<f32> = (0..dim).map(|_| 1.0 / (dim as f32).sqrt()).collect();
        for cosine in [0.8, 0.5, 0.33] {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let n = 400;
            let mean = (0..n)
                .map(|_| {
                    let mut x = clean.clone();
                    Noise::fixed(cosine).apply(&mut x, &mut rng);
                    crate::vector::dot(&x, &clean)
                })
                .sum::<f32>()
                / n as f32;
            assert!((mean - cosine).abs() < 0.01, "asked {cosine}, got {mean}");
        }
    }

    #[test]
    fn no_noise_is_the_identity() {
        let mut x = vec![0.6, 0.8];
        Noise::NONE.apply(&mut x, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(x, [0.6, 0.8]);
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let draws: Vec<f32> = (0..20_000).map(|_| normal(&mut rng)).collect();
        let mean = draws.iter().sum::<f32>() / draws.len() as f32;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / draws.len() as f32;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
    }
}
