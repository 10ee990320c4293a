//! The rules of the Homie convention, version 5, about descriptions and values.

use captiond::mqtt::topic::is_homie_id;
use serde_json::{Map, Value};

const DATATYPES: [&str; 9] =
    ["integer", "float", "boolean", "string", "enum", "color", "datetime", "duration", "json"];

/// A property of a description.
#[derive(Clone, Debug)]
pub struct Property {
    pub node: String,
    pub id: String,
    pub datatype: String,
    pub format: Option<String>,
    pub settable: bool,
    pub retained: bool,
}

/// Every property of the description of a device, or everything that is wrong with it ("Device Attributes", "Node
/// Attributes", "Property Attributes").
pub fn check_description(document: &Value) -> Result<Vec<Property>, Vec<String>> {
    let mut check = Check { problems: Vec::new(), properties: Vec::new() };
    match document.as_object() {
        Some(fields) => check.device(fields),
        None => check.problems.push("the description is no object".to_owned()),
    }
    if check.problems.is_empty() { Ok(check.properties) } else { Err(check.problems) }
}

struct Check {
    problems: Vec<String>,
    properties: Vec<Property>,
}

impl Check {
    fn expect(&mut self, holds: bool, rule: &str, at: &str) {
        if !holds {
            self.problems.push(format!("{at}: {rule}"));
        }
    }

    /// No other fields than these, none of them null.
    fn fields(&mut self, fields: &Map<String, Value>, known: &[&str], at: &str) {
        for (field, value) in fields {
            self.expect(known.contains(&field.as_str()), "unknown field", &format!("{at}.{field}"));
            self.expect(!value.is_null(), "null", &format!("{at}.{field}"));
        }
    }

    fn device(&mut self, fields: &Map<String, Value>) {
        let known = ["homie", "version", "nodes", "name", "type", "children", "root", "parent", "extensions"];
        self.fields(fields, &known, "device");
        let minor = fields.get("homie").and_then(Value::as_str).and_then(|homie| homie.strip_prefix("5."));
        self.expect(minor.is_some_and(|minor| minor.parse::<u32>().is_ok()), "must be 5.x", "homie");
        self.expect(fields.get("version").is_some_and(Value::is_i64), "must be an integer", "version");
        self.expect(fields.get("name").is_some_and(Value::is_string), "must be a string", "name");
        for key in ["root", "parent"] {
            let is_id = |value: &Value| value.as_str().is_some_and(is_homie_id);
            self.expect(fields.get(key).is_none_or(is_id), "must be an id", key);
        }
        self.expect(fields.contains_key("root") || !fields.contains_key("parent"), "needs a root", "parent");
        for key in ["children", "extensions"] {
            let Some(list) = fields.get(key) else { continue };
            let are_ids = list.as_array().is_some_and(|ids| {
                ids.iter().all(|id| id.as_str().is_some_and(|id| key == "extensions" || is_homie_id(id)))
            });
            self.expect(are_ids, "must be a list of ids", key);
        }
        for (node, about) in self.object(fields.get("nodes"), "nodes") {
            self.expect(is_homie_id(&node), "must be an id", &node);
            let fields = self.object(Some(&about), &node);
            self.fields(&fields, &["name", "type", "properties"], &node);
            for (property, about) in self.object(fields.get("properties"), &node) {
                self.property(&node, &property, &about);
            }
        }
    }

    fn object(&mut self, value: Option<&Value>, at: &str) -> Map<String, Value> {
        let Some(value) = value else { return Map::new() };
        self.expect(value.is_object(), "must be an object", at);
        value.as_object().cloned().unwrap_or_default()
    }

    fn property(&mut self, node: &str, id: &str, about: &Value) {
        let at = format!("{node}/{id}");
        let fields = self.object(Some(about), &at);
        self.fields(&fields, &["name", "datatype", "format", "settable", "retained", "unit"], &at);
        self.expect(is_homie_id(id), "must be an id", &at);
        for key in ["name", "datatype", "format", "unit"] {
            let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
            self.expect(fields.get(key).is_none_or(is_text), "must be a string", &format!("{at}.{key}"));
        }
        for key in ["settable", "retained"] {
            self.expect(fields.get(key).is_none_or(Value::is_boolean), "must be a boolean", &at);
        }
        let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let (datatype, format) = (text("datatype").unwrap_or_default(), text("format"));
        self.expect(DATATYPES.contains(&datatype.as_str()), "unknown datatype", &at);
        self.expect(is_format(&datatype, format.as_deref()), "bad format", &at);
        let flag = |key: &str, default| fields.get(key).and_then(Value::as_bool).unwrap_or(default);
        let (settable, retained) = (flag("settable", false), flag("retained", true));
        let (node, id) = (node.to_owned(), id.to_owned());
        self.properties.push(Property { node, id, datatype, format, settable, retained });
    }
}

/// The section "Formats".
fn is_format(datatype: &str, format: Option<&str>) -> bool {
    let Some(format) = format else { return !matches!(datatype, "enum" | "color") };
    match datatype {
        "float" | "integer" => {
            let parts: Vec<_> = format.split(':').collect();
            let are_numbers = parts.iter().all(|part| part.is_empty() || is_float(part));
            are_numbers && (2..=3).contains(&parts.len())
        }
        "enum" => {
            let mut values: Vec<_> = format.split(',').collect();
            let n_values = values.len();
            values.sort_unstable();
            values.dedup();
            values.len() == n_values && !values.contains(&"")
        }
        "boolean" => format.split(',').count() == 2,
        "color" => format.split(',').all(|color| ["rgb", "hsv", "xyz"].contains(&color)),
        "json" => serde_json::from_str::<Value>(format).is_ok(),
        _ => true,
    }
}

fn is_float(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_digit() || ['-', '.', 'e', 'E'].contains(&c);
    text.chars().all(allowed) && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether this is a payload of the property ("Payloads").
pub fn is_value(property: &Property, payload: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(payload) else { return false };
    let format = property.format.as_deref();
    match property.datatype.as_str() {
        // A payload without a byte is not the empty string, but no value at all.
        "string" => !text.is_empty(),
        "boolean" => ["true", "false"].contains(&text),
        "enum" => format.is_some_and(|format| format.split(',').any(|value| value == text)),
        "datetime" => humantime::parse_rfc3339(text).is_ok(),
        "json" => serde_json::from_str(text).is_ok_and(|value: Value| value.is_object() || value.is_array()),
        "float" => {
            let bound = |part: usize| format?.split(':').nth(part)?.parse::<f64>().ok();
            let number: f64 = text.parse().unwrap_or(f64::NAN);
            is_float(text)
                && bound(0).is_none_or(|least| number >= least)
                && bound(1).is_none_or(|most| number <= most)
        }
        other => panic!("no property of ours is of the type {other}"),
    }
}

#[test]
fn the_rules_refuse_descriptions_that_break_them() {
    let good = serde_json::json!({
        "homie": "5.0", "version": 7, "name": "Car", "root": "garage",
        "nodes": { "lights": { "properties": { "power": { "datatype": "boolean", "settable": true } } } },
    });
    assert_eq!(check_description(&good).unwrap().len(), 1);
    let property = "/nodes/lights/properties/power";
    for (at, key, value) in [
        ("", "homie", serde_json::json!("4.0")),
        ("", "version", serde_json::json!("7")),
        ("", "name", Value::Null),
        ("", "root", serde_json::json!("my_garage")),
        ("", "children", serde_json::json!(["A"])),
        ("", "color", serde_json::json!("red")),
        ("/nodes", "a_b", serde_json::json!({})),
        (property, "datatype", serde_json::json!("text")),
        (property, "datatype", serde_json::json!("enum")),
        (property, "settable", serde_json::json!("true")),
        (property, "unit", Value::Null),
    ] {
        let mut bad = good.clone();
        bad.pointer_mut(at).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
        assert!(check_description(&bad).is_err(), "{at}/{key}");
    }
}
