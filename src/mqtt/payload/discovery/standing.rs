//! The entities of standing questions, labels and rules.

use caption::AnswerKind;
use serde_json::{Map, Value, json};

use super::{Entities, UNKNOWN};
use crate::mqtt::topic::Topics;
use crate::standing::{LabelConfig, QuestionConfig, StandingConfig};

impl Entities<'_> {
    /// Each under a key of its own.
    pub(super) fn standing(&self, topics: &Topics, standing: &StandingConfig) -> Map<String, Value> {
        let questions = standing.questions.iter().map(|question| self.question(topics, question));
        let labels = standing.labels.iter().map(|label| self.label(topics, label));
        let rules = (!standing.rules.is_empty()).then(|| self.rules(topics));
        questions.chain(labels).chain(rules).collect()
    }

    /// Yes or no is a binary sensor, anything else a sensor. A guess is unknown.
    fn question(&self, topics: &Topics, config: &QuestionConfig) -> (String, Value) {
        let topic = topics.question(self.camera, &config.id);
        let sure = "value_json.verdict | default('') == 'answered'";
        let is_yes_no = config.question.kind == Some(AnswerKind::YesNo);
        let own = if is_yes_no {
            json!({
                "state_topic": topic,
                "value_template": format!("{{{{ value_json.answer if {sure} else '{UNKNOWN}' }}}}"),
                "payload_on": "yes",
                "payload_off": "no",
                "json_attributes_topic": topic,
            })
        } else {
            json!({
                "state_topic": topic,
                "value_template": format!("{{{{ value_json.short if {sure} else '{UNKNOWN}' }}}}"),
                "json_attributes_topic": topic,
            })
        };
        let platform = if is_yes_no { "binary_sensor" } else { "sensor" };
        self.entity(&format!("question_{}", config.id), platform, &config.question.text, own)
    }

    fn label(&self, topics: &Topics, config: &LabelConfig) -> (String, Value) {
        let topic = topics.labels(self.camera);
        let at = format!("value_json.labels['{}']", config.id);
        let own = json!({
            "state_topic": topic,
            "value_template": format!("{{{{ 'ON' if {at}.on else 'OFF' }}}}"),
            "json_attributes_topic": topic,
            "json_attributes_template": format!("{{{{ {at} | tojson }}}}"),
        });
        self.entity(&format!("label_{}", config.id), "binary_sensor", &config.text, own)
    }

    /// One for all: the rule is an attribute.
    fn rules(&self, topics: &Topics) -> (String, Value) {
        let own = json!({ "state_topic": topics.event(self.camera), "event_types": ["begin", "end"] });
        self.entity("rules", "event", "Rules", own)
    }
}
