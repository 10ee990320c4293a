//! What must arrive does: brokers and daemons that are stopped and killed while captions are made.
//!
//! Each caption of a new scene has a number of its own: how many its camera has made so far.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use captiond::config::{Config, Protocol, QueueConfig};
use captiond::spool::{Limits, Spool};
use serde_json::Value;

use crate::support::durable::{DurableBroker, Heard, Recorder, Wire};
use crate::support::{Hold, RunningDaemon, color_photos, config, eyes, say, server, skipped, wait_until};

const LIMITS: Limits = Limits { bytes_max: 16 << 20, age_max: Duration::from_secs(3600) };
const PORT_VARIABLE: &str = "CAPTIOND_TEST_DELIVERY_PORT";
const PHOTOS_VARIABLE: &str = "CAPTIOND_TEST_DELIVERY_PHOTOS";
const QUEUE_VARIABLE: &str = "CAPTIOND_TEST_DELIVERY_QUEUE";

fn keeping(port: u16, photos: &Path, queue: &Path) -> Config {
    let mut config = config(port, Protocol::V5, photos);
    config.mqtt.queue = Some(QueueConfig { dir: queue.to_owned(), limits: LIMITS });
    config.mqtt.client_id = Some("captiond-keeper".to_owned());
    config
}

/// The number of a caption of a new scene.
fn number(payload: &Value) -> Option<u64> {
    (payload["changed"] == true).then(|| payload["counters"]["captioned"].as_u64())?
}

fn number_in(payload: &[u8]) -> Option<u64> {
    number(&serde_json::from_slice(payload).ok()?)
}

/// The captions of new scenes, without what a new subscription was shown.
fn scenes(recorder: &Recorder) -> Vec<(u64, Heard)> {
    let heard = recorder.heard().into_iter().filter(|heard| !heard.is_retained);
    heard.filter_map(|heard| Some((number(&heard.payload)?, heard))).collect()
}

/// Panics unless the first of each number come in order and the others are marked. How many were marked late, and how
/// many came again.
fn check_order(scenes: &[(u64, Heard)]) -> (usize, usize) {
    let (mut newest, mut seen, mut n_again) = (0, BTreeSet::new(), 0);
    for (number, heard) in scenes {
        if seen.insert(*number) {
            assert!(*number > newest, "{number} came after {newest}");
            newest = *number;
        } else {
            n_again += 1;
            assert!(
                heard.is_repeat || heard.payload["late"] == true,
                "{number} came twice and does not say so: {}",
                heard.payload
            );
        }
    }
    (scenes.iter().filter(|(_, heard)| heard.payload["late"] == true).count(), n_again)
}

struct Stream {
    broker: DurableBroker,
    wire: Wire,
    recorder: Recorder,
    daemon: RunningDaemon,
    _photos: tempfile::TempDir,
    _queue: tempfile::TempDir,
}

impl Stream {
    /// None, and a word about it, where Mosquitto is not installed.
    fn start() -> Option<Stream> {
        let Some(mut broker) = DurableBroker::new() else {
            skipped("mosquitto is not installed");
            return None;
        };
        broker.start();
        let (photos, queue) = (color_photos(), tempfile::tempdir().unwrap());
        let wire = Wire::start(broker.port, number_in);
        let recorder = Recorder::start(broker.port, "captiond/+/caption");
        let daemon = RunningDaemon::start(keeping(wire.port, photos.path(), queue.path()));
        Some(Stream { broker, wire, recorder, daemon, _photos: photos, _queue: queue })
    }

    fn newest(&self) -> u64 {
        scenes(&self.recorder).iter().map(|(number, _)| *number).max().unwrap_or(0)
    }

    /// Ends the broker in the middle of the stream and starts it again, so many times.
    fn interrupt(&mut self, times: u32, signal: &str) {
        for _ in 0..times {
            let seen = self.newest();
            wait_until("captions flow", || self.newest() > seen + 3);
            self.broker.end(signal);
            self.broker.start();
        }
        // What is made now comes last.
        let seen = self.newest();
        wait_until("captions flow again", || self.newest() > seen + 20);
    }

    /// Stops the daemon; everything that it has said is on its way to the recorder then.
    fn finish(self) -> (Vec<(u64, Heard)>, BTreeSet<u64>) {
        self.daemon.stop();
        let acknowledged = self.wire.acknowledged();
        let last = acknowledged.last().copied().unwrap_or(0);
        wait_until("the last caption arrives", || {
            scenes(&self.recorder).iter().any(|(number, _)| *number == last)
        });
        (scenes(&self.recorder), acknowledged)
    }
}

/// Every caption up to the last arrives when the broker is stopped in order.
fn survive_orderly_stops(times: u32) {
    let Some(mut stream) = Stream::start() else { return };
    stream.interrupt(times, "TERM");
    let (scenes, _) = stream.finish();
    let (n_late, n_again) = check_order(&scenes);
    let arrived: BTreeSet<u64> = scenes.iter().map(|(number, _)| *number).collect();
    let last = arrived.last().copied().unwrap();
    let lost: Vec<u64> = (1..=last).filter(|number| !arrived.contains(number)).collect();
    say(&format!(
        "{times} stops of the broker: {last} captions, {} lost, {n_late} late, {n_again} twice and marked",
        lost.len()
    ));
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(n_late > 0, "nothing was late: the broker was never missed");
}

/// What the broker had not acknowledged arrives; what it had and forgot is its own loss, and is counted.
fn survive_kills(times: u32) {
    let Some(mut stream) = Stream::start() else { return };
    stream.interrupt(times, "KILL");
    let (scenes, acknowledged) = stream.finish();
    let arrived: BTreeSet<u64> = scenes.iter().map(|(number, _)| *number).collect();
    let last = arrived.last().copied().unwrap();
    let (forgotten, lost): (Vec<u64>, Vec<u64>) = (1..=last)
        .filter(|number| !arrived.contains(number))
        .partition(|number| acknowledged.contains(number));
    say(&format!(
        "{times} kills of the broker: {last} captions, {} lost, {} acknowledged and forgotten",
        lost.len(),
        forgotten.len()
    ));
    assert!(lost.is_empty(), "not acknowledged, and lost: {lost:?}");
}

#[test]
fn no_caption_is_lost_when_the_broker_is_stopped_and_started() {
    survive_orderly_stops(3);
}

#[test]
#[ignore = "takes minutes"]
fn no_caption_is_lost_over_fifty_stops_of_the_broker() {
    survive_orderly_stops(50);
}

#[test]
fn what_the_broker_had_not_acknowledged_survives_its_kill() {
    survive_kills(2);
}

#[test]
#[ignore = "takes minutes"]
fn what_the_broker_had_not_acknowledged_survives_twenty_kills() {
    survive_kills(20);
}

/// A daemon in a process of its own, which can be killed.
fn start_child(port: u16, photos: &Path, queue: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "delivery::child_daemon", "--ignored", "--nocapture"])
        .env(PORT_VARIABLE, port.to_string())
        .env(PHOTOS_VARIABLE, photos)
        .env(QUEUE_VARIABLE, queue)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "the child process of the tests of this file"]
fn child_daemon() {
    let Ok(port) = std::env::var(PORT_VARIABLE) else { return };
    let [photos, queue] = [PHOTOS_VARIABLE, QUEUE_VARIABLE].map(|name| std::env::var_os(name).unwrap());
    let config = keeping(port.parse().unwrap(), Path::new(&photos), Path::new(&queue));
    captiond::daemon::run(&config, eyes(&Hold::default(), 1), &captiond::shutdown::Shutdown::new()).unwrap();
}

/// The captions in the queue of a daemon that is not running; that a camera came may wait among them.
fn queued(dir: &Path) -> Vec<Value> {
    let mut spool = Spool::open(dir, LIMITS, SystemTime::now()).unwrap();
    let (mut from, mut payloads) = (0, Vec::new());
    while let Some((number, record)) = spool.read(from).unwrap() {
        let start = record.iter().position(|byte| *byte == 0).unwrap() + 1;
        payloads.push(serde_json::from_slice::<Value>(&record[start..]).unwrap());
        from = number + 1;
    }
    payloads.retain(|payload| payload["caption"].is_string());
    payloads
}

fn bytes_of(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// While there is no broker the daemon is killed again and again; what its queue held arrives in the end.
fn survive_kills_of_the_daemon(times: u32) {
    let Some(mut broker) = DurableBroker::new() else { return skipped("mosquitto is not installed") };
    let (photos, queue) = (color_photos(), tempfile::tempdir().unwrap());
    let nowhere = server::free_port();
    let mut kept: Vec<Value> = Vec::new();
    for life in 0..times {
        let before = bytes_of(queue.path());
        let mut child = start_child(nowhere, photos.path(), queue.path());
        wait_until("captions are queued", || bytes_of(queue.path()) > before + 4000);
        child.kill().unwrap();
        child.wait().unwrap();
        let now = queued(queue.path());
        assert!(
            now.len() > kept.len() && now.starts_with(&kept),
            "life {life} lost what an earlier one had kept"
        );
        kept = now;
    }
    // Events wait in the queue, too, and have no number.
    kept.retain(|payload| payload["seq"].is_number());
    broker.start();
    let recorder = Recorder::start(broker.port, "captiond/+/caption");
    let mut child = start_child(broker.port, photos.path(), queue.path());
    let late = || -> Vec<Value> {
        let late = recorder.heard().into_iter().map(|heard| heard.payload);
        late.filter(|payload| payload["late"] == true).collect()
    };
    wait_until("what was queued arrives", || late().len() >= kept.len());
    child.kill().unwrap();
    child.wait().unwrap();
    let key = |payload: &Value| [&payload["ts"], &payload["seq"]].map(Clone::clone);
    let (kept, late): (Vec<_>, Vec<_>) = (kept.iter().map(key).collect(), late().iter().map(key).collect());
    say(&format!(
        "{times} kills of the daemon: {} captions were queued, {} arrived late",
        kept.len(),
        late.len()
    ));
    assert_eq!(late[..kept.len()], kept, "in order and whole");
}

#[test]
fn what_was_queued_survives_kills_of_the_daemon() {
    survive_kills_of_the_daemon(2);
}

#[test]
#[ignore = "takes a minute"]
fn what_was_queued_survives_twenty_kills_of_the_daemon() {
    survive_kills_of_the_daemon(20);
}
