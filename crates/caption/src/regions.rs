//! Sub-regions of an image: what MacCap (Qiu et al. 2024) hands to its adapter instead of one embedding.
//!
//! Each region is the image embedding plus an aggregate of patches around one that the image embedding
//! attends to. A caption names a few things of a picture; a region is nearer to such a sentence than the
//! whole picture is.

use crate::bundle::{Affinity, RegionSettings};
use crate::encoder::ImageView;
use crate::vector;

/// The rows that stand for an image, (n_regions, embed_dim), unit norm each; the patch with the largest
/// share in the embedding first. An image with fewer patches repeats the last one.
pub fn regions(view: &ImageView, settings: &RegionSettings) -> Vec<f32> {
    let dim = view.embedding.len();
    let mut chosen = vector::top(&view.weights, settings.n_regions);
    let last = chosen.last().copied().unwrap_or(0);
    chosen.resize(settings.n_regions, last);
    let mut rows = Vec::with_capacity(settings.n_regions * dim);
    for patch in chosen {
        let around = around(&view.patches, patch, dim, settings);
        let sum = std::iter::zip(&view.embedding, &around);
        let mut row: Vec<f32> = sum.map(|(whole, part)| whole + settings.patch_weight * part).collect();
        vector::normalize(&mut row);
        rows.extend(row);
    }
    rows
}

/// The mean of the patches weighted by their affinity to one of them, unit norm.
fn around(patches: &[f32], patch: usize, dim: usize, settings: &RegionSettings) -> Vec<f32> {
    let rows = || patches.chunks_exact(dim);
    let Some(own) = rows().nth(patch) else { return vec![0.0; dim] };
    if settings.affinity == Affinity::Patch {
        return own.to_vec();
    }
    let mut weights: Vec<f32> = rows().map(|row| settings.sharpness * vector::dot(own, row)).collect();
    vector::softmax(&mut weights);
    if settings.affinity == Affinity::Twice {
        vector::softmax(&mut weights);
    }
    let mut mean = vec![0.0; dim];
    for (row, weight) in rows().zip(weights) {
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight * x);
    }
    vector::normalize(&mut mean);
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three patches along the axes, the image along the first.
    fn view() -> ImageView {
        ImageView {
            embedding: vec![1.0, 0.0, 0.0],
            patches: vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
            weights: vec![0.2, 0.5, 0.3],
        }
    }

    fn settings(affinity: Affinity) -> RegionSettings {
        RegionSettings { n_regions: 2, affinity, sharpness: 20.0, patch_weight: 1.0 }
    }

    #[test]
    fn the_most_attended_patches_come_first() {
        let rows = regions(&view(), &settings(Affinity::Patch));
        let half = 0.5f32.sqrt();
        let expected = [half, half, 0.0, half, 0.0, half];
        assert!(rows.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{rows:?}");
    }

    #[test]
    fn a_second_softmax_makes_every_region_nearly_the_mean_patch() {
        let spread = |affinity| {
            let rows = regions(&view(), &settings(affinity));
            vector::dot(&rows[..3], &rows[3..])
        };
        assert!(spread(Affinity::Once) < 0.51);
        // With three patches; with the 49 of a real grid nothing is left of the difference.
        assert!(spread(Affinity::Twice) > 0.85, "as in the released code of MacCap");
    }

    #[test]
    fn without_weight_every_region_is_the_image() {
        let settings = RegionSettings { patch_weight: 0.0, n_regions: 5, ..settings(Affinity::Once) };
        assert_eq!(regions(&view(), &settings), view().embedding.repeat(5));
    }
}
