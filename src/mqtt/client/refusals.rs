//! What the broker refuses. Its rules stay as they are for hours, and every caption is refused anew: a topic is complained
//! about once, until the broker takes a message on it.

use std::collections::BTreeSet;

/// Topics of which it was said that they are refused. Whoever asks chooses where the answer goes, so there is an end.
const TOPICS_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    topics: BTreeSet<String>,
    are_too_many: bool,
}

impl Refusals {
    /// Whether there is something to be said.
    pub(super) fn is_news(&mut self, topic: &str, is_refused: bool) -> bool {
        if !is_refused {
            self.topics.remove(topic);
            return false;
        }
        if self.topics.len() >= TOPICS_MAX {
            return false;
        }
        self.topics.insert(topic.to_owned())
    }

    /// Says it.
    pub(super) fn hear(&mut self, topic: &str, refusal: Option<&str>) {
        if !self.is_news(topic, refusal.is_some()) {
            return;
        }
        let reason = refusal.unwrap_or_default();
        tracing::error!(
            topic,
            reason,
            "the broker refuses what is published on this topic, see its access rules; said once"
        );
        if self.topics.len() == TOPICS_MAX && !std::mem::replace(&mut self.are_too_many, true) {
            tracing::error!("the broker refuses many topics, no others are named");
        }
    }
}

/// Says that nothing will be heard on topics that were subscribed to.
pub(super) fn subscription_refused(reasons: &str) {
    tracing::error!(
        reasons,
        "the broker refuses a subscription, see its access rules: questions or wishes will not be heard"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_complained_about_once_until_it_is_taken() {
        let mut refusals = Refusals::default();
        assert!(refusals.is_news("a", true));
        assert!(!refusals.is_news("a", true));
        assert!(refusals.is_news("b", true), "another topic");
        assert!(!refusals.is_news("a", false));
        assert!(refusals.is_news("a", true), "it was taken meanwhile");
    }

    #[test]
    fn topics_that_strangers_choose_fill_no_memory() {
        let mut refusals = Refusals::default();
        let n_said = (0..10_000).filter(|n| refusals.is_news(&n.to_string(), true)).count();
        assert_eq!((n_said, refusals.topics.len()), (TOPICS_MAX, TOPICS_MAX));
    }
}
