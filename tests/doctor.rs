//! `captiond doctor` on machines where something is wrong.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::server::{self, free_port};
use crate::support::{color_photos, shipped_bundle, skipped};

fn doctor(file: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_captiond"));
    command.args(["doctor", "--config"]).arg(file).args(more);
    command.env_remove("CAPTIOND_BUNDLE").env_remove("CAPTIOND_LOG").output().unwrap()
}

/// The verdict about each thing, and what was found.
fn findings(output: &Output) -> Vec<(String, String, String)> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let word = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let all: Vec<_> = lines
        .map(|line| {
            assert!(line["verdict"] == "ok" || line["advice"].is_string(), "no advice: {line}");
            (word(&line, "check"), word(&line, "verdict"), word(&line, "found"))
        })
        .collect();
    assert!(all.len() >= 3, "{text}");
    all
}

fn config(port: u16, mqtt: &str, cameras: &str) -> String {
    format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {port}\n{mqtt}\n{cameras}")
}

fn camera(name: &str, source: &str) -> String {
    format!("[[camera]]\nname = \"{name}\"\nsource = {{ {source} }}\n")
}

#[test]
fn where_all_is_well_nothing_fails() {
    if shipped_bundle().is_none() {
        return skipped("models/lite is not there");
    }
    let (dir, photos) = (tempfile::tempdir().unwrap(), color_photos());
    let file = dir.path().join("captiond.toml");
    for server in server::all() {
        let cameras = camera("yard", &format!("type = \"replay\", path = {:?}", photos.path()))
            + &camera("door", "type = \"mqtt\", topic = \"door/picture\"");
        fs::write(&file, config(server.port(), "queue_dir = \"queue\"", &cameras)).unwrap();
        let output = doctor(&file, &["--json"]);
        let all = findings(&output);
        assert!(all.iter().all(|(_, verdict, _)| verdict != "fail"), "{all:?}");
        assert_eq!(output.status.code(), Some(0));
        let checks: Vec<&str> = all.iter().map(|(check, ..)| check.as_str()).collect();
        let expected = [
            "clock",
            "time service",
            "configuration",
            "bundle",
            "memory",
            "broker",
            "queue",
            "camera yard",
            "camera door",
        ];
        assert_eq!(checks, expected);
        let text = String::from_utf8(doctor(&file, &[]).stdout).unwrap();
        assert!(text.contains("\nok    broker: 127.0.0.1:"), "{text}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_with_what_to_do_about_it() {
    if shipped_bundle().is_none() {
        return skipped("models/lite is not there");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("captiond.toml");
    fs::write(dir.path().join("occupied"), "").unwrap();
    let cameras = camera("gone", "type = \"v4l2\", device = \"/dev/video-that-is-not-there\"")
        + &camera("gate", &format!("type = \"http\", url = \"http://127.0.0.1:{}/x.jpg\"", free_port()));
    fs::write(&file, config(free_port(), "queue_dir = \"occupied/queue\"", &cameras)).unwrap();
    let output = doctor(&file, &["--json"]);
    let all = findings(&output);
    let failed: Vec<&str> =
        all.iter().filter(|(_, verdict, _)| verdict == "fail").map(|(check, ..)| check.as_str()).collect();
    assert_eq!(failed, ["broker", "queue", "camera gone", "camera gate"], "{all:?}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_broker_that_lets_nobody_in_or_nothing_through_is_told_apart_from_one_that_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let (file, acl) = (dir.path().join("captiond.toml"), dir.path().join("acl"));
    fs::write(&acl, "topic readwrite other/#\n").unwrap();
    let cameras = camera("door", "type = \"mqtt\", topic = \"other/picture\"");
    let Some(strict) = server::mosquitto_with(&format!("acl_file {}", acl.display())) else { return };
    let broker = |port: u16, mqtt: &str| {
        fs::write(&file, config(port, mqtt, &cameras)).unwrap();
        let all = findings(&doctor(&file, &["--json"]));
        all.into_iter().find(|(check, ..)| check == "broker").unwrap()
    };
    let (_, verdict, found) = broker(strict.port(), "");
    assert!(verdict == "fail" && found.contains("captiond/bridge/marker"), "{verdict}: {found}");
    assert_eq!(broker(strict.port(), "base_topic = \"other/captiond\"").1, "ok");
}

#[test]
fn a_configuration_with_problems_is_a_finding_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("captiond.toml");
    fs::write(&file, "[mqtt]\nport = 0\n").unwrap();
    let output = doctor(&file, &["--json"]);
    let all = findings(&output);
    let (_, verdict, found) = all.iter().find(|(check, ..)| check == "configuration").unwrap();
    assert!(verdict == "fail" && found.contains("captiond.toml:2: mqtt.port: must be 1 to 65535"), "{found}");
    assert_eq!(output.status.code(), Some(1));
}
