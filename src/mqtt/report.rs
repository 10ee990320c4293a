//! What the daemon says of itself: what runs, how it has been, how it is.

use std::time::{Duration, SystemTime};

use super::Shared;
use super::payload::{self, CameraInfoPayload, CameraStatsPayload, InfoPayload, StatsPayload};

impl Shared {
    /// What runs.
    pub(super) fn info(&self) -> InfoPayload {
        let camera =
            |(camera, producer): (&crate::config::CameraConfig, &payload::Producer)| CameraInfoPayload {
                camera: camera.name.clone(),
                source: camera.source.to_string(),
                producer: producer.clone(),
                caption_expiry_s: camera.caption_expiry().as_secs(),
            };
        InfoPayload {
            v: payload::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cameras: self.cameras.iter().zip(&self.producers).map(camera).collect(),
            schemas: payload::schemas(),
        }
    }

    /// How it has been; `queued` messages wait on disk.
    pub(super) fn stats(&self, uptime: Duration, queued: u64) -> StatsPayload {
        let online = self.health.cameras_online().borrow().clone();
        let cameras = self.cameras.iter().zip(online).enumerate();
        StatsPayload {
            v: payload::VERSION,
            ts: payload::timestamp(SystemTime::now()),
            uptime_s: uptime.as_secs(),
            queued,
            cameras: cameras
                .map(|(i, (camera, online))| CameraStatsPayload {
                    camera: camera.name.clone(),
                    online,
                    fault: self.health.camera_fault(i),
                    counters: self.health.counters(i).into(),
                })
                .collect(),
        }
    }

    /// How the daemon is, for those who ask.
    pub(super) fn health_report(&self) -> serde_json::Value {
        let online = self.health.cameras_online().borrow().clone();
        let cameras =
            self.cameras.iter().zip(online).map(|(camera, online)| (camera.name.clone(), online.into()));
        let cameras: serde_json::Map<String, serde_json::Value> = cameras.collect();
        serde_json::json!({ "healthy": cameras.values().all(|online| online == true), "cameras": cameras })
    }
}
