//! The executable from outside: exit codes, streams, and the real bundle where there is one.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use captiond::config::{Config, Protocol};
use captiond::demo::photos;
use captiond::source::replay::Photo;
use serde_json::Value;

use crate::support::client::Client;
use crate::support::server;
use crate::support::{color_photos, shipped_bundle, skipped};

fn captiond(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_captiond"));
    command.args(args).env_remove("CAPTIOND_BUNDLE").env_remove("CAPTIOND_LOG");
    command
}

fn run(args: &[&str]) -> Output {
    captiond(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json_lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The photos of the demonstration as files.
fn photo_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for photo in photos::all() {
        let Photo::Embedded { name, bytes } = photo else { unreachable!() };
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

#[test]
fn a_wrong_command_line_is_2_and_an_invalid_configuration_78() {
    assert_eq!(run(&["fly"]).status.code(), Some(2));
    assert_eq!(run(&["caption"]).status.code(), Some(2));
    assert_eq!(run(&["demo", "--count", "0"]).status.code(), Some(2));
    assert_eq!(run(&["--log", "captiond=loud", "check", "--config", "x"]).status.code(), Some(2));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("captiond.toml");
    fs::write(&file, "[mqtt]\nport = 0\n[[camera]]\nname = \"Porch\"\n").unwrap();
    for command in ["run", "check"] {
        let output = run(&[command, "--config", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
        for problem in [
            "captiond.toml:2: mqtt.port: must be 1 to 65535",
            "camera[0].name",
            "camera[0].source: is missing",
        ] {
            assert!(stderr(&output).contains(problem), "{}", stderr(&output));
        }
        assert!(output.stdout.is_empty());
    }
    assert_eq!(run(&["run", "--config", "/nonexistent.toml"]).status.code(), Some(78));
}

#[test]
fn the_reference_that_is_printed_is_valid_as_it_stands_and_the_schema_is_json() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("captiond.toml");
    let reference = run(&["config", "reference"]);
    assert_eq!(reference.status.code(), Some(0), "{}", stderr(&reference));
    fs::write(&file, &reference.stdout).unwrap();
    let problems = Config::load(&file).err().map(|problems| problems.to_string());
    assert_eq!(problems, None);
    if shipped_bundle().is_some() {
        let checked = run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
    }
    let schema: Value = serde_json::from_slice(&run(&["config", "schema"]).stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn a_missing_bundle_is_a_failure_that_names_it() {
    let output = run(&["caption", "photo.jpg", "--bundle", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nonexistent"), "{}", stderr(&output));
    let output = captiond(&["caption", "photo.jpg"]).env("CAPTIOND_BUNDLE", "/elsewhere").output().unwrap();
    assert!(stderr(&output).contains("/elsewhere"), "{}", stderr(&output));
}

#[test]
fn captions_a_folder_as_json_lines_in_name_order_and_survives_a_broken_photo() {
    if shipped_bundle().is_none() {
        return skipped("models/lite is not there");
    }
    let dir = photo_folder();
    fs::write(dir.path().join("broken.JPG"), b"garbage").unwrap();
    fs::write(dir.path().join("notes.txt"), b"not a photo").unwrap();
    // From another folder than the workspace, with the folder given with a slash.
    let given = format!("{}/", dir.path().display());
    let output = captiond(&["caption", &given, "--json"]).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "one photo failed: {}", stderr(&output));
    let lines = json_lines(&output);
    let names: Vec<_> = lines.iter().map(|line| line["image"].as_str().unwrap().to_owned()).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(names, sorted);
    assert_eq!(lines.len(), photos::all().len() + 1);
    for line in &lines {
        let image = line["image"].as_str().unwrap();
        assert!(image.starts_with(&given), "{image}");
        if image.ends_with("broken.JPG") {
            assert!(line["error"].is_string() && line.get("caption").is_none());
        } else {
            assert!(!line["caption"].as_str().unwrap().is_empty());
            assert!((0.0..=1.0).contains(&line["score"].as_f64().unwrap()));
            assert!(line["latency_ms"]["total"].as_f64().unwrap() > 0.0);
        }
    }
}

#[test]
fn asks_labels_and_measures() {
    if shipped_bundle().is_none() {
        return skipped("models/lite is not there");
    }
    let dir = photo_folder();
    let cat = dir.path().join("cat.jpg");
    let cat = cat.to_str().unwrap();
    let output = run(&["ask", cat, "Is there a cat?", "--choices", "yes,no", "--json"]);
    let answer = &json_lines(&output)[0];
    assert!(["yes", "no"].contains(&answer["answer"].as_str().unwrap()), "{answer}");
    let output = run(&["label", cat, "--labels", "a car on a street,a cat", "--json"]);
    assert_eq!(json_lines(&output)[0]["labels"][0]["label"], "a cat", "{}", stderr(&output));
    let output = run(&["bench", cat, "--runs", "2", "--json"]);
    let report = &json_lines(&output)[0];
    for stage in ["decode", "preprocess", "encode", "caption", "answer"] {
        assert!(report["latency_ms"][stage]["p50"].as_f64().unwrap() >= 0.0, "{report}");
    }
    assert!(report["rss_peak_bytes"].as_u64().unwrap() > 0 && report["bundle_bytes"].as_u64().unwrap() > 0);
}

/// Kills the process when a test ends before it does.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn daemon_config(dir: &Path, photos: &Path, port: u16, interval: Duration) -> String {
    let file = dir.join("captiond.toml");
    let text = format!(
        "[mqtt]\nhost = \"127.0.0.1\"\nport = {port}\n[[camera]]\nname = \"yard\"\n\
         source = {{ type = \"replay\", path = \"{}\", interval = \"{}ms\" }}\ngate = {{ enabled = false }}\n",
        photos.display(),
        interval.as_millis()
    );
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn the_daemon_runs_from_its_file_with_the_shipped_bundle() {
    if shipped_bundle().is_none() {
        return skipped("models/lite is not there");
    }
    for server in server::all() {
        let (dir, photos) = (tempfile::tempdir().unwrap(), photo_folder());
        let client = Client::connect(server.port(), Protocol::V5, "viewer", "#");
        let file = daemon_config(dir.path(), photos.path(), server.port(), Duration::from_millis(500));
        let output = run(&["check", "--config", &file]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains("camera yard: replay"));
        let mut child = Killed(captiond(&["run", "--config", &file]).stderr(Stdio::null()).spawn().unwrap());
        client.wait_for_text("captiond/bridge/state", "online");
        let caption = client.wait_for_topic("captiond/yard/caption").json();
        assert!(!caption["caption"].as_str().unwrap().is_empty());
        client.request("captiond/yard/ask", r#"{"question": "is there a person?"}"#, "viewer/1", b"c-1");
        let message = client.wait_for_topic("viewer/1");
        assert_eq!(message.correlation.as_deref(), Some(&b"c-1"[..]));
        assert!(message.json()["answer"].is_string());
        child.0.kill().unwrap();
        client.wait_for_text("captiond/bridge/state", "offline");
    }
}

/// Many photos through the real daemon: `CAPTIOND_SOAK_PHOTOS=DIR cargo test --release soak -- --ignored`.
#[test]
#[ignore = "takes minutes; scripts/soak.sh runs it"]
fn soak_captions_every_photo_once_a_pass_and_memory_stays() {
    let Some(photos) = std::env::var_os("CAPTIOND_SOAK_PHOTOS") else {
        return skipped("CAPTIOND_SOAK_PHOTOS names no folder");
    };
    if shipped_bundle().is_none() {
        return skipped("models/lite is not there");
    }
    let photos = Path::new(&photos);
    let n_photos = captiond::photo::list(photos).unwrap().len();
    let interval = std::env::var("CAPTIOND_SOAK_INTERVAL_MS").map_or(400, |ms| ms.parse().unwrap());
    let (server, dir) = (server::embedded(), tempfile::tempdir().unwrap());
    let client = Client::connect(server.port(), Protocol::V5, "viewer", "captiond/yard/caption");
    let file = daemon_config(dir.path(), photos, server.port(), Duration::from_millis(interval));
    let child = Killed(captiond(&["run", "--config", &file]).spawn().unwrap());
    let rss = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
    };
    let (mut seen, mut last_seq, mut warm) = (std::collections::BTreeMap::<String, u32>::new(), 0, 0);
    let mut overwritten = 0;
    for n in 1..=n_photos as u64 {
        let caption = client.wait_for_topic("captiond/yard/caption").json();
        let seq = caption["seq"].as_u64().unwrap();
        assert!(seq > last_seq, "frame {seq} was captioned after frame {last_seq}");
        last_seq = seq;
        *seen.entry(caption["file"].as_str().unwrap().to_owned()).or_default() += 1;
        overwritten = caption["counters"]["overwritten"].as_u64().unwrap();
        if n == n_photos as u64 / 5 {
            warm = rss();
        }
    }
    let (end, twice) = (rss(), seen.values().filter(|times| **times > 1).count());
    println!("{n_photos} photos, {overwritten} overwritten, RSS {warm} kB warm, {end} kB at the end");
    assert_eq!((overwritten, twice, seen.len()), (0, 0, n_photos), "give it a longer interval");
    assert!(end <= warm + warm / 20, "memory grew from {warm} kB to {end} kB");
}

#[test]
fn every_configuration_in_the_documents_is_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("photos")).unwrap();
    fs::write(dir.path().join("gate-password"), "secret\n").unwrap();
    let mut n_blocks = 0;
    for name in ["README.md", "docs/cameras.md", "docs/mqtt.md"] {
        let text = fs::read_to_string(root.join(name)).unwrap();
        for block in text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            n_blocks += 1;
            let problems = Config::parse(block, dir.path()).err().map(|e| e.to_string()).unwrap_or_default();
            // A build without the feature cannot say more of such a source.
            let lacks = |line: &&str| line.contains("needs a build with the feature");
            assert_eq!(problems.lines().find(|line| !lacks(line)), None, "{name}:\n{block}");
        }
    }
    assert!(n_blocks >= 3, "only {n_blocks} configurations were found");
    for name in [
        "examples/desk.toml",
        "examples/photos.toml",
        "examples/fleet/worker.toml",
        "packaging/captiond.toml",
    ] {
        let config = Config::load(&root.join(name));
        assert!(config.is_ok(), "{name}: {}", config.unwrap_err());
    }
}

#[test]
fn the_color_photos_of_these_tests_decode() {
    let dir = color_photos();
    for path in captiond::photo::list(dir.path()).unwrap() {
        assert_eq!(captiond::photo::decode(&fs::read(path).unwrap()).unwrap().dimensions(), (64, 48));
    }
}
