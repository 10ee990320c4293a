//! Another configuration while the daemon runs.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use captiond::config::{CameraConfig, Config, Problems, Protocol};
use captiond::reload::ReloadRequest;
use serde_json::json;

use crate::support::client::Client;
use crate::support::{DEADLINE, RunningDaemon, color_photos, config, server, shipped_bundle, skipped};

/// A configuration that a test changes, and how the daemon reads it.
#[derive(Clone)]
struct File(Arc<Mutex<Result<Config, Problems>>>);

impl File {
    fn new(config: &Config) -> File {
        File(Arc::new(Mutex::new(Ok(config.clone()))))
    }

    fn start(&self, request: &ReloadRequest) -> RunningDaemon {
        let (file, config) = (self.clone(), self.0.lock().unwrap().clone().unwrap());
        RunningDaemon::start_reloadable(
            config,
            request.clone(),
            Box::new(move || file.0.lock().unwrap().clone()),
        )
    }

    fn set(&self, config: Result<Config, Problems>) {
        *self.0.lock().unwrap() = config;
    }
}

fn named(camera: &CameraConfig, name: &str) -> CameraConfig {
    CameraConfig { name: name.to_owned(), ..camera.clone() }
}

#[test]
fn cameras_come_and_go_while_the_others_and_the_connection_stay() {
    for server in server::all() {
        let photos = color_photos();
        let mut config = config(server.port(), Protocol::V5, photos.path());
        config.mqtt.client_id = Some("captiond-reload".to_owned());
        let first = config.cameras[0].clone();
        config.cameras.push(named(&first, "gone"));
        let (file, request) = (File::new(&config), ReloadRequest::default());
        let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
        let daemon = file.start(&request);
        viewer.wait_for_topic("captiond/gone/caption");
        viewer.wait_for_text("captiond/bridge/state", "online");
        let before = viewer.wait_for_topic("captiond/wall/caption").json()["seq"].as_u64().unwrap();

        config.cameras[1] = named(&first, "added");
        file.set(Ok(config.clone()));
        request.request();
        let event = viewer.wait_for("the reload", |m| {
            m.topic == "captiond/bridge/event" && m.json()["event_type"] == "config_reloaded"
        });
        assert_eq!(event.json().get("needs_restart"), None);
        assert_eq!(viewer.wait_for_topic("captiond/added/caption").json()["camera"], "added");
        viewer.wait_for_text("captiond/added/availability", "online");
        // What the broker kept of the other is taken away.
        for topic in ["captiond/gone/availability", "homeassistant/device/captiond_reload_gone/config"] {
            viewer.wait_for_text(topic, "");
        }
        let info = viewer.wait_for("the cameras that there are", |m| {
            m.topic == "captiond/bridge/info" && m.json()["cameras"][1]["camera"] == "added"
        });
        assert_eq!(info.json()["cameras"].as_array().unwrap().len(), 2);
        viewer.publish("captiond/added/ask", "what color is it?", false);
        assert_eq!(viewer.wait_for_topic("captiond/added/answer").json()["camera"], "added");
        let after = viewer.wait_for("a caption of the one that stayed", |m| {
            assert!(m.topic != "captiond/bridge/state" || m.payload == b"online", "the connection was lost");
            m.topic == "captiond/wall/caption" && m.json()["seq"].as_u64().unwrap() > before
        });
        assert_eq!(after.json()["camera"], "wall");
        daemon.stop();
        viewer.wait_for_text("captiond/bridge/state", "offline");
    }
}

#[test]
fn what_a_camera_is_asked_and_how_it_is_looked_at_changes_while_it_runs() {
    let (server, photos) = (server::embedded(), color_photos());
    let mut config = config(server.port(), Protocol::V5, photos.path());
    let (file, request) = (File::new(&config), ReloadRequest::default());
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let daemon = file.start(&request);
    viewer.wait_for_topic("captiond/wall/caption");
    let question = "[[camera.question]]\nid = \"color\"\nquestion = \"what color is it?\"\n";
    let text = format!("[[camera]]\nname = \"x\"\nsource = {{ type = \"mqtt\", topic = \"x\" }}\n{question}");
    config.cameras[0].standing = Config::parse(&text, Path::new("")).unwrap().cameras.remove(0).standing;
    config.cameras[0].prompt = "there is".to_owned();
    config.cameras[0].gate.min_interval = Duration::from_millis(50);
    config.mqtt.keep_alive = Duration::from_secs(77);
    file.set(Ok(config));
    request.request();
    let event = viewer.wait_for_topic("captiond/bridge/event");
    let event = if event.json()["event_type"] == "camera_up" {
        viewer.wait_for_topic("captiond/bridge/event")
    } else {
        event
    };
    assert_eq!(event.json()["needs_restart"], json!(["mqtt.keep_alive"]), "{}", event.json());
    viewer.wait_for_text("captiond/wall/prompt", "there is");
    viewer.wait_for_text("captiond/wall/interval", "0.05");
    assert!(viewer.wait_for_topic("captiond/wall/question/color").json()["answer"].is_string());
    daemon.stop();
}

#[test]
fn a_configuration_that_is_refused_changes_nothing_and_is_an_event() {
    let (server, photos) = (server::embedded(), color_photos());
    let config = config(server.port(), Protocol::V5, photos.path());
    let (file, request) = (File::new(&config), ReloadRequest::default());
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let daemon = file.start(&request);
    let before = viewer.wait_for_topic("captiond/wall/caption").json()["seq"].as_u64().unwrap();
    file.set(Err(Problems::one("mqtt.port", "must be 1 to 65535 (got 0)")));
    request.request();
    let event = viewer.wait_for("the refusal", |m| {
        m.topic == "captiond/bridge/event" && m.json()["event_type"] == "config_refused"
    });
    assert_eq!(event.json()["fault"], "mqtt.port: must be 1 to 65535 (got 0)");
    viewer.wait_for("captions go on", |m| {
        m.topic == "captiond/wall/caption" && m.json()["seq"].as_u64().unwrap() > before
    });
    daemon.stop();
}

/// Kills the process when a test ends before it does.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn systemd_hears_of_start_status_and_reload_by_sighup() {
    if shipped_bundle().is_none() {
        return skipped("models/lite is not there");
    }
    let (server, dir, photos) = (server::embedded(), tempfile::tempdir().unwrap(), color_photos());
    let systemd = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    systemd.set_read_timeout(Some(DEADLINE)).unwrap();
    let hear = |what: &str| loop {
        let mut buffer = [0; 4096];
        let n = systemd.recv(&mut buffer).unwrap_or_else(|e| panic!("waited for {what}: {e}"));
        let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
        if text.lines().any(|line| line.starts_with(what)) {
            return text;
        }
    };
    let file = dir.path().join("captiond.toml");
    let write = |more: &str| {
        let source =
            format!("source = {{ type = \"replay\", path = {:?}, interval = \"100ms\" }}", photos.path());
        let text = format!(
            "[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n[[camera]]\nname = \"wall\"\n{source}\n{more}",
            server.port()
        );
        fs::write(&file, text).unwrap();
    };
    write("");
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let child = Command::new(env!("CARGO_BIN_EXE_captiond"))
        .args(["run", "--config", file.to_str().unwrap()])
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = Killed(child);
    hear("READY=1");
    viewer.wait_for_topic("captiond/wall/caption");
    let status = loop {
        let status = hear("STATUS=");
        if status.contains("broker up") && status.contains("1/1") {
            break status;
        }
    };
    assert!(status.contains("1/1 cameras, ") && status.contains(" captions, broker up"), "{status}");
    let hang_up = || {
        let pid = rustix::process::Pid::from_raw(child.0.id() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        let reloading = hear("RELOADING=1");
        let at = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(at.parse::<u64>().unwrap() > 0);
        hear("READY=1");
    };
    write("prompt = \"there is\"\n");
    hang_up();
    viewer.wait_for_text("captiond/wall/prompt", "there is");
    write("rotate = 7\n");
    hang_up();
    let event = viewer.wait_for("the refusal", |m| {
        m.topic == "captiond/bridge/event" && m.json()["event_type"] == "config_refused"
    });
    let fault = format!("{}:7: camera[0].rotate: must be 0, 90, 180 or 270 (got 7)", file.display());
    assert_eq!(event.json()["fault"], fault);
}
