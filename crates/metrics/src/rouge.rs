//! ROUGE-L of Lin (2004) in pycocoevalcap's form, which takes precision and recall from the best reference each.

use crate::corpus::{Corpus, Image};
use crate::{Example, MetricsError};

/// How much more recall weighs than precision.
const BETA: f64 = 1.2;

/// ROUGE-L in 0 to 1: per image the F-score of the longest common subsequence of tokens, where precision and recall are
/// each the best over the references; then the mean over the images. A sentence without tokens counts as one empty
/// token, as it does in pycocoevalcap.
pub fn rouge_l(examples: &[Example]) -> Result<f64, MetricsError> {
    let corpus = Corpus::new(examples)?;
    Ok(corpus.images.iter().map(image_rouge_l).sum::<f64>() / corpus.images.len() as f64)
}

pub(crate) fn image_rouge_l(image: &Image) -> f64 {
    let candidate = padded(&image.candidate.tokens);
    let mut precision = 0.0f64;
    let mut recall = 0.0f64;
    for reference in &image.references {
        let reference = padded(&reference.tokens);
        let common = common_len(&candidate, &reference) as f64;
        precision = precision.max(common / candidate.len() as f64);
        recall = recall.max(common / reference.len() as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    (1.0 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision)
}

fn padded(tokens: &[String]) -> Vec<&str> {
    if tokens.is_empty() { vec![""] } else { tokens.iter().map(String::as_str).collect() }
}

/// The length of the longest common subsequence; one row of the table at a time.
fn common_len(left: &[&str], right: &[&str]) -> usize {
    let mut row = vec![0; right.len() + 1];
    for a in left {
        let mut diagonal = 0;
        for (j, b) in right.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if a == b { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(candidate: &str, references: &[&str]) -> f64 {
        let references = references.iter().map(|&r| r.to_owned()).collect();
        rouge_l(&[Example { candidate: candidate.to_owned(), references }]).unwrap()
    }

    #[test]
    fn a_subsequence_may_have_gaps_but_keeps_the_order() {
        assert_eq!(common_len(&["a", "b", "c", "d"], &["a", "c", "d", "b"]), 3);
        assert_eq!(common_len(&["a"], &["b"]), 0);
    }

    #[test]
    fn precision_and_recall_may_come_from_different_references() {
        // Precision 1 from the long reference, recall 1 from the short one.
        assert!((score("a dog", &["a big dog runs", "dog"]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn no_common_word_is_zero_and_two_empty_sentences_agree() {
        assert_eq!(score("cat", &["dog"]), 0.0);
        assert_eq!(score("", &["dog"]), 0.0);
        assert_eq!(score("", &["..."]), 1.0);
    }
}
