//! Every JSON shape of the program. The examples are those of `docs/mqtt.md`; tests keep them true.

mod ask;
mod bridge;
pub mod discovery;
pub mod job;
pub mod onvif;
mod schema;
mod set;
mod standing;

use std::time::{Duration, SystemTime};

use caption::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::frame::FrameId;
use crate::health::Counters;
use crate::message::{Answered, AskError, Captioned, Latency, Reading, Transaction};

pub use ask::{Asked, parse_ask};
pub use bridge::{BridgeEventPayload, ResponsePayload};
pub use schema::schemas;
pub use set::{INTERVAL_MAX, parse_set};
pub use standing::{EventPayload, LabelsPayload};

/// The version of the payloads; it grows when a key changes its meaning or goes.
pub const VERSION: u32 = 1;
/// Largest question payload, in bytes.
pub const ASK_BYTES_MAX: usize = 8 << 10;
/// Longest question, in characters.
pub const QUESTION_CHARS_MAX: usize = 500;
/// Most choices, and the longest, in characters.
pub const CHOICES_MAX: usize = 64;
pub const CHOICE_CHARS_MAX: usize = 100;
/// Longest transaction, in bytes.
pub const TRANSACTION_BYTES_MAX: usize = 256;
/// Longest `short`, in characters: the longest state that Home Assistant takes.
pub const SHORT_CHARS_MAX: usize = 255;
/// Candidates that an answer lists.
const CANDIDATES_MAX: usize = 10;

pub const CAPTION_EXAMPLE: &str = include_str!("examples/caption.json");
pub const ASK_EXAMPLE: &str = include_str!("examples/ask.json");
pub const ANSWER_EXAMPLE: &str = include_str!("examples/answer.json");
pub const ERROR_EXAMPLE: &str = include_str!("examples/error.json");
pub const INFO_EXAMPLE: &str = include_str!("examples/info.json");
pub const STATS_EXAMPLE: &str = include_str!("examples/stats.json");
pub const LABELS_EXAMPLE: &str = include_str!("examples/labels.json");
pub const BRIDGE_EVENT_EXAMPLE: &str = include_str!("examples/bridge_event.json");
pub const RESPONSE_EXAMPLE: &str = include_str!("examples/response.json");
pub const EVENT_EXAMPLE: &str = include_str!("examples/event.json");

/// What produced a result; the same for every payload of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Producer {
    /// Name and hash of the bundle.
    pub bundle: String,
    pub engine: String,
    pub device: String,
}

/// On `<base>/<camera>/caption`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaptionPayload {
    pub v: u32,
    /// It was kept while the broker was away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    pub ts: String,
    pub camera: String,
    pub seq: u64,
    pub frame_ts: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    pub caption: String,
    pub short: String,
    pub score: f64,
    pub low_confidence: bool,
    pub changed: bool,
    pub similarity: Option<f64>,
    #[serde(flatten)]
    pub producer: Producer,
    pub latency_ms: LatencyPayload,
    pub counters: CountersPayload,
}

/// On the response topic or `<base>/<camera>/answer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnswerPayload {
    pub v: u32,
    pub ts: String,
    pub camera: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionPayload>,
    pub question: String,
    pub answer: String,
    pub short: String,
    pub score: f64,
    pub verdict: VerdictPayload,
    pub candidates: Vec<CandidatePayload>,
    pub seq: u64,
    pub frame_ts: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(flatten)]
    pub producer: Producer,
    pub latency_ms: LatencyPayload,
}

/// Instead of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorPayload {
    pub v: u32,
    pub ts: String,
    pub camera: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionPayload>,
    pub question: String,
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub error: String,
}

/// On `<base>/bridge/info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InfoPayload {
    pub v: u32,
    pub version: String,
    pub cameras: Vec<CameraInfoPayload>,
    /// JSON Schemas by the name of the payload.
    pub schemas: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CameraInfoPayload {
    pub camera: String,
    /// Where its frames come from, for people.
    pub source: String,
    #[serde(flatten)]
    pub producer: Producer,
    /// A caption that was not confirmed for so long is no longer true.
    pub caption_expiry_s: u64,
}

/// On `<base>/bridge/stats`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatsPayload {
    pub v: u32,
    pub ts: String,
    pub uptime_s: u64,
    /// Messages that wait on disk for the broker.
    pub queued: u64,
    /// Frames of one camera are looked at no more often than this, since memory is short or the machine hot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_interval_s: Option<f64>,
    /// Why inference fails again and again; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    pub cameras: Vec<CameraStatsPayload>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CameraStatsPayload {
    pub camera: String,
    pub online: bool,
    /// Why it is not online; absent where it is, or was not tried yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    pub counters: CountersPayload,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencyPayload {
    pub decode: f64,
    pub wait: f64,
    pub preprocess: f64,
    pub encode: f64,
    pub text: f64,
    pub total: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CountersPayload {
    pub captured: u64,
    pub captioned: u64,
    pub overwritten: u64,
    pub gated: u64,
    pub dropped: u64,
    pub failed: u64,
    pub lost: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CandidatePayload {
    pub answer: String,
    pub score: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TransactionPayload {
    Text(String),
    Number(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictPayload {
    Answered,
    Unsure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    Busy,
    NoFrame,
    Deadline,
    UnknownCamera,
    BadRequest,
    /// Of jobs alone.
    Expired,
    Failed,
}

impl CaptionPayload {
    pub fn new(captioned: &Captioned, camera: &str, producer: &Producer, now: SystemTime) -> CaptionPayload {
        let FrameId { seq, captured_at, file, .. } = captioned.frame.clone();
        CaptionPayload {
            v: VERSION,
            late: false,
            ts: timestamp(now),
            camera: camera.to_owned(),
            seq,
            frame_ts: timestamp(captured_at),
            file,
            caption: captioned.caption.text.clone(),
            short: shorten(&captioned.caption.text),
            score: rounded(captioned.caption.score),
            low_confidence: captioned.low_confidence,
            changed: captioned.changed,
            similarity: captioned.similarity.map(rounded),
            producer: producer.clone(),
            latency_ms: captioned.latency.into(),
            counters: captioned.counters.into(),
        }
    }
}

impl AnswerPayload {
    fn new(
        answered: &Answered,
        reading: &Reading,
        camera: &str,
        producer: &Producer,
        now: SystemTime,
    ) -> Self {
        let FrameId { seq, captured_at, file, .. } = reading.frame.clone();
        let candidate = |(answer, score): &(String, f32)| CandidatePayload {
            answer: answer.clone(),
            score: rounded(*score),
        };
        AnswerPayload {
            v: VERSION,
            ts: timestamp(now),
            camera: camera.to_owned(),
            transaction: answered.ask.reply.transaction.as_ref().map(TransactionPayload::from),
            question: answered.ask.question.text.clone(),
            answer: reading.answer.text.clone(),
            short: shorten(&reading.answer.text),
            score: rounded(reading.answer.score),
            verdict: match reading.answer.verdict {
                Verdict::Answered => VerdictPayload::Answered,
                Verdict::Unsure => VerdictPayload::Unsure,
            },
            candidates: reading.answer.candidates.iter().take(CANDIDATES_MAX).map(candidate).collect(),
            seq,
            frame_ts: timestamp(captured_at),
            file,
            producer: producer.clone(),
            latency_ms: reading.latency.into(),
        }
    }
}

impl ErrorPayload {
    pub fn new(
        error: &AskError,
        question: &str,
        transaction: Option<&Transaction>,
        camera: &str,
        now: SystemTime,
    ) -> ErrorPayload {
        ErrorPayload {
            v: VERSION,
            ts: timestamp(now),
            camera: camera.to_owned(),
            transaction: transaction.map(TransactionPayload::from),
            question: question.to_owned(),
            code: match error {
                AskError::Busy => ErrorCode::Busy,
                AskError::NoFrame => ErrorCode::NoFrame,
                AskError::Late => ErrorCode::Deadline,
                AskError::UnknownCamera => ErrorCode::UnknownCamera,
                AskError::Request(_) => ErrorCode::BadRequest,
                AskError::Failed(_) => ErrorCode::Failed,
            },
            error: error.to_string(),
        }
    }
}

/// The JSON of an answer or of the error in its place.
pub fn answered(answered: &Answered, camera: &str, producer: &Producer, now: SystemTime) -> Vec<u8> {
    match &answered.outcome {
        Ok(reading) => json(&AnswerPayload::new(answered, reading, camera, producer, now)),
        Err(e) => {
            let transaction = answered.ask.reply.transaction.as_ref();
            json(&ErrorPayload::new(e, &answered.ask.question.text, transaction, camera, now))
        }
    }
}

/// Serializes a payload of this module.
pub fn json(payload: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and lists cannot fail to serialize; an empty message would be the harmless
    // consequence of being wrong about that.
    serde_json::to_vec(payload).unwrap_or_default()
}

/// RFC 3339 in UTC with milliseconds, such as `2026-11-20T21:00:00.000Z`.
pub fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// At most [`SHORT_CHARS_MAX`] characters, cut between words.
fn shorten(text: &str) -> String {
    if text.chars().count() <= SHORT_CHARS_MAX {
        return text.to_owned();
    }
    let cut: String = text.chars().take(SHORT_CHARS_MAX - 1).collect();
    let whole = cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words);
    format!("{whole}…")
}

/// Four decimals say all that a score knows.
pub fn rounded(score: f32) -> f64 {
    (f64::from(score) * 1e4).round() / 1e4
}

/// Milliseconds with two decimals.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 1e2
}

impl From<&Transaction> for TransactionPayload {
    fn from(transaction: &Transaction) -> Self {
        match transaction {
            Transaction::Text(text) => TransactionPayload::Text(text.clone()),
            Transaction::Number(number) => TransactionPayload::Number(*number),
        }
    }
}

impl From<Latency> for LatencyPayload {
    fn from(latency: Latency) -> Self {
        LatencyPayload {
            decode: milliseconds(latency.decode),
            wait: milliseconds(latency.wait),
            preprocess: milliseconds(latency.preprocess),
            encode: milliseconds(latency.encode),
            text: milliseconds(latency.text),
            total: milliseconds(latency.total),
        }
    }
}

impl From<Counters> for CountersPayload {
    fn from(counters: Counters) -> Self {
        let Counters { captured, captioned, overwritten, gated, dropped, failed, lost } = counters;
        CountersPayload { captured, captioned, overwritten, gated, dropped, failed, lost }
    }
}

#[cfg(test)]
mod tests;
