//! What every training loop needs: a schedule, one optimizer step, checkpoints, a progress line.

mod checkpoint;
mod durable;
mod inputs;
mod optimizer;
mod progress;

pub use checkpoint::{Checkpoint, State};
pub use durable::write_atomically;
pub use inputs::{Inputs, sha256_hex};
pub use optimizer::{Optimizer, OptimizerConfig};
pub use progress::{Progress, say};

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Learning rate at `step`: linear warm-up, then a cosine down to a tenth of the peak.
pub fn learning_rate(step: usize, steps: usize, warmup_steps: usize, peak: f64) -> f64 {
    if step < warmup_steps {
        return peak * (step + 1) as f64 / warmup_steps as f64;
    }
    let done = (step - warmup_steps) as f64 / steps.saturating_sub(warmup_steps).max(1) as f64;
    peak * (0.1 + 0.9 * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()))
}

/// Cross-entropy of the rows of `logits` (B, B), each of whose own column is the right one: one direction of InfoNCE
/// (van den Oord et al. 2018).
pub fn own_column_loss(logits: Tensor<2>) -> Tensor<1> {
    let b = logits.dims()[0];
    let own = Tensor::<1, Int>::arange(0..b as i64, &logits.device()).reshape([b, 1]);
    log_softmax(logits, 1).gather(1, own).mean().neg()
}

/// Symmetric InfoNCE (CLIP, Radford et al. 2021) of unit rows (B, D), of which the ith of each belong together.
pub fn symmetric_contrast(images: Tensor<2>, texts: Tensor<2>, tau: f64) -> Tensor<1> {
    let logits = images.matmul(texts.transpose()).div_scalar(tau);
    (own_column_loss(logits.clone()) + own_column_loss(logits.transpose())).mul_scalar(0.5)
}

/// The randomness of one step. It depends on the run's seed and the step alone, so that a resumed run draws
/// what an uninterrupted one would have drawn.
pub fn step_rng(seed: u64, step: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step as u64 + 1);
    rng
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learning_rate_rises_to_the_peak_and_falls_to_a_tenth() {
        assert!(learning_rate(0, 100, 10, 1.0) < learning_rate(9, 100, 10, 1.0));
        assert!((learning_rate(10, 100, 10, 1.0) - 1.0).abs() < 1e-9);
        assert!((learning_rate(100, 100, 10, 1.0) - 0.1).abs() < 1e-9);
    }
}
