//! Pseudo-features (SynTIC, Liu et al. 2024): the features of synthetic images, moved to where real ones would lie.
//!
//! No code of the paper is public; this follows its description in the papers that build on it. A feature is a free
//! parameter; the frozen encoders' contrastive loss against the captions, which aligned real images, pulls it, and an
//! anchor holds it near the image that it comes from. Without an anchor it ends on its caption, and the method is
//! DeCap in disguise: [`Change`] tells.

use std::fmt;

use anyhow::{Result, ensure};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use caption::dot;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::embed::{Embeddings, Moments};
use crate::training::{Optimizer, OptimizerConfig, Progress, symmetric_contrast};

/// Pairs that are contrasted with one another.
const BATCH: usize = 512;
/// Adam's step: at most that much a coordinate, of which a unit vector's are about 0.05.
const LR: f64 = 3e-3;

pub struct Settings {
    pub steps: usize,
    pub tau: f64,
    /// Weight of the squared distance to the start.
    pub anchor: f64,
}

#[derive(Module, Debug)]
struct Free {
    /// (B, D).
    features: Param<Tensor<2>>,
}

/// The features of `images` after a few steps of the symmetric InfoNCE against the embeddings of their captions,
/// `texts[captions[i]]` for image i; unit rows.
pub fn contrast(
    images: &Embeddings,
    texts: &Embeddings,
    captions: &[usize],
    settings: &Settings,
    device: &Device,
) -> Result<Embeddings> {
    let dim = images.dim;
    let mut moved: Vec<Vec<f32>> = Vec::with_capacity(images.len());
    let mut progress = Progress::new("pseudo-features", 0, images.len(), "features");
    let rows: Vec<usize> = (0..images.len()).collect();
    for batch in rows.chunks(BATCH) {
        let tensor =
            |flat: Vec<f32>| Tensor::<1>::from_data(flat.as_slice(), device).reshape([batch.len(), dim]);
        let start = tensor(batch.iter().flat_map(|row| images.row(*row)).collect());
        let text = tensor(batch.iter().flat_map(|row| texts.row(captions[*row])).collect());
        let mut free = Free { features: Param::from_tensor(start.clone()) };
        let config = OptimizerConfig { weight_decay: 0.0, grad_clip: f32::INFINITY, ..Default::default() };
        let mut optimizer = Optimizer::new(&config);
        for _ in 0..settings.steps {
            let features = crate::model::normalize(free.features.val());
            let distance = (features.clone() - start.clone()).square().sum_dim(1).mean();
            let loss = symmetric_contrast(features, text.clone(), settings.tau)
                + distance.mul_scalar(settings.anchor);
            free = optimizer.step(free, loss, LR);
        }
        let flat = crate::export::values(crate::model::normalize(free.features.val()))?;
        moved.extend(flat.chunks_exact(dim).map(<[f32]>::to_vec));
        progress.count(moved.len(), batch.len());
    }
    Embeddings::from_rows(&moved)
}

/// The features with the mean and deviation of every coordinate that real photos have; unit rows.
pub fn match_moments(images: &Embeddings, real: &Moments) -> Result<Embeddings> {
    ensure!(
        real.mean.len() == images.dim,
        "the moments have {} coordinates, not {}",
        real.mean.len(),
        images.dim
    );
    let own = images.moments();
    let rows: Vec<Vec<f32>> = (0..images.len())
        .map(|idx| {
            let mut row: Vec<f32> = images
                .row(idx)
                .enumerate()
                .map(|(i, x)| {
                    (x - own.mean[i]) / own.deviation[i].max(1e-6) * real.deviation[i] + real.mean[i]
                })
                .collect();
            caption::normalize(&mut row);
            row
        })
        .collect();
    Embeddings::from_rows(&rows)
}

/// What became of the features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub n: usize,
    /// Mean cosine with the caption's embedding before and after: near 1 afterwards, the images no longer matter.
    pub caption_cosine: [f64; 2],
    /// Mean cosine of a feature with where it started.
    pub kept_cosine: f64,
    /// Share of the features, 0 to 1, to which no caption is nearer than their own, before and after.
    pub found: [f64; 2],
}

impl Change {
    pub fn measure(
        before: &Embeddings,
        after: &Embeddings,
        texts: &Embeddings,
        captions: &[usize],
    ) -> Change {
        let n = before.len();
        let mean =
            |each: &dyn Fn(usize) -> f32| (0..n).map(|i| f64::from(each(i))).sum::<f64>() / n.max(1) as f64;
        let dot = |a: &Embeddings, i: usize, b: &Embeddings, j: usize| {
            a.row(i).zip(b.row(j)).map(|(x, y)| x * y).sum()
        };
        Change {
            n,
            caption_cosine: [
                mean(&|i| dot(before, i, texts, captions[i])),
                mean(&|i| dot(after, i, texts, captions[i])),
            ],
            kept_cosine: mean(&|i| dot(before, i, after, i)),
            found: [found(before, texts, captions), found(after, texts, captions)],
        }
    }
}

fn found(features: &Embeddings, texts: &Embeddings, captions: &[usize]) -> f64 {
    let texts: Vec<Vec<f32>> = captions.iter().map(|text| texts.row(*text).collect()).collect();
    let is_first = |i: &usize| {
        let feature: Vec<f32> = features.row(*i).collect();
        let own = dot(&feature, &texts[*i]);
        texts.iter().all(|text| dot(&feature, text) <= own)
    };
    let n = features.len();
    (0..n).into_par_iter().filter(is_first).count() as f64 / n.max(1) as f64
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { n, caption_cosine: [before, after], kept_cosine, found } = self;
        let [found_before, found_after] = found.map(|share| 100.0 * share);
        write!(
            f,
            "pseudo-features: {n} features, cosine with their captions {before:.3} -> {after:.3}, with their start \
             {kept_cosine:.3}; {found_before:.1} -> {found_after:.1} % are nearest to their own caption"
        )
    }
}
