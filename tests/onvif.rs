//! Captions as ONVIF events at a broker.

use std::cell::Cell;
use std::time::Duration;

use captiond::config::Protocol;
use serde_json::json;

use crate::support::client::Client;
use crate::support::{RunningDaemon, color_photos, config, server};

const TOPIC: &str = "MyDev/onvif-ej/RuleEngine/captiond:SceneText/&wall";

#[test]
fn every_new_caption_is_an_event() {
    for server in server::all() {
        let photos = color_photos();
        let client = Client::connect(server.port(), Protocol::V5, "recorder", "#");
        let mut config = config(server.port(), Protocol::V5, photos.path());
        config.mqtt.onvif_prefix = Some("MyDev".to_owned());
        let daemon = RunningDaemon::start(config);
        let mut texts = Vec::new();
        for _ in 0..3 {
            let message = client.wait_for_topic(TOPIC);
            assert!(!message.retained);
            let event = message.json();
            let caption = client.wait_for("the caption of the same frame", |m| {
                m.topic == "captiond/wall/caption" && m.json()["frame_ts"] == event["UtcTime"]
            });
            let text = caption.json()["caption"].as_str().unwrap().to_owned();
            assert_eq!(event["Data"], json!({ "Text": text, "Likelihood": 0.5, "LowConfidence": false }));
            assert_eq!(event["Source"], json!({ "VideoSource": "wall" }));
            texts.push(text);
        }
        texts.sort();
        assert_eq!(texts, ["a blue wall", "a green wall", "a red wall"]);
        daemon.stop();
    }
}

#[test]
fn a_caption_that_is_confirmed_alone_is_no_event() {
    let (server, photos) = (server::embedded(), color_photos());
    for color in ["2-green.png", "3-blue.png"] {
        std::fs::remove_file(photos.path().join(color)).unwrap();
    }
    let client = Client::connect(server.port(), Protocol::V5, "recorder", "#");
    let mut config = config(server.port(), Protocol::V5, photos.path());
    config.mqtt.onvif_prefix = Some("MyDev".to_owned());
    config.cameras[0].gate.heartbeat = Duration::from_millis(200);
    let daemon = RunningDaemon::start(config);
    let (n_events, n_confirmed) = (Cell::new(0), Cell::new(0));
    client.wait_for("a caption that is confirmed three times", |message| {
        n_events.set(n_events.get() + u32::from(message.topic == TOPIC));
        let is_confirmed = message.topic == "captiond/wall/caption" && message.json()["changed"] == false;
        n_confirmed.set(n_confirmed.get() + u32::from(is_confirmed));
        n_confirmed.get() == 3
    });
    // The caption itself may have been made before the daemon was connected.
    assert!(n_events.get() <= 1, "{} events", n_events.get());
    daemon.stop();
}
