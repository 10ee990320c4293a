//! Metrics, health and pressure from outside, and how the log looks.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use captiond::config::Protocol;
use captiond::daemon::{self, Options};
use captiond::pressure::Paths;
use captiond::shutdown::Shutdown;

use crate::support::client::Client;
use crate::support::server::{self, free_port};
use crate::support::{DEADLINE, Hold, RunningDaemon, color_photos, config, eyes, wait_until};

fn address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// The whole answer to some bytes; none where nobody listens.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // It may be refused before all of it is written.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    Some(String::from_utf8(answer).unwrap())
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    exchange(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
}

fn value(metrics: &str, sample: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn metrics_and_health_are_told_while_the_daemon_runs() {
    let (server, photos, address) = (server::embedded(), color_photos(), address());
    let mut config = config(server.port(), Protocol::V5, photos.path());
    config.http = Some(address);
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let daemon = RunningDaemon::start(config);
    viewer.wait_for_topic("captiond/wall/caption");
    viewer.publish("captiond/wall/ask", "what color is it?", false);
    viewer.wait_for_topic("captiond/wall/answer");
    wait_until("it is ready", || get(address, "/readyz").is_some_and(|a| a.starts_with("HTTP/1.1 200 ")));
    let metrics = get(address, "/metrics").unwrap();
    let (head, body) = metrics.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    for sample in [
        "captiond_captioned_total{camera=\"wall\"}",
        "captiond_captured_total{camera=\"wall\"}",
        "captiond_camera_up{camera=\"wall\"}",
        "captiond_broker_up",
        "captiond_stage_seconds_count{stage=\"encode\"}",
        "captiond_stage_seconds_count{stage=\"total\"}",
        "captiond_stage_seconds_count{stage=\"answer\"}",
        "process_resident_memory_bytes",
    ] {
        assert!(value(body, sample).is_some_and(|value| value >= 1.0), "{sample} in\n{body}");
    }
    assert_eq!(value(body, "captiond_queue_messages"), Some(0.0));
    assert_eq!(value(body, "captiond_slow_interval_seconds"), Some(0.0));
    drop(server);
    let is_unready = || {
        get(address, "/readyz")
            .is_some_and(|a| a.contains("503") && a.contains("no connection to the broker"))
    };
    wait_until("it is not ready without a broker", is_unready);
    assert!(
        get(address, "/healthz").unwrap().starts_with("HTTP/1.1 200 "),
        "which is no reason to restart it"
    );
    drop(daemon);
    assert_eq!(get(address, "/healthz"), None, "nobody listens any more");
}

#[test]
fn hostile_requests_are_refused_and_silent_ones_hold_nobody_up_for_long() {
    let (server, photos, address) = (server::embedded(), color_photos(), address());
    let mut config = config(server.port(), Protocol::V5, photos.path());
    config.http = Some(address);
    let daemon = RunningDaemon::start(config);
    wait_until("it listens", || get(address, "/healthz").is_some());
    let long = [b"GET /".as_slice(), &[b'a'; 20_000]].concat();
    assert!(!exchange(address, &long).unwrap().contains("200 OK"));
    assert!(exchange(address, b"\xff\xfe\r\n\r\n").unwrap().contains(" 400 "));
    assert!(exchange(address, b"DELETE / HTTP/1.1\r\n\r\n").unwrap().contains(" 405 "));
    // More silent connections than are answered at a time.
    let silent: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(address).unwrap()).collect();
    let started = Instant::now();
    assert!(get(address, "/healthz").unwrap().contains("200 OK"));
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    drop(silent);
    daemon.stop();
}

#[test]
fn an_address_that_is_taken_ends_the_start_with_its_name() {
    let (photos, address) = (color_photos(), address());
    let _taken = std::net::TcpListener::bind(address).unwrap();
    let mut config = config(free_port(), Protocol::V5, photos.path());
    config.http = Some(address);
    let failed = daemon::run(&config, eyes(&Hold::default(), 1), &Shutdown::new()).unwrap_err();
    assert!(format!("{failed:#}").contains(&format!("listen on {address}")), "{failed:#}");
}

#[test]
fn short_memory_slows_captions_down_and_is_told_and_so_is_its_end() {
    let (server, photos, machine) = (server::embedded(), color_photos(), tempfile::tempdir().unwrap());
    let group = machine.path().join("group");
    fs::create_dir(&group).unwrap();
    fs::write(group.join("memory.max"), "1000000").unwrap();
    fs::write(group.join("memory.current"), "990000").unwrap();
    let pressure = Paths {
        thermal: machine.path().join("none"),
        cgroup: Some(group.clone()),
        memory_pressure: machine.path().join("none"),
    };
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let (shutdown, hold) = (Shutdown::new(), Hold::default());
    let (config, inner) = (config(server.port(), Protocol::V5, photos.path()), shutdown.clone());
    let running = thread::spawn(move || {
        daemon::run_with(&config, eyes(&hold, 1), &inner, Options { pressure, ..Options::default() })
    });
    let told = |event_type: &'static str| {
        viewer.wait_for(event_type, |m| {
            m.topic == "captiond/bridge/event" && m.json()["event_type"] == event_type
        })
    };
    assert_eq!(told("slowed").json()["fault"], "1 of 1 MiB of memory are in use");
    let seq = || viewer.wait_for_topic("captiond/wall/caption").json()["seq"].as_u64().unwrap();
    // Ten frames a second come, and one is looked at; those of before are still to be read.
    let mut last = seq();
    wait_until("frames are passed over", || {
        let former = std::mem::replace(&mut last, seq());
        last >= former + 8
    });
    fs::write(group.join("memory.current"), "100000").unwrap();
    told("recovered");
    shutdown.request();
    running.join().unwrap().unwrap();
}

#[test]
fn the_log_is_json_where_it_is_asked_for_and_a_wrong_format_is_a_usage_error() {
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_captiond"));
        command.args(args).env_remove("CAPTIOND_LOG").env_remove("CAPTIOND_LOG_FORMAT").output().unwrap()
    };
    let photo = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo");
    let output = run(&["--log", "info", "--log-format", "json", "caption", photo]);
    if output.status.code() == Some(0) {
        let text = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(
            lines.iter().any(|line| line["message"] == "bundle loaded" && line["level"] == "info"),
            "{text}"
        );
    } else {
        crate::support::skipped("models/lite is not there");
    }
    let output = run(&["--log-format", "xml", "caption", photo]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("must be text or json"));
}
