//! A text label as a trigger.
//!
//! The cosine of an image and a text means little by itself: it drifts with the camera, and the distributions of "there"
//! and "not there" nearly coincide. Three things make a trigger of it: the label is measured against texts of what else
//! may be there, so that what all texts share falls out; against how this camera's pictures usually score, since a wall
//! that looks a bit like a dog always does; and it has to last.

use std::time::{Duration, Instant};

/// What a label stands against unless its configuration says otherwise: what cameras see, but for those that share a
/// word with the label.
const AGAINST: [&str; 44] = [
    "a man",
    "a woman",
    "a child",
    "a group of people",
    "a crowd",
    "a dog",
    "a cat",
    "a horse",
    "a bird",
    "a car",
    "a truck",
    "a bus",
    "a bicycle",
    "a motorcycle",
    "a boat",
    "a ball",
    "a table",
    "a chair",
    "a sofa",
    "a bed",
    "food on a plate",
    "a kitchen",
    "an empty room",
    "an office",
    "a street",
    "a building",
    "a house",
    "a door",
    "a window",
    "a garden",
    "grass",
    "trees",
    "flowers",
    "water",
    "a beach",
    "snow",
    "mountains",
    "rocks",
    "the sky",
    "a road",
    "a parking lot",
    "a fence",
    "a wall",
    "a shop",
];
/// Pictures before the usual score is known.
const BACKGROUND_LEAST: u32 = 30;
/// The weight of a new picture in the usual score is one in so many at least: about the last so many looks count.
const BACKGROUND_MOST: u32 = 500;
/// A camera whose scores never vary must not make everything exceptional.
const DEVIATION_LEAST: f32 = 0.3;

/// A label that turns on and off.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelConfig {
    /// A level of its topic: lower-case letters, digits, `_` and `-`.
    pub id: String,
    /// What it says, such as "a dog".
    pub text: String,
    /// What else may be there; empty for the usual.
    pub against: Vec<String>,
    /// Probability from which on it is on, 0 to 1.
    pub threshold: f32,
    /// It stays on down to this probability.
    pub release: f32,
    /// Standard deviations above the camera's usual score that it needs besides; 0 leaves that out.
    pub deviations: f32,
    /// For so long it has to be seen, or not seen, before it turns.
    pub hold: Duration,
}

/// How a label stands.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelReading {
    pub id: String,
    pub is_on: bool,
    /// Probability against what else may be there, 0 to 1.
    pub score: f32,
    /// Standard deviations above the camera's usual score; none while that is not known.
    pub deviation: Option<f32>,
    /// The probability from which on it would turn on, with all that counts.
    pub threshold: f32,
}

/// A label with what was seen of it.
#[derive(Clone, Debug)]
pub struct Trigger {
    config: LabelConfig,
    background: Background,
    is_on: bool,
    /// Since when it says the opposite.
    turning_since: Option<Instant>,
    logit: Option<f32>,
}

impl Trigger {
    pub fn new(config: LabelConfig) -> Trigger {
        Trigger { config, background: Background::default(), is_on: false, turning_since: None, logit: None }
    }

    pub fn config(&self) -> &LabelConfig {
        &self.config
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// The label's own text, and those that it stands against.
    pub fn texts(&self) -> Vec<String> {
        let against: Vec<String> = match &self.config.against[..] {
            [] => AGAINST
                .into_iter()
                .filter(|text| !shares_word(text, &self.config.text))
                .map(str::to_owned)
                .collect(),
            texts => texts.to_vec(),
        };
        std::iter::once(self.config.text.clone()).chain(against).collect()
    }

    /// Takes the logit of a frame, see [`log_odds`]. True when the label turned.
    pub fn see(&mut self, logit: f32, now: Instant) -> bool {
        let says_on = self.says_on(logit);
        self.logit = Some(logit);
        // What is there now is not what is usually there.
        if !says_on {
            self.background.add(logit);
        }
        if says_on == self.is_on {
            self.turning_since = None;
            return false;
        }
        let since = *self.turning_since.get_or_insert(now);
        if now.saturating_duration_since(since) < self.config.hold {
            return false;
        }
        self.is_on = says_on;
        self.turning_since = None;
        true
    }

    fn says_on(&self, logit: f32) -> bool {
        let LabelConfig { threshold, release, deviations, .. } = self.config;
        if self.is_on {
            return sigmoid(logit) >= release;
        }
        let is_unusual = self.background.deviation(logit).is_none_or(|deviation| deviation >= deviations);
        sigmoid(logit) >= threshold && (deviations == 0.0 || is_unusual)
    }

    /// None before the first frame.
    pub fn reading(&self) -> Option<LabelReading> {
        let logit = self.logit?;
        let LabelConfig { threshold, release, deviations, .. } = self.config;
        let usual = self.background.at(deviations).filter(|_| deviations > 0.0).map_or(0.0, sigmoid);
        Some(LabelReading {
            id: self.config.id.clone(),
            is_on: self.is_on,
            score: sigmoid(logit),
            deviation: self.background.deviation(logit),
            threshold: if self.is_on { release } else { threshold.max(usual) },
        })
    }
}

/// Log-odds of the first text against the others, from the logits (cosine times the bundle's logit scale) of all.
/// The probability of the first in a softmax over all is `1 / (1 + exp(-log-odds))`.
pub fn log_odds(logits: &[f32]) -> f32 {
    let [own, against @ ..] = logits else { return f32::NEG_INFINITY };
    let most = against.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if most == f32::NEG_INFINITY {
        return f32::INFINITY;
    }
    own - most - against.iter().map(|logit| (logit - most).exp()).sum::<f32>().ln()
}

/// Whether two texts have a word of three letters or more in common, plural or not.
fn shares_word(a: &str, b: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
        words
            .map(|word| word.trim_end_matches('s').to_owned())
            .filter(|word| word.len() > 2 && word != "the")
            .collect()
    };
    let others = words(b);
    words(a).iter().any(|word| others.contains(word))
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Mean and spread of the scores of a camera, of about the last [`BACKGROUND_MOST`] looks.
#[derive(Clone, Copy, Debug, Default)]
struct Background {
    n: u32,
    mean: f32,
    variance: f32,
}

impl Background {
    fn add(&mut self, logit: f32) {
        if !logit.is_finite() {
            return;
        }
        self.n = (self.n + 1).min(BACKGROUND_MOST);
        let (weight, delta) = (1.0 / self.n as f32, logit - self.mean);
        self.mean += weight * delta;
        self.variance = (1.0 - weight) * (self.variance + weight * delta * delta);
    }

    fn spread(&self) -> f32 {
        self.variance.sqrt().max(DEVIATION_LEAST)
    }

    fn deviation(&self, logit: f32) -> Option<f32> {
        (self.n >= BACKGROUND_LEAST).then(|| (logit - self.mean) / self.spread())
    }

    /// The logit that lies so many deviations above the mean.
    fn at(&self, deviations: f32) -> Option<f32> {
        (self.n >= BACKGROUND_LEAST).then(|| self.mean + deviations * self.spread())
    }
}
