//! The daemon as devices of the Homie convention, from start to end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use captiond::config::{Config, Protocol};
use serde_json::json;

use crate::support::client::Client;
use crate::support::homie::{Property, check_description, is_value};
use crate::support::server::{self, Server};
use crate::support::{Hold, RunningDaemon, color_photos, config, eyes, wait_until};

const BOTH: [Protocol; 2] = [Protocol::V5, Protocol::V311];
const ROOT: &str = "homie/5/captiond-wall-watcher";
const WALL: &str = "homie/5/captiond-wall-watcher-wall";
const PORT_VARIABLE: &str = "CAPTIOND_TEST_HOMIE_PORT";
const PHOTOS_VARIABLE: &str = "CAPTIOND_TEST_HOMIE_PHOTOS";

/// A daemon with a client id that is known, and with Homie.
fn homie(port: u16, protocol: Protocol, photos: &Path) -> Config {
    let mut config = config(port, protocol, photos);
    config.mqtt.client_id = Some("captiond-wall-watcher".to_owned());
    config.mqtt.homie = Some("homie".to_owned());
    config
}

/// The properties of a device, as whoever comes now finds them described.
fn described(client: &Client, device: &str) -> (serde_json::Value, Vec<Property>) {
    let topic = format!("{device}/$description");
    let document = client.wait_for(&topic, |m| m.retained && m.topic == topic).json();
    let properties =
        check_description(&document).unwrap_or_else(|problems| panic!("{device}: {problems:#?}"));
    (document, properties)
}

#[test]
fn devices_are_described_by_the_convention_and_go_from_init_to_ready() {
    for (server, protocol) in server::all().into_iter().zip(BOTH) {
        let photos = color_photos();
        let early = Client::connect(server.port(), Protocol::V5, "early", "homie/#");
        let daemon = RunningDaemon::start(homie(server.port(), protocol, photos.path()));
        for device in [ROOT, WALL] {
            let state = format!("{device}/$state");
            for word in ["init", "ready"] {
                assert_eq!(early.wait_for_topic(&state).payload, word.as_bytes(), "{state}");
            }
        }
        early.wait_for_topic(&format!("{WALL}/caption/json"));

        let late = Client::connect(server.port(), Protocol::V311, "late", "homie/#");
        let (document, properties) = described(&late, ROOT);
        assert_eq!(document["children"], json!(["captiond-wall-watcher-wall"]));
        assert!(properties.is_empty() && document.get("root").is_none());
        let (document, properties) = described(&late, WALL);
        assert_eq!(document["root"], "captiond-wall-watcher");
        assert_eq!(document["name"], "wall");
        let settable = properties.iter().filter(|property| property.settable).map(|p| p.id.as_str());
        assert_eq!(settable.collect::<Vec<_>>(), ["describe", "enabled", "interval", "prompt", "ask"]);
        for property in properties.iter().filter(|property| property.retained) {
            let topic = format!("{WALL}/{}/{}", property.node, property.id);
            let found = late.wait_for(&topic, |m| m.retained && m.topic == topic).payload;
            assert!(is_value(property, &found), "{topic}: {:?}", String::from_utf8_lossy(&found));
        }
        daemon.stop();
        for device in [WALL, ROOT] {
            let message = early.wait_for_topic(&format!("{device}/$state"));
            assert_eq!(message.payload, b"disconnected", "{device}");
        }
    }
}

#[test]
fn captions_are_values_that_expire_with_mqtt_5() {
    let (server, photos) = (server::embedded(), color_photos());
    let client = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let daemon = RunningDaemon::start(homie(server.port(), Protocol::V5, photos.path()));
    for color in ["red", "green", "blue"] {
        let text = format!("a {color} wall");
        let message = client.wait_for_text(&format!("{WALL}/caption/text"), &text);
        assert!(message.expiry_s.is_some_and(|s| (12..=15).contains(&s)), "{:?}", message.expiry_s);
        let whole = client
            .wait_for(&text, |m| m.topic == format!("{WALL}/caption/json") && m.json()["caption"] == text);
        assert_eq!(client.wait_for_topic(&format!("{WALL}/caption/score")).payload, b"0.5");
        let frame_ts = whole.json()["frame_ts"].as_str().unwrap().to_owned();
        client.wait_for_text(&format!("{WALL}/caption/frame-time"), &frame_ts);
    }
    daemon.stop();
}

#[test]
fn a_killed_daemon_is_lost() {
    let all = || server::all().into_iter();
    for (server, protocol) in BOTH.into_iter().flat_map(|p| all().map(move |server| (server, p))) {
        let photos = color_photos();
        let client = Client::connect(server.port(), protocol, "viewer", "homie/#");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "homie::child_daemon_of_the_homie_kill_test", "--ignored", "--nocapture"])
            .env(PORT_VARIABLE, format!("{} {}", server.port(), protocol.as_str()))
            .env(PHOTOS_VARIABLE, photos.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        client.wait_for_text(&format!("{ROOT}/$state"), "ready");
        child.kill().unwrap();
        child.wait().unwrap();
        client.wait_for_text(&format!("{ROOT}/$state"), "lost");
    }
}

#[test]
#[ignore = "the child process of a_killed_daemon_is_lost"]
fn child_daemon_of_the_homie_kill_test() {
    let Ok(server) = std::env::var(PORT_VARIABLE) else { return };
    let photos = std::env::var_os(PHOTOS_VARIABLE).unwrap();
    let (port, protocol) = server.split_once(' ').unwrap();
    let protocol = if protocol == "5" { Protocol::V5 } else { Protocol::V311 };
    let config = homie(port.parse().unwrap(), protocol, Path::new(&photos));
    captiond::daemon::run(&config, eyes(&Hold::default(), 1), &captiond::shutdown::Shutdown::new()).unwrap();
}

#[test]
fn wishes_change_settings_as_on_the_daemons_own_topics_unless_they_are_retained() {
    for server in server::all() {
        let photos = color_photos();
        let client = Client::connect(server.port(), Protocol::V5, "controller", "#");
        let value = |property: &str| format!("{WALL}/control/{property}");
        let set = |property: &str, payload: &str| {
            client.publish(&format!("{WALL}/control/{property}/set"), payload, false);
        };
        // What was retained is not a wish of now.
        client.publish(&format!("{WALL}/control/enabled/set"), "false", true);
        let daemon = RunningDaemon::start(homie(server.port(), Protocol::V5, photos.path()));
        client.wait_for_text(&format!("{ROOT}/$state"), "ready");
        client.wait_for_text(&value("prompt"), "\0");
        set("interval", "0.5");
        client.wait_for_text(&value("interval"), "0.5");
        client.wait_for_text("captiond/wall/interval", "0.5");
        let late = Client::connect(server.port(), Protocol::V5, "late", &value("enabled"));
        assert_eq!(late.wait_for_topic(&value("enabled")).payload, b"true", "the retained wish is ignored");

        set("enabled", "false");
        client.wait_for_text(&value("enabled"), "false");
        client.wait_for_text("captiond/wall/enabled", "OFF");
        set("enabled", "perhaps");
        client.wait_for_text(&value("enabled"), "false");
        set("prompt", "there is");
        client.wait_for_text(&value("prompt"), "there is");
        set("prompt", "\0");
        client.wait_for_text(&value("prompt"), "\0");
        client.wait_for("no prompt any more", |m| m.topic == "captiond/wall/prompt" && m.payload.is_empty());
        // A caption although nobody looks at the frames.
        set("describe", "now");
        client.wait_for_text(&value("describe"), "now");
        client.wait_for("a caption that was asked for", |m| {
            m.topic == format!("{WALL}/caption/json") && m.json()["counters"]["gated"].as_u64() > Some(0)
        });
        client.publish("captiond/wall/enabled/set", "ON", false);
        client.wait_for_text(&value("enabled"), "true");
        client.publish(&format!("{WALL}/control/enabled/set"), Vec::new(), true);
        daemon.stop();
    }
}

#[test]
fn questions_are_answered_and_refused_as_on_the_daemons_own_topics() {
    let (server, photos) = (server::embedded(), color_photos());
    let client = Client::connect(server.port(), Protocol::V5, "controller", "#");
    let daemon = RunningDaemon::start(homie(server.port(), Protocol::V5, photos.path()));
    let value = |property: &str| format!("{WALL}/question/{property}");
    let ask = |payload: &str| client.publish(&value("ask/set"), payload, false);
    client.wait_for_text(&format!("{ROOT}/$state"), "ready");
    client.wait_for_topic("captiond/wall/caption");
    // Whoever says where the answer goes gets it there alone.
    client.request("captiond/wall/ask", "what else?", "asker/7", b"c");
    client.wait_for_topic("asker/7");
    ask(r#"{"question": "what color?", "choices": ["plaid"], "transaction": 7}"#);
    client.wait_for_text(&value("ask"), "what color?");
    client.wait_for_text(&value("answer"), "plaid");
    // Each says when it was written.
    let untimed =
        |mut answer: serde_json::Value| answer.as_object_mut().unwrap().remove("ts").map(|_| answer);
    let whole = client.wait_for_topic(&value("json")).json();
    assert_eq!((&whole["question"], &whole["transaction"]), (&json!("what color?"), &json!(7)));
    assert_eq!(untimed(client.wait_for_topic("captiond/wall/answer").json()), untimed(whole));
    ask(" ");
    assert_eq!(client.wait_for_topic(&value("json")).json()["code"], "bad_request");

    daemon.hold.set(true);
    ask("q");
    wait_until("the first question is in work", || daemon.hold.n_waiting() == 1);
    for n in 1..=9 {
        ask(&format!(r#"{{"question": "q", "transaction": {n}}}"#));
    }
    let busy = client.wait_for_topic(&value("json")).json();
    assert_eq!((&busy["code"], &busy["transaction"]), (&json!("busy"), &json!(9)));
    daemon.hold.set(false);
    daemon.stop();
}

#[test]
fn a_camera_that_fails_is_lost_and_the_others_stay_ready() {
    let (server, photos) = (server::embedded(), color_photos());
    let text = "[[camera]]\nname = \"gate\"\nsource = { type = \"pipe\", command = [\"false\"] }\n";
    let failing = Config::parse(text, photos.path()).unwrap().cameras.remove(0);
    let client = Client::connect(server.port(), Protocol::V5, "viewer", "homie/#");
    let mut config = homie(server.port(), Protocol::V5, photos.path());
    config.cameras.push(failing);
    let daemon = RunningDaemon::start(config);
    let state = "homie/5/captiond-wall-watcher-gate/$state";
    assert_eq!(client.wait_for_topic(state).payload, b"init");
    assert_eq!(client.wait_for_topic(state).payload, b"lost");
    let late = Client::connect(server.port(), Protocol::V5, "late", "homie/#");
    for device in [ROOT, WALL] {
        assert_eq!(late.wait_for_topic(&format!("{device}/$state")).payload, b"ready");
    }
    daemon.stop();
}

#[test]
fn a_camera_that_is_not_configured_any_more_is_taken_away() {
    for server in server::all() {
        let photos = color_photos();
        let former = "homie/5/captiond-wall-watcher-back-door";
        let foreign = "homie/5/lamp/$description";
        let client = Client::connect(server.port(), Protocol::V311, "viewer", "homie/#");
        client.publish(foreign, r#"{"homie": "5.0", "version": 1, "name": "Lamp", "root": "bridge"}"#, true);
        let mut config = homie(server.port(), Protocol::V5, photos.path());
        let mut back_door = config.cameras[0].clone();
        back_door.name = "back_door".to_owned();
        config.cameras.push(back_door);
        let daemon = RunningDaemon::start(config);
        client.wait_for_topic(&format!("{former}/caption/json"));
        client.wait_for_text(&format!("{former}/$state"), "ready");
        daemon.stop();

        let daemon = RunningDaemon::start(homie(server.port(), Protocol::V5, photos.path()));
        for aspect in ["$state", "caption/text", "caption/json", "control/enabled", "$description"] {
            let topic = format!("{former}/{aspect}");
            client.wait_for(&topic, |m| m.topic == topic && m.payload.is_empty());
        }
        let late = Client::connect(server.port(), Protocol::V5, "late", "homie/#");
        late.wait_for(foreign, |m| m.retained && m.topic == foreign);
        assert_eq!(described(&late, ROOT).0["children"], json!(["captiond-wall-watcher-wall"]));
        daemon.stop();
    }
}

#[test]
fn a_broker_that_has_forgotten_everything_is_told_again() {
    let Some(server) = server::mosquitto() else { return };
    let photos = color_photos();
    let port = server.port();
    let daemon = RunningDaemon::start(homie(port, Protocol::V5, photos.path()));
    let mut server: Server = server;
    for life in 0..2 {
        let client = Client::connect(port, Protocol::V5, &format!("viewer-{life}"), "homie/#");
        client.wait_for_text(&format!("{ROOT}/$state"), "ready");
        client.publish(&format!("{WALL}/question/ask/set"), "what color?", false);
        client.wait_for_topic(&format!("{WALL}/question/json"));
        drop(client);
        if life == 0 {
            server = server.restart();
        }
    }
    daemon.stop();
}

#[test]
fn a_daemon_with_homie_stops_promptly_without_a_broker() {
    let photos = color_photos();
    let daemon = RunningDaemon::start(homie(server::free_port(), Protocol::V5, photos.path()));
    let started = Instant::now();
    daemon.stop();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
