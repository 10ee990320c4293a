//! The JSON Schema (draft 2020-12) of the configuration, for editors: the keys as they are read, with the words of the
//! reference.

use std::collections::BTreeMap;

use humantime::format_duration;
use serde_json::{Map, Value, json};

use super::outline::{Key, Kind, Outline};
use super::{outline, reference};

/// What stands in the reference about one key.
#[derive(Clone, Debug, Default)]
struct Words {
    about: String,
    value: Option<toml::Value>,
}

/// The schema of the whole configuration, of which each file may hold a part.
pub fn schema() -> Value {
    let words = words(&reference::everything());
    let mut schema = table(&outline(), "", &words);
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("captiond.toml"));
    Value::Object(schema)
}

fn table(outline: &Outline, path: &str, words: &BTreeMap<String, Words>) -> Map<String, Value> {
    let Some(variants) = &outline.variants else { return keys(outline, path, words) };
    let kind = |(kind, inner): &(&'static str, Outline)| {
        let path = format!("{path}.{kind}");
        let mut schema = keys(inner, &path, words);
        let about = words.get(&path).map(|words| words.about.clone()).unwrap_or_default();
        let own = json!({ "const": kind, "description": about });
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.insert(variants.key.to_owned(), own);
        }
        match schema.get_mut("required") {
            Some(Value::Array(required)) => required.push(json!(variants.key)),
            _ => drop(schema.insert("required".to_owned(), json!([variants.key]))),
        }
        Value::Object(schema)
    };
    Map::from_iter([("oneOf".to_owned(), variants.of.iter().map(kind).collect())])
}

fn keys(outline: &Outline, path: &str, words: &BTreeMap<String, Words>) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in &outline.keys {
        let path = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
        let mut schema = value(&key.kind, &path, words);
        if let Some(words) = words.get(&path) {
            if !words.about.is_empty() {
                schema.insert("description".to_owned(), json!(words.about));
            }
            if let Some(default) = words.value.as_ref().filter(|_| !key.is_required && is_default(&path)) {
                schema.insert("default".to_owned(), json!(default));
            }
        }
        properties
            .entry(key.name.clone())
            .and_modify(|first| *first = either(first, &schema))
            .or_insert(schema.into());
    }
    let required: Vec<&String> =
        outline.keys.iter().filter(|key| key.is_required).map(|key: &Key| &key.name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema.insert("additionalProperties".to_owned(), json!(outline.is_open));
    schema
}

/// What of the reference is an example, and no default: sources, and what stands.
fn is_default(path: &str) -> bool {
    let examples = ["camera.source.", "camera.question.", "camera.label.", "camera.rule."];
    !examples.iter().any(|example| path.starts_with(example))
}

/// A key that takes two kinds of value.
fn either(first: &Value, other: &Map<String, Value>) -> Value {
    let mut both = Map::from_iter([("anyOf".to_owned(), json!([first, other]))]);
    both.extend(first.get("description").map(|about| ("description".to_owned(), about.clone())));
    Value::Object(both)
}

fn value(kind: &Kind, path: &str, words: &BTreeMap<String, Words>) -> Map<String, Value> {
    let schema = match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Word(allowed) => json!({ "type": "string", "enum": allowed }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Integer(range) => {
            json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
        }
        // By their decimals: the value of a float in double precision has digits that nobody wrote.
        Kind::Number(range) => {
            json!({ "type": "number", "minimum": decimal(*range.start()), "maximum": decimal(*range.end()) })
        }
        Kind::Numbers => json!({ "type": "array" }),
        Kind::NumberLists => json!({ "type": "array", "items": { "type": "array" } }),
        Kind::Duration(range) => json!({
            "type": "string",
            "pattern": r"^\s*(0|([0-9]+\s*[a-zA-Zµ]+\s*)+)$",
            "$comment": format!("{} to {}", format_duration(*range.start()), format_duration(*range.end())),
        }),
        Kind::Alternative(word) => json!({ "const": word }),
        Kind::Table(inner) => Value::Object(table(inner, path, words)),
        Kind::Tables(inner) => json!({ "type": "array", "items": table(inner, path, words) }),
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

fn decimal(n: f32) -> f64 {
    n.to_string().parse().unwrap_or_else(|_| f64::from(n))
}

/// The comments and values of the reference by the path of their key; a key without a comment of its own shares that of
/// the key above it. The kind of a source is a level of its keys' paths.
fn words(reference: &str) -> BTreeMap<String, Words> {
    let mut all = BTreeMap::new();
    let (mut table, mut about, mut is_open) = (String::new(), Vec::new(), false);
    for line in reference.lines() {
        let line = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
        if let Some(text) = line.strip_prefix("# ") {
            if !is_open {
                about.clear();
            }
            about.push(text);
            is_open = true;
            continue;
        }
        is_open = false;
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_matches(['[', ']']).to_owned();
            all.entry(table.clone()).or_insert_with(|| Words { about: about.join(" "), value: None });
            about.clear();
        } else if let Some((key, _)) = line.split_once(" = ") {
            let value = line.parse::<toml::Table>().ok().and_then(|mut value| value.remove(key));
            if key == "type" && table.starts_with("camera.source") {
                let kind = value.as_ref().and_then(toml::Value::as_str).unwrap_or_default();
                table = format!("camera.source.{kind}");
                all.insert(table.clone(), Words { about: about.join(" "), value: None });
                continue;
            }
            let path = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
            all.entry(path).or_insert_with(|| Words { about: about.join(" "), value });
        } else {
            about.clear();
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key with its path, where the kind of a source is a level.
    fn paths(outline: &Outline, path: &str, all: &mut Vec<String>) {
        for key in &outline.keys {
            let path = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
            match &key.kind {
                Kind::Table(inner) | Kind::Tables(inner) => {
                    for (kind, keys) in inner.variants.iter().flat_map(|variants| &variants.of) {
                        paths(keys, &format!("{path}.{kind}"), all);
                    }
                    paths(inner, &path, all);
                }
                _ => {}
            }
            all.push(path);
        }
    }

    #[test]
    fn every_key_that_is_read_is_explained_in_the_reference() {
        let (mut read, words) = (Vec::new(), words(&reference::everything()));
        paths(&outline(), "", &mut read);
        assert!(read.len() > 80, "{read:?}");
        let untold: Vec<_> = read.iter().filter(|path| !words.contains_key(*path)).collect();
        assert!(untold.is_empty(), "{untold:?}");
    }

    #[test]
    fn the_schema_takes_the_reference_and_refuses_what_the_reader_refuses() {
        let mut schemas = boon::Schemas::new();
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("schema.json", schema()).unwrap();
        let idx = compiler.compile("schema.json", &mut schemas).unwrap();
        let is_valid = |text: &str| {
            let table: toml::Table = text.parse().unwrap();
            schemas.validate(&serde_json::to_value(table).unwrap(), idx).map_err(|e| e.to_string())
        };
        is_valid(&reference::text()).unwrap();
        is_valid(&reference::worker()).unwrap();
        for bad in [
            "colour = 1",
            "threads = 0",
            "[mqtt]\nport = 70000",
            "[mqtt]\nprotocol = \"4\"",
            "[mqtt]\nkeep_alive = 30",
            "[[camera]]\nname = \"a\"",
            "[[camera]]\nname = \"a\"\nsource = { type = \"smoke\" }",
            "[[camera]]\nname = \"a\"\nsource = { type = \"http\", path = \"x\" }",
            "[[camera]]\nname = \"a\"\nsilence = \"on\"\nsource = { type = \"mqtt\", topic = \"x\" }",
        ] {
            assert!(is_valid(bad).is_err(), "{bad}");
        }
        is_valid("[[camera]]\nname = \"a\"\nsilence = \"off\"\nsource = { type = \"mqtt\", topic = \"x\" }")
            .unwrap();
    }

    #[test]
    fn defaults_and_words_are_those_of_the_reference() {
        let schema = schema();
        let port = &schema["properties"]["mqtt"]["properties"]["port"];
        assert_eq!((&port["default"], &port["minimum"]), (&json!(super::super::MQTT_PORT), &json!(1)));
        let topic = &schema["properties"]["mqtt"]["properties"]["base_topic"];
        assert_eq!(topic["description"], "The first levels of every topic.");
    }
}
