//! Which of several captions is taken: near the picture, likely, and like the others.
//!
//! What most candidates say of a picture is more often true than what one of them says alone: the one that all others
//! would forgive most is minimum Bayes risk decoding (Kumar and Byrne 2004), with CIDEr-D's own similarity.

use std::collections::BTreeMap;

use crate::bundle::RerankSettings;
use crate::captioner::Caption;
use crate::encoder::TextEncoder;
use crate::tokenizer::Tokenizer;
use crate::{CaptionError, vector};

/// Longest n-gram that is compared.
const ORDERS: usize = 4;
/// Width of the penalty on a difference in length, in tokens.
const SIGMA: f32 = 6.0;

/// The candidate with the largest `sum of weight * cosine with an anchor + fluency * mean log-probability + agreement *
/// mean likeness to the others`, as an index. Anchors are unit embeddings (embed_dim), or several such rows of which
/// the first counts.
///
/// # Errors
/// When the text encoder fails.
pub(crate) fn choose(
    text_encoder: &mut TextEncoder,
    tokenizer: &Tokenizer,
    anchors: &[(&[f32], f32)],
    candidates: &[Caption],
    rerank: &RerankSettings,
) -> Result<usize, CaptionError> {
    let texts: Vec<&str> = candidates.iter().map(|candidate| candidate.text.as_str()).collect();
    let embeddings = text_encoder.encode(&texts)?;
    let near = |text: &[f32]| -> f32 {
        anchors.iter().map(|(anchor, weight)| weight * vector::dot(text, &anchor[..text.len()])).sum()
    };
    let mut values: Vec<f32> = std::iter::zip(&embeddings, candidates)
        .map(|(text, candidate)| near(text) + rerank.fluency * candidate.score.ln())
        .collect();
    if rerank.agreement != 0.0 {
        let sentences: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text)).collect();
        let agreements = agreements(&sentences);
        values.iter_mut().zip(agreements).for_each(|(value, like)| *value += rerank.agreement * like);
    }
    Ok(vector::top(&values, 1).first().copied().unwrap_or(0))
}

/// The mean likeness, 0 to 1, of each sentence to the others; 0 for one alone.
fn agreements(sentences: &[Vec<u32>]) -> Vec<f32> {
    let profiles: Vec<Profile> = sentences.iter().map(|tokens| Profile::of(tokens)).collect();
    let mut sums = vec![0.0; profiles.len()];
    for (i, one) in profiles.iter().enumerate() {
        for (j, other) in profiles.iter().enumerate().skip(i + 1) {
            sums[i] += one.likeness(other);
            sums[j] += other.likeness(one);
        }
    }
    let n_others = profiles.len().saturating_sub(1).max(1) as f32;
    sums.into_iter().map(|sum| sum / n_others).collect()
}

/// A sentence as its weighted n-grams, one list an order, sorted by n-gram.
struct Profile {
    grams: [Vec<([u32; ORDERS], f32)>; ORDERS],
    norms: [f32; ORDERS],
    n_tokens: usize,
}

impl Profile {
    fn of(tokens: &[u32]) -> Profile {
        let grams: [Vec<_>; ORDERS] = std::array::from_fn(|order| {
            let mut weights: BTreeMap<[u32; ORDERS], f32> = BTreeMap::new();
            for window in tokens.windows(order + 1) {
                let mut gram = [u32::MAX; ORDERS];
                gram[..=order].copy_from_slice(window);
                *weights.entry(gram).or_default() += window.iter().copied().map(weight).sum::<f32>();
            }
            weights.into_iter().collect()
        });
        let norms = std::array::from_fn(|order| {
            grams[order].iter().map(|(_, weight): &(_, f32)| weight * weight).sum::<f32>().sqrt()
        });
        Profile { grams, norms, n_tokens: tokens.len() }
    }

    /// CIDEr-D of `self` with `other` as the only reference, without its factor of ten.
    fn likeness(&self, other: &Profile) -> f32 {
        let mut sum = 0.0;
        for order in 0..ORDERS {
            let norms = self.norms[order] * other.norms[order];
            if norms > 0.0 {
                sum += clipped_product(&self.grams[order], &other.grams[order]) / norms;
            }
        }
        let difference = self.n_tokens as f32 - other.n_tokens as f32;
        sum / ORDERS as f32 * (-difference * difference / (2.0 * SIGMA * SIGMA)).exp()
    }
}

/// Both sorted: what they have in common, an n-gram of `one` counted no more often than `other` has it.
fn clipped_product(one: &[([u32; ORDERS], f32)], other: &[([u32; ORDERS], f32)]) -> f32 {
    let (mut i, mut j, mut sum) = (0, 0, 0.0);
    while let (Some((gram, a)), Some((theirs, b))) = (one.get(i), other.get(j)) {
        match gram.cmp(theirs) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                sum += a.min(*b) * b;
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    sum
}

/// How much a token says. Byte-pair merges are learned in the order of their frequency, so a token's number stands for
/// how rare it is, and no table of frequencies is needed.
fn weight(token: u32) -> f32 {
    (token.max(2) as f32).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_like_itself_and_unlike_one_that_shares_nothing() {
        let one = Profile::of(&[5, 6, 7, 8, 9]);
        assert!((one.likeness(&one) - 1.0).abs() < 1e-5);
        assert_eq!(one.likeness(&Profile::of(&[15, 16, 17])), 0.0);
        assert_eq!(one.likeness(&Profile::of(&[])), 0.0);
    }

    #[test]
    fn the_odd_one_out_agrees_least() {
        let sentences = [vec![10, 20, 30, 40], vec![10, 20, 30, 50], vec![90, 91, 92, 93], vec![10, 20, 30]];
        let found = agreements(&sentences);
        assert_eq!(found[2], 0.0);
        assert!([0, 1, 3].iter().all(|idx| found[*idx] > 0.2), "{found:?}");
    }

    #[test]
    fn one_caption_alone_agrees_with_nobody() {
        assert_eq!(agreements(&[vec![1, 2, 3]]), [0.0]);
        assert!(agreements(&[]).is_empty());
    }

    #[test]
    fn saying_a_word_again_is_no_agreement() {
        let reference = Profile::of(&[100, 200, 300, 400, 500]);
        let (once, thrice) = (Profile::of(&[100, 600, 700]), Profile::of(&[100, 100, 100]));
        assert!(thrice.likeness(&reference) < 2.0 * once.likeness(&reference));
    }

    #[test]
    fn a_rare_token_counts_more_than_a_common_one() {
        let reference = Profile::of(&[2, 7000]);
        assert!(Profile::of(&[7000, 9]).likeness(&reference) > Profile::of(&[2, 9]).likeness(&reference));
    }
}
