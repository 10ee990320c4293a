//! How a connection is made: options of the library from the configuration.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{mqttbytes, v5};

use super::{Client, EventLoop, Inner, InnerLoop, Line, REQUESTS_MAX, Refusals};
use crate::config::{MqttConfig, Protocol};
use crate::tls::Tls;

const CONNECT_TIMEOUT_S: u64 = 10;
/// Messages that are sent and not acknowledged; a broker may ask for fewer.
const IN_FLIGHT_MAX: u16 = 64;

/// The last will: what the broker publishes when this client vanishes. Retained.
#[derive(Clone, Debug)]
pub struct Will {
    pub topic: String,
    pub word: &'static str,
}

/// Who connects, and what the broker is to keep.
#[derive(Clone, Debug)]
pub struct Session {
    pub client_id: String,
    pub will: Option<Will>,
    /// Of a packet, in either direction.
    pub packet_bytes_max: usize,
    /// For how long the broker keeps subscriptions and messages while the client is away; none where each connection
    /// starts clean. MQTT 3.1.1 knows no time and keeps them for ever.
    pub expiry: Option<Duration>,
    /// Whether messages are acknowledged with [`Client::acknowledge`] instead of on arrival.
    pub manual_acks: bool,
    /// MQTT 5 alone: how many messages the broker may send before one is acknowledged.
    pub receive_max: Option<u16>,
}

impl Session {
    /// One that starts clean, leaves no will and takes packets without pictures.
    pub fn new(client_id: &str) -> Session {
        Session {
            client_id: client_id.to_owned(),
            will: None,
            packet_bytes_max: super::PACKET_BYTES_LEAST,
            expiry: None,
            manual_acks: false,
            receive_max: None,
        }
    }
}

/// Prepares a client; nothing is connected until the event loop is polled.
pub fn client(config: &MqttConfig, session: &Session) -> (Client, EventLoop) {
    let (inner, inner_loop) = match config.protocol {
        Protocol::V5 => {
            let mut options = options_v5(config, session);
            if let Some(tls) = encrypted(config) {
                options.set_transport(tls);
            }
            let (client, eventloop) = v5::AsyncClient::new(options, REQUESTS_MAX);
            (Inner::V5(client), InnerLoop::V5(Box::new(eventloop)))
        }
        Protocol::V311 => {
            let mut options = options_v311(config, session);
            if let Some(tls) = encrypted(config) {
                options.set_transport(tls);
            }
            let (client, mut eventloop) = rumqttc::AsyncClient::new(options, REQUESTS_MAX);
            let mut network = rumqttc::NetworkOptions::new();
            network.set_connection_timeout(CONNECT_TIMEOUT_S);
            eventloop.set_network_options(network);
            (Inner::V311(client), InnerLoop::V311(Box::new(eventloop)))
        }
    };
    let line = Arc::new(Line::new());
    let client_id = session.client_id.clone();
    let eventloop =
        EventLoop { inner: inner_loop, client_id, line: Arc::clone(&line), refusals: Refusals::default() };
    (Client { inner, qos: config.qos, line }, eventloop)
}

fn encrypted(config: &MqttConfig) -> Option<rumqttc::Transport> {
    let Tls(client) = config.tls.clone()?;
    Some(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(client)))
}

fn options_v5(config: &MqttConfig, session: &Session) -> v5::MqttOptions {
    let mut options = v5::MqttOptions::new(&session.client_id, &config.host, config.port);
    options.set_keep_alive(config.keep_alive);
    options.set_clean_start(session.expiry.is_none());
    options.set_session_expiry_interval(session.expiry.map(seconds));
    options.set_receive_maximum(session.receive_max);
    options.set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX);
    options.set_max_packet_size(Some(u32::try_from(session.packet_bytes_max).unwrap_or(u32::MAX)));
    options.set_manual_acks(session.manual_acks);
    options.set_connection_timeout(CONNECT_TIMEOUT_S);
    if let Some(Will { topic, word }) = session.will.clone() {
        let qos = v5::mqttbytes::QoS::AtLeastOnce;
        options.set_last_will(v5::mqttbytes::v5::LastWill::new(topic, word, qos, true, None));
    }
    if let Some((username, password)) = &config.credentials {
        options.set_credentials(username, password.reveal());
    }
    options
}

fn options_v311(config: &MqttConfig, session: &Session) -> rumqttc::MqttOptions {
    let mut options = rumqttc::MqttOptions::new(&session.client_id, &config.host, config.port);
    options.set_keep_alive(config.keep_alive);
    options.set_clean_session(session.expiry.is_none());
    options.set_max_packet_size(session.packet_bytes_max, session.packet_bytes_max);
    options.set_manual_acks(session.manual_acks);
    options.set_inflight(IN_FLIGHT_MAX);
    if let Some(Will { topic, word }) = session.will.clone() {
        options.set_last_will(rumqttc::LastWill::new(topic, word, mqttbytes::QoS::AtLeastOnce, true));
    }
    if let Some((username, password)) = &config.credentials {
        options.set_credentials(username, password.reveal());
    }
    options
}

/// As the protocol counts them.
pub(super) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}
