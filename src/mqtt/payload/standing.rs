//! What is said of labels and rules.

use std::collections::BTreeMap;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Producer, VERSION, milliseconds, rounded, timestamp};
use crate::message::{Event, Labels};
use crate::standing::LabelReading;

/// On `<base>/<camera>/labels`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LabelsPayload {
    pub v: u32,
    pub ts: String,
    pub camera: String,
    pub seq: u64,
    pub frame_ts: String,
    /// By the name of the label.
    pub labels: BTreeMap<String, LabelPayload>,
    #[serde(flatten)]
    pub producer: Producer,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelPayload {
    pub on: bool,
    /// Probability against what else may be there.
    pub score: f64,
    /// From this score on it turns on, or while it is on, below this one off.
    pub threshold: f64,
    /// Standard deviations above this camera's usual score; null while that is not known.
    pub deviation: Option<f64>,
}

/// On `<base>/<camera>/event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventPayload {
    pub v: u32,
    /// It was kept while the broker was away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    pub ts: String,
    pub camera: String,
    pub event_type: EventType,
    pub rule: String,
    pub seq: u64,
    pub frame_ts: String,
    /// The caption that was out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// For an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasted_ms: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    Begin,
    End,
}

impl LabelsPayload {
    pub fn new(labels: &Labels, camera: &str, producer: &Producer, now: SystemTime) -> LabelsPayload {
        let of = |reading: &LabelReading| LabelPayload {
            on: reading.is_on,
            score: rounded(reading.score),
            threshold: rounded(reading.threshold),
            deviation: reading.deviation.map(rounded),
        };
        LabelsPayload {
            v: VERSION,
            ts: timestamp(now),
            camera: camera.to_owned(),
            seq: labels.frame.seq,
            frame_ts: timestamp(labels.frame.captured_at),
            labels: labels.readings.iter().map(|reading| (reading.id.clone(), of(reading))).collect(),
            producer: producer.clone(),
        }
    }
}

impl EventPayload {
    pub fn new(event: &Event, camera: &str, now: SystemTime) -> EventPayload {
        EventPayload {
            v: VERSION,
            late: false,
            ts: timestamp(now),
            camera: camera.to_owned(),
            event_type: if event.event.begins { EventType::Begin } else { EventType::End },
            rule: event.event.rule.clone(),
            seq: event.frame.seq,
            frame_ts: timestamp(event.frame.captured_at),
            caption: event.caption.clone(),
            lasted_ms: event.event.lasted.map(milliseconds),
        }
    }
}
