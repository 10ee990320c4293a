//! What turns a caption's text embedding into something that stands for an image embedding.

use rand::Rng;

use crate::training::normal;

/// Noise on a unit text embedding, renormalised afterwards (CapDec, Nukrai et al. 2022, eq. 1).
///
/// CapDec gives a variance; that says little, since its effect depends on the width. Here the noise is given by
/// the cosine between the clean and the noisy vector: `variance = (1 / cosine^2 - 1) / dim`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    pub cosine_min: f32,
    pub cosine_max: f32,
}

impl Noise {
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
        let norm = x.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
        x.iter_mut().for_each(|v| *v /= norm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::step_rng;

    #[test]
    fn noisy_embeddings_keep_the_stated_cosine() {
        let dim = 384;
        let clean: Vec<f32> = (0..dim).map(|_| 1.0 / (dim as f32).sqrt()).collect();
        for cosine in [0.8, 0.5, 0.33] {
            let noise = Noise { cosine_min: cosine, cosine_max: cosine };
            let mut rng = step_rng(3, 0);
            let n = 400;
            let mean = (0..n)
                .map(|_| {
                    let mut x = clean.clone();
                    noise.apply(&mut x, &mut rng);
                    x.iter().zip(&clean).map(|(a, b)| a * b).sum::<f32>()
                })
                .sum::<f32>()
                / n as f32;
            assert!((mean - cosine).abs() < 0.01, "asked {cosine}, got {mean}");
        }
    }

    #[test]
    fn no_noise_is_the_identity() {
        let mut x = vec![0.6, 0.8];
        Noise { cosine_min: 1.0, cosine_max: 1.0 }.apply(&mut x, &mut step_rng(1, 0));
        assert_eq!(x, [0.6, 0.8]);
    }
}
