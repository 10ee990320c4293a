//! What stands for a camera, over a real broker: questions, labels, rules, and the schemas of all that is said.

use captiond::config::{Config, Protocol};
use captiond::mqtt::payload::schemas;
use serde_json::{Value, json};

use crate::support::client::{Client, Message};
use crate::support::{RunningDaemon, color_photos, config, server};

/// A daemon whose wall is red, green and blue in turn, and what stands for it.
fn watched(port: u16, photos: &std::path::Path, standing: &str) -> Config {
    let text =
        format!("[[camera]]\nname = \"wall\"\nsource = {{ type = \"replay\", path = \".\" }}\n{standing}");
    let standing = Config::parse(&text, std::path::Path::new("")).unwrap().cameras.remove(0).standing;
    let mut config = config(port, Protocol::V5, photos);
    config.cameras[0].standing = standing;
    config.mqtt.client_id = Some("captiond-watch".to_owned());
    config
}

const STANDING: &str = r#"
[[camera.question]]
id = "color"
question = "What color is the wall?"
type = "one_of"
choices = ["red", "green", "blue"]
[[camera.label]]
id = "green"
text = "green"
against = ["red", "blue"]
deviations = 0
[[camera.rule]]
id = "green"
label = ["green"]
answer = ["color=green"]
"#;

#[test]
fn questions_labels_and_rules_follow_the_scene() {
    for server in server::all() {
        let photos = color_photos();
        let client = Client::connect(server.port(), Protocol::V5, "viewer", "captiond/wall/#");
        let daemon = RunningDaemon::start(watched(server.port(), photos.path(), STANDING));
        for color in ["green", "blue"] {
            client.wait_for("the answer to the standing question", |m| {
                m.topic == "captiond/wall/question/color" && m.json()["answer"] == color
            });
        }
        client.wait_for("the label", |m| {
            m.topic == "captiond/wall/labels" && m.json()["labels"]["green"]["on"] == true
        });
        for event_type in ["begin", "end"] {
            client.wait_for("the rule", |m| {
                m.topic == "captiond/wall/event"
                    && !m.retained
                    && m.json()["event_type"] == event_type
                    && m.json()["rule"] == "green"
            });
        }
        daemon.stop();
    }
}

#[test]
fn standing_things_come_and_go_while_the_daemon_runs() {
    for server in server::all() {
        let photos = color_photos();
        let client = Client::connect(server.port(), Protocol::V5, "viewer", "captiond/wall/#");
        let home = Client::connect(server.port(), Protocol::V5, "home", "homeassistant/device/+/config");
        let described = |what: &str, is_so: fn(&Value) -> bool| {
            home.wait_for(what, |m| {
                m.topic.ends_with("_wall/config") && is_so(&m.json()["components"]["question_now"])
            });
        };
        // What was retained is not a wish of now.
        client.publish("captiond/wall/question/old/set", "Is it old?", true);
        let daemon = RunningDaemon::start(watched(server.port(), photos.path(), ""));
        client.wait_for_topic("captiond/wall/caption");
        client.publish(
            "captiond/wall/question/now/set",
            r#"{"question": "What is it?", "every": "1s"}"#,
            false,
        );
        let answer = client.wait_for_topic("captiond/wall/question/now");
        assert_eq!(answer.json()["question"], "What is it?");
        described("an entity of the question", |entity| entity["state_topic"].is_string());
        client.publish("captiond/wall/label/green/set", "green", false);
        client.wait_for("the label", |m| m.topic == "captiond/wall/labels" && !m.payload.is_empty());
        // Wishes that are not understood change nothing.
        for (topic, wish) in [
            ("question/now", r#"{"question": 7}"#),
            ("question/now", "{"),
            ("poem/now", "sing"),
            ("label/Gr\u{fc}n", "green"),
            ("rule/x", "{}"),
        ] {
            client.publish(&format!("captiond/wall/{topic}/set"), wish, false);
        }
        client.publish("captiond/wall/question/now/set", "", false);
        client.wait_for("the state of the question goes", |m| {
            m.topic == "captiond/wall/question/now" && m.payload.is_empty()
        });
        described("it goes from Home Assistant", |entity| *entity == json!({ "platform": "sensor" }));
        described("and is not described any more", Value::is_null);
        client.publish("captiond/wall/question/old/set", "", true);
        daemon.stop();
    }
}

#[test]
fn a_deadline_is_honoured_and_types_are_kept_to() {
    for server in server::all() {
        let photos = color_photos();
        let client = Client::connect(server.port(), Protocol::V5, "viewer", "captiond/wall/#");
        let daemon = RunningDaemon::start(watched(server.port(), photos.path(), ""));
        client.wait_for_topic("captiond/wall/caption");
        daemon.hold.set(true);
        client.publish(
            "captiond/wall/ask",
            r#"{"question": "late?", "deadline_ms": 50, "transaction": 1}"#,
            false,
        );
        crate::support::wait_until("the question is being answered", || daemon.hold.n_waiting() > 0);
        // It is answered when its deadline has passed.
        std::thread::park_timeout(std::time::Duration::from_millis(80));
        daemon.hold.set(false);
        let answer = client.wait_for_topic("captiond/wall/answer").json();
        assert_eq!((answer["transaction"].clone(), answer["code"].clone()), (json!(1), json!("deadline")));
        client.publish(
            "captiond/wall/ask",
            r#"{"question": "what?", "type": "poem", "transaction": 2}"#,
            false,
        );
        assert_eq!(client.wait_for_topic("captiond/wall/answer").json()["code"], "bad_request");
        daemon.stop();
    }
}

/// The schema of what comes on a topic, and of what goes on it.
fn schema_of(message: &Message) -> Option<&'static str> {
    let leaf = message.topic.strip_prefix("captiond/")?.split_once('/')?.1;
    match leaf {
        "event" if message.topic == "captiond/bridge/event" => Some("bridge_event"),
        "caption" | "labels" | "event" | "stats" => {
            ["caption", "labels", "event", "stats"].into_iter().find(|name| *name == leaf)
        }
        _ if leaf == "answer" || leaf.starts_with("question/") && !leaf.ends_with("/set") => {
            Some(if message.json()["code"].is_string() { "error" } else { "answer" })
        }
        _ => None,
    }
}

#[test]
fn every_message_fits_the_schema_that_bridge_info_publishes() {
    let server = server::embedded();
    let photos = color_photos();
    let client = Client::connect(server.port(), Protocol::V5, "viewer", "captiond/#");
    let daemon = RunningDaemon::start(watched(server.port(), photos.path(), STANDING));
    let published = client.wait_for_topic("captiond/bridge/info").json()["schemas"].clone();
    assert_eq!(published, Value::Object(schemas()));
    client.publish(
        "captiond/wall/ask",
        r#"{"question": "what color?", "type": "color", "transaction": 1}"#,
        false,
    );
    client.publish("captiond/wall/ask", "", false);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 6 {
        let message = client.wait_for("another kind of message", |m| {
            schema_of(m).is_some_and(|name| !m.payload.is_empty() && !seen.contains(name))
        });
        let name = schema_of(&message).unwrap();
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("schema.json", published[name].clone()).unwrap();
        let schema = compiler.compile("schema.json", &mut schemas).unwrap();
        if let Err(e) = schemas.validate(&message.json(), schema) {
            panic!("{name}: {e:#}\n{}", message.json());
        }
        seen.insert(name);
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["answer", "bridge_event", "caption", "error", "event", "labels"]
    );
    daemon.stop();
}
