//! Results as values of properties, in the payloads of the convention ("Payloads").

use std::time::{Duration, SystemTime};

use super::description::{ASK, CAPTION, CONTROL, DESCRIBE, JSON, NOW, QUESTION};
use super::{Devices, Said};
use crate::message::{Answered, AskError, Captioned, Settings, Transaction};
use crate::mqtt::client::Outgoing;
use crate::mqtt::payload::{self, CaptionPayload, ErrorPayload};

/// What stands for the empty string: an empty payload would take the retained value away ("Empty string values").
const EMPTY: &str = "\0";

/// A text as the payload of a string.
fn string(text: &str) -> &str {
    if text.is_empty() { EMPTY } else { text }
}

/// The payload of a wish as the daemon's own topics have it.
pub(super) fn plain(payload: &[u8]) -> &[u8] {
    if payload == EMPTY.as_bytes() { b"" } else { payload }
}

impl Devices {
    /// A caption made `age` ago, unless it is no longer true. It expires as on the daemon's own topic.
    pub(super) fn caption(&self, captioned: &Captioned, age: Duration) -> Vec<Said> {
        let camera = captioned.frame.camera;
        let Some(left) = self.shared.cameras.at(camera).config.caption_expiry().checked_sub(age) else {
            return Vec::new();
        };
        let post = self.shared.cameras.at(camera);
        let (name, producer) = (&post.config.name, &post.producer);
        let caption = CaptionPayload::new(captioned, name, producer, SystemTime::now() - age);
        let id = self.camera_id(camera);
        let value = |property: &str, text: &str| {
            Said::retained(self.topics.value(&id, CAPTION, property), string(text))
        };
        let values = [
            value("text", &caption.caption),
            value("score", &caption.score.to_string()),
            value("low-confidence", &caption.low_confidence.to_string()),
            value("frame-time", &caption.frame_ts),
            value(JSON, &String::from_utf8_lossy(&payload::json(&caption))).json(),
        ];
        let expiry = Some(left.max(Duration::from_secs(1)));
        values.map(|said| Said { message: Outgoing { expiry, ..said.message }, ..said }).into()
    }

    pub(super) fn settings(&self, camera: usize, settings: &Settings) -> Vec<Said> {
        let id = self.camera_id(camera);
        let value = |property: &str, text: &str| {
            Said::retained(self.topics.value(&id, CONTROL, property), string(text))
        };
        vec![
            value("enabled", &settings.enabled.to_string()),
            value("interval", &settings.min_interval.as_secs_f64().to_string()),
            value("prompt", &settings.prompt),
        ]
    }

    /// An answer; nothing when its asker wants it elsewhere.
    pub(super) fn answer(&self, answered: &Answered) -> Vec<Said> {
        let camera = answered.ask.camera;
        if answered.ask.reply.topic.is_some() {
            return Vec::new();
        }
        let post = self.shared.cameras.at(camera);
        let (name, producer) = (&post.config.name, &post.producer);
        let whole = payload::answered(answered, name, producer, SystemTime::now());
        let text = answered.outcome.as_ref().ok().map(|reading| {
            let topic = self.topics.value(&self.camera_id(camera), QUESTION, "answer");
            Said::momentary(topic, string(&reading.answer.text))
        });
        text.into_iter().chain([self.whole_answer(camera, &whole)]).collect()
    }

    /// A question that is refused at once.
    pub(super) fn refusal(
        &self,
        camera: usize,
        error: &AskError,
        question: &str,
        transaction: Option<&Transaction>,
    ) -> Said {
        let name = &self.shared.cameras.at(camera).config.name;
        let whole = ErrorPayload::new(error, question, transaction, name, SystemTime::now());
        self.whole_answer(camera, &payload::json(&whole))
    }

    fn whole_answer(&self, camera: usize, payload: &[u8]) -> Said {
        let topic = self.topics.value(&self.camera_id(camera), QUESTION, JSON);
        Said::momentary(topic, &String::from_utf8_lossy(payload)).json()
    }

    /// Says that a question was taken.
    pub(super) fn asked(&self, camera: usize, question: &str) -> Said {
        Said::momentary(self.topics.value(&self.camera_id(camera), QUESTION, ASK), string(question))
    }

    /// Says that a wish for a caption was taken.
    pub(super) fn described(&self, camera: usize) -> Said {
        Said::momentary(self.topics.value(&self.camera_id(camera), CONTROL, DESCRIBE), NOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_string_is_not_an_empty_payload() {
        assert_eq!((string(""), string("a")), ("\0", "a"));
        assert_eq!((plain(b"\0"), plain(b"a"), plain(b"\0\0")), (&b""[..], &b"a"[..], &b"\0\0"[..]));
    }
}
