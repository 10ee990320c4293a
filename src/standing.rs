//! What is asked of every scene, without anybody asking: standing questions, labels as triggers, and rules over both
//! and over the captions. Pure: time comes in as a parameter, and models are elsewhere.

mod label;
mod question;
mod rule;

use std::time::Instant;

pub use label::{LabelConfig, LabelReading, Trigger, log_odds};
pub use question::{Occasion, QuestionConfig};
pub use rule::{Condition, Hours, RuleConfig, RuleEvent};

use question::Schedule;
use rule::Rule;

/// Of each kind, of one camera.
pub const STANDING_MAX: usize = 32;

/// Everything that stands for one camera.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StandingConfig {
    pub questions: Vec<QuestionConfig>,
    pub labels: Vec<LabelConfig>,
    pub rules: Vec<RuleConfig>,
}

/// One standing thing, to be put in the place of that with the same name; none takes it away.
#[derive(Clone, Debug, PartialEq)]
pub enum StandingChange {
    Question(String, Option<QuestionConfig>),
    Label(String, Option<LabelConfig>),
    Rule(String, Option<RuleConfig>),
}

/// The same with what was seen so far.
#[derive(Debug, Default)]
pub struct Standing {
    config: StandingConfig,
    schedules: Vec<Schedule>,
    triggers: Vec<Trigger>,
    rules: Vec<Rule>,
}

impl Standing {
    pub fn new(config: StandingConfig) -> Standing {
        Standing {
            schedules: config.questions.iter().map(|_| Schedule::default()).collect(),
            triggers: config.labels.iter().cloned().map(Trigger::new).collect(),
            rules: config.rules.iter().cloned().map(Rule::new).collect(),
            config,
        }
    }

    pub fn config(&self) -> &StandingConfig {
        &self.config
    }

    pub fn is_empty(&self) -> bool {
        self.config == StandingConfig::default()
    }

    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Puts one thing in the place of that with the same name; what is new begins anew.
    ///
    /// # Errors
    /// When there are too many already.
    pub fn change(&mut self, change: StandingChange) -> Result<(), String> {
        let full = |kind: &str| format!("more than {STANDING_MAX} {kind}");
        match change {
            StandingChange::Question(id, new) => {
                let at = self.config.questions.iter().position(|question| question.id == id);
                put(&mut self.schedules, at, new.as_ref().map(|_| Schedule::default()))
                    .map_err(|()| full("questions"))?;
                put(&mut self.config.questions, at, new).map_err(|()| full("questions"))
            }
            StandingChange::Label(id, new) => {
                let at = self.config.labels.iter().position(|label| label.id == id);
                put(&mut self.triggers, at, new.clone().map(Trigger::new)).map_err(|()| full("labels"))?;
                put(&mut self.config.labels, at, new).map_err(|()| full("labels"))
            }
            StandingChange::Rule(id, new) => {
                let at = self.config.rules.iter().position(|rule| rule.id == id);
                put(&mut self.rules, at, new.clone().map(Rule::new)).map_err(|()| full("rules"))?;
                put(&mut self.config.rules, at, new).map_err(|()| full("rules"))
            }
        }
    }

    /// Texts whose embeddings [`Standing::see`] takes, label by label: each with those that it stands against.
    pub fn label_texts(&self) -> Vec<Vec<String>> {
        self.triggers.iter().map(Trigger::texts).collect()
    }

    /// Questions that are due, by their place.
    pub fn due(&mut self, is_changed: bool, now: Instant) -> Vec<usize> {
        let schedules = self.schedules.iter_mut().zip(&self.config.questions).enumerate();
        schedules
            .filter_map(|(i, (schedule, question))| {
                schedule.is_due(question.occasion, is_changed, now).then_some(i)
            })
            .collect()
    }

    pub fn question(&self, i: usize) -> Option<&QuestionConfig> {
        self.config.questions.get(i)
    }

    /// Takes the logits of a frame, label by label. True when a label went on or off.
    pub fn see(&mut self, logits: &[f32], now: Instant) -> bool {
        let mut has_turned = false;
        for (trigger, logit) in self.triggers.iter_mut().zip(logits) {
            has_turned |= trigger.see(*logit, now);
            let (id, is_on) = (&trigger.config().id, trigger.is_on());
            self.rules.iter_mut().for_each(|rule| rule.hear_label(id, is_on));
        }
        has_turned
    }

    /// How every label stands.
    pub fn readings(&self) -> Vec<LabelReading> {
        self.triggers.iter().filter_map(Trigger::reading).collect()
    }

    pub fn hear_caption(&mut self, text: &str) {
        self.rules.iter_mut().for_each(|rule| rule.hear_caption(text));
    }

    /// An answer that is a guess is none.
    pub fn hear_answer(&mut self, question: &str, answer: Option<&str>) {
        self.rules.iter_mut().for_each(|rule| rule.hear_answer(question, answer));
    }

    /// What begins and ends by now. `minute` is that of the local day, 0 to 1439.
    pub fn tick(&mut self, now: Instant, minute: u16) -> Vec<RuleEvent> {
        self.rules.iter_mut().filter_map(|rule| rule.tick(now, minute)).collect()
    }
}

/// Replaces, adds or removes.
fn put<T>(list: &mut Vec<T>, at: Option<usize>, new: Option<T>) -> Result<(), ()> {
    match (at, new) {
        (Some(at), Some(new)) => list[at] = new,
        (Some(at), None) => drop(list.remove(at)),
        (None, Some(_)) if list.len() >= STANDING_MAX => return Err(()),
        (None, Some(new)) => list.push(new),
        (None, None) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
