//! CIDEr-D of Vedantam et al. (CVPR 2015) in pycocoevalcap's form, which calls it "CIDEr".

use std::collections::{BTreeSet, HashMap};

use crate::corpus::{Corpus, tokens};
use crate::ngrams::{Ngrams, ORDERS, Sentence};
use crate::{Example, MetricsError};

/// Width of the penalty on a difference in length, in words.
const SIGMA: f64 = 6.0;
/// The paper's factor that brings the scores near those of other metrics.
const SCALE: f64 = 10.0;

/// CIDEr-D of a corpus. 1.0 is what papers print as 100; the range is 0 to 10.
#[derive(Clone, Debug, PartialEq)]
pub struct CiderD {
    /// The mean over the images.
    pub mean: f64,
    /// In the order of the examples.
    pub per_image: Vec<f64>,
}

/// In how many images of a corpus some reference has an n-gram: what CIDEr-D weighs n-grams by.
///
/// Freeze one from a fixed corpus of references to make scores on different selections of images comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentFrequency {
    name: String,
    n_images: usize,
    images_with: HashMap<String, u32>,
}

impl DocumentFrequency {
    /// Counts the references of a corpus, one element an image. The name is what reports print. An n-gram that this
    /// corpus lacks weighs as one that a single image has.
    pub fn of_references<'a, I>(name: &str, images: I) -> Result<DocumentFrequency, MetricsError>
    where
        I: IntoIterator<Item = &'a [String]>,
    {
        let mut images_with: HashMap<String, u32> = HashMap::new();
        let mut n_images = 0;
        for (index, references) in images.into_iter().enumerate() {
            let mut ngrams = Ngrams::default();
            for reference in references {
                ngrams.sentence(tokens(index, reference)?);
            }
            for text in ngrams.texts() {
                *images_with.entry(text.clone()).or_default() += 1;
            }
            n_images += 1;
        }
        if n_images == 0 {
            Err(MetricsError::NoExamples)
        } else {
            Ok(DocumentFrequency { name: name.to_owned(), n_images, images_with })
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Images counted.
    pub fn n_images(&self) -> usize {
        self.n_images
    }

    /// Images that have the n-gram, its words joined by single blanks.
    pub fn images_with(&self, ngram: &str) -> u32 {
        self.images_with.get(ngram).copied().unwrap_or(0)
    }
}

/// CIDEr-D: per image the mean over references and over n = 1 to 4 of the cosine between tf-idf vectors, with counts
/// clipped to the reference's and a Gaussian penalty on the difference in length, times 10; then the mean over images.
///
/// The idf is that of the references scored, or of `frozen`. Without `frozen`, an n-gram that every image has weighs
/// nothing; one image alone therefore scores 0.
pub fn cider_d(examples: &[Example], frozen: Option<&DocumentFrequency>) -> Result<CiderD, MetricsError> {
    let per_image = image_cider_d(&Corpus::new(examples)?, frozen);
    Ok(CiderD { mean: per_image.iter().sum::<f64>() / per_image.len() as f64, per_image })
}

pub(crate) fn image_cider_d(corpus: &Corpus, frozen: Option<&DocumentFrequency>) -> Vec<f64> {
    let weights = match frozen {
        Some(frequency) => Weights::frozen(&corpus.ngrams, frequency),
        None => {
            let references = corpus.images.iter().map(|image| image.references.iter());
            Weights::counted(&corpus.ngrams, references)
        }
    };
    let score = |candidate: &Sentence, references: &[Sentence]| {
        let candidate = weights.vector(candidate);
        let sum: f64 = references.iter().map(|r| similarity(&candidate, &weights.vector(r))).sum();
        SCALE * sum / references.len() as f64
    };
    corpus.images.iter().map(|image| score(&image.candidate, &image.references)).collect()
}

/// The idf of every n-gram, by id.
pub(crate) struct Weights(Vec<f64>);

impl Weights {
    /// From the images at hand: one element an image, its sentences inside.
    pub(crate) fn counted<'a, I, S>(ngrams: &Ngrams, images: I) -> Weights
    where
        I: ExactSizeIterator<Item = S>,
        S: Iterator<Item = &'a Sentence>,
    {
        let n_images = images.len();
        let mut images_with = vec![0; ngrams.texts().len()];
        for sentences in images {
            let counts = sentences.flat_map(|s| s.counts.iter().flatten());
            let ids: BTreeSet<u32> = counts.map(|count| count.id).collect();
            for id in ids {
                images_with[id as usize] += 1;
            }
        }
        Weights(images_with.into_iter().map(|count| idf(n_images, count)).collect())
    }

    fn frozen(ngrams: &Ngrams, frequency: &DocumentFrequency) -> Weights {
        let weight = |text: &String| idf(frequency.n_images, frequency.images_with(text));
        Weights(ngrams.texts().iter().map(weight).collect())
    }

    pub(crate) fn vector<'a>(&'a self, sentence: &'a Sentence) -> Vector<'a> {
        let norm = |order: usize| {
            let squares =
                sentence.counts[order].iter().map(|c| (f64::from(c.times) * self.0[c.id as usize]).powi(2));
            squares.sum::<f64>().sqrt()
        };
        Vector { sentence, weights: &self.0, norms: std::array::from_fn(norm) }
    }
}

fn idf(n_images: usize, images_with: u32) -> f64 {
    (n_images as f64).ln() - f64::from(images_with.max(1)).ln()
}

/// A sentence as four tf-idf vectors, one an order.
pub(crate) struct Vector<'a> {
    sentence: &'a Sentence,
    weights: &'a [f64],
    norms: [f64; ORDERS],
}

/// CIDEr-D of one candidate against one reference, before the factor of 10: 0 to 1.
pub(crate) fn similarity(candidate: &Vector<'_>, reference: &Vector<'_>) -> f64 {
    // The length is that of pycocoevalcap: the number of bigrams. The difference is that of the words, but for an empty
    // sentence, whose length it takes to be that of a sentence of one word.
    let length = |v: &Vector<'_>| v.sentence.n_grams(1) as f64;
    let difference = length(candidate) - length(reference);
    let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
    let mut sum = 0.0;
    for order in 0..ORDERS {
        let norms = candidate.norms[order] * reference.norms[order];
        if norms == 0.0 {
            continue;
        }
        let mut product = 0.0;
        for count in &candidate.sentence.counts[order] {
            let weight = candidate.weights[count.id as usize];
            let in_candidate = f64::from(count.times) * weight;
            let in_reference = f64::from(reference.sentence.times(order, count.id)) * weight;
            product += in_candidate.min(in_reference) * in_reference;
        }
        sum += product / norms;
    }
    sum * penalty / ORDERS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(candidate: &str, references: &[&str]) -> Example {
        let references = references.iter().map(|&r| r.to_owned()).collect();
        Example { candidate: candidate.to_owned(), references }
    }

    #[test]
    fn the_reference_itself_scores_ten_where_it_shares_no_ngram_with_other_images() {
        let examples = [
            example("a dog runs fast", &["a dog runs fast"]),
            example("two men sit", &["two old women talk"]),
        ];
        let scores = cider_d(&examples, None).unwrap();
        assert!((scores.per_image[0] - 10.0).abs() < 1e-9, "{scores:?}");
        assert!((scores.mean - (scores.per_image[0] + scores.per_image[1]) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn one_image_alone_scores_zero_for_its_ngrams_weigh_nothing() {
        assert_eq!(cider_d(&[example("a dog", &["a dog"])], None).unwrap().mean, 0.0);
    }

    #[test]
    fn a_frozen_frequency_gives_one_image_the_score_it_has_among_all() {
        let examples = [
            example("a dog runs", &["a dog is running", "the dog runs"]),
            example("a man sits", &["a man on a bench", "an old man sits"]),
            example("", &["a red car"]),
        ];
        let images = examples.iter().map(|e| e.references.as_slice());
        let frozen = DocumentFrequency::of_references("these three", images).unwrap();
        let all = cider_d(&examples, None).unwrap();
        assert_eq!(cider_d(&examples, Some(&frozen)).unwrap(), all);
        assert_eq!(cider_d(&examples[..1], Some(&frozen)).unwrap().mean, all.per_image[0]);
        assert_eq!((frozen.n_images(), frozen.images_with("a man"), frozen.images_with("a cat")), (3, 1, 0));
    }

    #[test]
    fn empty_sentences_score_zero_and_never_nan() {
        let examples = [example("", &["a dog"]), example("a dog", &[""]), example("...", &["!"])];
        assert_eq!(cider_d(&examples, None).unwrap().per_image, [0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_repeated_word_earns_no_more_than_the_reference_has_of_it() {
        let score = |candidate: &str| {
            let examples = [example(candidate, &["dog park"]), example("x", &["red car"])];
            cider_d(&examples, None).unwrap().per_image[0]
        };
        assert!(score("dog dog dog") < score("dog"));
    }
}
