//! The command lines of `docs/mqtt.md` and the flow of `examples/node-red`, run as they stand there against a real
//! broker and a daemon.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use captiond::config::Protocol;
use captiond::source::SourceConfig;
use serde_json::Value;

use crate::support::server::{self, Server};
use crate::support::{DEADLINE, RunningDaemon, color_photos, config, find, skipped};

/// The lines of the document's block "Try it".
fn recipes() -> Vec<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/mqtt.md")).unwrap();
    let section = text.split("\n## Try it\n").nth(1).expect("docs/mqtt.md has a section \"Try it\"");
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    block.lines().map(str::to_owned).collect()
}

/// A broker, and a daemon with the camera of the document, which publishes a caption once and then only what it is
/// asked for.
struct Site {
    server: Server,
    _daemon: RunningDaemon,
    _photos: tempfile::TempDir,
}

impl Site {
    fn start() -> Option<Site> {
        if ["mosquitto_sub", "mosquitto_pub", "mosquitto_rr"].iter().any(|name| find(name).is_none()) {
            skipped("the clients of mosquitto are not installed");
            return None;
        }
        let (server, photos) = (server::mosquitto()?, color_photos());
        let mut config = config(server.port(), Protocol::V5, photos.path());
        let camera = &mut config.cameras[0];
        camera.name = "porch".to_owned();
        (camera.gate.heartbeat, camera.gate.refresh) = (Duration::from_secs(3600), Duration::from_secs(3600));
        let SourceConfig::Replay(replay) = &mut camera.source else { panic!("not a replay") };
        replay.interval = Duration::from_millis(100);
        for color in ["2-green.png", "3-blue.png"] {
            std::fs::remove_file(photos.path().join(color)).unwrap();
        }
        Some(Site { server, _daemon: RunningDaemon::start(config), _photos: photos })
    }

    /// Starts a line of the document with this broker in the place of the document's.
    fn shell(&self, line: &str) -> Process {
        assert!(line.contains(" -h localhost "), "{line}: names no host that could be replaced");
        let line = line.replace(" -h localhost ", &format!(" -h 127.0.0.1 -p {} ", self.server.port()));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]).stdout(Stdio::piped()).stderr(Stdio::null());
        Process(command.spawn().unwrap())
    }
}

/// A running command line; it ends when dropped.
struct Process(Child);

impl Process {
    /// What it writes until it ends well by itself.
    fn output(mut self, deadline: Instant) -> Result<String, String> {
        while self.0.try_wait().unwrap().is_none() {
            if Instant::now() >= deadline {
                return Err("does not end".to_owned());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let status = self.0.wait().unwrap();
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        if status.success() { Ok(text) } else { Err(format!("{status}: {text}")) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The lines of a `mosquitto_sub -v`: topics and payloads.
struct Watcher {
    lines: Receiver<(String, String)>,
    _process: Process,
}

impl Watcher {
    fn start(site: &Site, line: &str) -> Watcher {
        let mut process = site.shell(line);
        let output = BufReader::new(process.0.stdout.take().unwrap());
        let (lines_tx, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let (topic, payload) = line.split_once(' ').unwrap_or((&line, ""));
                if lines_tx.send((topic.to_owned(), payload.to_owned())).is_err() {
                    return;
                }
            }
        });
        Watcher { lines, _process: process }
    }

    /// The payload of the next message on this topic.
    fn wait_for(&self, topic: &str, deadline: Instant) -> Result<String, String> {
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((found, payload)) if found == topic => return Ok(payload),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err(format!("nothing came on {topic}")),
                Err(RecvTimeoutError::Disconnected) => return Err("mosquitto_sub has ended".to_owned()),
            }
        }
    }
}

/// The argument after a flag of a line; quoted ones lose their quotes.
fn argument<'a>(line: &'a str, flag: &str) -> &'a str {
    let rest = line.split(&format!(" {flag} ")).nth(1).unwrap_or_else(|| panic!("{line}: has no {flag}"));
    match rest.strip_prefix('\'') {
        Some(quoted) => quoted.split('\'').next().unwrap(),
        None => rest.split(' ').next().unwrap(),
    }
}

/// An answer to this request, not an error.
fn check_answer(text: &str, request: &str) -> Result<(), String> {
    let answer: Value = serde_json::from_str(text).map_err(|e| format!("{text:?} is not JSON: {e}"))?;
    let request: Value = serde_json::from_str(request).unwrap_or_default();
    match answer.get("answer") {
        Some(_) if answer.get("transaction") == request.get("transaction") => Ok(()),
        _ => Err(format!("{answer} is no answer to {request}")),
    }
}

/// Runs one line and looks for what it is there for.
fn try_recipe(site: &Site, watcher: &Watcher, line: &str, deadline: Instant) -> Result<(), String> {
    let output = site.shell(line).output(deadline)?;
    let topic = argument(line, "-t");
    match line.split(' ').next() {
        Some("mosquitto_rr") => check_answer(output.trim(), argument(line, "-m")),
        Some("mosquitto_sub") if output.contains("\"caption\"") => Ok(()),
        Some("mosquitto_pub") => {
            let request = argument(line, "-m");
            let (camera, command) = topic.rsplit_once('/').unwrap();
            match command {
                "ask" => check_answer(&watcher.wait_for(&format!("{camera}/answer"), deadline)?, request),
                "describe" => watcher.wait_for(&format!("{camera}/caption"), deadline).map(drop),
                "set" => {
                    let found = watcher.wait_for(camera, deadline)?;
                    if found == request { Ok(()) } else { Err(format!("{camera} is {found}")) }
                }
                _ => Err(format!("nothing listens on {topic}")),
            }
        }
        _ => Err(format!("unexpected output {output:?}")),
    }
}

#[test]
fn every_command_line_of_docs_mqtt_md_does_what_it_is_there_for() {
    let Some(site) = Site::start() else { return };
    let deadline = Instant::now() + DEADLINE;
    let recipes = recipes();
    assert!(recipes.len() >= 7 && recipes[0].starts_with("mosquitto_sub "), "{recipes:?}");
    let watcher = Watcher::start(&site, &recipes[0]);
    watcher.wait_for("captiond/porch/caption", deadline).unwrap();
    for line in &recipes[1..] {
        try_recipe(&site, &watcher, line, deadline).unwrap_or_else(|why| panic!("{line}\n{why}"));
    }
}

#[test]
fn a_command_line_that_gets_no_answer_is_found_out() {
    let Some(site) = Site::start() else { return };
    let watcher = Watcher::start(&site, "mosquitto_sub -h localhost -v -t 'captiond/#'");
    watcher.wait_for("captiond/porch/caption", Instant::now() + DEADLINE).unwrap();
    for line in [
        "mosquitto_rr -V 5 -h localhost -t captiond/porch/asks -e answers/me -m '{\"question\": \"a dog?\"}'",
        "mosquitto_rr -V 5 -h localhost -t captiond/moat/ask -e answers/me -m '{\"question\": \"a dog?\"}'",
        "mosquitto_pub -h localhost -t captiond/porch/asks -m '{\"question\": \"a dog?\"}'",
        "mosquitto_pub -h localhost -t captiond/porch/interval/set -m soon",
        "mosquitto_sub -h localhost -C 1 -t captiond/moat/caption",
        "mosquitto_pub -h localhost -t captiond/porch/ask -m 'a dog?' --no-such-option",
    ] {
        let outcome = try_recipe(&site, &watcher, line, Instant::now() + Duration::from_secs(1));
        assert!(outcome.is_err(), "{line}");
    }
}

#[test]
fn the_node_red_flow_is_whole_and_speaks_of_our_topics() {
    let text = include_str!("../examples/node-red/flows.json");
    let nodes: Vec<Value> = serde_json::from_str(text).unwrap();
    let text_of = |node: &Value, key: &str| node[key].as_str().unwrap_or_default().to_owned();
    let ids: Vec<_> = nodes.iter().map(|node| text_of(node, "id")).collect();
    for node in &nodes {
        let wires = node["wires"].as_array().into_iter().flatten().flat_map(|ends| ends.as_array().unwrap());
        let broker = node.get("broker").filter(|_| node["type"] != "mqtt-broker");
        for end in wires.chain(broker).chain(node.get("z")) {
            assert!(ids.contains(&end.as_str().unwrap().to_owned()), "{end} is no node");
        }
    }
    let topics = captiond::mqtt::topic::Topics::new("captiond");
    let heard: Vec<_> =
        nodes.iter().filter(|n| n["type"] == "mqtt in").map(|n| text_of(n, "topic")).collect();
    assert_eq!(heard, [topics.caption("+"), "node-red/captiond/answers".to_owned(), topics.answer("porch")]);
    let asks = nodes.iter().filter(|node| text_of(node, "func").contains(&topics.ask("porch")));
    assert_eq!(asks.count(), 2, "one function asks with MQTT 5 and one with 3.1.1");
}

/// `cargo test --release node_red -- --ignored`
#[test]
#[ignore = "installs Node-RED from the npm registry"]
fn node_red_matches_every_answer_to_its_question() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/node_red.py");
    let mut command = Command::new("python3");
    let output = command.arg(script).arg("--captiond").arg(env!("CARGO_BIN_EXE_captiond")).output();
    let Ok(output) = output else { return skipped("python3 is not installed") };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    if let Some(why) = said.strip_prefix("skipped: ") {
        skipped(why.trim());
    }
}
