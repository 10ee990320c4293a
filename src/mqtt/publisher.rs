//! Turns results into messages, and publishes the whole retained state again on every new connection, since the broker
//! may have forgotten it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sd_notify::NotifyState;
use tokio::sync::mpsc;

use super::client::{Client, LinkError, Outgoing};
use super::outputs::Outputs;
use super::payload::{self, CameraInfoPayload, CameraStatsPayload, InfoPayload, StatsPayload};
use super::{Connection, OFFLINE, ONLINE, SWEEP, Shared};
use crate::health::{self, Count};
use crate::message::{Captioned, Publication, Settings};

const STATS_INTERVAL: Duration = Duration::from_secs(60);
/// `systemctl status` may lag by so much.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// The publishing task.
pub struct Publisher {
    pub(super) client: Client,
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Connection,
    pub(super) settings: Vec<Settings>,
    /// The latest caption of each camera and when it was made.
    pub(super) captions: Vec<Option<(Instant, Captioned)>>,
    pub(super) started: Instant,
    /// Since when former descriptions are listened for.
    pub(super) sweeping: Option<Instant>,
    pub(super) outputs: Outputs,
}

impl Publisher {
    /// Publishes until `publications` is closed, then says offline and disconnects. True when the
    /// broker is there to hear it; the listener then ends by itself.
    pub async fn run(mut self, mut publications: mpsc::Receiver<Publication>) -> bool {
        let mut online = self.shared.health.cameras_online();
        let mut stats = tokio::time::interval(STATS_INTERVAL);
        let mut status = tokio::time::interval(STATUS_INTERVAL);
        stats.tick().await;
        loop {
            let done = tokio::select! {
                publication = publications.recv() => match publication {
                    Some(publication) => self.publish(publication).await,
                    None => break,
                },
                changed = self.connection.changed() => match changed {
                    Ok(()) => self.greet().await,
                    // The listener is gone before its time: nothing can be published any more.
                    Err(_) => return false,
                },
                _ = online.changed() => self.publish_availability().await,
                _ = stats.tick() => self.publish_stats().await,
                _ = status.tick() => {
                    health::notify(&[NotifyState::Status(&self.shared.health.status_line())]);
                    self.end_sweep().await
                }
            };
            if let Err(e) = done {
                tracing::error!(error = %e, "publishing ended");
                return false;
            }
        }
        self.is_connected() && self.say_goodbye().await.is_ok()
    }

    /// Other devices' descriptions are of no interest once the broker has sent what it kept.
    async fn end_sweep(&mut self) -> Result<(), LinkError> {
        let is_over = self.sweeping.is_some_and(|since| since.elapsed() >= SWEEP);
        match &self.shared.discovery {
            Some(discovery) if is_over && self.is_connected() => {
                self.sweeping = None;
                self.client.unsubscribe(discovery.config_filter()).await
            }
            _ => Ok(()),
        }
    }

    fn is_connected(&self) -> bool {
        *self.connection.borrow() > 0
    }

    /// Everything that a new connection must know.
    async fn greet(&mut self) -> Result<(), LinkError> {
        if *self.connection.borrow_and_update() == 0 {
            return Ok(());
        }
        let topics = &self.shared.topics;
        self.client.subscribe(topics.ask_filter()).await?;
        self.client.subscribe(topics.describe("+")).await?;
        self.client.subscribe(topics.set_filter()).await?;
        for camera in &self.shared.cameras {
            if let Some((topic, _)) = camera.pictures() {
                self.client.subscribe(topic.to_owned()).await?;
            }
        }
        let info = InfoPayload {
            v: payload::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cameras: (self.shared.cameras.iter().zip(&self.shared.producers))
                .map(|(camera, producer)| CameraInfoPayload {
                    camera: camera.name.clone(),
                    source: camera.source.to_string(),
                    producer: producer.clone(),
                    caption_expiry_s: camera.caption_expiry().as_secs(),
                })
                .collect(),
        };
        let info = Outgoing { retain: true, ..Outgoing::json(topics.bridge_info(), payload::json(&info)) };
        self.client.publish(info).await?;
        self.publish_availability().await?;
        for camera in 0..self.settings.len() {
            self.publish_settings(camera).await?;
        }
        for (made_at, captioned) in self.captions.iter().flatten() {
            let Some(message) = self.shared.caption(captioned, made_at.elapsed()) else { continue };
            self.client.publish(message).await?;
        }
        if let Some(discovery) = &self.shared.discovery {
            self.client.subscribe(discovery.status()).await?;
            // What was described before comes back, and what is not ours any more is taken away.
            self.client.subscribe(discovery.config_filter()).await?;
            self.sweeping = Some(Instant::now());
            for (topic, payload) in self.shared.descriptions() {
                self.client.publish(Outgoing { retain: true, ..Outgoing::json(topic, payload) }).await?;
            }
        }
        // Last, so that whoever sees `online` finds the rest in place.
        self.client.publish(Outgoing::state(topics.bridge_state(), ONLINE)).await
    }

    async fn publish_availability(&self) -> Result<(), LinkError> {
        if !self.is_connected() {
            return Ok(());
        }
        let online = self.shared.health.cameras_online().borrow().clone();
        for (camera, online) in self.shared.cameras.iter().zip(online) {
            let word = if online { ONLINE } else { OFFLINE };
            self.client.publish(Outgoing::state(self.shared.topics.availability(&camera.name), word)).await?;
        }
        Ok(())
    }

    async fn publish_settings(&self, camera: usize) -> Result<(), LinkError> {
        if !self.is_connected() {
            return Ok(());
        }
        let (topics, name) = (&self.shared.topics, &self.shared.cameras[camera].name);
        let Settings { enabled, min_interval, prompt } = &self.settings[camera];
        let interval = min_interval.as_secs_f64().to_string();
        for (topic, word) in [
            (topics.enabled(name), if *enabled { "ON" } else { "OFF" }),
            (topics.interval(name), &interval),
            (topics.prompt(name), prompt),
        ] {
            self.client.publish(Outgoing::state(topic, word)).await?;
        }
        Ok(())
    }

    async fn publish(&mut self, publication: Publication) -> Result<(), LinkError> {
        // A new connection is greeted first, or the greeting would say this caption once more.
        if self.connection.has_changed().unwrap_or(false) {
            self.greet().await?;
        }
        self.outputs.forward(&publication, &self.shared.health);
        if let Some(event) = self.outputs.event(&publication, &self.shared.cameras)
            && self.is_connected()
        {
            self.client.publish(event).await?;
        }
        let (camera, message) = match publication {
            Publication::Caption(captioned) => {
                let camera = captioned.frame.camera;
                tracing::debug!(camera, seq = captioned.frame.seq, "caption");
                let message = self.shared.caption(&captioned, Duration::ZERO);
                self.captions[camera] = Some((Instant::now(), captioned));
                (camera, message)
            }
            Publication::Settings(camera, settings) => {
                self.settings[camera] = settings;
                return self.publish_settings(camera).await;
            }
            Publication::Answer(answered) => (answered.ask.camera, Some(self.shared.answer(&answered))),
        };
        match message {
            Some(message) if self.is_connected() => self.client.publish(message).await,
            _ => {
                self.shared.health.count(camera, Count::Dropped);
                Ok(())
            }
        }
    }

    async fn publish_stats(&self) -> Result<(), LinkError> {
        if !self.is_connected() {
            return Ok(());
        }
        let online = self.shared.health.cameras_online().borrow().clone();
        let cameras = self.shared.cameras.iter().zip(online).enumerate();
        let stats = StatsPayload {
            v: payload::VERSION,
            ts: payload::timestamp(SystemTime::now()),
            uptime_s: self.started.elapsed().as_secs(),
            cameras: cameras
                .map(|(i, (camera, online))| CameraStatsPayload {
                    camera: camera.name.clone(),
                    online,
                    fault: self.shared.health.camera_fault(i),
                    counters: self.shared.health.counters(i).into(),
                })
                .collect(),
        };
        let topic = self.shared.topics.bridge_stats();
        self.client.publish(Outgoing::json(topic, payload::json(&stats))).await
    }

    async fn say_goodbye(&self) -> Result<(), LinkError> {
        self.publish_availability().await?;
        self.client.publish(Outgoing::state(self.shared.topics.bridge_state(), OFFLINE)).await?;
        self.client.disconnect().await
    }
}
