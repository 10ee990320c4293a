//! Events in ONVIF's JSON, as Profile M has them over MQTT (Core Specification, chapter "Event broker"): a time, the
//! source as keys and values, and data as keys and values.

use serde::{Deserialize, Serialize};

use super::{rounded, timestamp};
use crate::message::{Captioned, Event, Publication};

pub const ONVIF_EXAMPLE: &str = include_str!("../examples/onvif.json");

/// On `<prefix>/onvif-ej/RuleEngine/captiond:SceneText/&<camera>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct OnvifEvent {
    /// When the frame was captured.
    pub utc_time: String,
    pub source: OnvifSource,
    pub data: OnvifData,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct OnvifSource {
    pub video_source: String,
    /// For an event of a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct OnvifData {
    /// The caption.
    pub text: String,
    /// 0 to 1, as everywhere in ONVIF. Of a caption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub likelihood: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_confidence: Option<bool>,
    /// Whether the rule begins or ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<bool>,
}

/// The event of a result of this camera. Other kinds of results that are events have their arm here, and a
/// source with the name of their rule.
pub fn scene_event(publication: &Publication, camera: &str) -> Option<OnvifEvent> {
    match publication {
        Publication::Caption(captioned) if captioned.changed => {
            Some(OnvifEvent::of_caption(captioned, camera))
        }
        Publication::Event(event) => Some(OnvifEvent::of_rule(event, camera)),
        // A confirmed caption is no event: nothing has happened.
        _ => None,
    }
}

impl OnvifEvent {
    fn of_caption(captioned: &Captioned, camera: &str) -> OnvifEvent {
        OnvifEvent {
            utc_time: timestamp(captioned.frame.captured_at),
            source: OnvifSource { video_source: camera.to_owned(), rule: None },
            data: OnvifData {
                text: captioned.caption.text.clone(),
                likelihood: Some(rounded(captioned.caption.score)),
                low_confidence: Some(captioned.low_confidence),
                state: None,
            },
        }
    }

    fn of_rule(event: &Event, camera: &str) -> OnvifEvent {
        OnvifEvent {
            utc_time: timestamp(event.frame.captured_at),
            source: OnvifSource { video_source: camera.to_owned(), rule: Some(event.event.rule.clone()) },
            data: OnvifData {
                text: event.caption.clone().unwrap_or_default(),
                likelihood: None,
                low_confidence: None,
                state: Some(event.event.begins),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use caption::Caption;

    use super::*;
    use crate::frame::FrameId;
    use crate::health::Counters;
    use crate::message::{Latency, Settings};
    use crate::mqtt::payload;

    fn captioned(changed: bool) -> Publication {
        let captured_at = UNIX_EPOCH + Duration::from_millis(1_795_208_400_102);
        Publication::Caption(Captioned {
            frame: FrameId { camera: 0, seq: 7, captured_at, file: None },
            caption: Caption { text: "a brown dog runs across the lawn".to_owned(), score: 0.418_26 },
            low_confidence: false,
            changed,
            similarity: None,
            latency: Latency::default(),
            counters: Counters::default(),
        })
    }

    #[test]
    fn a_changed_caption_is_the_example_and_a_confirmed_one_is_no_event() {
        let event = scene_event(&captioned(true), "porch").unwrap();
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(value(&payload::json(&event)), value(ONVIF_EXAMPLE.as_bytes()));
        let settings = Settings { enabled: true, min_interval: Duration::ZERO, prompt: String::new() };
        for other in [captioned(false), Publication::Settings(0, settings)] {
            assert!(scene_event(&other, "porch").is_none());
        }
    }

    #[test]
    fn docs_mqtt_md_shows_the_event() {
        let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/mqtt.md")).unwrap();
        assert!(docs.contains(&format!("```json\n{ONVIF_EXAMPLE}```")), "docs/mqtt.md lacks {ONVIF_EXAMPLE}");
    }
}
