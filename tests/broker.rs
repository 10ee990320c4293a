//! The daemon at a broker, from start to end, with a vision that needs no bundle.

use std::process::{Child, Command, Stdio};

use captiond::config::Protocol;
use serde_json::json;

use crate::support::client::Client;
use crate::support::server::{self, Server};
use crate::support::{Hold, RunningDaemon, color_photos, config, eyes, wait_until};

const BOTH: [Protocol; 2] = [Protocol::V5, Protocol::V311];
const PORT_VARIABLE: &str = "CAPTIOND_TEST_PORT";
const PHOTOS_VARIABLE: &str = "CAPTIOND_TEST_PHOTOS";

#[test]
fn publishes_its_state_and_a_caption_per_frame() {
    for server in server::all() {
        for protocol in BOTH {
            let photos = color_photos();
            let client = Client::connect(server.port(), protocol, "viewer", "captiond/#");
            let daemon = RunningDaemon::start(config(server.port(), protocol, photos.path()));
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
                if protocol == Protocol::V5 {
                    assert_eq!(message.content_type.as_deref(), Some("application/json"));
                    // Three times the refresh of five seconds and the interval of a tenth.
                    assert_eq!(message.expiry_s, Some(15));
                }
            }
            daemon.stop();
        }
    }
}

#[test]
fn whoever_comes_late_finds_the_retained_state() {
    for server in server::all() {
        let photos = color_photos();
        let early = Client::connect(server.port(), Protocol::V5, "early", "captiond/#");
        let daemon = RunningDaemon::start(config(server.port(), Protocol::V5, photos.path()));
        early.wait_for_topic("captiond/wall/caption");
        early.wait_for_text("captiond/bridge/state", "online");
        let late = Client::connect(server.port(), Protocol::V311, "late", "captiond/#");
        let mut retained = vec![
            "captiond/bridge/info",
            "captiond/bridge/state",
            "captiond/wall/availability",
            "captiond/wall/caption",
        ];
        while !retained.is_empty() {
            let message = late.wait_for("a retained message", |message| message.retained);
            retained.retain(|topic| *topic != message.topic);
        }
        daemon.stop();
    }
}

#[test]
fn answers_an_mqtt_5_request_where_it_says() {
    for server in server::all() {
        let photos = color_photos();
        let client = Client::connect(server.port(), Protocol::V5, "asker", "#");
        let daemon = RunningDaemon::start(config(server.port(), Protocol::V5, photos.path()));
        client.wait_for_topic("captiond/wall/caption");
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
    for server in server::all() {
        for protocol in BOTH {
            let photos = color_photos();
            let client = Client::connect(server.port(), Protocol::V311, "asker", "captiond/#");
            let daemon = RunningDaemon::start(config(server.port(), protocol, photos.path()));
            client.wait_for_topic("captiond/wall/caption");
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
}

#[test]
fn errors_are_answered_as_errors_and_retained_questions_not_at_all() {
    for server in server::all() {
        let photos = color_photos();
        let client = Client::connect(server.port(), Protocol::V5, "asker", "#");
        client.publish("captiond/wall/ask", "an old question", true);
        let daemon = RunningDaemon::start(config(server.port(), Protocol::V5, photos.path()));
        client.wait_for_topic("captiond/wall/caption");
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
    let server = server::embedded();
    let photos = color_photos();
    let client = Client::connect(server.port(), Protocol::V5, "asker", "captiond/#");
    let daemon = RunningDaemon::start(config(server.port(), Protocol::V5, photos.path()));
    client.wait_for_topic("captiond/wall/caption");
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
    for server in server::all() {
        for protocol in BOTH {
            let photos = color_photos();
            let client = Client::connect(server.port(), protocol, "viewer", "captiond/#");
            let daemon = RunningDaemon::start(config(server.port(), protocol, photos.path()));
            client.wait_for_text("captiond/bridge/state", "online");
            client.wait_for_text("captiond/wall/availability", "online");
            daemon.stop();
            client.wait_for_text("captiond/wall/availability", "offline");
            client.wait_for_text("captiond/bridge/state", "offline");
        }
    }
}

#[test]
fn a_killed_daemon_is_declared_offline_by_the_broker() {
    for server in server::all() {
        for protocol in BOTH {
            let photos = color_photos();
            let client = Client::connect(server.port(), protocol, "viewer", "captiond/#");
            let mut child = child_daemon(&server, protocol, photos.path());
            client.wait_for_text("captiond/bridge/state", "online");
            child.kill().unwrap();
            child.wait().unwrap();
            client.wait_for_text("captiond/bridge/state", "offline");
            let late = Client::connect(server.port(), protocol, "late", "captiond/bridge/state");
            assert!(late.wait_for_text("captiond/bridge/state", "offline").retained);
        }
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
    let started = std::time::Instant::now();
    daemon.stop();
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
}

/// A daemon in a process of its own, which can be killed.
fn child_daemon(server: &Server, protocol: Protocol, photos: &std::path::Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "broker::child_daemon_of_the_kill_test", "--ignored", "--nocapture"])
        .env(PORT_VARIABLE, format!("{} {}", server.port(), protocol.as_str()))
        .env(PHOTOS_VARIABLE, photos)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "the child process of a_killed_daemon_is_declared_offline_by_the_broker"]
fn child_daemon_of_the_kill_test() {
    let Ok(server) = std::env::var(PORT_VARIABLE) else { return };
    let photos = std::path::PathBuf::from(std::env::var_os(PHOTOS_VARIABLE).unwrap());
    let (port, protocol) = server.split_once(' ').unwrap();
    let protocol = if protocol == "5" { Protocol::V5 } else { Protocol::V311 };
    let config = config(port.parse().unwrap(), protocol, &photos);
    captiond::daemon::run(&config, eyes(&Hold::default()), &captiond::shutdown::Shutdown::new()).unwrap();
}
