//! Rules: what has to hold, for how long, at what time of day, and how often that is worth an event.

use std::time::{Duration, Instant};

/// A rule over captions, labels and answers.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleConfig {
    pub id: String,
    /// All of them have to hold; at least one.
    pub all: Vec<Condition>,
    /// For so long, before it begins.
    pub hold: Duration,
    /// After its end it does not begin again for so long.
    pub cooldown: Duration,
    /// When it counts; always without.
    pub hours: Option<Hours>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// The caption holds one of these words or phrases, whole words, in any case.
    Caption(Vec<String>),
    /// The label is on, or off.
    Label { id: String, is_on: bool },
    /// The standing question has this answer, in any case. One that is unsure has none.
    Answer { question: String, answer: String },
}

/// A part of the local day, in minutes; over midnight when it ends before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// 0 to 1439.
    pub from: u16,
    /// The first minute that is not in it.
    pub until: u16,
}

impl Hours {
    pub fn contains(self, minute: u16) -> bool {
        if self.from <= self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
    }
}

/// A rule began or ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleEvent {
    pub rule: String,
    pub begins: bool,
    /// For an end: how long it lasted.
    pub lasted: Option<Duration>,
}

/// A rule with what it knows.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    config: RuleConfig,
    /// What it has heard last, in the order of its conditions.
    holds: Vec<bool>,
    holding_since: Option<Instant>,
    active_since: Option<Instant>,
    ended_at: Option<Instant>,
}

impl Rule {
    pub(super) fn new(config: RuleConfig) -> Rule {
        let holds = vec![false; config.all.len()];
        Rule { config, holds, holding_since: None, active_since: None, ended_at: None }
    }

    pub(super) fn hear_caption(&mut self, text: &str) {
        let text = words(text);
        self.hear(|condition| match condition {
            Condition::Caption(phrases) => {
                Some(phrases.iter().any(|phrase| has_phrase(&text, &words(phrase))))
            }
            _ => None,
        });
    }

    pub(super) fn hear_label(&mut self, label: &str, label_is_on: bool) {
        self.hear(|condition| match condition {
            Condition::Label { id, is_on } if id == label => Some(*is_on == label_is_on),
            _ => None,
        });
    }

    pub(super) fn hear_answer(&mut self, asked: &str, given: Option<&str>) {
        self.hear(|condition| match condition {
            Condition::Answer { question, answer } if question == asked => {
                Some(given.is_some_and(|given| given.eq_ignore_ascii_case(answer)))
            }
            _ => None,
        });
    }

    fn hear(&mut self, holds: impl Fn(&Condition) -> Option<bool>) {
        for (known, condition) in self.holds.iter_mut().zip(&self.config.all) {
            if let Some(now) = holds(condition) {
                *known = now;
            }
        }
    }

    /// What begins or ends by now.
    pub(super) fn tick(&mut self, now: Instant, minute: u16) -> Option<RuleEvent> {
        let RuleConfig { id, hold, cooldown, hours, .. } = &self.config;
        let in_time = hours.is_none_or(|hours| hours.contains(minute));
        let holds = in_time && self.holds.iter().all(|holds| *holds);
        if !holds {
            self.holding_since = None;
            let since = self.active_since.take()?;
            self.ended_at = Some(now);
            let lasted = Some(now.saturating_duration_since(since));
            return Some(RuleEvent { rule: id.clone(), begins: false, lasted });
        }
        let since = *self.holding_since.get_or_insert(now);
        let is_cool = self.ended_at.is_none_or(|at| now.saturating_duration_since(at) >= *cooldown);
        if self.active_since.is_some() || !is_cool || now.saturating_duration_since(since) < *hold {
            return None;
        }
        self.active_since = Some(now);
        Some(RuleEvent { rule: id.clone(), begins: true, lasted: None })
    }
}

/// Lower-case words without punctuation.
fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric() && c != '\'');
    parts.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

fn has_phrase(text: &[String], phrase: &[String]) -> bool {
    !phrase.is_empty() && text.windows(phrase.len()).any(|window| window == phrase)
}
