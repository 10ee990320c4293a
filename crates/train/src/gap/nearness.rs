//! Whether sub-regions of an image are nearer to its captions than the image itself.
//!
//! A row that lies nearer to every sentence is nearer to the right ones, too, and the best of several rows is nearer
//! than one; so each figure stands beside the same one for the captions of another photo, and what counts is the
//! difference.

use anyhow::Result;
use caption::bundle::{Affinity, RegionSettings};
use caption::{ImageView, dot, regions};
use metrics::{Bootstrap, Runs};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::Paired;
use crate::report::saved::{Nearness, rounded};
use crate::retrieval::Retrieval;
use crate::training::step_rng;

const N_REGIONS: usize = 10;
const SHARPNESS: f32 = 20.0;
/// Weight of the patches beside the image at which the image no longer counts.
const ALONE: f32 = 1e6;

/// What stands for an image.
struct Feature {
    name: String,
    rows: Rows,
    /// Whether the patches' weights, by which regions are chosen, are shuffled.
    shuffled: bool,
}

enum Rows {
    Embedding,
    MeanPatch,
    Regions(RegionSettings),
}

impl Rows {
    /// (R, D), unit rows.
    fn of(&self, view: &ImageView) -> Vec<f32> {
        match self {
            Rows::Embedding => view.embedding.clone(),
            Rows::MeanPatch => mean_row(&view.patches, view.embedding.len()),
            Rows::Regions(settings) => regions(view, settings),
        }
    }
}

/// The image's one embedding first, with which the others are compared.
pub(super) fn measure(paired: &Paired, seed: u64) -> Result<Vec<Nearness>> {
    let bootstrap = Bootstrap { seed, ..Bootstrap::default() };
    let mut all: Vec<Nearness> = Vec::new();
    let mut first: Option<Vec<f64>> = None;
    for feature in features() {
        let rows: Vec<Vec<f32>> = rows(&feature, &paired.views, seed);
        let cosines = Cosines::measure(&rows, paired);
        let margin: Vec<f64> =
            cosines.own.iter().zip(&cosines.other).map(|(own, other)| own - other).collect();
        let nearer = match &first {
            None => None,
            Some(first) => {
                let runs = [first, &margin].map(|of| Runs::from([(seed, of.clone())]));
                let by = metrics::estimate(&[&runs[0], &runs[1]], |mean| mean[1] - mean[0], &bootstrap)?;
                Some([by.value, by.interval.low, by.interval.high].map(rounded))
            }
        };
        first.get_or_insert(margin);
        all.push(Nearness {
            what: feature.name,
            own: rounded(mean(&cosines.own)),
            other: rounded(mean(&cosines.other)),
            best_own: rounded(mean(&cosines.best_own)),
            best_other: rounded(mean(&cosines.best_other)),
            nearer,
            text_to_image: recall(&rows, paired),
        });
    }
    Ok(all)
}

fn features() -> Vec<Feature> {
    let feature = |name: &str, rows| Feature { name: name.to_owned(), rows, shuffled: false };
    let regions = |affinity, patch_weight| {
        Rows::Regions(RegionSettings { n_regions: N_REGIONS, affinity, sharpness: SHARPNESS, patch_weight })
    };
    let mut all = vec![
        feature("the image's embedding", Rows::Embedding),
        feature("mean of all patches", Rows::MeanPatch),
    ];
    for (what, weight) in [("regions alone", ALONE), ("embedding and regions", 1.0)] {
        for (how, affinity) in
            [("once", Affinity::Once), ("twice", Affinity::Twice), ("patch", Affinity::Patch)]
        {
            all.push(feature(&format!("{what}, {how}"), regions(affinity, weight)));
        }
        let random =
            feature(&format!("{what}, once, around random patches"), regions(Affinity::Once, weight));
        all.push(Feature { shuffled: true, ..random });
    }
    all
}

/// Unit rows for every view.
fn rows(feature: &Feature, views: &[ImageView], seed: u64) -> Vec<Vec<f32>> {
    let of = |(photo, view): (usize, &ImageView)| {
        if !feature.shuffled {
            return feature.rows.of(view);
        }
        let mut view = view.clone();
        view.weights.shuffle(&mut step_rng(seed, photo));
        feature.rows.of(&view)
    };
    views.par_iter().enumerate().map(of).collect()
}

fn mean_row(rows: &[f32], dim: usize) -> Vec<f32> {
    let mut mean = vec![0.0; dim];
    for row in rows.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    caption::normalize(&mut mean);
    mean
}

/// Of each photo: means over captions of the mean and of the greatest cosine with its rows, for its own captions and
/// for those of the photo that lies half of the list away.
struct Cosines {
    own: Vec<f64>,
    other: Vec<f64>,
    best_own: Vec<f64>,
    best_other: Vec<f64>,
}

impl Cosines {
    fn measure(rows: &[Vec<f32>], paired: &Paired) -> Cosines {
        let n = rows.len();
        let dim = paired.views[0].embedding.len();
        let mut texts: Vec<Vec<&[f32]>> = vec![Vec::new(); n];
        paired.texts.iter().for_each(|(photo, text)| texts[*photo].push(text));
        let of = |photo: usize, texts: &[&[f32]]| {
            let (mut sum, mut best) = (0.0, 0.0);
            for text in texts {
                let cosines: Vec<f32> = rows[photo].chunks_exact(dim).map(|row| dot(row, text)).collect();
                sum += f64::from(cosines.iter().sum::<f32>()) / cosines.len() as f64;
                best += f64::from(cosines.iter().copied().fold(f32::MIN, f32::max));
            }
            let n = texts.len().max(1) as f64;
            (sum / n, best / n)
        };
        let (own, best_own) = (0..n).into_par_iter().map(|photo| of(photo, &texts[photo])).unzip();
        let away = |photo: usize| &texts[(photo + n / 2) % n];
        let (other, best_other) = (0..n).into_par_iter().map(|photo| of(photo, away(photo))).unzip();
        Cosines { own, other, best_own, best_other }
    }
}

/// Recall at 1, 5 and 10 with the mean of an image's rows, in percent.
fn recall(rows: &[Vec<f32>], paired: &Paired) -> [f64; 3] {
    let dim = paired.views[0].embedding.len();
    let images: Vec<f32> = rows.iter().flat_map(|rows| mean_row(rows, dim)).collect();
    let texts: Vec<(usize, &[f32])> =
        paired.texts.iter().map(|(photo, text)| (*photo, text.as_slice())).collect();
    Retrieval::measure(&images, &texts, dim).rounded().text_to_image
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Photos along the axes; one patch of each shows what its captions name, the others what those of its neighbour do.
    fn paired() -> Paired {
        let axis = |at: usize| -> Vec<f32> { (0..8).map(|i| f32::from(u8::from(i == at % 8))).collect() };
        let view = |photo: usize| {
            let mixed: Vec<f32> =
                axis(photo).iter().zip(axis(photo + 1)).map(|(a, b)| 0.6 * a + 0.8 * b).collect();
            let patches = [axis(photo), axis(photo + 1), axis(photo + 1), axis(photo + 1)].concat();
            let mut weights = vec![0.1; 4];
            weights[0] = 0.7;
            ImageView { embedding: mixed, patches, weights }
        };
        Paired {
            views: (0..8).map(view).collect(),
            texts: (0..8).flat_map(|photo| [(photo, axis(photo)), (photo, axis(photo))]).collect(),
        }
    }

    fn named<'a>(all: &'a [Nearness], name: &str) -> &'a Nearness {
        all.iter().find(|row| row.what == name).unwrap()
    }

    #[test]
    fn the_embedding_comes_first_and_is_compared_with_nothing() {
        let all = measure(&paired(), 1).unwrap();
        assert!(all[0].nearer.is_none() && all[1..].iter().all(|row| row.nearer.is_some()));
        assert!((all[0].own - 0.6).abs() < 1e-6 && all[0].other.abs() < 1e-6);
    }

    #[test]
    fn the_best_region_is_the_one_that_shows_what_the_caption_names() {
        let all = measure(&paired(), 1).unwrap();
        let alone = named(&all, "regions alone, patch");
        assert!((alone.best_own - 1.0).abs() < 1e-5, "{alone:?}");
        // Four patches, of which the first has the right one and the rest of ten repeat the last.
        assert!(alone.own < 0.2, "{alone:?}");
    }

    #[test]
    fn a_mean_of_patches_that_show_something_else_is_farther_away() {
        let all = measure(&paired(), 1).unwrap();
        let [by, low, high] = named(&all, "mean of all patches").nearer.unwrap();
        assert!(by < 0.0 && low <= by && by <= high, "{by} [{low}, {high}]");
    }
}
