//! The examples for robots: the script acts on a fresh and sure answer alone, and the bridge to ROS names topics that
//! exist. Both need a Python 3.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use captiond::config::Protocol;
use captiond::mqtt::payload::timestamp;
use captiond::mqtt::topic::Topics;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use serde_json::{Value, json};

use crate::support::client::{Client, Message};
use crate::support::{python, server};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/robot").join(name)
}

fn robot(python: &str, port: u16, limit_s: f64) -> Child {
    Command::new(python)
        .arg(example("ask_first.py"))
        .args(["--camera", "front", "--question", "Is the way free?", "--host", "127.0.0.1"])
        .args(["--port", &port.to_string(), "--limit-s", &limit_s.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What was printed, and why it was refused.
fn outcome(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn ago(seconds: f64) -> String {
    timestamp(SystemTime::now() - Duration::from_secs_f64(seconds))
}

/// The answer that permits to act.
fn permission() -> Value {
    json!({
        "v": 1, "ts": ago(0.0), "camera": "front", "question": "Is the way free?", "answer": "yes", "short": "yes",
        "score": 0.93, "verdict": "answered", "candidates": [], "seq": 7, "frame_ts": ago(0.3),
    })
}

/// The permission with other keys; null takes one away.
fn but(changes: Value) -> Vec<u8> {
    let mut answer = permission();
    for (key, value) in changes.as_object().unwrap() {
        answer[key] = value.clone();
        if value.is_null() {
            answer.as_object_mut().unwrap().remove(key);
        }
    }
    answer.to_string().into_bytes()
}

fn reply(client: &Client, question: &Message, correlation: &[u8], payload: Vec<u8>) {
    let properties = PublishProperties {
        correlation_data: Some(correlation.to_vec().into()),
        ..PublishProperties::default()
    };
    client.publish_with(question.response_topic.as_deref().unwrap(), payload, properties);
}

#[test]
fn a_robot_acts_on_a_fresh_and_sure_answer_alone() {
    let (Some(python), Some(server)) = (python("paho.mqtt"), server::mosquitto()) else { return };
    let client = Client::connect(server.port(), Protocol::V5, "responder", "captiond/front/ask");
    let ahead = timestamp(SystemTime::now() + Duration::from_secs(3600));
    let error = json!({ "v": 1, "camera": "front", "question": "Is the way free?", "code": "no_frame", "error": "-" });
    let cases: Vec<(Vec<u8>, Option<&str>)> = vec![
        (but(json!({})), None),
        (but(json!({ "answer": "no" })), Some("the answer is 'no'")),
        (but(json!({ "verdict": "unsure" })), Some("the answer is unsure")),
        (but(json!({ "verdict": null })), Some("without a verdict")),
        (but(json!({ "score": 0.79 })), Some("is below 0.8")),
        (but(json!({ "score": true })), Some("has no score")),
        (but(json!({ "score": 7 })), Some("has no score")),
        (but(json!({ "frame_ts": ago(30.0) })), Some("s old, more than 2.0 s")),
        (but(json!({ "frame_ts": ahead })), Some("the clocks are not in step")),
        (but(json!({ "frame_ts": null })), Some("does not say when")),
        (but(json!({ "frame_ts": "2026-11-20T21:00:00" })), Some("does not say when")),
        (but(json!({ "question": "Is it day?" })), Some("to something else")),
        (but(json!({ "camera": "rear" })), Some("to something else")),
        (error.to_string().into_bytes(), Some("error no_frame")),
        (b"yes".to_vec(), Some("no JSON object")),
        (b"[]".to_vec(), Some("no JSON object")),
    ];
    for (payload, refused) in cases {
        let robot = robot(&python, server.port(), 20.0);
        let question = client.wait_for_topic("captiond/front/ask");
        assert_eq!(question.json()["choices"], json!(["yes", "no"]));
        // What belongs to another question is neither a permission nor a refusal.
        reply(&client, &question, b"another", but(json!({})));
        reply(&client, &question, question.correlation.as_deref().unwrap(), payload);
        let (code, printed, why) = outcome(&robot.wait_with_output().unwrap());
        match refused {
            None => assert_eq!((code, printed.as_str()), (Some(0), "act"), "{why}"),
            Some(refused) => {
                assert_eq!((code, printed.as_str()), (Some(3), ""), "{why}");
                assert!(
                    why.starts_with("refused: ") && why.contains(refused),
                    "{why} does not say {refused}"
                );
            }
        }
    }
}

#[test]
fn a_robot_refuses_to_act_when_no_answer_comes_in_time() {
    let (Some(python), Some(server)) = (python("paho.mqtt"), server::mosquitto()) else { return };
    let client = Client::connect(server.port(), Protocol::V5, "responder", "captiond/front/ask");
    let late = robot(&python, server.port(), 1.0);
    let question = client.wait_for_topic("captiond/front/ask");
    let (code, printed, why) = outcome(&late.wait_with_output().unwrap());
    assert_eq!((code, printed.as_str()), (Some(3), ""));
    assert!(why.contains("no answer within 1.0 s"), "{why}");
    // Nobody listens any more.
    reply(&client, &question, question.correlation.as_deref().unwrap(), but(json!({})));
    let nobody = robot(&python, server::free_port(), 1.0);
    assert_eq!(outcome(&nobody.wait_with_output().unwrap()).0, Some(3));
}

/// The names of one direction's topics: of the list, and of the tables beneath.
fn bridged<'a>(direction: &'a Value, list: &str) -> Vec<(&'a str, &'a Value)> {
    let listed: Vec<&str> =
        direction[list].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(listed.len() + 1, direction.as_object().unwrap().len(), "a table for each topic and no other");
    listed.into_iter().map(|name| (name, &direction[name])).collect()
}

#[test]
fn the_bridge_to_ros_names_topics_of_captiond() {
    let Some(python) = python("yaml") else { return };
    let to_json = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let read = Command::new(python).args(["-c", to_json]).arg(example("ros2/params.yaml")).output().unwrap();
    let params: Value = serde_json::from_slice(&read.stdout).unwrap();
    let bridge = &params["/**/*"]["ros__parameters"]["bridge"];
    let topics = Topics::new("captiond");
    let published = [
        topics.bridge_state(),
        topics.availability("front"),
        topics.caption("front"),
        topics.answer("front"),
    ];
    let taken = [topics.ask("front"), topics.describe("front")];
    for (topic, table) in bridged(&bridge["mqtt2ros"], "mqtt_topics") {
        assert!(published.iter().any(|known| known == topic), "{topic}");
        assert_eq!(table["ros_topic"], format!("/{topic}"));
        assert_eq!(table["ros_type"], "std_msgs/msg/String");
    }
    for (ros_topic, table) in bridged(&bridge["ros2mqtt"], "ros_topics") {
        let topic = table["mqtt_topic"].as_str().unwrap();
        assert!(taken.iter().any(|known| known == topic), "{topic}");
        assert_eq!(ros_topic, format!("/{topic}"));
        assert_eq!(table["advanced"]["mqtt"]["retained"], false, "retained questions are ignored");
    }
}
