//! What a system that never looked at the images would score: one sentence for all of them, or any sentence for each.
//!
//! A small corpus gives such systems a BLEU-1 near 0.5, so no score means much without these beside it.

use rand::seq::index::sample;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::cider::{Weights, similarity};
use crate::corpus::tokens;
use crate::ngrams::{Ngrams, Sentence};
use crate::{Example, MetricsError};

/// Training captions that are compared with each other to find the most central one. Their number enters squared.
const SAMPLE: usize = 1000;

/// The examples again, with blind candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floors {
    /// Every candidate is the most central training caption.
    pub constant: Vec<Example>,
    /// Every candidate is a training caption drawn at random, with replacement.
    pub random: Vec<Example>,
}

/// Blind candidates for the images of `examples`. Neither looks at the references: both come from the training side.
pub fn floors(examples: &[Example], train_captions: &[String], seed: u64) -> Result<Floors, MetricsError> {
    let central = central_caption(train_captions, seed)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let with = |example: &Example, candidate: &str| Example {
        candidate: candidate.to_owned(),
        references: example.references.clone(),
    };
    let mut random = Vec::with_capacity(examples.len());
    for example in examples {
        random.push(with(example, &train_captions[draw(&mut rng, train_captions.len())]));
    }
    Ok(Floors { constant: examples.iter().map(|example| with(example, &central)).collect(), random })
}

/// The caption with the highest mean CIDEr-D against the others, among at most 1,000 captions drawn by `seed`. Each
/// caption counts as one image. Of equals the first drawn wins.
pub fn central_caption(captions: &[String], seed: u64) -> Result<String, MetricsError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let drawn = sample(&mut rng, captions.len(), captions.len().min(SAMPLE));
    let mut ngrams = Ngrams::default();
    let mut sentences: Vec<(usize, Sentence)> = Vec::with_capacity(drawn.len());
    for index in drawn {
        sentences.push((index, ngrams.sentence(tokens(index, &captions[index])?)));
    }
    let weights = Weights::counted(&ngrams, sentences.iter().map(|(_, sentence)| std::iter::once(sentence)));
    let vectors: Vec<_> = sentences.iter().map(|(_, sentence)| weights.vector(sentence)).collect();
    let mut best: Option<(f64, usize)> = None;
    for (place, candidate) in vectors.iter().enumerate() {
        let others = vectors.iter().enumerate().filter(|(other, _)| *other != place);
        let total: f64 = others.map(|(_, reference)| similarity(candidate, reference)).sum();
        if best.is_none_or(|(highest, _)| total > highest) {
            best = Some((total, sentences[place].0));
        }
    }
    best.map(|(_, index)| captions[index].clone()).ok_or(MetricsError::NoCaptions)
}

fn draw(rng: &mut ChaCha8Rng, n: usize) -> usize {
    rng.random_range(0..n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captions() -> Vec<String> {
        ["A dog runs on grass.", "A dog runs on the grass.", "A dog runs.", "Seven blue teapots.", "Snow"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn the_central_caption_is_the_one_most_like_the_others() {
        assert_eq!(central_caption(&captions(), 3).unwrap(), "A dog runs on grass.");
    }

    #[test]
    fn floors_keep_the_references_and_take_candidates_from_training_alone() {
        let example =
            |i: usize| Example { candidate: "x".into(), references: vec![format!("reference {i}")] };
        let examples: Vec<Example> = (0..40).map(example).collect();
        let floors = floors(&examples, &captions(), 1).unwrap();
        for (i, example) in examples.iter().enumerate() {
            assert_eq!(floors.constant[i].candidate, "A dog runs on grass.");
            assert!(captions().contains(&floors.random[i].candidate));
            assert_eq!(floors.random[i].references, example.references);
        }
        let distinct = crate::distinct_share(&floors.random).unwrap();
        assert!(distinct > 0.05, "{distinct}");
        assert_eq!(floors, super::floors(&examples, &captions(), 1).unwrap());
    }

    #[test]
    fn no_training_captions_are_an_error() {
        assert_eq!(floors(&[], &[], 1), Err(MetricsError::NoCaptions));
        assert_eq!(central_caption(&["Snow".to_owned()], 1).unwrap(), "Snow");
    }
}
