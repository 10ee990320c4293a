//! Recall at 1, 5 and 10 between photos and captions, both ways.

use std::fmt;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::report::saved::rounded;
use caption::dot;

/// Shares in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    pub n_images: usize,
    pub n_texts: usize,
    /// Every caption as a query against all photos.
    pub text_to_image: [f64; 3],
    /// Every photo as a query against all captions; any of its own counts.
    pub image_to_text: [f64; 3],
    /// Mean cosine of a photo and its own captions.
    pub paired_cosine: f64,
}

const RANKS: [usize; 3] = [1, 5, 10];

impl Retrieval {
    /// `images` holds unit rows of `dim`; each text is a unit row with the index of its photo.
    pub fn measure(images: &[f32], texts: &[(usize, &[f32])], dim: usize) -> Retrieval {
        let n_images = images.len() / dim;
        let image = |i: usize| &images[i * dim..(i + 1) * dim];
        let text_ranks: Vec<usize> = texts
            .par_iter()
            .map(|(own, text)| {
                let score = dot(image(*own), text);
                (0..n_images).filter(|i| i != own && dot(image(*i), text) >= score).count()
            })
            .collect();
        let image_ranks: Vec<usize> = (0..n_images)
            .into_par_iter()
            .map(|i| {
                let of = |(own, text): &(usize, &[f32])| (*own == i, dot(image(i), text));
                let best =
                    texts.iter().map(of).filter(|(own, _)| *own).map(|(_, s)| s).fold(f32::MIN, f32::max);
                texts.iter().map(of).filter(|(own, s)| !own && *s >= best).count()
            })
            .collect();
        let recall = |ranks: &[usize]| {
            RANKS.map(|k| 100.0 * ranks.iter().filter(|r| **r < k).count() as f64 / ranks.len().max(1) as f64)
        };
        let cosine: f64 = texts.iter().map(|(own, text)| f64::from(dot(image(*own), text))).sum();
        Retrieval {
            n_images,
            n_texts: texts.len(),
            text_to_image: recall(&text_ranks),
            image_to_text: recall(&image_ranks),
            paired_cosine: cosine / texts.len().max(1) as f64,
        }
    }
}

impl Retrieval {
    /// With the decimals that results are kept with.
    pub fn rounded(mut self) -> Retrieval {
        let shares = self.text_to_image.iter_mut().chain(&mut self.image_to_text);
        shares.chain([&mut self.paired_cosine]).for_each(|value| *value = rounded(*value));
        self
    }
}

impl fmt::Display for Retrieval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [t1, t5, t10] = self.text_to_image;
        let [i1, i5, i10] = self.image_to_text;
        write!(
            f,
            "{} photos, {} captions: text->image R@1/5/10 {t1:.1}/{t5:.1}/{t10:.1} %, image->text {i1:.1}/{i5:.1}/{i10:.1} %, paired cosine {:.3}",
            self.n_images, self.n_texts, self.paired_cosine
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_encoder_recalls_everything_and_a_constant_one_nothing() {
        let eye = [1.0, 0.0, 0.0, 1.0];
        let texts: [(usize, &[f32]); 2] = [(0, &eye[..2]), (1, &eye[2..])];
        assert_eq!(Retrieval::measure(&eye, &texts, 2).text_to_image[0], 100.0);
        let constant = [1.0, 0.0, 1.0, 0.0];
        assert_eq!(Retrieval::measure(&constant, &texts, 2).text_to_image[0], 0.0);
    }
}
