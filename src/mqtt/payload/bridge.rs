//! What the daemon says of itself.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{TransactionPayload, VERSION, timestamp};
use crate::message::Happening;

/// On `<base>/bridge/event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BridgeEventPayload {
    pub v: u32,
    /// It was kept while the broker was away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    pub ts: String,
    pub event_type: BridgeEventType,
    /// Absent where it happened to the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<String>,
    /// Why the camera is down, where that is known; why a configuration was refused, captions are made less often,
    /// or inference fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Keys of a new configuration that take effect at the next start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BridgeEventType {
    CameraUp,
    CameraDown,
    ConfigReloaded,
    ConfigRefused,
    Slowed,
    Recovered,
    Degraded,
    Restored,
}

impl BridgeEventPayload {
    fn new(event_type: BridgeEventType, now: SystemTime) -> BridgeEventPayload {
        let (ts, needs_restart) = (timestamp(now), Vec::new());
        BridgeEventPayload {
            v: VERSION,
            late: false,
            ts,
            event_type,
            camera: None,
            fault: None,
            needs_restart,
        }
    }

    /// A camera came or went.
    pub fn of_camera(
        camera: &str,
        is_online: bool,
        fault: Option<String>,
        now: SystemTime,
    ) -> BridgeEventPayload {
        let event_type = if is_online { BridgeEventType::CameraUp } else { BridgeEventType::CameraDown };
        let camera = Some(camera.to_owned());
        BridgeEventPayload { camera, fault, ..BridgeEventPayload::new(event_type, now) }
    }

    /// Something happened to the daemon.
    pub fn of_daemon(happening: &Happening, now: SystemTime) -> BridgeEventPayload {
        let new = |event_type| BridgeEventPayload::new(event_type, now);
        match happening.clone() {
            Happening::Reloaded { needs_restart } => {
                BridgeEventPayload { needs_restart, ..new(BridgeEventType::ConfigReloaded) }
            }
            Happening::Refused { why } => {
                BridgeEventPayload { fault: Some(why), ..new(BridgeEventType::ConfigRefused) }
            }
            Happening::Slowed { why } => {
                BridgeEventPayload { fault: Some(why), ..new(BridgeEventType::Slowed) }
            }
            Happening::Recovered => new(BridgeEventType::Recovered),
            Happening::Degraded { why } => {
                BridgeEventPayload { fault: Some(why), ..new(BridgeEventType::Degraded) }
            }
            Happening::Restored => new(BridgeEventType::Restored),
        }
    }
}

/// On the response topic of a request or `<base>/bridge/response/<request>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResponsePayload {
    pub v: u32,
    pub ts: String,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionPayload>,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    Error,
}

impl ResponsePayload {
    /// `request` is the payload of the request, of which the transaction is echoed.
    pub fn new(request: &[u8], outcome: Result<Value, String>, now: SystemTime) -> ResponsePayload {
        let transaction = super::ask::transaction_of(request).map(|transaction| (&transaction).into());
        let status = if outcome.is_ok() { Status::Ok } else { Status::Error };
        let (data, error) = match outcome {
            Ok(data) => (Some(data), None),
            Err(why) => (None, Some(why)),
        };
        ResponsePayload { v: VERSION, ts: timestamp(now), status, transaction, data, error }
    }
}
