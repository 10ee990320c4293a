//! The JSON Schema (draft 2020-12) of every payload, for those who generate code or check what they get.

use schemars::{JsonSchema, schema_for};
use serde_json::{Map, Value};

use super::ask::AskPayload;
use super::{
    AnswerPayload, BridgeEventPayload, CaptionPayload, ErrorPayload, EventPayload, LabelsPayload,
    ResponsePayload, StatsPayload,
};

/// By the name of the payload; published with `bridge/info`.
pub fn schemas() -> Map<String, Value> {
    fn of<T: JsonSchema>(name: &str) -> (String, Value) {
        (name.to_owned(), schema_for!(T).to_value())
    }
    [
        of::<CaptionPayload>("caption"),
        of::<AskPayload>("ask"),
        of::<AnswerPayload>("answer"),
        of::<ErrorPayload>("error"),
        of::<LabelsPayload>("labels"),
        of::<EventPayload>("event"),
        of::<StatsPayload>("stats"),
        of::<BridgeEventPayload>("bridge_event"),
        of::<ResponsePayload>("response"),
    ]
    .into_iter()
    .collect()
}
