//! The daemon at a broker, from start to end, with a vision that needs no bundle.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use captiond::config::Protocol;
use serde_json::json;

use crate::support::client::Client;
use crate::support::server::{self, Server};
use crate::support::{Hold, RunningDaemon, color_photos, config, eyes, wait_until};

const BOTH: [Protocol; 2] = [Protocol::V5, Protocol::V311];
const PORT_VARIABLE: &str = "CAPTIOND_TEST_PORT";
const PHOTOS_VARIABLE: &str = "CAPTIOND_TEST_PHOTOS";

/// A broker that nobody has used yet, and photos for a daemon that speaks `protocol` to it.
struct Site {
    server: Server,
    protocol: Protocol,
    photos: tempfile::TempDir,
}

impl Site {
    fn new(server: Server, protocol: Protocol) -> Site {
        Site { server, protocol, photos: color_photos() }
    }

    /// Every broker that is there with both versions of the protocol.
    fn everywhere() -> impl Iterator<Item = Site> {
        let at_all = |protocol| server::all().into_iter().map(move |server| Site::new(server, protocol));
        BOTH.into_iter().flat_map(at_all)
    }

    /// A client that hears everything.
    fn client(&self, protocol: Protocol, name: &str) -> Client {
        Client::connect(self.server.port(), protocol, name, "#")
    }

    fn daemon(&self) -> RunningDaemon {
        RunningDaemon::start(config(self.server.port(), self.protocol, self.photos.path()))
    }

    /// A daemon whose first caption has come to `client`: from then on it takes questions.
    fn seeing_daemon(&self, client: &Client) -> RunningDaemon {
        let daemon = self.daemon();
        client.wait_for_topic("captiond/wall/caption");
        daemon
    }
}

#[test]
fn publishes_its_state_and_a_caption_per_frame() {
    for site in Site::everywhere() {
        let client = site.client(site.protocol, "viewer");
        let daemon = site.daemon();
        client.wait_for_text("captiond/bridge/state", "online");
        client.wait_for_text("captiond/wall/availability", "online");
        for color in ["red", "green", "blue", "red"] {
            let message = client.wait_for(color, |message| {
                message.topic == "captiond/wall/caption"
                    && message.json()["caption"] == format!("a {color} wall")
            });
            let caption = message.json();
            assert_eq!(caption["camera"], "wall");
            assert_eq!(caption["bundle"], "color@00000000");
            assert_eq!((&caption["engine"], &caption["device"]), (&json!("tract"), &json!("cpu")));
            assert!(caption["file"].as_str().unwrap().contains(color));
            assert!(caption["frame_ts"].as_str().unwrap().ends_with('Z'));
            assert!(caption["latency_ms"]["total"].as_f64().unwrap() > 0.0);
            if site.protocol == Protocol::V5 {
                assert_eq!(message.content_type.as_deref(), Some("application/json"));
                // Three times the heartbeat of five seconds.
                // The broker takes off what the message waited there.
                assert!(message.expiry_s.is_some_and(|s| (12..=15).contains(&s)), "{:?}", message.expiry_s);
            }
        }
        daemon.stop();
    }
}

#[test]
fn whoever_comes_late_finds_the_retained_state() {
    for site in Site::everywhere() {
        let early = site.client(Protocol::V5, "early");
        let daemon = site.seeing_daemon(&early);
        for topic in ["captiond/bridge/state", "captiond/wall/availability"] {
            early.wait_for_text(topic, "online");
        }
        let late = site.client(Protocol::V311, "late");
        for topic in [
            "captiond/bridge/info",
            "captiond/bridge/state",
            "captiond/wall/availability",
            "captiond/wall/caption",
        ] {
            late.wait_for(topic, |message| message.retained && message.topic == topic);
        }
        daemon.stop();
    }
}

#[test]
fn answers_an_mqtt_5_request_where_it_says() {
    for server in server::all() {
        let site = Site::new(server, Protocol::V5);
        let client = site.client(Protocol::V5, "asker");
        let daemon = site.seeing_daemon(&client);
        let correlation = [0, 159, 146, 150, 255];
        client.request("captiond/wall/ask", r#"{"question": "what color?"}"#, "asker/7", &correlation);
        let message = client.wait_for_topic("asker/7");
        assert_eq!(message.correlation.as_deref(), Some(&correlation[..]));
        let answer = message.json();
        assert!(["red", "green", "blue"].contains(&answer["answer"].as_str().unwrap()));
        assert_eq!((&answer["verdict"], &answer["score"]), (&json!("answered"), &json!(0.75)));
        assert!(answer["seq"].as_u64().unwrap() >= 1 && answer["frame_ts"].is_string());
        daemon.stop();
    }
}

#[test]
fn answers_a_request_with_a_transaction_on_the_answer_topic() {
    for site in Site::everywhere() {
        let client = site.client(Protocol::V311, "asker");
        let daemon = site.seeing_daemon(&client);
        let request = r#"{"question": "what color?", "choices": ["plaid"], "transaction": "t-1"}"#;
        client.publish("captiond/wall/ask", request, false);
        let answer = client.wait_for_topic("captiond/wall/answer").json();
        assert_eq!((&answer["transaction"], &answer["answer"]), (&json!("t-1"), &json!("plaid")));
        client.publish("captiond/wall/ask", "what color?", false);
        let answer = client.wait_for_topic("captiond/wall/answer").json();
        assert!(answer.get("transaction").is_none() && answer["question"] == "what color?");
        daemon.stop();
    }
}

#[test]
fn errors_are_answered_as_errors_and_retained_questions_not_at_all() {
    for server in server::all() {
        let site = Site::new(server, Protocol::V5);
        let client = site.client(Protocol::V5, "asker");
        client.publish("captiond/wall/ask", "an old question", true);
        let daemon = site.seeing_daemon(&client);
        for (camera, request, code) in [
            ("wall", r#"{"transaction": 7}"#, "bad_request"),
            ("wall", r#"{"question": " ", "transaction": 7}"#, "bad_request"),
            ("moat", r#"{"question": "why?", "transaction": 7}"#, "unknown_camera"),
        ] {
            client.request(&format!("captiond/{camera}/ask"), request, "asker/7", b"c");
            let message = client.wait_for_topic("asker/7");
            let error = message.json();
            assert_eq!((&error["code"], &error["transaction"]), (&json!(code), &json!(7)), "{error}");
            assert!(error["error"].is_string() && error.get("answer").is_none());
            assert_eq!(message.correlation.as_deref(), Some(&b"c"[..]));
        }
        // An answer that became a question would be answered for ever.
        client.request("captiond/wall/ask", "what color?", "captiond/wall/ask", b"c");
        client.publish("captiond/wall/ask", r#"{"question": "the last", "transaction": 8}"#, false);
        let answer = client.wait_for_topic("captiond/wall/answer").json();
        assert_eq!(answer["question"], "the last", "neither the retained nor the looping one is answered");
        daemon.stop();
    }
}

#[test]
fn a_full_queue_is_answered_busy_at_once() {
    let site = Site::new(server::embedded(), Protocol::V5);
    let client = site.client(Protocol::V5, "asker");
    let daemon = site.seeing_daemon(&client);
    daemon.hold.set(true);
    client.publish("captiond/wall/ask", r#"{"question": "q", "transaction": 0}"#, false);
    wait_until("the first question is in work", || daemon.hold.n_waiting() == 1);
    for n in 1..=9 {
        client.publish("captiond/wall/ask", format!(r#"{{"question": "q", "transaction": {n}}}"#), false);
    }
    let busy = client.wait_for_topic("captiond/wall/answer").json();
    assert_eq!((&busy["code"], &busy["transaction"]), (&json!("busy"), &json!(9)));
    daemon.hold.set(false);
    for n in 0..9 {
        assert_eq!(client.wait_for_topic("captiond/wall/answer").json()["transaction"], n);
    }
    daemon.stop();
}

#[test]
fn an_orderly_stop_leaves_offline_behind() {
    for site in Site::everywhere() {
        let client = site.client(site.protocol, "viewer");
        let daemon = site.daemon();
        client.wait_for_text("captiond/bridge/state", "online");
        client.wait_for_text("captiond/wall/availability", "online");
        daemon.stop();
        client.wait_for_text("captiond/wall/availability", "offline");
        client.wait_for_text("captiond/bridge/state", "offline");
    }
}

#[test]
fn a_killed_daemon_is_declared_offline_by_the_broker() {
    for site in Site::everywhere() {
        let client = site.client(site.protocol, "viewer");
        let mut child = child_daemon(&site);
        client.wait_for_text("captiond/bridge/state", "online");
        child.kill().unwrap();
        child.wait().unwrap();
        client.wait_for_text("captiond/bridge/state", "offline");
        let late = site.client(site.protocol, "late");
        late.wait_for("a retained word of the end", |message| {
            message.retained && message.topic == "captiond/bridge/state" && message.payload == b"offline"
        });
    }
}

#[test]
fn starts_without_a_broker_and_survives_its_restart() {
    let Some(server) = server::mosquitto() else { return };
    drop(server);
    for protocol in BOTH {
        let photos = color_photos();
        let port = server::free_port();
        let daemon = RunningDaemon::start(config(port, protocol, photos.path()));
        let mut server = Server::mosquitto_on(port);
        for life in 0..2 {
            let client = Client::connect(port, protocol, &format!("viewer-{life}"), "captiond/#");
            client.wait_for_topic("captiond/wall/caption");
            client.wait_for_text("captiond/bridge/state", "online");
            // The new broker has forgotten the subscription of the daemon.
            client.publish("captiond/wall/ask", "what color?", false);
            client.wait_for_topic("captiond/wall/answer");
            drop(client);
            server = server.restart();
        }
        daemon.stop();
    }
}

#[test]
fn stops_promptly_without_a_broker() {
    let photos = color_photos();
    let daemon = RunningDaemon::start(config(server::free_port(), Protocol::V5, photos.path()));
    let started = Instant::now();
    daemon.stop();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// A daemon in a process of its own, which can be killed.
fn child_daemon(site: &Site) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "broker::child_daemon_of_the_kill_test", "--ignored", "--nocapture"])
        .env(PORT_VARIABLE, format!("{} {}", site.server.port(), site.protocol.as_str()))
        .env(PHOTOS_VARIABLE, site.photos.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "the child process of a_killed_daemon_is_declared_offline_by_the_broker"]
fn child_daemon_of_the_kill_test() {
    let Ok(server) = std::env::var(PORT_VARIABLE) else { return };
    let photos = std::env::var_os(PHOTOS_VARIABLE).unwrap();
    let (port, protocol) = server.split_once(' ').unwrap();
    let protocol = if protocol == "5" { Protocol::V5 } else { Protocol::V311 };
    let config = config(port.parse().unwrap(), protocol, Path::new(&photos));
    captiond::daemon::run(&config, eyes(&Hold::default(), 1), &captiond::shutdown::Shutdown::new()).unwrap();
}
