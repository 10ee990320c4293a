//! Polls the connection for ever, turns requests into work for the inbox, and tells the publisher about every new
//! connection.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::watch;

use super::client::{Client, Event, EventLoop, Incoming, LinkError, Outgoing};
use super::payload::{self, ErrorPayload, parse_ask};
use super::topic::DiscoveryTopics;
use super::{BACKOFF_FIRST, BACKOFF_LONGEST, ONLINE, Shared};
use crate::backoff::Backoff;
use crate::health::Count;
use crate::inbox::Inbox;
use crate::mailbox::{Letter, Mailbox};
use crate::message::{Ask, AskError, Changes, Reply};

/// The event-loop task.
pub struct Listener {
    pub(super) eventloop: EventLoop,
    pub(super) client: Client,
    pub(super) shared: Arc<Shared>,
    pub(super) connection: watch::Sender<u64>,
}

impl Listener {
    /// Polls until the publisher has disconnected, or the task is dropped.
    pub async fn run(mut self, inbox: Arc<Inbox>, mailboxes: Vec<Arc<Mailbox>>) {
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_LONGEST);
        let mut n_greetings = 0;
        loop {
            match self.eventloop.poll().await {
                Ok(Event::Connected) => {
                    tracing::info!("broker up");
                    backoff.reset();
                    n_greetings += 1;
                    self.set_connection(n_greetings);
                }
                Ok(Event::Message(message)) => {
                    if self.is_birth(&message) {
                        tracing::info!("Home Assistant has started");
                        n_greetings += 1;
                        self.set_connection(n_greetings);
                    } else if let Some(camera) = self.shared.picture_of(&message.topic) {
                        self.receive(camera, message, &mailboxes[camera]);
                    } else if self.shared.is_stale(&message.topic) {
                        self.sweep(message);
                    } else {
                        self.hear(message, &inbox);
                    }
                }
                Ok(Event::Disconnected) => return self.eventloop.closed().await,
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

    /// Home Assistant has started anew, and may have missed what is not retained or came before.
    fn is_birth(&self, message: &Incoming) -> bool {
        let is_status = |discovery: &DiscoveryTopics| discovery.status() == message.topic;
        self.shared.discovery.as_ref().is_some_and(is_status)
            && !message.retained
            && message.payload == ONLINE.as_bytes()
    }

    /// Takes the description of a device away that is no more.
    fn sweep(&self, message: Incoming) {
        if message.payload.is_empty() {
            return;
        }
        tracing::info!(topic = message.topic, "device that is not configured any more taken away");
        if let Err(e) = self.client.try_publish(Outgoing::nothing(message.topic)) {
            tracing::warn!(error = %e, "former device not taken away");
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
        let Some(camera) = self.shared.camera_named(name) else {
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
        let letter = Letter { bytes: message.payload, came: Instant::now(), came_at: SystemTime::now() };
        if mailbox.put(letter) {
            self.shared.health.count(camera, Count::Overwritten);
        }
    }

    fn describe(&self, name: &str, retained: bool, inbox: &Inbox) {
        match self.shared.camera_named(name) {
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
                match self.shared.camera_named(&name) {
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
