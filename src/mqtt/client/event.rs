//! What the library reports, in the words of both versions of the protocol.

use std::time::Duration;

use rumqttc::{mqttbytes, v5};

use super::refusals::subscription_refused;
use super::{Event, Inbound, Incoming, LinkError, Receipt, lost};

/// What the library did.
pub(super) enum Moved {
    /// A message left, with this packet identifier; 0 at QoS 0.
    Sent(u16),
    /// With the reason why the broker did not take it, if it did not.
    Acknowledged(u16, Option<String>),
    Event(Event),
}

pub(super) fn error_v5(e: v5::ConnectionError, client_id: &str) -> LinkError {
    use v5::mqttbytes::v5::DisconnectReasonCode::SessionTakenOver;
    match e {
        v5::ConnectionError::MqttState(v5::StateError::ServerDisconnect {
            reason_code: SessionTakenOver,
            ..
        }) => LinkError::TakenOver(client_id.to_owned()),
        other => lost(other),
    }
}

pub(super) fn event_v5(event: v5::Event) -> Moved {
    use v5::mqttbytes::v5::{Packet, PubAckReason, SubscribeReasonCode};
    Moved::Event(match event {
        v5::Event::Incoming(Packet::ConnAck(_)) => Event::Connected,
        v5::Event::Incoming(Packet::SubAck(ack)) => {
            if !ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) {
                subscription_refused(&format!("{:?}", ack.return_codes));
            }
            Event::Subscribed
        }
        v5::Event::Incoming(Packet::PubAck(ack)) => {
            let is_taken = matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers);
            // It will not be taken later either, so it counts as dealt with.
            return Moved::Acknowledged(ack.pkid, (!is_taken).then(|| format!("{:?}", ack.reason)));
        }
        v5::Event::Incoming(Packet::Publish(publish)) => {
            let properties = publish.properties.clone().unwrap_or_default();
            Event::Message(Box::new(Incoming {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload.clone(),
                retained: publish.retain,
                response_topic: properties.response_topic,
                correlation: properties.correlation_data.map(|data| data.to_vec()),
                user_properties: properties.user_properties,
                expiry: properties.message_expiry_interval.map(|s| Duration::from_secs(s.into())),
                receipt: Receipt(Inbound::V5(publish)),
            }))
        }
        v5::Event::Outgoing(rumqttc::Outgoing::Publish(packet_id)) => return Moved::Sent(packet_id),
        v5::Event::Outgoing(rumqttc::Outgoing::Disconnect) => Event::Disconnected,
        _ => Event::Other,
    })
}

pub(super) fn event_v311(event: rumqttc::Event) -> Moved {
    Moved::Event(match event {
        rumqttc::Event::Incoming(rumqttc::Packet::ConnAck(_)) => Event::Connected,
        rumqttc::Event::Incoming(rumqttc::Packet::SubAck(ack)) => {
            use mqttbytes::v4::SubscribeReasonCode::Success;
            if !ack.return_codes.iter().all(|code| matches!(code, Success(_))) {
                subscription_refused(&format!("{:?}", ack.return_codes));
            }
            Event::Subscribed
        }
        rumqttc::Event::Incoming(rumqttc::Packet::PubAck(ack)) => {
            return Moved::Acknowledged(ack.pkid, None);
        }
        rumqttc::Event::Incoming(rumqttc::Packet::Publish(publish)) => Event::Message(Box::new(Incoming {
            topic: publish.topic.clone(),
            payload: publish.payload.clone(),
            retained: publish.retain,
            response_topic: None,
            correlation: None,
            user_properties: Vec::new(),
            expiry: None,
            receipt: Receipt(Inbound::V311(publish)),
        })),
        rumqttc::Event::Outgoing(rumqttc::Outgoing::Publish(packet_id)) => return Moved::Sent(packet_id),
        rumqttc::Event::Outgoing(rumqttc::Outgoing::Disconnect) => Event::Disconnected,
        _ => Event::Other,
    })
}
