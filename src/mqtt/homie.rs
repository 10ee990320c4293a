//! The cameras as devices of the Homie convention, version 5, beside the daemon's own topics: openHAB and others find
//! them by themselves. <https://homieiot.github.io/specification/>
//!
//! The daemon is the root device and each camera a child of it. The convention wants `lost` as the last will of the
//! root, and MQTT has one will a connection, so this output has a connection of its own. Wishes that come in do what
//! they do on the daemon's own topics: the same parsers, the same inbox. What is published comes from the
//! [`Publisher`](super::Publisher) through a bounded channel.

mod description;
mod listener;
mod publisher;
mod values;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::client::{self, Client, Content, EventLoop, Outgoing, Session, Will};
use super::topic::HomieTopics;
use super::{Post, Shared};
use crate::config::{MqttConfig, Qos};
use crate::inbox::Inbox;
use crate::message::Publication;

/// Results that may wait for this output. Full: the newest is dropped and counted.
const PUBLICATIONS_MAX: usize = 64;
/// Batches of messages that the listener may ask for, each at most a device that is taken away. Full: dropped, and
/// said so in the log.
const BATCHES_MAX: usize = 64;
/// Beside the client id of the daemon. With it a derived id has the 23 bytes that every 3.1.1 broker takes.
const CLIENT_SUFFIX: &str = "-h";

/// The life cycle of a device ("Device Lifecycle" of the convention).
const INIT: &str = "init";
const READY: &str = "ready";
const DISCONNECTED: &str = "disconnected";
const LOST: &str = "lost";

/// The task of this output.
pub struct Homie {
    eventloop: EventLoop,
    client: Client,
    devices: Devices,
    publications: mpsc::Receiver<Publication>,
}

/// What is published, and how surely.
struct Said {
    message: Outgoing,
    /// Values that are not retained have to be sent with QoS 0 ("QoS and retained messages").
    is_momentary: bool,
}

/// The daemon and its cameras as devices.
#[derive(Clone)]
struct Devices {
    shared: Arc<Shared>,
    topics: HomieTopics,
    /// The cameras of the start: devices are neither made nor taken away while the daemon runs.
    n_cameras: usize,
}

impl Homie {
    /// Prepares the task, and where publications for it go. `client_id` is that of the daemon. Nothing is connected
    /// until it runs.
    pub(super) fn new(
        config: &MqttConfig,
        domain: &str,
        client_id: &str,
        shared: Arc<Shared>,
    ) -> (Homie, mpsc::Sender<Publication>) {
        let topics = HomieTopics::new(domain, client_id);
        let will = Will { topic: topics.state(topics.root_id()), word: LOST };
        let session = Session { will: Some(will), ..Session::new(&format!("{client_id}{CLIENT_SUFFIX}")) };
        let (client, eventloop) = client::client(config, &session);
        let (publications_tx, publications) = mpsc::channel(PUBLICATIONS_MAX);
        let n_cameras = shared.cameras.n_places();
        let devices = Devices { shared, topics, n_cameras };
        (Homie { eventloop, client, devices, publications }, publications_tx)
    }

    /// Publishes and listens until the publications end, then says so and disconnects, where there is a broker to
    /// hear it.
    pub async fn run(self, inbox: Arc<Inbox>) {
        let Homie { eventloop, client, devices, publications } = self;
        let (connection_tx, connection) = watch::channel(0);
        let (batches_tx, batches) = mpsc::channel(BATCHES_MAX);
        let listener = listener::Listener {
            eventloop,
            devices: devices.clone(),
            connection: connection_tx,
            batches: batches_tx,
            _client: client.clone(),
        };
        let momentary = client.with_qos(Qos::AtMostOnce);
        let publisher = publisher::Publisher::new(client, momentary, devices, connection);
        let mut listening = std::pin::pin!(listener.run(&inbox));
        tokio::select! {
            () = &mut listening => {}
            has_said_goodbye = publisher.run(publications, batches) => {
                if has_said_goodbye {
                    listening.await;
                }
            }
        }
    }
}

impl Devices {
    fn camera_id(&self, camera: usize) -> String {
        self.topics.camera_id(&self.shared.cameras.at(camera).config.name)
    }

    fn cameras(&self) -> impl Iterator<Item = Arc<Post>> {
        (0..self.n_cameras).map(|camera| self.shared.cameras.at(camera))
    }

    fn camera_ids(&self) -> Vec<String> {
        (0..self.n_cameras).map(|camera| self.camera_id(camera)).collect()
    }

    /// The camera that is this device.
    fn camera_of(&self, id: &str) -> Option<usize> {
        (0..self.n_cameras).find(|camera| self.camera_id(*camera) == id)
    }
}

impl Said {
    /// A retained value or attribute.
    fn retained(topic: String, text: &str) -> Said {
        Said { message: Outgoing::state(topic, text), is_momentary: false }
    }

    /// A value that nobody keeps.
    fn momentary(topic: String, text: &str) -> Said {
        Said { message: Outgoing { retain: false, ..Outgoing::state(topic, text) }, is_momentary: true }
    }

    fn json(self) -> Said {
        Said { message: Outgoing { content: Content::Json, ..self.message }, ..self }
    }
}
