//! One MQTT client for both versions of the protocol: the only file of the daemon that knows the
//! types of `rumqttc`. It does not decide what is published or when to reconnect.
//!
//! What a lost connection still owed is forgotten: the library would send it again, but in the order of packet numbers
//! and not of messages, and only to a broker that kept the session. Whoever needs a message to arrive gives it a
//! [`Ticket`], and publishes it anew when none came back.

mod connect;
mod event;
mod ledger;
mod refusals;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{mqttbytes, v5};
use tokio::sync::Semaphore;

pub use connect::{Session, Will, client};
use event::{Moved, error_v5, event_v5, event_v311};
use ledger::Ledger;
pub use ledger::Ticket;
use refusals::Refusals;

use crate::config::Qos;

/// Room for every packet but pictures. The library's default of 10 KiB makes it drop the connection when a larger
/// message comes in.
pub const PACKET_BYTES_LEAST: usize = 256 << 10;
/// What the daemon logs unless it is told otherwise. The library warns of every message that the broker refuses; the
/// daemon says once what is refused.
pub const LOG_FILTER: &str = "info,rumqttc=error";
/// Messages that may wait for the connection.
const MESSAGES_MAX: usize = 64;
/// The same and room for subscriptions and acknowledgements, which are not counted.
const REQUESTS_MAX: usize = 2 * MESSAGES_MAX;
/// A broker closes a connection at once when it is told to; [`EventLoop::closed`] waits no longer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a payload is; MQTT 5 says it in the content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Json,
    Text,
    Jpeg,
}

impl Content {
    fn media_type(self) -> &'static str {
        match self {
            Content::Json => "application/json",
            Content::Text => "text/plain",
            Content::Jpeg => "image/jpeg",
        }
    }
}

/// A message to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    /// MQTT 5 alone: the broker forgets the message after this time.
    pub expiry: Option<Duration>,
    /// MQTT 5 alone.
    pub correlation: Option<Vec<u8>>,
    pub content: Content,
    /// Comes back as [`Event::Delivered`] when the broker has the message.
    pub ticket: Option<Ticket>,
}

impl Outgoing {
    /// A JSON message that nobody keeps.
    pub fn json(topic: String, payload: Vec<u8>) -> Outgoing {
        Outgoing {
            topic,
            payload,
            retain: false,
            expiry: None,
            correlation: None,
            content: Content::Json,
            ticket: None,
        }
    }

    /// A picture that nobody keeps.
    pub fn jpeg(topic: String, payload: Vec<u8>) -> Outgoing {
        Outgoing { content: Content::Jpeg, ..Outgoing::json(topic, payload) }
    }

    /// Takes what is retained on a topic away.
    pub fn nothing(topic: String) -> Outgoing {
        Outgoing { retain: true, ..Outgoing::json(topic, Vec::new()) }
    }

    /// A retained word.
    pub fn state(topic: String, word: &str) -> Outgoing {
        let payload = word.as_bytes().to_vec();
        Outgoing { retain: true, content: Content::Text, ..Outgoing::json(topic, payload) }
    }
}

/// A message that came in.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub topic: String,
    pub payload: Bytes,
    /// Kept by the broker from an earlier time.
    pub retained: bool,
    pub response_topic: Option<String>,
    pub correlation: Option<Vec<u8>>,
    /// MQTT 5 alone: the user properties.
    pub user_properties: Vec<(String, String)>,
    /// MQTT 5 alone: what is left of the time after which the message is of no use.
    pub expiry: Option<Duration>,
    /// To be acknowledged, in a session that does so by hand.
    pub receipt: Receipt,
}

/// Tells the broker which message is dealt with.
#[derive(Clone, Debug)]
pub struct Receipt(Inbound);

#[derive(Clone, Debug)]
enum Inbound {
    V5(v5::mqttbytes::v5::Publish),
    V311(mqttbytes::v4::Publish),
}

/// What happened on the connection.
#[derive(Clone, Debug)]
pub enum Event {
    /// The broker accepted the connection: nothing is subscribed.
    Connected,
    /// The broker accepted a subscription.
    Subscribed,
    Message(Box<Incoming>),
    /// The broker has the message with this ticket; at QoS 0 it was sent.
    Delivered(Ticket),
    /// The DISCONNECT that was asked for has been sent.
    Disconnected,
    Other,
}

/// Why the connection is gone.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Another client connected with the same client id; reconnecting would throw it out in turn.
    #[error("another client uses the client id {0:?}")]
    TakenOver(String),
    #[error("{0}")]
    Lost(String),
}

/// Queues requests; a clone of a handle.
#[derive(Clone)]
pub struct Client {
    inner: Inner,
    qos: Qos,
    line: Arc<Line>,
}

/// What client and event loop share about the messages between them.
struct Line {
    /// Locked while a message is handed over, so that the order here is that of the library's queue.
    ledger: Mutex<Ledger>,
    /// For messages that are handed over and not sent yet.
    room: Semaphore,
    /// Whether there is a connection. Written while the ledger is locked.
    is_open: AtomicBool,
}

impl Line {
    fn new() -> Line {
        Line { ledger: Mutex::default(), room: Semaphore::new(MESSAGES_MAX), is_open: AtomicBool::new(false) }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
enum Inner {
    V5(v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

/// Moves bytes: nothing happens unless it is polled.
pub struct EventLoop {
    inner: InnerLoop,
    client_id: String,
    line: Arc<Line>,
    refusals: Refusals,
}

enum InnerLoop {
    V5(Box<v5::EventLoop>),
    V311(Box<rumqttc::EventLoop>),
}

impl Client {
    /// The same connection with another quality of service.
    pub fn with_qos(&self, qos: Qos) -> Client {
        Client { qos, ..self.clone() }
    }

    /// Waits for room in the queue; an error means that the event loop is gone. A message that finds no connection is
    /// forgotten, as are those that a lost connection owed: over the next one it would come before the greeting.
    pub async fn publish(&self, message: Outgoing) -> Result<(), LinkError> {
        self.line.room.acquire().await.map_err(lost)?.forget();
        self.hand_over(message)
    }

    /// Whether [`try_publish`](Client::try_publish) would find room now.
    pub fn has_room(&self) -> bool {
        self.line.room.available_permits() > 0
    }

    /// Publishes if there is room in the queue. Never waits.
    pub fn try_publish(&self, message: Outgoing) -> Result<(), LinkError> {
        self.line.room.try_acquire().map_err(lost)?.forget();
        self.hand_over(message)
    }

    /// A message for which there is room.
    fn hand_over(&self, message: Outgoing) -> Result<(), LinkError> {
        let (properties, retain, ticket) = (properties(&message), message.retain, message.ticket);
        let Outgoing { topic, payload, .. } = message;
        if topic.len() > usize::from(u16::MAX) {
            // The library would write the length modulo 65536, and the broker hang up.
            self.line.room.add_permits(1);
            return Err(LinkError::Lost(format!("a topic of {} bytes is too long", topic.len())));
        }
        let said_on = topic.clone();
        let mut ledger = self.line.ledger();
        if !self.line.is_open.load(Relaxed) {
            self.line.room.add_permits(1);
            return Ok(());
        }
        let handed = match &self.inner {
            Inner::V5(client) => client
                .try_publish_with_properties(topic, qos_v5(self.qos), retain, payload, properties)
                .map_err(lost),
            Inner::V311(client) => {
                client.try_publish(topic, qos_v311(self.qos), retain, payload).map_err(lost)
            }
        };
        match handed {
            Ok(()) => ledger.hand(ticket, said_on),
            Err(_) => self.line.room.add_permits(1),
        }
        handed
    }

    /// Acknowledges a message, in a session that does so by hand. Never waits.
    pub fn acknowledge(&self, receipt: &Receipt) -> Result<(), LinkError> {
        match (&self.inner, &receipt.0) {
            (Inner::V5(client), Inbound::V5(publish)) => client.try_ack(publish).map_err(lost),
            (Inner::V311(client), Inbound::V311(publish)) => client.try_ack(publish).map_err(lost),
            _ => Ok(()),
        }
    }

    pub async fn subscribe(&self, filter: String) -> Result<(), LinkError> {
        match &self.inner {
            Inner::V5(client) => client.subscribe(filter, qos_v5(self.qos)).await.map_err(lost),
            Inner::V311(client) => client.subscribe(filter, qos_v311(self.qos)).await.map_err(lost),
        }
    }

    pub async fn unsubscribe(&self, filter: String) -> Result<(), LinkError> {
        match &self.inner {
            Inner::V5(client) => client.unsubscribe(filter).await.map_err(lost),
            Inner::V311(client) => client.unsubscribe(filter).await.map_err(lost),
        }
    }

    /// Asks for an orderly end, after everything that is queued.
    pub async fn disconnect(&self) -> Result<(), LinkError> {
        match &self.inner {
            Inner::V5(client) => client.disconnect().await.map_err(lost),
            Inner::V311(client) => client.disconnect().await.map_err(lost),
        }
    }
}

fn lost(e: impl std::fmt::Display) -> LinkError {
    LinkError::Lost(e.to_string())
}

fn properties(message: &Outgoing) -> v5::mqttbytes::v5::PublishProperties {
    v5::mqttbytes::v5::PublishProperties {
        // 1: UTF-8 text (MQTT 5, 3.3.2.3.2).
        payload_format_indicator: Some(u8::from(message.content != Content::Jpeg)),
        message_expiry_interval: message.expiry.map(connect::seconds),
        correlation_data: message.correlation.clone().map(Bytes::from),
        content_type: Some(message.content.media_type().to_owned()),
        ..Default::default()
    }
}

fn qos_v5(qos: Qos) -> v5::mqttbytes::QoS {
    match qos {
        Qos::AtMostOnce => v5::mqttbytes::QoS::AtMostOnce,
        Qos::AtLeastOnce => v5::mqttbytes::QoS::AtLeastOnce,
    }
}

fn qos_v311(qos: Qos) -> mqttbytes::QoS {
    match qos {
        Qos::AtMostOnce => mqttbytes::QoS::AtMostOnce,
        Qos::AtLeastOnce => mqttbytes::QoS::AtLeastOnce,
    }
}

impl EventLoop {
    /// The next event. Connects first where there is no connection; after an error the next call
    /// connects again at once, so the caller must wait. Must not be dropped half-way.
    pub async fn poll(&mut self) -> Result<Event, LinkError> {
        let polled = match &mut self.inner {
            InnerLoop::V5(eventloop) => match eventloop.poll().await {
                Ok(event) => Ok(event_v5(event)),
                Err(e) => Err(error_v5(e, &self.client_id)),
            },
            InnerLoop::V311(eventloop) => eventloop.poll().await.map(event_v311).map_err(lost),
        };
        match polled {
            Ok(Moved::Sent(packet_id)) => {
                self.line.room.add_permits(1);
                let done = self.line.ledger().send(packet_id);
                Ok(done.map_or(Event::Other, Event::Delivered))
            }
            Ok(Moved::Acknowledged(packet_id, refusal)) => {
                let Some(owed) = self.line.ledger().acknowledge(packet_id) else { return Ok(Event::Other) };
                self.refusals.hear(&owed.topic, refusal.as_deref());
                Ok(owed.ticket.map_or(Event::Other, Event::Delivered))
            }
            Ok(Moved::Event(event)) => {
                if matches!(event, Event::Connected) {
                    let _ledger = self.line.ledger();
                    self.line.is_open.store(true, Relaxed);
                }
                Ok(event)
            }
            Err(e) => {
                self.forget();
                Err(e)
            }
        }
    }

    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// To be called after [`Event::Disconnected`], while a [`Client`] of this connection is still there: waits until the
    /// broker has closed it, at most two seconds.
    ///
    /// A socket that is closed before everything was read from it, such as the acknowledgements of the last messages,
    /// is reset; the broker then loses what it has not read itself, the DISCONNECT among it, and publishes the will.
    pub async fn closed(&mut self) {
        let until_error = async { while self.poll().await.is_ok() {} };
        if tokio::time::timeout(CLOSE_TIMEOUT, until_error).await.is_err() {
            tracing::debug!("the broker did not close the connection");
        }
    }

    /// Nothing of the lost connection is sent again, and nothing of it is heard any more.
    fn forget(&mut self) {
        // While it is locked nothing is handed over, so both queues lose the same messages.
        let mut ledger = self.line.ledger();
        self.line.is_open.store(false, Relaxed);
        match &mut self.inner {
            InnerLoop::V5(eventloop) => {
                eventloop.clean();
                eventloop.pending.clear();
                eventloop.state.events.clear();
                eventloop.state.collision = None;
            }
            InnerLoop::V311(eventloop) => {
                eventloop.clean();
                eventloop.pending.clear();
                eventloop.state.events.clear();
                eventloop.state.collision = None;
            }
        }
        self.line.room.add_permits(ledger.clear());
    }
}
