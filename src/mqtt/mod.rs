//! The broker's side of the daemon. Two tasks:
//!
//! - [`Listener`] polls the connection for ever, turns requests into questions of the inbox, and
//!   tells the publisher about every new connection;
//! - [`Publisher`] turns results into messages, and publishes the whole retained state again on
//!   every new connection, since the broker may have forgotten it.
//!
//! A broker that is down delays nothing: what is retained waits as the latest state, what is not is
//! dropped and counted.

pub mod client;
pub mod payload;
pub mod topic;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sd_notify::NotifyState;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};

use crate::backoff::Backoff;
use crate::config::{CameraConfig, MqttConfig};
use crate::health::{self, Count, Health};
use crate::inbox::Inbox;
use crate::mailbox::{Letter, Mailbox};
use crate::message::{Answered, Ask, AskError, Captioned, Changes, Publication, Reply, Settings};
use client::{Client, Event, EventLoop, Incoming, LinkError, Outgoing, Will};
use payload::{
    CameraInfoPayload, CameraStatsPayload, CaptionPayload, ErrorPayload, InfoPayload, Producer, StatsPayload,
    parse_ask,
};
use topic::Topics;

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_LONGEST: Duration = Duration::from_secs(30);
const STATS_INTERVAL: Duration = Duration::from_secs(60);
/// `systemctl status` may lag by so much.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

pub const ONLINE: &str = "online";
pub const OFFLINE: &str = "offline";

/// What both tasks know.
struct Shared {
    topics: Topics,
    cameras: Vec<CameraConfig>,
    /// One a camera.
    producers: Vec<Producer>,
    health: Arc<Health>,
}

/// Counts connections: 0 while there is none, else the number of the current one.
type Connection = watch::Receiver<u64>;

/// Prepares both tasks; nothing is connected until they run.
pub fn tasks(
    config: &MqttConfig,
    cameras: &[CameraConfig],
    producers: Vec<Producer>,
    health: Arc<Health>,
) -> (Listener, Publisher) {
    let topics = Topics::new(&config.base_topic);
    let will = Will { topic: topics.bridge_state(), word: OFFLINE };
    let client_id = config.client_id.clone().unwrap_or_else(|| derived_client_id(&config.base_topic));
    let (client, eventloop) = client::client(config, &client_id, Some(will), packet_bytes_max(cameras));
    let (connection_tx, connection) = watch::channel(0);
    let shared = Arc::new(Shared { topics, cameras: cameras.to_vec(), producers, health });
    let listener = Listener {
        eventloop,
        client: client.clone(),
        shared: Arc::clone(&shared),
        connection: connection_tx,
    };
    let captions = vec![None; cameras.len()];
    let settings = cameras.iter().map(|camera| Settings {
        enabled: true,
        min_interval: camera.gate.min_interval,
        prompt: camera.prompt.clone(),
    });
    let settings = settings.collect();
    (listener, Publisher { client, shared, connection, settings, captions, started: Instant::now() })
}

/// Room for the largest picture that a camera takes, beside its topic and properties.
fn packet_bytes_max(cameras: &[CameraConfig]) -> usize {
    let pictures = cameras.iter().filter_map(CameraConfig::pictures);
    client::PACKET_BYTES_LEAST + pictures.map(|(_, bytes_max)| bytes_max).max().unwrap_or(0)
}

/// The same for every start of one daemon on one machine, and another for every other. The machine
/// id itself stays secret.
fn derived_client_id(base_topic: &str) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let digest = Sha256::digest(format!("captiond {} {base_topic}", machine.trim()));
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("captiond-{hex}")
}

/// The event-loop task.
pub struct Listener {
    eventloop: EventLoop,
    client: Client,
    shared: Arc<Shared>,
    connection: watch::Sender<u64>,
}

impl Listener {
    /// Polls until the publisher has disconnected, or the task is dropped.
    pub async fn run(mut self, inbox: Arc<Inbox>, mailboxes: Vec<Arc<Mailbox>>) {
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_LONGEST);
        let mut n_connections = 0;
        loop {
            match self.eventloop.poll().await {
                Ok(Event::Connected) => {
                    tracing::info!("broker up");
                    backoff.reset();
                    n_connections += 1;
                    self.set_connection(n_connections);
                }
                Ok(Event::Message(message)) => match self.shared.picture_of(&message.topic) {
                    Some(camera) => self.receive(camera, message, &mailboxes[camera]),
                    None => self.hear(message, &inbox),
                },
                Ok(Event::Disconnected) => return,
                Ok(Event::Subscribed | Event::Other) => {}
                Err(e) => {
                    self.set_connection(0);
                    let wait = match e {
                        LinkError::TakenOver(_) => BACKOFF_LONGEST,
                        LinkError::Lost(_) => backoff.next_wait(),
                    };
                    tracing::warn!(error = %e, retry_ms = wait.as_millis(), "no broker, retrying");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    fn set_connection(&self, number: u64) {
        self.shared.health.set_broker_online(number > 0);
        self.connection.send_replace(number);
    }

    /// Hands a wish for another setting on. One that is not understood leaves all as it is, and says how that is.
    fn change(&self, name: &str, setting: &str, message: &Incoming, inbox: &Inbox) {
        if message.retained {
            return tracing::warn!(camera = name, setting, "retained wish for a setting ignored");
        }
        let Some(camera) = self.shared.cameras.iter().position(|camera| camera.name == name) else {
            return tracing::warn!(camera = name, setting, "wish for a setting of an unknown camera ignored");
        };
        let changes = payload::parse_set(setting, &message.payload).unwrap_or_else(|why| {
            tracing::warn!(camera = name, setting, why, "wish for a setting not understood");
            Changes::default()
        });
        inbox.change(camera, changes);
    }

    /// Hands a picture on to its camera.
    fn receive(&self, camera: usize, message: Incoming, mailbox: &Mailbox) {
        if message.retained {
            // It may be of last week, and nothing in it says so.
            tracing::warn!(topic = message.topic, "retained picture ignored");
            return;
        }
        let letter =
            Letter { bytes: message.payload.into(), came: Instant::now(), came_at: SystemTime::now() };
        if mailbox.put(letter) {
            self.shared.health.count(camera, Count::Overwritten);
        }
    }

    fn describe(&self, name: &str, retained: bool, inbox: &Inbox) {
        match self.shared.cameras.iter().position(|camera| camera.name == name) {
            _ if retained => tracing::warn!(camera = name, "retained wish for a caption ignored"),
            None => tracing::warn!(camera = name, "wish for a caption of an unknown camera ignored"),
            Some(camera) => inbox.want_caption(camera),
        }
    }

    /// Queues a question, or answers at once that it cannot.
    fn hear(&self, message: Incoming, inbox: &Inbox) {
        if let Some(name) = self.shared.topics.described_camera(&message.topic) {
            return self.describe(name, message.retained, inbox);
        }
        if let Some((name, setting)) = self.shared.topics.set_camera(&message.topic) {
            return self.change(name, setting, &message, inbox);
        }
        let Some(name) = self.shared.topics.asked_camera(&message.topic) else { return };
        if message.retained {
            tracing::warn!(topic = message.topic, "retained question ignored");
            return;
        }
        let name = name.to_owned();
        let mut reply =
            Reply { topic: message.response_topic, correlation: message.correlation, transaction: None };
        if reply.topic.as_deref().is_some_and(|topic| !self.shared.topics.is_response_topic(topic)) {
            tracing::warn!(camera = name, "question with a bad response topic ignored");
            return;
        }
        let parsed = parse_ask(&message.payload);
        let (text, error) = match parsed {
            Err((transaction, e)) => {
                reply.transaction = transaction;
                (String::new(), e)
            }
            Ok((question, transaction)) => {
                reply.transaction = transaction;
                let text = question.text.clone();
                match self.shared.cameras.iter().position(|camera| camera.name == name) {
                    None => (text, AskError::UnknownCamera),
                    Some(camera) => {
                        let ask = Ask { camera, question, reply, asked_at: Instant::now() };
                        let Err(ask) = inbox.put_question(ask) else { return };
                        reply = ask.reply;
                        (text, AskError::Busy)
                    }
                }
            }
        };
        let now = SystemTime::now();
        let payload = ErrorPayload::new(&error, &text, reply.transaction.as_ref(), &name, now);
        let message = self.shared.reply(&reply, &name, payload::json(&payload));
        if let Err(e) = self.client.try_publish(message) {
            tracing::warn!(camera = name, error = %e, "error answer dropped");
        }
    }
}

/// The publishing task.
pub struct Publisher {
    client: Client,
    shared: Arc<Shared>,
    connection: Connection,
    settings: Vec<Settings>,
    /// The latest caption of each camera and when it was made.
    captions: Vec<Option<(Instant, Captioned)>>,
    started: Instant,
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
                    Ok(())
                }
            };
            if let Err(e) = done {
                tracing::error!(error = %e, "publishing ended");
                return false;
            }
        }
        self.is_connected() && self.say_goodbye().await.is_ok()
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

impl Shared {
    /// The camera whose pictures come on this topic.
    fn picture_of(&self, topic: &str) -> Option<usize> {
        self.cameras.iter().position(|camera| camera.pictures().is_some_and(|(at, _)| at == topic))
    }

    /// The message of a caption made `age` ago, unless it is no longer true.
    fn caption(&self, captioned: &Captioned, age: Duration) -> Option<Outgoing> {
        let (camera, producer) =
            (&self.cameras[captioned.frame.camera], &self.producers[captioned.frame.camera]);
        let left = camera.caption_expiry().checked_sub(age)?;
        let payload = CaptionPayload::new(captioned, &camera.name, producer, SystemTime::now() - age);
        let message = Outgoing::json(self.topics.caption(&camera.name), payload::json(&payload));
        Some(Outgoing { retain: true, expiry: Some(left.max(Duration::from_secs(1))), ..message })
    }

    fn answer(&self, answered: &Answered) -> Outgoing {
        let camera = answered.ask.camera;
        let (name, producer) = (&self.cameras[camera].name, &self.producers[camera]);
        let payload = payload::answered(answered, name, producer, SystemTime::now());
        self.reply(&answered.ask.reply, name, payload)
    }

    fn reply(&self, reply: &Reply, camera: &str, payload: Vec<u8>) -> Outgoing {
        let topic = reply.topic.clone().unwrap_or_else(|| self.topics.answer(camera));
        Outgoing { correlation: reply.correlation.clone(), ..Outgoing::json(topic, payload) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_id_is_stable_and_differs_by_base_topic() {
        let id = derived_client_id("captiond");
        assert_eq!(id, derived_client_id("captiond"));
        assert_ne!(id, derived_client_id("home/captiond"));
        assert!(id.starts_with("captiond-") && id.len() <= 23, "{id}: 3.1.1 brokers may refuse more");
    }
}
