//! BLEU of Papineni et al. (ACL 2002) over a whole corpus, in pycocoevalcap's form.

use std::iter::Sum;
use std::ops::Add;

use crate::corpus::{Corpus, Image};
use crate::ngrams::ORDERS;
use crate::{Example, MetricsError};

/// BLEU-1 to BLEU-4, each in 0 to 1: the geometric mean of the clipped n-gram precisions of the whole corpus, times a
/// penalty where the candidates together are shorter than their closest references. Of two references equally close
/// the shorter one counts. Nothing is smoothed: without one common 4-gram in the corpus BLEU-4 is 0 to five digits.
pub fn bleu(examples: &[Example]) -> Result<[f64; 4], MetricsError> {
    Ok(Corpus::new(examples)?.images.iter().map(Tally::of).sum::<Tally>().bleu())
}

/// What an image, or many, add to the corpus's BLEU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// N-grams of the candidate, by order.
    guessed: [usize; ORDERS],
    /// Those of them that a reference has, each as often as one reference has it at most.
    correct: [usize; ORDERS],
    candidate_len: usize,
    reference_len: usize,
}

impl Tally {
    pub(crate) fn of(image: &Image) -> Tally {
        let Image { candidate, references } = image;
        let clipped = |order: usize| {
            let count = |id: u32| references.iter().map(|r| r.times(order, id)).max().unwrap_or(0);
            candidate.counts[order].iter().map(|c| c.times.min(count(c.id)) as usize).sum()
        };
        let distance = |len: &usize| (len.abs_diff(candidate.n_words), *len);
        Tally {
            guessed: std::array::from_fn(|order| candidate.n_grams(order)),
            correct: std::array::from_fn(clipped),
            candidate_len: candidate.n_words,
            reference_len: references.iter().map(|r| r.n_words).min_by_key(distance).unwrap_or(0),
        }
    }

    pub(crate) fn bleu(&self) -> [f64; ORDERS] {
        // pycocoevalcap's guards against a division by zero. They are part of the definition: they decide what a corpus
        // without a common n-gram scores.
        const TINY: f64 = 1e-15;
        const SMALL: f64 = 1e-9;
        let ratio = (self.candidate_len as f64 + TINY) / (self.reference_len as f64 + SMALL);
        let penalty = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
        let mut product = 1.0;
        std::array::from_fn(|order| {
            product *= (self.correct[order] as f64 + TINY) / (self.guessed[order] as f64 + SMALL);
            product.powf(1.0 / (order + 1) as f64) * penalty
        })
    }
}

impl Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally {
            guessed: std::array::from_fn(|order| self.guessed[order] + other.guessed[order]),
            correct: std::array::from_fn(|order| self.correct[order] + other.correct[order]),
            candidate_len: self.candidate_len + other.candidate_len,
            reference_len: self.reference_len + other.reference_len,
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Tally>>(tallies: I) -> Tally {
        tallies.fold(Tally::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(candidate: &str, references: &[&str]) -> Example {
        let references = references.iter().map(|&r| r.to_owned()).collect();
        Example { candidate: candidate.to_owned(), references }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn clips_by_the_reference_that_has_the_word_most_often() {
        let scores = bleu(&[example("the the the the", &["the cat", "the man saw the dog"])]).unwrap();
        assert!(close(scores[0], 2.0 / 4.0 * (1.0f64 - 5.0 / 4.0).exp()), "{scores:?}");
    }

    #[test]
    fn takes_the_shorter_of_two_equally_close_references() {
        // Three words lie between two and four; against two there is no penalty.
        let scores = bleu(&[example("a b c", &["a b c d", "a b"])]).unwrap();
        assert!(close(scores[0], 1.0), "{scores:?}");
    }

    #[test]
    fn an_empty_candidate_scores_zero_and_lengthens_the_penalty() {
        assert!(bleu(&[example("", &["a dog"])]).unwrap().iter().all(|&b| b == 0.0));
        let both = [example("a dog", &["a dog"]), example("", &["a dog"])];
        assert!(close(bleu(&both).unwrap()[0], (1.0f64 - 2.0).exp()));
    }

    #[test]
    fn empty_on_both_sides_is_zero_and_finite() {
        assert!(bleu(&[example("", &["..."])]).unwrap().iter().all(|b| b.is_finite() && *b == 0.0));
    }
}
