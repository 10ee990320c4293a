//! What the devices are made of: their description documents, and what a former one has left at the broker.
//!
//! The sections "Device Attributes", "Node Attributes" and "Property Attributes" of the convention.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::config::CameraConfig;
use crate::mqtt::payload::INTERVAL_MAX;
use crate::mqtt::topic::{HomieTopics, is_homie_id};

/// The version of the convention.
const HOMIE: &str = "5.0";
/// Values that are taken away of one former device; ours have fewer.
const STALE_VALUES_MAX: usize = 64;

/// The nodes of a camera.
pub(super) const CAPTION: &str = "caption";
pub(super) const CONTROL: &str = "control";
pub(super) const QUESTION: &str = "question";
/// Property ids that more than one place names.
pub(super) const JSON: &str = "json";
pub(super) const DESCRIBE: &str = "describe";
pub(super) const ASK: &str = "ask";
/// The one value of a property that is a button.
pub(super) const NOW: &str = "now";

/// The document of the daemon, parent of all of `children`.
pub(super) fn root(children: &[String]) -> Value {
    versioned(json!({ "homie": HOMIE, "name": "captiond", "children": children }))
}

/// The document of a camera, child of the device `root_id`.
pub(super) fn camera(root_id: &str, camera: &CameraConfig) -> Value {
    versioned(json!({
        "homie": HOMIE,
        "name": camera.name,
        "root": root_id,
        "parent": root_id,
        "nodes": { CAPTION: caption(), CONTROL: control(), QUESTION: question() },
    }))
}

fn caption() -> Value {
    json!({ "name": "Caption", "properties": {
        "text": { "name": "Caption", "datatype": "string" },
        "score": { "name": "Score", "datatype": "float", "format": "0:1" },
        "low-confidence": { "name": "Picture shows too little", "datatype": "boolean" },
        "frame-time": { "name": "Time of the frame", "datatype": "datetime" },
        JSON: { "name": "Caption with everything about it", "datatype": "json" },
    }})
}

fn control() -> Value {
    let interval_format = format!("0:{}", INTERVAL_MAX.as_secs());
    json!({ "name": "Control", "properties": {
        "enabled": { "name": "Captioning", "datatype": "boolean", "settable": true },
        "interval": {
            "name": "Least time between captions",
            "datatype": "float",
            "format": interval_format,
            "unit": "s",
            "settable": true,
        },
        "prompt": { "name": "Captions begin with", "datatype": "string", "settable": true },
        DESCRIBE: {
            "name": "Describe now",
            "datatype": "enum",
            "format": NOW,
            "settable": true,
            "retained": false,
        },
    }})
}

fn question() -> Value {
    json!({ "name": "Question", "properties": {
        ASK: { "name": "Ask", "datatype": "string", "settable": true, "retained": false },
        "answer": { "name": "Answer", "datatype": "string", "retained": false },
        JSON: { "name": "Answer with everything about it, or an error", "datatype": "json", "retained": false },
    }})
}

/// Adds the version: another document has another one. 48 bits, which every reader of JSON keeps exactly.
fn versioned(mut document: Value) -> Value {
    let digest = Sha256::digest(document.to_string());
    let version = digest.iter().take(6).fold(0u64, |version, byte| version << 8 | u64::from(*byte));
    if let Some(fields) = document.as_object_mut() {
        fields.insert("version".to_owned(), version.into());
    }
    document
}

/// Whether `document` describes a child of the device `root_id`.
pub(super) fn is_child(document: &Value, root_id: &str) -> bool {
    document.get("root").and_then(Value::as_str) == Some(root_id)
}

/// What a device with this document has retained, `$state` first, in the order in which a device is removed ("Device
/// Lifecycle").
pub(super) fn retained_topics(topics: &HomieTopics, id: &str, document: &Value) -> Vec<String> {
    let fields =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    let is_retained = |property: &Value| property.get("retained") != Some(&Value::Bool(false));
    let mut values = Vec::new();
    for (node, about) in fields(document, "nodes") {
        let properties: Map<String, Value> = fields(&about, "properties");
        for (property, _) in properties.iter().filter(|(_, property)| is_retained(property)) {
            // A document that somebody else wrote may name anything.
            if is_homie_id(&node) && is_homie_id(property) && values.len() < STALE_VALUES_MAX {
                values.push(topics.value(id, &node, property));
            }
        }
    }
    std::iter::once(topics.state(id)).chain(values).chain([topics.description(id)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceConfig;
    use crate::source::replay::ReplayConfig;

    fn porch() -> Value {
        let replay = ReplayConfig { photos: vec![], interval: std::time::Duration::ZERO, repeat: true };
        camera("c", &CameraConfig::new("porch", SourceConfig::Replay(replay)))
    }

    #[test]
    fn another_document_has_another_version() {
        let version = |document: &Value| document["version"].as_u64().unwrap();
        let (one, two) = (root(&["c-a".to_owned()]), root(&["c-a".to_owned(), "c-b".to_owned()]));
        assert_eq!(version(&one), version(&root(&["c-a".to_owned()])));
        assert_ne!(version(&one), version(&two));
        assert!(version(&one) < 1 << 53);
    }

    #[test]
    fn a_former_device_is_taken_away_with_its_state_first() {
        let topics = HomieTopics::new("homie", "c");
        assert!(is_child(&porch(), "c") && !is_child(&porch(), "d") && !is_child(&root(&[]), "c"));
        let retained = retained_topics(&topics, "c-porch", &porch());
        assert_eq!(retained.first().unwrap(), "homie/5/c-porch/$state");
        assert_eq!(retained.last().unwrap(), "homie/5/c-porch/$description");
        assert_eq!(retained.len(), 2 + 5 + 3, "the values that are not retained are not there: {retained:?}");
    }

    #[test]
    fn a_document_of_somebody_else_names_no_topic_beyond_its_device() {
        let topics = HomieTopics::new("homie", "c");
        let property = json!({ "datatype": "string" });
        let hostile = json!({ "root": "c", "nodes": {
            "../x": { "properties": { "y": property } },
            "n": { "properties": { "#": property, "+": property, "a/b": property, "": property } },
            "m": 7,
        }});
        assert_eq!(retained_topics(&topics, "c-x", &hostile).len(), 2);
        let many: Map<String, Value> = (0..1000).map(|n| (format!("p{n}"), property.clone())).collect();
        let many = json!({ "nodes": { "n": { "properties": many } } });
        assert_eq!(retained_topics(&topics, "c-x", &many).len(), 2 + STALE_VALUES_MAX);
    }
}
