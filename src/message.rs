//! What travels between the threads. Plain data: no JSON (that is `mqtt::payload`), no behaviour.

use std::time::{Duration, Instant};

use caption::{Answer, Caption, Question};

use crate::gate::GateConfig;
use crate::standing::{LabelReading, RuleEvent, STANDING_MAX, StandingChange, StandingConfig};

use crate::frame::FrameId;
use crate::health::Counters;

/// A question on its way to the inference thread.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Index of the camera in the configuration.
    pub camera: usize,
    pub question: Question,
    pub reply: Reply,
    pub asked_at: Instant,
    /// After this no answer is wanted any more.
    pub deadline: Option<Instant>,
}

/// Where an answer goes and how its asker recognizes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// The MQTT 5 response topic; without one the answer goes to the camera's answer topic.
    pub topic: Option<String>,
    /// The MQTT 5 correlation data, echoed byte for byte.
    pub correlation: Option<Vec<u8>>,
    /// The transaction of the request, echoed in the answer.
    pub transaction: Option<Transaction>,
}

/// What a 3.1.1 client recognizes its answer by.
#[derive(Clone, Debug, PartialEq)]
pub enum Transaction {
    Text(String),
    Number(i64),
}

/// What can be changed about a camera while the daemon runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether its frames are looked at.
    pub enabled: bool,
    /// Mean time between two captions at least.
    pub min_interval: Duration,
    /// The words that every caption begins with.
    pub prompt: String,
}

/// Wishes for other settings; none leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub enabled: Option<bool>,
    pub min_interval: Option<Duration>,
    pub prompt: Option<String>,
    /// Of questions, labels and rules, in their order.
    pub standing: Vec<StandingChange>,
    /// Another gate, which remembers nothing.
    pub gate: Option<GateConfig>,
    /// Whether the picture of a caption is published with it.
    pub image: Option<bool>,
}

/// How the frames of one camera are looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    pub gate: GateConfig,
    /// Which of the visions sees them.
    pub vision: usize,
    /// The words that every caption begins with.
    pub prompt: String,
    pub standing: StandingConfig,
    /// Whether the picture of a caption is published with it.
    pub image: bool,
}

/// What happened to the daemon itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Another configuration is in force, but for these keys.
    Reloaded { needs_restart: Vec<String> },
    /// Another configuration was refused; the one before stays.
    Refused { why: String },
    /// Captions are made less often, and why.
    Slowed { why: String },
    /// They are made as often as before.
    Recovered,
    /// Inference fails again and again, and why.
    Degraded { why: String },
    /// It succeeds again.
    Restored,
}

/// Changes of standing things that may wait; the oldest make room. A reload may take everything away and put as much in
/// its place.
const STANDING_CHANGES_MAX: usize = 6 * STANDING_MAX;

impl Changes {
    /// Takes over what `newer` wishes.
    pub fn update(&mut self, newer: Changes) {
        self.enabled = newer.enabled.or(self.enabled);
        self.min_interval = newer.min_interval.or(self.min_interval);
        self.prompt = newer.prompt.or(self.prompt.take());
        self.gate = newer.gate.or(self.gate);
        self.image = newer.image.or(self.image);
        self.standing.extend(newer.standing);
        let excess = self.standing.len().saturating_sub(STANDING_CHANGES_MAX);
        self.standing.drain(..excess);
    }
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AskError {
    #[error("too many questions are waiting, ask again later")]
    Busy,
    #[error("the camera has not delivered a frame yet")]
    NoFrame,
    #[error("the deadline has passed")]
    Late,
    #[error("there is no camera of this name")]
    UnknownCamera,
    #[error("{0}")]
    Request(String),
    #[error("{0}")]
    Failed(String),
}

/// A result of the inference thread, on its way to the broker.
#[derive(Clone, Debug)]
pub enum Publication {
    Caption(Captioned),
    Answer(Answered),
    /// What a camera runs with from now on.
    Settings(usize, Settings),
    /// What stands for a camera from now on.
    Standing(usize, StandingConfig),
    /// The answer to a standing question, by its name.
    StandingAnswer(String, Answered),
    Labels(Labels),
    Event(Event),
    /// The picture of a caption, as JPEG.
    Image(usize, Vec<u8>),
}

impl Publication {
    /// The camera that it is about, by its place in the configuration.
    pub fn camera(&self) -> usize {
        match self {
            Publication::Caption(captioned) => captioned.frame.camera,
            Publication::Answer(answered) | Publication::StandingAnswer(_, answered) => answered.ask.camera,
            Publication::Settings(camera, _)
            | Publication::Standing(camera, _)
            | Publication::Image(camera, _) => *camera,
            Publication::Labels(labels) => labels.frame.camera,
            Publication::Event(event) => event.frame.camera,
        }
    }
}

/// One caption of one frame.
#[derive(Clone, Debug)]
pub struct Captioned {
    pub frame: FrameId,
    pub caption: Caption,
    /// The picture shows too little for the caption to be believed.
    pub low_confidence: bool,
    /// False when the scene is the one of the caption before and only its time is renewed.
    pub changed: bool,
    /// Cosine with the last changed scene of this camera; none for the first.
    pub similarity: Option<f32>,
    pub latency: Latency,
    pub counters: Counters,
}

/// How the labels of a camera stand.
#[derive(Clone, Debug)]
pub struct Labels {
    pub frame: FrameId,
    pub readings: Vec<LabelReading>,
}

/// A rule began or ended.
#[derive(Clone, Debug)]
pub struct Event {
    /// The frame that decided it, or the last one before it.
    pub frame: FrameId,
    pub event: RuleEvent,
    /// The caption that was out.
    pub caption: Option<String>,
}

/// One question, answered or not.
#[derive(Clone, Debug)]
pub struct Answered {
    pub ask: Ask,
    pub outcome: Result<Reading, AskError>,
}

/// The answer and the frame that it was read from.
#[derive(Clone, Debug)]
pub struct Reading {
    pub frame: FrameId,
    pub answer: Answer,
    pub latency: Latency,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// Pixels out of the camera's bytes.
    pub decode: Duration,
    /// Waiting for the inference thread.
    pub wait: Duration,
    pub preprocess: Duration,
    pub encode: Duration,
    /// The caption or the answer.
    pub text: Duration,
    /// From capture (or from the question) to the end of inference.
    pub total: Duration,
}
