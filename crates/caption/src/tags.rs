//! Object tags: what a caption is told of the things in the picture, besides the embedding (ViECap, Fei et al. 2023;
//! SynTIC, Liu et al. 2024).
//!
//! The tags are zero-shot: labels whose text embeddings lie nearest to the image embedding. A decoder that takes them
//! was trained with the same prompt before each caption.

use crate::bundle::TagSettings;
use crate::encoder::TextEncoder;
use crate::{CaptionError, vector};

/// What a label is wrapped in before it is encoded: encoders are trained on sentences, not on words.
pub(crate) const LABEL_PROMPT: &str = "a photo of ";

/// Labels with their text embeddings.
#[derive(Clone, Debug)]
pub struct Tagger {
    labels: Vec<String>,
    /// Unit rows (embed_dim), one a label.
    embeddings: Vec<Vec<f32>>,
    settings: TagSettings,
}

impl Tagger {
    /// Embeds every label. Blocks.
    ///
    /// # Errors
    /// When the text encoder fails.
    pub fn new(
        labels: Vec<String>,
        settings: &TagSettings,
        text_encoder: &mut TextEncoder,
    ) -> Result<Tagger, CaptionError> {
        let prompts: Vec<String> = labels.iter().map(|label| format!("{LABEL_PROMPT}{label}")).collect();
        let embeddings = text_encoder.encode(&prompts)?;
        Ok(Tagger { labels, embeddings, settings: settings.clone() })
    }

    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Indices of the labels that fit a unit embedding, best first: at most `n_max`, each with at least `share_min` of
    /// `softmax(cosine / tau)` over all labels.
    pub fn tag(&self, embedding: &[f32]) -> Vec<usize> {
        let cosines = self.embeddings.iter().map(|text| vector::dot(text, embedding));
        let mut shares: Vec<f32> = cosines.map(|cosine| cosine / self.settings.tau).collect();
        vector::softmax(&mut shares);
        let mut best = vector::top(&shares, self.settings.n_max);
        best.retain(|idx| shares[*idx] >= self.settings.share_min);
        best
    }

    /// What stands before the caption of a picture with these tags.
    pub fn prompt(&self, tags: &[usize]) -> String {
        let names: Vec<&str> =
            tags.iter().filter_map(|idx| self.labels.get(*idx)).map(String::as_str).collect();
        prompt(&names)
    }
}

/// The labels of a bundle's file: one a line, blank lines left out.
pub fn labels(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned).collect()
}

/// ViECap's hard prompt.
pub fn prompt(tags: &[&str]) -> String {
    let named = if tags.is_empty() { "something".to_owned() } else { tags.join(", ") };
    format!("There are {named} in image.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagger(n_max: usize, share_min: f32) -> Tagger {
        let settings = TagSettings {
            file: "labels.txt".to_owned(),
            bytes: 0,
            sha256: String::new(),
            n_max,
            share_min,
            tau: 0.1,
        };
        let labels = ["dog", "ball", "sea"].map(str::to_owned).to_vec();
        let embeddings = vec![vec![1.0, 0.0, 0.0], vec![0.0, 1.0, 0.0], vec![0.0, 0.0, 1.0]];
        Tagger { labels, embeddings, settings }
    }

    #[test]
    fn the_nearest_labels_with_a_fair_share_are_tags() {
        assert_eq!(tagger(2, 0.2).tag(&[0.7, 0.7, 0.1]), [0, 1]);
        assert_eq!(tagger(1, 0.2).tag(&[0.7, 0.7, 0.1]).len(), 1);
        assert_eq!(tagger(3, 0.2).tag(&[0.9, 0.1, 0.1]), [0]);
    }

    #[test]
    fn a_picture_of_nothing_in_particular_has_no_tag() {
        assert!(tagger(3, 0.5).tag(&[0.5, 0.5, 0.5]).is_empty());
        assert_eq!(prompt(&[]), "There are something in image.");
        assert_eq!(tagger(2, 0.2).prompt(&[0, 1]), "There are dog, ball in image.");
    }

    #[test]
    fn labels_are_lines() {
        assert_eq!(labels("dog\n\n  traffic light \n"), ["dog", "traffic light"]);
    }
}
