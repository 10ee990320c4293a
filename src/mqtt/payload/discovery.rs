//! What Home Assistant is told, so that every camera appears there by itself: MQTT discovery in its device form.
//!
//! <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>. Keys are written out: they are those of the
//! documentation, and a message is a few kilobytes once a connection.

mod standing;

use serde_json::{Map, Value, json};

use super::{INTERVAL_MAX, SHORT_CHARS_MAX};
use crate::config::{CameraConfig, PROMPT_CHARS_MAX};
use crate::mqtt::topic::{DiscoveryTopics, Topics};
use crate::standing::StandingConfig;

const URL: &str = env!("CARGO_PKG_REPOSITORY");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Shown while there is no answer that is sure.
const UNKNOWN: &str = "None";

/// The topic and the payload of the daemon itself.
pub fn bridge(discovery: &DiscoveryTopics, topics: &Topics) -> (String, Value) {
    let id = discovery.bridge_id();
    let mut components = Map::new();
    let state = json!({
        "platform": "binary_sensor",
        "name": "Connection",
        "unique_id": format!("{id}_connection"),
        "default_entity_id": "binary_sensor.captiond_connection",
        "device_class": "connectivity",
        "entity_category": "diagnostic",
        "state_topic": topics.bridge_state(),
        "payload_on": crate::mqtt::ONLINE,
        "payload_off": crate::mqtt::OFFLINE,
    });
    components.insert("connection".to_owned(), state);
    let payload = json!({
        "device": { "identifiers": [id], "name": "captiond", "manufacturer": "captiond", "sw_version": VERSION },
        "origin": origin(),
        "qos": 1,
        "components": components,
    });
    (discovery.config(&id), payload)
}

/// The topic and the payload of a camera with all of its entities.
pub fn camera(
    discovery: &DiscoveryTopics,
    topics: &Topics,
    camera: &CameraConfig,
    standing: &StandingConfig,
) -> (String, Value) {
    let name = &camera.name;
    let id = discovery.camera_id(name);
    let entities = Entities { id: &id, camera: name };
    let expiry_s = camera.caption_expiry().as_secs().max(1);
    let components: Map<String, Value> = [
        entities.caption(topics, expiry_s),
        entities.confidence(topics, expiry_s),
        entities.latency(topics, expiry_s),
        entities.ask(topics),
        entities.answer(topics),
        entities.describe(topics),
        entities.enabled(topics),
        entities.interval(topics),
        entities.prompt(topics),
    ]
    .into_iter()
    .chain(camera.image.then(|| entities.image(topics)))
    .chain(entities.standing(topics, standing))
    .collect();
    let payload = json!({
        "device": {
            "identifiers": [id],
            "name": format!("{name} camera"),
            "manufacturer": "captiond",
            "model": "caption camera",
            "sw_version": VERSION,
            "via_device": discovery.bridge_id(),
        },
        "origin": origin(),
        "availability": [{ "topic": topics.bridge_state() }, { "topic": topics.availability(name) }],
        "availability_mode": "all",
        "qos": 1,
        "components": components,
    });
    (discovery.config(&id), payload)
}

/// The old message with the components that the new one has not as platforms alone, which takes them away; none when
/// nothing goes.
pub fn farewell(old: &Value, new: &Value) -> Option<Value> {
    let components = |message: &Value| message["components"].as_object().cloned().unwrap_or_default();
    let (old, current) = (components(old), components(new));
    let gone = old.into_iter().filter(|(key, _)| !current.contains_key(key));
    let stubs: Map<String, Value> =
        gone.map(|(key, component)| (key, json!({ "platform": component["platform"] }))).collect();
    if stubs.is_empty() {
        return None;
    }
    let mut farewell = new.clone();
    farewell["components"] = Value::Object(current.into_iter().chain(stubs).collect());
    Some(farewell)
}

fn origin() -> Value {
    json!({ "name": "captiond", "sw_version": VERSION, "support_url": URL })
}

/// The entities of one camera.
struct Entities<'a> {
    id: &'a str,
    camera: &'a str,
}

impl Entities<'_> {
    /// What every entity has, and what is its own.
    fn entity(&self, key: &str, platform: &str, name: &str, own: Value) -> (String, Value) {
        let mut entity = json!({
            "platform": platform,
            "name": name,
            "unique_id": format!("{}_{key}", self.id),
            "default_entity_id": format!("{platform}.{}_{key}", self.camera).replace('-', "_"),
        });
        if let (Some(entity), Value::Object(own)) = (entity.as_object_mut(), own) {
            entity.extend(own);
        }
        (key.to_owned(), entity)
    }

    /// The state is cut to what Home Assistant takes; the whole text is an attribute. What was kept for the broker comes
    /// late, one after another and before what is true now: it is for those who keep a record, and passes by the state.
    fn caption(&self, topics: &Topics, expiry_s: u64) -> (String, Value) {
        let topic = topics.caption(self.camera);
        let own = json!({
            "state_topic": topic,
            "value_template": "{{ this.state if value_json.late | default(false) \
                and this.state not in ['unknown', 'unavailable'] else value_json.short }}",
            "json_attributes_topic": topic,
            "expire_after": expiry_s,
            "icon": "mdi:text-recognition",
        });
        self.entity("caption", "sensor", "Caption", own)
    }

    fn image(&self, topics: &Topics) -> (String, Value) {
        let own = json!({ "image_topic": topics.image(self.camera), "content_type": "image/jpeg" });
        self.entity("image", "image", "Picture", own)
    }

    fn confidence(&self, topics: &Topics, expiry_s: u64) -> (String, Value) {
        let own = json!({
            "state_topic": topics.caption(self.camera),
            "value_template": "{{ 'ON' if value_json.low_confidence else 'OFF' }}",
            "device_class": "problem",
            "entity_category": "diagnostic",
            "expire_after": expiry_s,
        });
        self.entity("low_confidence", "binary_sensor", "Picture shows too little", own)
    }

    fn latency(&self, topics: &Topics, expiry_s: u64) -> (String, Value) {
        let own = json!({
            "state_topic": topics.caption(self.camera),
            "value_template": "{{ value_json.latency_ms.total }}",
            "device_class": "duration",
            "state_class": "measurement",
            "unit_of_measurement": "ms",
            "entity_category": "diagnostic",
            "enabled_by_default": false,
            "expire_after": expiry_s,
        });
        self.entity("latency", "sensor", "Latency", own)
    }

    fn ask(&self, topics: &Topics) -> (String, Value) {
        let own = json!({
            "command_topic": topics.ask(self.camera),
            "max": SHORT_CHARS_MAX,
            "mode": "text",
            "icon": "mdi:comment-question-outline",
        });
        self.entity("ask", "text", "Ask", own)
    }

    /// An error or a guess has no state, and says why in its attributes.
    fn answer(&self, topics: &Topics) -> (String, Value) {
        let topic = topics.answer(self.camera);
        let own = json!({
            "state_topic": topic,
            "value_template": format!(
                "{{{{ value_json.short if value_json.verdict | default('') == 'answered' else '{UNKNOWN}' }}}}"
            ),
            "json_attributes_topic": topic,
            "force_update": true,
            "icon": "mdi:comment-check-outline",
        });
        self.entity("answer", "sensor", "Answer", own)
    }

    fn describe(&self, topics: &Topics) -> (String, Value) {
        let own = json!({
            "command_topic": topics.describe(self.camera),
            "payload_press": "now",
            "icon": "mdi:eye-outline",
        });
        self.entity("describe", "button", "Describe now", own)
    }

    fn enabled(&self, topics: &Topics) -> (String, Value) {
        let state = topics.enabled(self.camera);
        let own = json!({ "state_topic": state, "command_topic": Topics::set(&state), "icon": "mdi:eye" });
        self.entity("enabled", "switch", "Captioning", own)
    }

    fn interval(&self, topics: &Topics) -> (String, Value) {
        let state = topics.interval(self.camera);
        let own = json!({
            "state_topic": state,
            "command_topic": Topics::set(&state),
            "device_class": "duration",
            "unit_of_measurement": "s",
            "min": 0,
            "max": INTERVAL_MAX.as_secs(),
            "step": 0.1,
            "mode": "box",
            "entity_category": "config",
        });
        self.entity("interval", "number", "Least time between captions", own)
    }

    fn prompt(&self, topics: &Topics) -> (String, Value) {
        let state = topics.prompt(self.camera);
        let own = json!({
            "state_topic": state,
            "command_topic": Topics::set(&state),
            "max": PROMPT_CHARS_MAX,
            "entity_category": "config",
            "icon": "mdi:format-quote-open",
        });
        self.entity("prompt", "text", "Captions begin with", own)
    }
}

#[cfg(test)]
mod tests;
