//! The broker's side of the daemon. Two tasks, and a third where the cameras are Homie devices as well:
//!
//! - [`Listener`] polls the connection for ever, turns requests into questions of the inbox, and
//!   tells the publisher about every new connection;
//! - [`Publisher`] turns results into messages, and publishes the whole retained state again on
//!   every new connection, since the broker may have forgotten it;
//! - [`Homie`] does both for the devices of that convention, on a connection of its own.
//!
//! A broker that is down delays nothing: what is retained waits as the latest state, captions of new scenes wait in
//! the queue on disk, and the rest is dropped and counted.

pub mod client;
mod homie;
mod listener;
mod outbox;
mod outputs;
pub mod payload;
pub mod probe;
mod publisher;
pub mod purge;
mod report;
mod roster;
mod sweep;
pub mod topic;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};

use crate::config::{CameraConfig, MqttConfig};
use crate::health::Health;
use crate::message::{Answered, Captioned, Event, Happening, Labels, Reply, Settings};
use crate::spool::{Spool, SpoolError};
use crate::standing::StandingConfig;
use client::{Outgoing, Session, Will};
pub use homie::Homie;
pub use listener::Listener;
use listener::Lives;
use outbox::Outbox;
use outputs::Outputs;
use payload::{BridgeEventPayload, CaptionPayload, EventPayload, LabelsPayload, Producer};
pub use publisher::{News, Publisher, RosterChange};
pub use roster::Post;
use roster::Roster;
use topic::{DiscoveryTopics, OnvifTopics, Topics};
pub use worker::Worker;

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_LONGEST: Duration = Duration::from_secs(30);
/// How long after a connection former descriptions are listened for.
const SWEEP: Duration = Duration::from_secs(10);

pub const ONLINE: &str = "online";
pub const OFFLINE: &str = "offline";

/// What both tasks know.
struct Shared {
    topics: Topics,
    cameras: Roster,
    /// What stands for each camera; the publisher changes it.
    standing: Mutex<Vec<StandingConfig>>,
    health: Arc<Health>,
    /// Whether the broker keeps what is true of a scene.
    retain: bool,
    /// How Home Assistant learns of the cameras, where it shall.
    discovery: Option<DiscoveryTopics>,
}

/// How the connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Link {
    /// Counts connections; 0 while there is none.
    connection: u64,
    /// Counts how often everything was to be said anew, by a new connection or since somebody asked for it.
    greeting: u64,
}

type Connection = watch::Receiver<Link>;

/// Acknowledgements that may wait for the publisher. More than a few connections can owe.
const DELIVERIES_MAX: usize = 4096;

/// Prepares the tasks; nothing is connected until they run.
///
/// # Errors
/// When another daemon uses the queue on disk.
pub fn tasks(
    config: &MqttConfig,
    cameras: &[CameraConfig],
    producers: Vec<Producer>,
    health: Arc<Health>,
    news: mpsc::Receiver<News>,
) -> Result<(Listener, Publisher, Option<Homie>), SpoolError> {
    let spool = match &config.queue {
        Some(queue) => match Spool::open(&queue.dir, queue.limits, SystemTime::now()) {
            Ok(spool) => Some(spool),
            Err(e @ SpoolError::InUse(_)) => return Err(e),
            // A disk that cannot be written, as a worn SD card, is no reason to stop looking.
            Err(e) => {
                tracing::error!(error = %e, "no queue: captions are dropped while the broker is away");
                None
            }
        },
        None => None,
    };
    let topics = Topics::new(&config.base_topic);
    let will = Will { topic: topics.bridge_state(), word: OFFLINE };
    let client_id = config.client_id.clone().unwrap_or_else(|| derived_client_id(&config.base_topic));
    let session =
        Session { will: Some(will), packet_bytes_max: packet_bytes_max(cameras), ..Session::new(&client_id) };
    let (client, eventloop) = client::client(config, &session);
    let (connection_tx, connection) = watch::channel(Link::default());
    let discovery = config.discovery.as_deref().map(|prefix| DiscoveryTopics::new(prefix, &client_id));
    let standing = Mutex::new(cameras.iter().map(|camera| camera.standing.clone()).collect());
    let post = |(config, producer): (&CameraConfig, Producer)| Post {
        config: config.clone(),
        producer,
        is_gone: false,
    };
    let posts = cameras.iter().zip(producers).map(post);
    let shared = Arc::new(Shared {
        topics,
        cameras: Roster::new(posts),
        standing,
        health,
        retain: config.retain,
        discovery,
    });
    let (deliveries_tx, deliveries) = mpsc::channel(DELIVERIES_MAX);
    let listener = Listener {
        eventloop,
        client: client.clone(),
        shared: Arc::clone(&shared),
        connection: connection_tx,
        deliveries: deliveries_tx,
        lives: Lives::default(),
        errors: std::collections::VecDeque::new(),
    };
    let onvif = config.onvif_prefix.as_deref().map(OnvifTopics::new);
    let homie =
        config.homie.as_deref().map(|domain| Homie::new(config, domain, &client_id, Arc::clone(&shared)));
    let (homie, homie_tx) = homie.unzip();
    let publisher = Publisher {
        client,
        shared,
        connection,
        deliveries,
        outbox: Outbox::new(spool),
        is_connected: false,
        greeted: Link::default(),
        owes_captions: false,
        settings: initial_settings(cameras),
        states: BTreeMap::new(),
        said_online: vec![false; cameras.len()],
        captions: vec![None; cameras.len()],
        started: Instant::now(),
        sweeping: None,
        outputs: Outputs { homie: homie_tx.map(|homie| (homie, cameras.len())), onvif },
        news,
    };
    Ok((listener, publisher, homie))
}

/// What the cameras run with until somebody changes it.
fn initial_settings(cameras: &[CameraConfig]) -> Vec<Settings> {
    cameras.iter().map(settings_of).collect()
}

fn settings_of(camera: &CameraConfig) -> Settings {
    Settings { enabled: true, min_interval: camera.gate.min_interval, prompt: camera.prompt.clone() }
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

impl Shared {
    /// What stands for a camera.
    fn standing(&self, camera: usize) -> StandingConfig {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)[camera].clone()
    }

    /// Puts other things in the place of what stood for a camera, which come back.
    fn replace_standing(&self, camera: usize, config: StandingConfig) -> StandingConfig {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let n_places = standing.len().max(camera + 1);
        standing.resize(n_places, StandingConfig::default());
        std::mem::replace(&mut standing[camera], config)
    }

    /// What Home Assistant is told.
    fn descriptions(&self) -> Vec<Outgoing> {
        let Some(discovery) = &self.discovery else { return Vec::new() };
        let (topic, bridge) = payload::discovery::bridge(discovery, &self.topics);
        let bridge = Outgoing { retain: true, ..Outgoing::json(topic, payload::json(&bridge)) };
        let cameras = self.cameras.present().into_iter().filter_map(|(camera, _)| self.described(camera));
        std::iter::once(bridge).chain(cameras).collect()
    }

    /// The place of a camera in the configuration.
    fn camera_named(&self, name: &str) -> Option<usize> {
        self.place_of(|camera| camera.name == name)
    }

    /// The camera whose pictures come on this topic.
    fn picture_of(&self, topic: &str) -> Option<usize> {
        self.place_of(|camera| camera.pictures().is_some_and(|(at, _)| at == topic))
    }

    fn place_of(&self, is_it: impl Fn(&CameraConfig) -> bool) -> Option<usize> {
        self.cameras.present().into_iter().find(|(_, post)| is_it(&post.config)).map(|(place, _)| place)
    }

    /// The message of a caption made `age` ago, unless it is no longer true.
    fn caption(&self, captioned: &Captioned, age: Duration) -> Option<Outgoing> {
        let post = self.cameras.at(captioned.frame.camera);
        let (camera, producer) = (&post.config, &post.producer);
        let left = camera.caption_expiry().checked_sub(age)?;
        let payload = CaptionPayload::new(captioned, &camera.name, producer, SystemTime::now() - age);
        let message = Outgoing::json(self.topics.caption(&camera.name), payload::json(&payload));
        Some(Outgoing { retain: self.retain, expiry: Some(left.max(Duration::from_secs(1))), ..message })
    }

    fn answer(&self, answered: &Answered) -> Outgoing {
        let camera = answered.ask.camera;
        let post = self.cameras.at(camera);
        let (name, producer) = (&post.config.name, &post.producer);
        let payload = payload::answered(answered, name, producer, SystemTime::now());
        self.reply(&answered.ask.reply, name, payload)
    }

    /// One that is asked again and again expires when it is not; one about the scene is true as long as that.
    fn standing_answer(&self, id: &str, answered: &Answered) -> Outgoing {
        let camera = answered.ask.camera;
        let post = self.cameras.at(camera);
        let (name, producer) = (&post.config.name, &post.producer);
        let payload = payload::answered(answered, name, producer, SystemTime::now());
        Outgoing { retain: self.retain, ..Outgoing::json(self.topics.question(name, id), payload) }
    }

    fn labels(&self, labels: &Labels) -> Outgoing {
        let camera = labels.frame.camera;
        let post = self.cameras.at(camera);
        let (name, producer) = (&post.config.name, &post.producer);
        let payload = LabelsPayload::new(labels, name, producer, SystemTime::now());
        Outgoing { retain: self.retain, ..Outgoing::json(self.topics.labels(name), payload::json(&payload)) }
    }

    fn event(&self, event: &Event) -> Outgoing {
        let name = &self.cameras.at(event.frame.camera).config.name;
        let payload = EventPayload::new(event, name, SystemTime::now());
        Outgoing::json(self.topics.event(name), payload::json(&payload))
    }

    /// The picture of a caption, with its expiry.
    fn image(&self, camera: usize, jpeg: Vec<u8>) -> Outgoing {
        let camera = &self.cameras.at(camera).config;
        let expiry = Some(camera.caption_expiry());
        Outgoing { retain: self.retain, expiry, ..Outgoing::jpeg(self.topics.image(&camera.name), jpeg) }
    }

    /// That a camera came or went.
    fn bridge_event(&self, camera: usize, is_online: bool) -> Outgoing {
        let fault = self.health.camera_fault(camera).filter(|_| !is_online);
        let name = &self.cameras.at(camera).config.name;
        let payload = BridgeEventPayload::of_camera(name, is_online, fault, SystemTime::now());
        Outgoing::json(self.topics.bridge_event(), payload::json(&payload))
    }

    /// What happened to the daemon itself.
    fn daemon_event(&self, happening: &Happening) -> Outgoing {
        let payload = BridgeEventPayload::of_daemon(happening, SystemTime::now());
        Outgoing::json(self.topics.bridge_event(), payload::json(&payload))
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
