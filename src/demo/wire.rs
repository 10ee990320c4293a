//! MQTT packets of both versions as one small set, through the codecs of `rumqttc`.
//!
//! What comes in is not trusted: it is bounded, and a codec's panic is an error.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5::{self, PublishProperties};
use rumqttc::{mqttbytes, v5::mqttbytes as bytes5};

use crate::logging::contained;

/// Largest packet.
pub(super) const PACKET_BYTES_MAX: usize = 1 << 20;

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("a malformed packet")]
    Malformed,
    #[error("a packet that does not fit the protocol")]
    Unexpected,
}

/// The version that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    V311,
    V5,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) retain: bool,
    /// What only MQTT 5 carries.
    pub(super) properties: Option<PublishProperties>,
}

/// What a client says.
#[derive(Debug)]
pub(super) enum Said {
    Connect { keep_alive_s: u16, will: Option<Message>, unnamed: bool },
    Publish { message: Message, qos: u8, id: u16 },
    Release(u16),
    Subscribe { id: u16, filters: Vec<(String, u8)> },
    Unsubscribe { id: u16, filters: Vec<String> },
    Ping,
    Disconnect,
    Acknowledge,
}

/// What is said to it.
#[derive(Debug)]
pub(super) enum Say {
    ConnectOk {
        assigned: Option<String>,
    },
    Publish {
        message: Message,
        qos: u8,
        id: u16,
    },
    Received(u16),
    Receive(u16),
    Complete(u16),
    /// The granted quality of each filter; none where it was refused.
    Subscribed {
        id: u16,
        granted: Vec<Option<u8>>,
    },
    Unsubscribed {
        id: u16,
        n: usize,
    },
    Pong,
}

impl Wire {
    /// The version of the CONNECT that `buffer` starts with; none until that much of it is there.
    pub(super) fn of(buffer: &[u8]) -> Result<Option<Wire>, WireError> {
        let Some((kind, rest)) = buffer.split_first() else { return Ok(None) };
        if *kind != 0x10 {
            return Err(WireError::Unexpected);
        }
        let length_bytes = rest.iter().take(4).take_while(|byte| *byte & 0x80 != 0).count() + 1;
        // The protocol's name, with its length before it and the version after it.
        match rest.get(length_bytes..length_bytes + 7) {
            None => Ok(None),
            Some([0, 4, b'M', b'Q', b'T', b'T', 4]) => Ok(Some(Wire::V311)),
            Some([0, 4, b'M', b'Q', b'T', b'T', 5]) => Ok(Some(Wire::V5)),
            Some(_) => Err(WireError::Unexpected),
        }
    }

    /// Takes the next packet out of `buffer`; none until it is complete.
    pub(super) fn read(self, buffer: &mut BytesMut) -> Result<Option<Said>, WireError> {
        contained(|| match self {
            Wire::V311 => read_v311(buffer),
            Wire::V5 => read_v5(buffer),
        })
        .unwrap_or(Err(WireError::Malformed))
    }

    /// Appends a packet to `buffer`.
    pub(super) fn write(self, say: Say, buffer: &mut BytesMut) -> Result<(), WireError> {
        contained(|| match self {
            Wire::V311 => packet_v311(say).write(buffer, PACKET_BYTES_MAX).is_ok(),
            Wire::V5 => packet_v5(say).write(buffer, Some(PACKET_BYTES_MAX as u32)).is_ok(),
        })
        .filter(|written| *written)
        .map(|_| ())
        .ok_or(WireError::Malformed)
    }
}

fn read_v311(buffer: &mut BytesMut) -> Result<Option<Said>, WireError> {
    let packet = match v4::Packet::read(buffer, PACKET_BYTES_MAX) {
        Ok(packet) => packet,
        Err(mqttbytes::Error::InsufficientBytes(_)) => return Ok(None),
        Err(_) => return Err(WireError::Malformed),
    };
    Ok(Some(match packet {
        v4::Packet::Connect(connect) => Said::Connect {
            keep_alive_s: connect.keep_alive,
            unnamed: connect.client_id.is_empty(),
            will: connect.last_will.map(|will| Message {
                topic: will.topic,
                payload: will.message,
                retain: will.retain,
                properties: None,
            }),
        },
        v4::Packet::Publish(publish) => Said::Publish {
            qos: publish.qos as u8,
            id: publish.pkid,
            message: Message {
                topic: publish.topic,
                payload: publish.payload,
                retain: publish.retain,
                properties: None,
            },
        },
        v4::Packet::PubRel(release) => Said::Release(release.pkid),
        v4::Packet::Subscribe(subscribe) => Said::Subscribe {
            id: subscribe.pkid,
            filters: subscribe.filters.into_iter().map(|filter| (filter.path, filter.qos as u8)).collect(),
        },
        v4::Packet::Unsubscribe(unsubscribe) => {
            Said::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.topics }
        }
        v4::Packet::PingReq => Said::Ping,
        v4::Packet::Disconnect => Said::Disconnect,
        v4::Packet::PubAck(_) | v4::Packet::PubRec(_) | v4::Packet::PubComp(_) => Said::Acknowledge,
        _ => return Err(WireError::Unexpected),
    }))
}

fn read_v5(buffer: &mut BytesMut) -> Result<Option<Said>, WireError> {
    // The codec takes a DISCONNECT without a reason for a broken one.
    if buffer.starts_with(&[0xE0, 0x00]) {
        return Ok(Some(Said::Disconnect));
    }
    let packet = match v5::Packet::read(buffer, Some(PACKET_BYTES_MAX as u32)) {
        Ok(packet) => packet,
        Err(bytes5::Error::InsufficientBytes(_)) => return Ok(None),
        Err(_) => return Err(WireError::Malformed),
    };
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).map_err(|_not_utf8| WireError::Malformed);
    Ok(Some(match packet {
        v5::Packet::Connect(connect, will, _) => Said::Connect {
            keep_alive_s: connect.keep_alive,
            unnamed: connect.client_id.is_empty(),
            will: match will {
                None => None,
                Some(will) => Some(Message {
                    topic: text(will.topic)?,
                    payload: will.message,
                    retain: will.retain,
                    properties: None,
                }),
            },
        },
        v5::Packet::Publish(publish) => Said::Publish {
            qos: publish.qos as u8,
            id: publish.pkid,
            message: Message {
                topic: text(publish.topic)?,
                payload: publish.payload,
                retain: publish.retain,
                properties: publish.properties,
            },
        },
        v5::Packet::PubRel(release) => Said::Release(release.pkid),
        v5::Packet::Subscribe(subscribe) => Said::Subscribe {
            id: subscribe.pkid,
            filters: subscribe.filters.into_iter().map(|filter| (filter.path, filter.qos as u8)).collect(),
        },
        v5::Packet::Unsubscribe(unsubscribe) => {
            Said::Unsubscribe { id: unsubscribe.pkid, filters: unsubscribe.filters }
        }
        v5::Packet::PingReq(_) => Said::Ping,
        v5::Packet::Disconnect(_) => Said::Disconnect,
        v5::Packet::PubAck(_) | v5::Packet::PubRec(_) | v5::Packet::PubComp(_) => Said::Acknowledge,
        _ => return Err(WireError::Unexpected),
    }))
}

fn packet_v311(say: Say) -> v4::Packet {
    use mqttbytes::QoS;
    let qos = |qos| mqttbytes::qos(qos).unwrap_or(QoS::AtMostOnce);
    match say {
        Say::ConnectOk { .. } => v4::Packet::ConnAck(v4::ConnAck::new(v4::ConnectReturnCode::Success, false)),
        Say::Publish { message, qos: quality, id } => v4::Packet::Publish(v4::Publish {
            dup: false,
            qos: qos(quality),
            retain: message.retain,
            topic: message.topic,
            pkid: id,
            payload: message.payload,
        }),
        Say::Received(id) => v4::Packet::PubAck(v4::PubAck::new(id)),
        Say::Receive(id) => v4::Packet::PubRec(v4::PubRec::new(id)),
        Say::Complete(id) => v4::Packet::PubComp(v4::PubComp::new(id)),
        Say::Subscribed { id, granted } => {
            let code = |granted: Option<u8>| match granted {
                Some(quality) => v4::SubscribeReasonCode::Success(qos(quality)),
                None => v4::SubscribeReasonCode::Failure,
            };
            v4::Packet::SubAck(v4::SubAck::new(id, granted.into_iter().map(code).collect()))
        }
        Say::Unsubscribed { id, .. } => v4::Packet::UnsubAck(v4::UnsubAck::new(id)),
        Say::Pong => v4::Packet::PingResp,
    }
}

fn packet_v5(say: Say) -> v5::Packet {
    use bytes5::QoS;
    let qos = |qos| bytes5::qos(qos).unwrap_or(QoS::AtMostOnce);
    match say {
        Say::ConnectOk { assigned } => v5::Packet::ConnAck(v5::ConnAck {
            session_present: false,
            code: v5::ConnectReturnCode::Success,
            properties: Some(connect_properties(assigned)),
        }),
        Say::Publish { message, qos: quality, id } => v5::Packet::Publish(v5::Publish {
            dup: false,
            qos: qos(quality),
            retain: message.retain,
            topic: Bytes::from(message.topic),
            pkid: id,
            payload: message.payload,
            properties: message.properties,
        }),
        Say::Received(id) => v5::Packet::PubAck(v5::PubAck::new(id, None)),
        Say::Receive(id) => v5::Packet::PubRec(v5::PubRec::new(id, None)),
        Say::Complete(id) => v5::Packet::PubComp(v5::PubComp::new(id, None)),
        Say::Subscribed { id, granted } => {
            let code = |granted: Option<u8>| match granted {
                Some(quality) => v5::SubscribeReasonCode::Success(qos(quality)),
                None => v5::SubscribeReasonCode::TopicFilterInvalid,
            };
            let return_codes = granted.into_iter().map(code).collect();
            v5::Packet::SubAck(v5::SubAck { pkid: id, return_codes, properties: None })
        }
        Say::Unsubscribed { id, n } => v5::Packet::UnsubAck(v5::UnsubAck {
            pkid: id,
            reasons: vec![v5::UnsubAckReason::Success; n],
            properties: None,
        }),
        Say::Pong => v5::Packet::PingResp(v5::PingResp),
    }
}

/// What this broker does not do.
fn connect_properties(assigned: Option<String>) -> v5::ConnAckProperties {
    v5::ConnAckProperties {
        session_expiry_interval: Some(0),
        receive_max: None,
        max_qos: Some(1),
        retain_available: None,
        max_packet_size: Some(PACKET_BYTES_MAX as u32),
        assigned_client_identifier: assigned,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: Some(0),
        shared_subscription_available: Some(0),
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_versions_apart_and_waits_for_enough_of_the_packet() {
        let connect = |version| [&[0x10, 0x0E, 0, 4][..], b"MQTT", &[version, 2, 0, 60]].concat();
        assert_eq!(Wire::of(&connect(4)).unwrap(), Some(Wire::V311));
        assert_eq!(Wire::of(&connect(5)).unwrap(), Some(Wire::V5));
        assert_eq!(Wire::of(&connect(5)[..8]).unwrap(), None);
        assert!(Wire::of(&connect(3)).is_err());
        assert!(Wire::of(b"GET / HTTP/1.1\r\n").is_err());
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic() {
        for wire in [Wire::V311, Wire::V5] {
            for first in 0..=255u8 {
                for rest in
                    [&[0u8, 0, 0][..], &[3, 0xFF, 0xFF, 0xFF], &[0xFF, 0xFF, 0xFF, 0xFF, 1], &[2, 0, 1]]
                {
                    let mut buffer = BytesMut::from(&[&[first], rest].concat()[..]);
                    drop(wire.read(&mut buffer));
                }
            }
        }
    }
}
