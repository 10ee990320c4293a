use super::*;
use crate::source::SourceConfig;
use crate::source::replay::ReplayConfig;

/// Keys that Home Assistant documents for every entity of a device-form message, and for each platform.
const OF_EVERY_ENTITY: [&str; 15] = [
    "platform",
    "name",
    "unique_id",
    "default_entity_id",
    "icon",
    "entity_category",
    "enabled_by_default",
    "entity_picture",
    "json_attributes_topic",
    "json_attributes_template",
    "availability",
    "availability_mode",
    "encoding",
    "qos",
    "device_class",
];
const OF_PLATFORMS: [(&str, &[&str]); 8] = [
    ("image", &["image_topic", "content_type", "image_encoding", "url_topic", "url_template"]),
    ("event", &["state_topic", "value_template", "event_types"]),
    (
        "sensor",
        &[
            "state_topic",
            "value_template",
            "expire_after",
            "force_update",
            "last_reset_value_template",
            "options",
            "state_class",
            "suggested_display_precision",
            "unit_of_measurement",
        ],
    ),
    (
        "binary_sensor",
        &[
            "state_topic",
            "value_template",
            "expire_after",
            "force_update",
            "off_delay",
            "payload_on",
            "payload_off",
        ],
    ),
    ("button", &["command_topic", "command_template", "payload_press", "retain"]),
    (
        "switch",
        &[
            "command_topic",
            "command_template",
            "state_topic",
            "value_template",
            "payload_on",
            "payload_off",
            "state_on",
            "state_off",
            "optimistic",
            "retain",
        ],
    ),
    (
        "number",
        &[
            "command_topic",
            "command_template",
            "state_topic",
            "value_template",
            "min",
            "max",
            "step",
            "mode",
            "optimistic",
            "payload_reset",
            "retain",
            "unit_of_measurement",
        ],
    ),
    (
        "text",
        &[
            "command_topic",
            "command_template",
            "state_topic",
            "value_template",
            "min",
            "max",
            "mode",
            "pattern",
            "retain",
        ],
    ),
];
const OF_DEVICES: [&str; 13] = [
    "identifiers",
    "connections",
    "name",
    "manufacturer",
    "model",
    "model_id",
    "hw_version",
    "sw_version",
    "serial_number",
    "suggested_area",
    "via_device",
    "configuration_url",
    "created_at",
];
const OF_ROOTS: [&str; 12] = [
    "device",
    "origin",
    "components",
    "availability",
    "availability_mode",
    "availability_topic",
    "availability_template",
    "state_topic",
    "command_topic",
    "qos",
    "encoding",
    "migrate_discovery",
];
const OF_ORIGINS: [&str; 3] = ["name", "sw_version", "support_url"];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Everything that Home Assistant would complain about.
fn check(topic: &str, payload: &Value) {
    let ids: Vec<&str> = topic.split('/').collect();
    let [prefix, "device", id, "config"] = ids[..] else { panic!("{topic}") };
    assert!(!prefix.is_empty());
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    assert!(plain(id), "{id}");
    let within = |keys: Vec<&str>, known: &[&str]| {
        keys.iter().for_each(|key| assert!(known.contains(key), "{key} is none of {known:?}"));
    };
    within(keys(payload), &OF_ROOTS);
    within(keys(&payload["device"]), &OF_DEVICES);
    within(keys(&payload["origin"]), &OF_ORIGINS);
    assert!(payload["origin"]["name"].is_string() && payload["device"]["identifiers"][0] == id);
    let mut unique = std::collections::BTreeSet::new();
    for (key, entity) in payload["components"].as_object().unwrap() {
        assert!(plain(key));
        let platform = entity["platform"].as_str().unwrap();
        let (_, own) = OF_PLATFORMS.iter().find(|(known, _)| *known == platform).unwrap();
        within(keys(entity), &[&OF_EVERY_ENTITY[..], own].concat());
        let unique_id = entity["unique_id"].as_str().unwrap();
        assert!(unique.insert(unique_id.to_owned()), "{unique_id} twice");
        let entity_id = entity["default_entity_id"].as_str().unwrap();
        let (domain, object) = entity_id.split_once('.').unwrap();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(domain == platform && object.chars().all(allowed), "{entity_id}");
        let needed: &[&str] = match platform {
            "sensor" | "binary_sensor" | "event" => &["state_topic"],
            "image" => &["image_topic"],
            _ => &["command_topic"],
        };
        needed.iter().for_each(|needed| assert!(entity[needed].is_string(), "{key} lacks {needed}"));
        for key in ["state_topic", "command_topic", "json_attributes_topic"] {
            let topic = entity[key].as_str().unwrap_or("x");
            assert!(!topic.is_empty() && !topic.contains(['+', '#']), "{topic}");
        }
    }
}

fn camera_config(name: &str) -> CameraConfig {
    let replay = ReplayConfig { photos: vec![], interval: std::time::Duration::from_secs(1), repeat: true };
    CameraConfig::new(name, SourceConfig::Replay(replay))
}

#[test]
fn every_message_holds_documented_keys_alone_and_all_that_are_needed() {
    let (discovery, topics) =
        (DiscoveryTopics::new("homeassistant", "captiond-a1b2c3"), Topics::new("home/captiond"));
    let (topic, payload) = bridge(&discovery, &topics);
    check(&topic, &payload);
    for name in ["porch", "front-door_2"] {
        let (topic, payload) =
            camera(&discovery, &topics, &CameraConfig { image: true, ..camera_config(name) }, &standing());
        check(&topic, &payload);
        assert!(serde_json::to_vec(&payload).unwrap().len() < 8 << 10);
    }
}

#[test]
fn a_camera_is_available_when_the_daemon_and_the_camera_are() {
    let (discovery, topics) = (DiscoveryTopics::new("homeassistant", "x"), Topics::new("captiond"));
    let (topic, payload) = camera(&discovery, &topics, &camera_config("porch"), &StandingConfig::default());
    assert_eq!(topic, "homeassistant/device/captiond_x_porch/config");
    assert_eq!(payload["availability_mode"], "all");
    let at: Vec<_> =
        payload["availability"].as_array().unwrap().iter().map(|at| at["topic"].as_str().unwrap()).collect();
    assert_eq!(at, ["captiond/bridge/state", "captiond/porch/availability"]);
    let caption = &payload["components"]["caption"];
    assert_eq!(caption["expire_after"], 180, "three heartbeats");
    assert_eq!(payload["device"]["via_device"], "captiond_x_bridge");
}

/// One of everything.
fn standing() -> StandingConfig {
    let text = r#"
[[camera]]
name = "porch"
source = { type = "replay", path = "." }
[[camera.question]]
id = "garage-door"
question = "Is the door open?"
type = "yes_no"
[[camera.question]]
id = "cars"
question = "How many cars are there?"
[[camera.label]]
id = "dog"
text = "a dog"
[[camera.rule]]
id = "r"
label = ["dog"]
"#;
    let config = crate::config::Config::parse(text, std::path::Path::new("")).unwrap();
    config.cameras[0].standing.clone()
}

#[test]
fn what_stands_becomes_entities_and_goes_again() {
    let (discovery, topics) = (DiscoveryTopics::new("homeassistant", "x"), Topics::new("captiond"));
    let describe =
        |standing: &StandingConfig| camera(&discovery, &topics, &camera_config("porch"), standing).1;
    let with = describe(&standing());
    let of = |key: &str| with["components"][key]["platform"].as_str().unwrap();
    assert_eq!(
        ["question_garage-door", "question_cars", "label_dog", "rules"].map(of),
        ["binary_sensor", "sensor", "binary_sensor", "event"]
    );
    let without = describe(&StandingConfig::default());
    let farewell = farewell(&with, &without).unwrap();
    assert_eq!(farewell["components"]["label_dog"], json!({ "platform": "binary_sensor" }));
    assert_eq!(farewell["components"]["caption"], without["components"]["caption"]);
    assert!(super::farewell(&without, &with).is_none(), "nothing goes");
}
