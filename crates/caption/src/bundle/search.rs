//! The table `[decoder.rerank]` of a manifest.

use serde::{Deserialize, Serialize};

/// Choosing among several captions by what the text encoder says of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RerankSettings {
    /// Captions that each beam keeps for the choice.
    pub n_candidates: usize,
    /// The choice has the largest `cosine + fluency * mean log-probability of its tokens`.
    pub fluency: f32,
    /// Weight, in that sum, of the cosine with what the text memory makes of the image embedding.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub memory_weight: f32,
    /// Whether the image embedding is also searched as it is, without the text memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unprojected: bool,
    /// Whether the normed sum of the embedding with and without the text memory is searched, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub summed: bool,
    /// Weight, in that sum, of a caption's mean likeness to the other candidates.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub agreement: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<SampleSettings>,
}

/// Beams from noisy copies of the input, whose captions join the choice (MacCap's re-ranking).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleSettings {
    pub n: usize,
    /// Cosine of a copy with the input, above 0, at most 1.
    pub noise_cosine: f32,
    /// Whether the input itself is searched too.
    pub clean: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(x: &f32) -> bool {
    *x == 0.0
}
