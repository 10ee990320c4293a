//! One MQTT client for both versions of the protocol: the only file of the daemon that knows the
//! types of `rumqttc`. It does not decide what is published or when to reconnect.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::{mqttbytes, v5};

use crate::config::{MqttConfig, Protocol, Qos};
use crate::tls::Tls;

/// Room for every packet but pictures. The library's default of 10 KiB makes it drop the connection when a larger
/// message comes in.
pub const PACKET_BYTES_LEAST: usize = 256 << 10;
/// Requests that may wait for the connection.
const REQUESTS_MAX: usize = 64;
const CONNECT_TIMEOUT_S: u64 = 10;
/// A broker closes a connection at once when it is told to; [`EventLoop::closed`] waits no longer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// MQTT 5 alone: whether the content type is JSON or plain text.
    pub is_json: bool,
}

impl Outgoing {
    /// A JSON message that nobody keeps.
    pub fn json(topic: String, payload: Vec<u8>) -> Outgoing {
        Outgoing { topic, payload, retain: false, expiry: None, correlation: None, is_json: true }
    }

    /// Takes what is retained on a topic away.
    pub fn nothing(topic: String) -> Outgoing {
        Outgoing { retain: true, ..Outgoing::json(topic, Vec::new()) }
    }

    /// A retained word.
    pub fn state(topic: String, word: &str) -> Outgoing {
        let payload = word.as_bytes().to_vec();
        Outgoing { retain: true, is_json: false, ..Outgoing::json(topic, payload) }
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
}

/// What happened on the connection.
#[derive(Clone, Debug)]
pub enum Event {
    /// The broker accepted the connection: nothing is subscribed.
    Connected,
    /// The broker accepted a subscription.
    Subscribed,
    Message(Incoming),
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

/// The last will: what the broker publishes when this client vanishes. Retained.
#[derive(Clone, Debug)]
pub struct Will {
    pub topic: String,
    pub word: &'static str,
}

/// Queues requests; a clone of a handle.
#[derive(Clone)]
pub struct Client {
    inner: Inner,
    qos: Qos,
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
}

enum InnerLoop {
    V5(Box<v5::EventLoop>),
    V311(Box<rumqttc::EventLoop>),
}

/// Prepares a client; nothing is connected until the event loop is polled.
/// `packet_bytes_max` holds in either direction.
pub fn client(
    config: &MqttConfig,
    client_id: &str,
    will: Option<Will>,
    packet_bytes_max: usize,
) -> (Client, EventLoop) {
    let (inner, inner_loop) = match config.protocol {
        Protocol::V5 => {
            let mut options = options_v5(config, client_id, will);
            if let Some(tls) = encrypted(config) {
                options.set_transport(tls);
            }
            options.set_max_packet_size(Some(u32::try_from(packet_bytes_max).unwrap_or(u32::MAX)));
            let (client, eventloop) = v5::AsyncClient::new(options, REQUESTS_MAX);
            (Inner::V5(client), InnerLoop::V5(Box::new(eventloop)))
        }
        Protocol::V311 => {
            let mut options = options_v311(config, client_id, will);
            if let Some(tls) = encrypted(config) {
                options.set_transport(tls);
            }
            options.set_max_packet_size(packet_bytes_max, packet_bytes_max);
            let (client, mut eventloop) = rumqttc::AsyncClient::new(options, REQUESTS_MAX);
            let mut network = rumqttc::NetworkOptions::new();
            network.set_connection_timeout(CONNECT_TIMEOUT_S);
            eventloop.set_network_options(network);
            (Inner::V311(client), InnerLoop::V311(Box::new(eventloop)))
        }
    };
    let eventloop = EventLoop { inner: inner_loop, client_id: client_id.to_owned() };
    (Client { inner, qos: config.qos }, eventloop)
}

fn encrypted(config: &MqttConfig) -> Option<rumqttc::Transport> {
    let Tls(client) = config.tls.clone()?;
    Some(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(client)))
}

fn options_v5(config: &MqttConfig, client_id: &str, will: Option<Will>) -> v5::MqttOptions {
    let mut options = v5::MqttOptions::new(client_id, &config.host, config.port);
    options.set_keep_alive(config.keep_alive);
    options.set_clean_start(true);
    options.set_connection_timeout(CONNECT_TIMEOUT_S);
    if let Some(Will { topic, word }) = will {
        let qos = v5::mqttbytes::QoS::AtLeastOnce;
        options.set_last_will(v5::mqttbytes::v5::LastWill::new(topic, word, qos, true, None));
    }
    if let Some((username, password)) = &config.credentials {
        options.set_credentials(username, password.reveal());
    }
    options
}

fn options_v311(config: &MqttConfig, client_id: &str, will: Option<Will>) -> rumqttc::MqttOptions {
    let mut options = rumqttc::MqttOptions::new(client_id, &config.host, config.port);
    options.set_keep_alive(config.keep_alive);
    options.set_clean_session(true);
    if let Some(Will { topic, word }) = will {
        options.set_last_will(rumqttc::LastWill::new(topic, word, mqttbytes::QoS::AtLeastOnce, true));
    }
    if let Some((username, password)) = &config.credentials {
        options.set_credentials(username, password.reveal());
    }
    options
}

impl Client {
    /// The same connection with another quality of service.
    pub fn with_qos(&self, qos: Qos) -> Client {
        Client { qos, ..self.clone() }
    }

    /// Waits for room in the queue; an error means that the event loop is gone.
    pub async fn publish(&self, message: Outgoing) -> Result<(), LinkError> {
        let Outgoing { topic, retain, .. } = &message;
        match &self.inner {
            Inner::V5(client) => {
                let (topic, retain) = (topic.clone(), *retain);
                let properties = properties(&message);
                let sent = client.publish_with_properties(
                    topic,
                    qos_v5(self.qos),
                    retain,
                    message.payload,
                    properties,
                );
                sent.await.map_err(lost)
            }
            Inner::V311(client) => {
                let sent = client.publish(topic.clone(), qos_v311(self.qos), *retain, message.payload);
                sent.await.map_err(lost)
            }
        }
    }

    /// Publishes if there is room in the queue. Never waits.
    pub fn try_publish(&self, message: Outgoing) -> Result<(), LinkError> {
        let Outgoing { topic, retain, .. } = &message;
        match &self.inner {
            Inner::V5(client) => {
                let (topic, retain) = (topic.clone(), *retain);
                let properties = properties(&message);
                client
                    .try_publish_with_properties(topic, qos_v5(self.qos), retain, message.payload, properties)
                    .map_err(lost)
            }
            Inner::V311(client) => {
                client.try_publish(topic.clone(), qos_v311(self.qos), *retain, message.payload).map_err(lost)
            }
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
    let content_type = if message.is_json { "application/json" } else { "text/plain" };
    v5::mqttbytes::v5::PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: message
            .expiry
            .map(|expiry| u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX)),
        correlation_data: message.correlation.clone().map(Bytes::from),
        content_type: Some(content_type.to_owned()),
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
        match &mut self.inner {
            InnerLoop::V5(eventloop) => match eventloop.poll().await {
                Ok(event) => Ok(event_v5(event)),
                Err(e) => Err(error_v5(e, &self.client_id)),
            },
            InnerLoop::V311(eventloop) => eventloop.poll().await.map(event_v311).map_err(lost),
        }
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
}

fn error_v5(e: v5::ConnectionError, client_id: &str) -> LinkError {
    use v5::mqttbytes::v5::DisconnectReasonCode::SessionTakenOver;
    match e {
        v5::ConnectionError::MqttState(v5::StateError::ServerDisconnect {
            reason_code: SessionTakenOver,
            ..
        }) => LinkError::TakenOver(client_id.to_owned()),
        other => lost(other),
    }
}

fn event_v5(event: v5::Event) -> Event {
    use v5::mqttbytes::v5::Packet;
    match event {
        v5::Event::Incoming(Packet::ConnAck(_)) => Event::Connected,
        v5::Event::Incoming(Packet::SubAck(_)) => Event::Subscribed,
        v5::Event::Incoming(Packet::Publish(publish)) => {
            let properties = publish.properties.unwrap_or_default();
            Event::Message(Incoming {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload,
                retained: publish.retain,
                response_topic: properties.response_topic,
                correlation: properties.correlation_data.map(|data| data.to_vec()),
            })
        }
        v5::Event::Outgoing(rumqttc::Outgoing::Disconnect) => Event::Disconnected,
        _ => Event::Other,
    }
}

fn event_v311(event: rumqttc::Event) -> Event {
    match event {
        rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(_)) => Event::Connected,
        rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_)) => Event::Subscribed,
        rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) => Event::Message(Incoming {
            topic: publish.topic,
            payload: publish.payload,
            retained: publish.retain,
            response_topic: None,
            correlation: None,
        }),
        rumqttc::Event::Outgoing(rumqttc::Outgoing::Disconnect) => Event::Disconnected,
        _ => Event::Other,
    }
}
