//! Examples, checked and tokenized once for all metrics.

use crate::ngrams::{Ngrams, Sentence};
use crate::{Example, MAX_CHARS, MetricsError, ptb};

/// One image after the tokenizer.
pub(crate) struct Image {
    pub(crate) candidate: Sentence,
    /// At least one.
    pub(crate) references: Vec<Sentence>,
}

/// At least one image, and the n-grams of all their sentences.
pub(crate) struct Corpus {
    pub(crate) images: Vec<Image>,
    pub(crate) ngrams: Ngrams,
}

impl Corpus {
    pub(crate) fn new(examples: &[Example]) -> Result<Corpus, MetricsError> {
        if examples.is_empty() {
            return Err(MetricsError::NoExamples);
        }
        let mut ngrams = Ngrams::default();
        let mut images = Vec::with_capacity(examples.len());
        for (index, example) in examples.iter().enumerate() {
            if example.references.is_empty() {
                return Err(MetricsError::NoReference(index));
            }
            let candidate = tokens(index, &example.candidate)?;
            let candidate = ngrams.sentence(candidate);
            let mut references = Vec::with_capacity(example.references.len());
            for reference in &example.references {
                references.push(ngrams.sentence(tokens(index, reference)?));
            }
            images.push(Image { candidate, references });
        }
        Ok(Corpus { images, ngrams })
    }
}

/// The tokens of a sentence of bounded length.
pub(crate) fn tokens(index: usize, sentence: &str) -> Result<Vec<String>, MetricsError> {
    // Bytes bound characters, so most sentences need no second count.
    if sentence.len() > MAX_CHARS {
        let chars = sentence.chars().count();
        if chars > MAX_CHARS {
            return Err(MetricsError::TooLong { index, chars });
        }
    }
    Ok(ptb::tokenize(sentence))
}
