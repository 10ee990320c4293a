//! When a standing question is asked.

use std::time::{Duration, Instant};

use caption::Question;

/// A question that is asked again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct QuestionConfig {
    /// A level of its topic: lower-case letters, digits, `_` and `-`.
    pub id: String,
    pub question: Question,
    pub occasion: Occasion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Whenever the scene has changed.
    Change,
    /// Again and again, changed or not.
    Every(Duration),
}

/// When a question was asked last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Schedule {
    asked_at: Option<Instant>,
}

impl Schedule {
    /// Whether it is to be asked about a frame; if so, it counts as asked.
    pub(super) fn is_due(&mut self, occasion: Occasion, is_changed: bool, now: Instant) -> bool {
        let is_due = match (occasion, self.asked_at) {
            (_, None) => true,
            (Occasion::Change, Some(_)) => is_changed,
            (Occasion::Every(interval), Some(asked_at)) => {
                now.saturating_duration_since(asked_at) >= interval
            }
        };
        if is_due {
            self.asked_at = Some(now);
        }
        is_due
    }
}
