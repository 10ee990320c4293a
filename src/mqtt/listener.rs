//! Polls the connection for ever, turns requests into work for the inbox, and tells the publisher about every new
//! connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};

use super::client::{Client, Event, EventLoop, Incoming, LinkError, Outgoing, Ticket};
use super::payload::{self, Asked, ErrorPayload, parse_ask};
use super::topic::{DiscoveryTopics, TOPIC_BYTES_MAX};
use super::{BACKOFF_FIRST, BACKOFF_LONGEST, Link, ONLINE, Shared};
use crate::backoff::Backoff;
use crate::config::parse_change;
use crate::health::Count;
use crate::inbox::Inbox;
use crate::mailbox::{Letter, Mailbox};
use crate::message::{Ask, AskError, Changes, Reply};

/// Error answers that may wait for room among the messages to be sent: a second of a flood of questions.
const ERRORS_MAX: usize = 1024;

/// The event-loop task.
pub struct Listener {
    pub(super) eventloop: EventLoop,
    pub(super) client: Client,
    pub(super) shared: Arc<Shared>,
    pub(super) connection: watch::Sender<Link>,
    pub(super) deliveries: mpsc::Sender<Ticket>,
    pub(super) lives: Lives,
    /// Error answers that found no room. They are short, and whoever asks is promised one.
    pub(super) errors: VecDeque<Outgoing>,
}

/// How long connections last. MQTT 3.1.1 has no word for a client id that two clients use: each throws the other out,
/// so what can be seen is that the broker accepts every connection and closes it at once.
#[derive(Debug, Default)]
pub(super) struct Lives {
    connected_at: Option<Instant>,
    n_short: u32,
}

impl Lives {
    /// A connection that is closed earlier was a short one.
    const SHORT: Duration = Duration::from_secs(5);
    /// So many short ones in a row are no accident.
    const SUSPICIOUS: u32 = 3;

    fn begin(&mut self, now: Instant) {
        self.connected_at = Some(now);
    }

    /// Whether the connections that have ended so far look like a fight over the client id.
    fn end(&mut self, now: Instant) -> bool {
        let Some(connected_at) = self.connected_at.take() else { return false };
        let is_short = now.saturating_duration_since(connected_at) < Self::SHORT;
        self.n_short = if is_short { self.n_short + 1 } else { 0 };
        self.n_short >= Self::SUSPICIOUS
    }
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
                    self.lives.begin(Instant::now());
                    n_connections += 1;
                    self.errors.clear();
                    self.set_connection(n_connections);
                }
                Ok(Event::Message(message)) => self.sort(*message, &inbox, &mailboxes),
                Ok(Event::Disconnected) => return self.eventloop.closed().await,
                Ok(Event::Delivered(ticket)) => {
                    self.deliver(ticket);
                    self.send_errors();
                }
                Ok(Event::Subscribed | Event::Other) => self.send_errors(),
                Err(e) => {
                    self.set_connection(0);
                    let is_suspicious = self.lives.end(Instant::now());
                    let wait = match e {
                        LinkError::TakenOver(_) => BACKOFF_LONGEST,
                        LinkError::Lost(_) if is_suspicious => backoff.next_wait().max(Lives::SHORT),
                        LinkError::Lost(_) => backoff.next_wait(),
                    };
                    tracing::warn!(error = %e, retry_ms = wait.as_millis(), "no broker, retrying");
                    if is_suspicious && !matches!(e, LinkError::TakenOver(_)) {
                        tracing::warn!(
                            client_id = self.eventloop.client_id(),
                            times = self.lives.n_short,
                            "the broker closes every connection right after it was accepted: another client may use \
                             the client id, the broker's access rules may forbid a topic, or a message may be too large"
                        );
                    }
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    fn deliver(&self, ticket: Ticket) {
        if self.deliveries.try_send(ticket).is_err() {
            // It will be sent once more over the next connection.
            tracing::error!(ticket, "an acknowledgement was lost");
        }
    }

    /// Answers a request to the daemon itself. True when everything is to be said anew.
    fn respond(&self, message: &Incoming) -> bool {
        let Some(name) = self.shared.topics.requested(&message.topic) else { return false };
        let reply_topic = message.response_topic.clone().unwrap_or_else(|| self.shared.topics.response(name));
        if message.retained || !self.shared.topics.is_response_topic(&reply_topic) {
            tracing::warn!(request = name, "retained request, or one with a bad response topic, ignored");
            return false;
        }
        let outcome = match name {
            "health_check" => Ok(self.shared.health_report()),
            "republish" => Ok(serde_json::Value::Null),
            other => Err(format!("there is no request {other:?}; health_check and republish are known")),
        };
        let is_anew = name == "republish";
        let payload = payload::ResponsePayload::new(&message.payload, outcome, SystemTime::now());
        let correlation = message.correlation.clone();
        let response = Outgoing { correlation, ..Outgoing::json(reply_topic, payload::json(&payload)) };
        if let Err(e) = self.client.try_publish(response) {
            tracing::warn!(request = name, error = %e, "response dropped");
        }
        is_anew
    }

    /// Home Assistant has started anew, and may have missed what is not retained or came before.
    fn is_birth(&self, message: &Incoming) -> bool {
        let is_status = |discovery: &DiscoveryTopics| discovery.status() == message.topic;
        self.shared.discovery.as_ref().is_some_and(is_status)
            && !message.retained
            && message.payload == ONLINE.as_bytes()
    }

    /// Takes away what an earlier configuration left behind. False when it left nothing there.
    fn sweep(&self, message: &Incoming) -> bool {
        let leftover = self.shared.leftover(message);
        for message in &leftover {
            tracing::info!(topic = message.topic, "what is not configured any more is taken away");
            if let Err(e) = self.client.try_publish(message.clone()) {
                tracing::warn!(topic = message.topic, error = %e, "not taken away");
            }
        }
        !leftover.is_empty()
    }

    /// Gives a message to whom it belongs.
    fn sort(&mut self, message: Incoming, inbox: &Inbox, mailboxes: &[Arc<Mailbox>]) {
        if message.topic.len() > TOPIC_BYTES_MAX {
            tracing::warn!(bytes = message.topic.len(), "message on a topic that is too long ignored");
        } else if self.shared.topics.requested(&message.topic).is_some() {
            if self.respond(&message) {
                self.ask_for_greeting();
            }
        } else if self.is_birth(&message) {
            tracing::info!("Home Assistant has started");
            self.ask_for_greeting();
        } else if let Some(camera) = self.shared.picture_of(&message.topic) {
            self.receive(camera, message, &mailboxes[camera]);
        } else if !self.sweep(&message) {
            self.hear(message, inbox);
        }
    }

    /// Another connection, or none: 0.
    fn set_connection(&self, connection: u64) {
        self.shared.health.set_broker_online(connection > 0);
        self.connection.send_modify(|link| *link = Link { connection, greeting: link.greeting + 1 });
    }

    /// Everything is to be said anew over the connection that there is.
    fn ask_for_greeting(&self) {
        self.connection.send_modify(|link| link.greeting += 1);
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

    /// Hands a wish for another standing question, label or rule on.
    fn change_standing(&self, name: &str, kind: &str, id: &str, message: &Incoming, inbox: &Inbox) {
        if message.retained {
            return tracing::warn!(camera = name, kind, id, "retained wish ignored");
        }
        let Some(camera) = self.shared.camera_named(name) else {
            return tracing::warn!(camera = name, kind, id, "wish for an unknown camera ignored");
        };
        let wish = match std::str::from_utf8(&message.payload) {
            _ if message.payload.len() > payload::ASK_BYTES_MAX => Err("is too long".to_owned()),
            Ok(text) => parse_change(kind, id, text),
            Err(_) => Err("is not UTF-8".to_owned()),
        };
        match wish {
            Ok(change) => inbox.change(camera, Changes { standing: vec![change], ..Changes::default() }),
            Err(why) => tracing::warn!(camera = name, kind, id, why, "wish not understood"),
        }
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
    fn hear(&mut self, message: Incoming, inbox: &Inbox) {
        if let Some(name) = self.shared.topics.described_camera(&message.topic) {
            return self.describe(name, message.retained, inbox);
        }
        if let Some((name, setting)) = self.shared.topics.set_camera(&message.topic) {
            return self.change(name, setting, &message, inbox);
        }
        if let Some((name, kind, id)) = self.shared.topics.standing_of(&message.topic) {
            return self.change_standing(name, kind, id, &message, inbox);
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
            Ok(Asked { question, transaction, patience }) => {
                reply.transaction = transaction;
                let text = question.text.clone();
                match self.shared.camera_named(&name) {
                    None => (text, AskError::UnknownCamera),
                    Some(camera) => {
                        let asked_at = Instant::now();
                        let deadline = patience.and_then(|patience| asked_at.checked_add(patience));
                        let ask = Ask { camera, question, reply, asked_at, deadline };
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
        if self.errors.len() < ERRORS_MAX {
            self.errors.push_back(message);
        } else {
            tracing::warn!(camera = name, "error answer dropped: {ERRORS_MAX} are waiting");
        }
        self.send_errors();
    }

    /// Sends the error answers that there is room for.
    fn send_errors(&mut self) {
        while self.client.has_room()
            && let Some(message) = self.errors.pop_front()
        {
            if let Err(e) = self.client.try_publish(message) {
                tracing::warn!(error = %e, "error answer dropped");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_end_at_once_again_and_again_look_like_a_fight_over_the_client_id() {
        let (mut lives, mut now) = (Lives::default(), Instant::now());
        let mut live = |length: Duration| {
            lives.begin(now);
            now += length;
            lives.end(now)
        };
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!([short, short, short].map(&mut live), [false, false, true]);
        assert_eq!([long, short, short].map(&mut live), [false, false, false]);
        assert!(!lives.end(now), "an attempt that was not accepted says nothing about the client id");
    }
}
