//! A client for tests, in both versions of the protocol.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use captiond::config::Protocol;
use rumqttc::{mqttbytes, v5};
use serde_json::Value;

use super::DEADLINE;

/// A message that came in.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retained: bool,
    pub response_topic: Option<String>,
    pub correlation: Option<Vec<u8>>,
    pub expiry_s: Option<u32>,
    pub content_type: Option<String>,
}

impl Message {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

enum Inner {
    V5(v5::Client),
    V311(rumqttc::Client),
}

/// A connected and subscribed client.
pub struct Client {
    inner: Inner,
    messages: Receiver<Message>,
    /// What came while something else was waited for, in order.
    backlog: RefCell<Vec<Message>>,
}

/// Pictures are larger than what the library lets through by default.
const PACKET_BYTES_MAX: usize = 1 << 20;

impl Client {
    /// Connects and subscribes, and returns when the broker has confirmed it.
    pub fn connect(port: u16, protocol: Protocol, name: &str, filter: &str) -> Client {
        let (messages_tx, messages) = channel();
        let (subscribed_tx, subscribed) = channel();
        let inner = match protocol {
            Protocol::V5 => {
                let mut options = v5::MqttOptions::new(name, "127.0.0.1", port);
                options.set_max_packet_size(Some(PACKET_BYTES_MAX as u32));
                let (client, mut connection) = v5::Client::new(options, 16);
                client.subscribe(filter, v5::mqttbytes::QoS::AtLeastOnce).unwrap();
                thread::spawn(move || {
                    for event in connection.iter() {
                        use v5::mqttbytes::v5::Packet;
                        match event {
                            Ok(v5::Event::Incoming(Packet::SubAck(_))) => {
                                subscribed_tx.send(()).unwrap_or_default()
                            }
                            Ok(v5::Event::Incoming(Packet::Publish(publish))) => {
                                if messages_tx.send(message_v5(publish)).is_err() {
                                    return;
                                }
                            }
                            Ok(_) => {}
                            Err(_) => return,
                        }
                    }
                });
                Inner::V5(client)
            }
            Protocol::V311 => {
                let mut options = rumqttc::MqttOptions::new(name, "127.0.0.1", port);
                options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
                let (client, mut connection) = rumqttc::Client::new(options, 16);
                client.subscribe(filter, mqttbytes::QoS::AtLeastOnce).unwrap();
                thread::spawn(move || {
                    for event in connection.iter() {
                        match event {
                            Ok(rumqttc::Event::Incoming(rumqttc::Packet::SubAck(_))) => {
                                subscribed_tx.send(()).unwrap_or_default();
                            }
                            Ok(rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish))) => {
                                if messages_tx.send(message_v311(publish)).is_err() {
                                    return;
                                }
                            }
                            Ok(_) => {}
                            Err(_) => return,
                        }
                    }
                });
                Inner::V311(client)
            }
        };
        subscribed.recv_timeout(DEADLINE).expect("the broker confirms the subscription");
        Client { inner, messages, backlog: RefCell::default() }
    }

    pub fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>, retain: bool) {
        match &self.inner {
            Inner::V5(client) => {
                client.publish(topic, v5::mqttbytes::QoS::AtLeastOnce, retain, payload.into()).unwrap();
            }
            Inner::V311(client) => {
                client.publish(topic, mqttbytes::QoS::AtLeastOnce, retain, payload.into()).unwrap();
            }
        }
    }

    /// An MQTT 5 request.
    pub fn request(&self, topic: &str, payload: &str, response_topic: &str, correlation: &[u8]) {
        let Inner::V5(client) = &self.inner else { panic!("3.1.1 has no response topics") };
        let properties = v5::mqttbytes::v5::PublishProperties {
            response_topic: Some(response_topic.to_owned()),
            correlation_data: Some(correlation.to_vec().into()),
            ..Default::default()
        };
        let qos = v5::mqttbytes::QoS::AtLeastOnce;
        client.publish_with_properties(topic, qos, false, payload.to_owned(), properties).unwrap();
    }

    /// An MQTT 5 message with these properties.
    pub fn publish_with(
        &self,
        topic: &str,
        payload: Vec<u8>,
        properties: v5::mqttbytes::v5::PublishProperties,
    ) {
        let Inner::V5(client) = &self.inner else { panic!("3.1.1 has no properties") };
        let qos = v5::mqttbytes::QoS::AtLeastOnce;
        client.publish_with_properties(topic, qos, false, payload, properties).unwrap();
    }

    /// The first message, not yet given to anyone, for which `wanted` holds.
    ///
    /// Messages on different topics come in any order: what is passed over here is kept for a
    /// later wait.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let deadline = Instant::now() + DEADLINE;
        let mut backlog = self.backlog.borrow_mut();
        if let Some(at) = backlog.iter().position(&wanted) {
            return backlog.remove(at);
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(message) if wanted(&message) => return message,
                Ok(message) => backlog.push(message),
                Err(RecvTimeoutError::Timeout) => panic!("no {what}; there were {backlog:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("disconnected before {what}"),
            }
        }
    }

    /// As [`Client::wait_for`], for at most `patience`.
    pub fn poll(&self, patience: Duration, wanted: impl Fn(&Message) -> bool) -> Option<Message> {
        let deadline = Instant::now() + patience;
        let mut backlog = self.backlog.borrow_mut();
        if let Some(at) = backlog.iter().position(&wanted) {
            return Some(backlog.remove(at));
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(message) if wanted(&message) => return Some(message),
                Ok(message) => backlog.push(message),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => panic!("disconnected"),
            }
        }
    }

    pub fn wait_for_topic(&self, topic: &str) -> Message {
        self.wait_for(topic, |message| message.topic == topic)
    }

    pub fn wait_for_text(&self, topic: &str, text: &str) -> Message {
        self.wait_for(text, |message| message.topic == topic && message.payload == text.as_bytes())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        match &self.inner {
            Inner::V5(client) => drop(client.disconnect()),
            Inner::V311(client) => drop(client.disconnect()),
        }
    }
}

fn message_v5(publish: v5::mqttbytes::v5::Publish) -> Message {
    let properties = publish.properties.unwrap_or_default();
    Message {
        topic: String::from_utf8(publish.topic.to_vec()).unwrap(),
        payload: publish.payload.to_vec(),
        retained: publish.retain,
        response_topic: properties.response_topic,
        correlation: properties.correlation_data.map(|data| data.to_vec()),
        expiry_s: properties.message_expiry_interval,
        content_type: properties.content_type,
    }
}

fn message_v311(publish: rumqttc::Publish) -> Message {
    Message {
        topic: publish.topic,
        payload: publish.payload.to_vec(),
        retained: publish.retain,
        response_topic: None,
        correlation: None,
        expiry_s: None,
        content_type: None,
    }
}
