//! The table `[vqa]` of a manifest.

use serde::{Deserialize, Serialize};

use crate::vqa::AnswerKind;

/// How answers are weighed; see `vqa.rs` for the sums.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VqaSettings {
    /// An answer with a lower score is a guess, 0 to 1.
    pub unsure_below: f32,
    /// Weight of what the decoder finds likelier with this image than with none in particular.
    pub decoder_weight: f32,
    /// Weight of the scaled cosine between the image and the answer as a statement.
    pub similarity_weight: f32,
    /// Added to the evidence for "yes".
    pub yes_bias: f32,
    /// In the place of the two weights above, for questions of one kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yes_no: Option<KindSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<KindSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<KindSettings>,
    /// Questions whose answer is one of a given list, but no yes or no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<KindSettings>,
}

/// Weights fitted to one kind of question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindSettings {
    pub decoder_weight: f32,
    pub similarity_weight: f32,
    /// Weight of what the decoder finds likely without any image.
    pub prior_weight: f32,
    /// What the evidence is divided by before the softmax, greater than 0.
    pub temperature: f32,
}

impl VqaSettings {
    /// The tables for single kinds that are there, with their keys.
    pub(super) fn of_kinds(&self) -> impl Iterator<Item = (&'static str, &KindSettings)> {
        let VqaSettings { yes_no, color, number, choice, .. } = self;
        let all = [("yes_no", yes_no), ("color", color), ("number", number), ("choice", choice)];
        all.into_iter().filter_map(|(key, kind)| Some((key, kind.as_ref()?)))
    }

    /// What answers to one kind of question are weighed with.
    pub fn of_kind(&self, kind: AnswerKind) -> KindSettings {
        let fitted = match kind {
            AnswerKind::YesNo => &self.yes_no,
            AnswerKind::Color => &self.color,
            AnswerKind::Number => &self.number,
            AnswerKind::Choice => &self.choice,
        };
        fitted.clone().unwrap_or(KindSettings {
            decoder_weight: self.decoder_weight,
            similarity_weight: self.similarity_weight,
            prior_weight: 0.0,
            temperature: 1.0,
        })
    }
}
