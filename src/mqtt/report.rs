//! What the daemon says of itself: what runs, how it has been, how it is.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::payload::{self, CameraInfoPayload, CameraStatsPayload, InfoPayload, StatsPayload};
use super::{Post, Shared};

impl Shared {
    /// What runs.
    pub(super) fn info(&self) -> InfoPayload {
        let camera = |(_, post): (usize, Arc<Post>)| CameraInfoPayload {
            camera: post.config.name.clone(),
            source: post.config.source.to_string(),
            producer: post.producer.clone(),
            caption_expiry_s: post.config.caption_expiry().as_secs(),
        };
        InfoPayload {
            v: payload::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cameras: self.cameras.present().into_iter().map(camera).collect(),
            schemas: payload::schemas(),
        }
    }

    /// How it has been; `queued` messages wait on disk.
    pub(super) fn stats(&self, uptime: Duration, queued: u64) -> StatsPayload {
        let online = self.health.cameras_online().borrow().clone();
        StatsPayload {
            v: payload::VERSION,
            ts: payload::timestamp(SystemTime::now()),
            uptime_s: uptime.as_secs(),
            queued,
            slow_interval_s: Some(self.health.slow_interval().as_secs_f64()).filter(|s| *s > 0.0),
            degraded: self.health.engine_fault(),
            cameras: self
                .cameras
                .present()
                .into_iter()
                .map(|(i, post)| CameraStatsPayload {
                    camera: post.config.name.clone(),
                    online: online[i],
                    fault: self.health.camera_fault(i),
                    counters: self.health.counters(i).into(),
                })
                .collect(),
        }
    }

    /// How the daemon is, for those who ask.
    pub(super) fn health_report(&self) -> serde_json::Value {
        let online = self.health.cameras_online().borrow().clone();
        let of = |(i, post): (usize, Arc<Post>)| (post.config.name.clone(), online[i].into());
        let cameras = self.cameras.present().into_iter().map(of);
        let cameras: serde_json::Map<String, serde_json::Value> = cameras.collect();
        let is_well = self.health.engine_fault().is_none() && cameras.values().all(|online| online == true);
        serde_json::json!({ "healthy": is_well, "cameras": cameras })
    }
}
