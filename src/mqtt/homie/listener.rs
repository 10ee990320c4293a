//! Polls the connection, turns wishes into work for the inbox, and finds devices that are not configured any more.

use std::time::Instant;

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::description::{self, ASK, CONTROL, DESCRIBE, QUESTION};
use super::values::plain;
use super::{Devices, Said};
use crate::backoff::Backoff;
use crate::inbox::Inbox;
use crate::message::{Ask, AskError, Changes, Reply};
use crate::mqtt::client::{Client, Event, EventLoop, Incoming, LinkError, Outgoing};
use crate::mqtt::payload::{Asked, parse_ask, parse_set};
use crate::mqtt::{BACKOFF_FIRST, BACKOFF_LONGEST};

pub(super) struct Listener {
    pub(super) eventloop: EventLoop,
    pub(super) devices: Devices,
    pub(super) connection: watch::Sender<u64>,
    /// What the publisher shall say: this side must not wait for room in the queue that it empties itself.
    pub(super) batches: mpsc::Sender<Vec<Said>>,
    /// Unused; without any client the event loop would end before the broker has closed the connection.
    pub(super) _client: Client,
}

impl Listener {
    /// Polls until the publisher has disconnected, or is gone when the connection is.
    pub(super) async fn run(mut self, inbox: &Inbox) {
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_LONGEST);
        let mut n_connections = 0;
        loop {
            match self.eventloop.poll().await {
                Ok(Event::Connected) => {
                    tracing::info!("broker up for Homie");
                    backoff.reset();
                    n_connections += 1;
                    self.connection.send_replace(n_connections);
                }
                Ok(Event::Message(message)) => self.hear(&message, inbox),
                Ok(Event::Disconnected) => return self.eventloop.closed().await,
                Ok(Event::Subscribed | Event::Delivered(_) | Event::Other) => {}
                Err(_) if self.connection.is_closed() => return,
                Err(e) => {
                    self.connection.send_replace(0);
                    let wait = match e {
                        LinkError::TakenOver(_) => BACKOFF_LONGEST,
                        LinkError::Lost(_) => backoff.next_wait(),
                    };
                    tracing::warn!(error = %e, retry_ms = wait.as_millis(), "no broker for Homie, retrying");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    fn hear(&self, message: &Incoming, inbox: &Inbox) {
        if let Some(id) = self.devices.topics.described_id(&message.topic) {
            return self.sweep(id, message);
        }
        let Some((id, node, property)) = self.devices.topics.set_property(&message.topic) else { return };
        if message.retained {
            // It would be obeyed anew at every start.
            return tracing::warn!(topic = message.topic, "retained wish ignored");
        }
        let Some(camera) = self.devices.camera_of(id) else { return };
        match (node, property) {
            (CONTROL, DESCRIBE) => {
                inbox.want_caption(camera);
                self.say(vec![self.devices.described(camera)]);
            }
            (CONTROL, setting) => self.change(camera, setting, &message.payload, inbox),
            (QUESTION, ASK) => self.ask(camera, &message.payload, inbox),
            _ => tracing::warn!(topic = message.topic, "wish for a value that cannot be set ignored"),
        }
    }

    /// One that is not understood leaves all as it is, and says how that is.
    fn change(&self, camera: usize, setting: &str, payload: &[u8], inbox: &Inbox) {
        let changes = parse_set(setting, plain(payload)).unwrap_or_else(|why| {
            tracing::warn!(camera, setting, why, "wish for a setting not understood");
            Changes::default()
        });
        inbox.change(camera, changes);
    }

    /// Queues a question, or answers at once that it cannot.
    fn ask(&self, camera: usize, payload: &[u8], inbox: &Inbox) {
        let refuse = |error, text: &str, reply: &Reply| {
            self.say(vec![self.devices.refusal(camera, &error, text, reply.transaction.as_ref())]);
        };
        let mut reply = Reply::default();
        match parse_ask(plain(payload)) {
            Err((transaction, e)) => {
                reply.transaction = transaction;
                refuse(e, "", &reply);
            }
            Ok(Asked { question, transaction, patience }) => {
                reply.transaction = transaction;
                let text = question.text.clone();
                let asked_at = Instant::now();
                let deadline = patience.and_then(|patience| asked_at.checked_add(patience));
                match inbox.put_question(Ask { camera, question, reply, asked_at, deadline }) {
                    Ok(()) => self.say(vec![self.devices.asked(camera, &text)]),
                    Err(ask) => refuse(AskError::Busy, &text, &ask.reply),
                }
            }
        }
    }

    /// Takes a camera away that is not in the configuration any more.
    fn sweep(&self, id: &str, message: &Incoming) {
        let root_id = self.devices.topics.root_id();
        if !message.retained || id == root_id || self.devices.camera_of(id).is_some() {
            return;
        }
        let Ok(document) = serde_json::from_slice::<Value>(&message.payload) else { return };
        if description::is_child(&document, root_id) {
            tracing::info!(id, "Homie device that is not configured any more taken away");
            let topics = description::retained_topics(&self.devices.topics, id, &document);
            let nothing = |topic| Said { message: Outgoing::nothing(topic), is_momentary: false };
            self.say(topics.into_iter().map(nothing).collect());
        }
    }

    fn say(&self, batch: Vec<Said>) {
        if self.batches.try_send(batch).is_err() {
            tracing::warn!("a reply by Homie was dropped, too many wait");
        }
    }
}
