//! What strangers at the broker can do to the daemon: garbage on every topic that it listens to, floods, and access rules
//! that forbid it to speak.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use caption::{Answer, Caption, CaptionError, ImageView, Question};
use captiond::config::{CameraConfig, Config, Protocol};
use captiond::daemon::Eyes;
use captiond::pipeline::Vision;
use captiond::shutdown::Shutdown;
use engine::Tensor;
use image::RgbImage;
use rand::{Rng, SeedableRng};
use rumqttc::v5::mqttbytes::v5::PublishProperties;

use crate::support::TEXT;
use crate::support::client::Client;
use crate::support::server::{self, Server};
use crate::support::{ColorVision, Hold, color_photos, config, wait_until};

const SITE_VARIABLE: &str = "CAPTIOND_TEST_HOSTILE";
const BOTH: [Protocol; 2] = [Protocol::V5, Protocol::V311];
/// How long an answer takes: a flood must find a queue that is full.
const ANSWER: Duration = Duration::from_millis(4);
/// What the daemon may grow by, whatever is sent: queues, and the buffers of the library for packets of a quarter MiB.
const GROWTH_MAX: u64 = 48 << 20;
/// Larger packets the daemon does not take.
const PACKET: usize = 256 << 10;
/// Longest topic of the protocol.
const TOPIC: usize = 65_535;

/// Sees colors, and takes its time for answers.
struct SlowVision(ColorVision);

impl Vision for SlowVision {
    fn preprocess(&self, image: &RgbImage) -> Tensor {
        self.0.preprocess(image)
    }

    fn is_doubtful(&self, pixels: &Tensor) -> bool {
        self.0.is_doubtful(pixels)
    }

    fn encode(&mut self, pixels: &Tensor) -> Result<ImageView, CaptionError> {
        self.0.encode(pixels)
    }

    fn caption(&mut self, view: &ImageView, opening: &str) -> Result<Caption, CaptionError> {
        self.0.caption(view, opening)
    }

    fn answer(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError> {
        std::thread::sleep(ANSWER);
        self.0.answer(view, question)
    }

    fn logit_rows(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, CaptionError> {
        self.0.logit_rows(texts)
    }
}

/// Two cameras, `wall` and `gate`, with everything that listens switched on.
fn watched(port: u16, protocol: Protocol, photos: &Path) -> Config {
    let mut config = config(port, protocol, photos);
    let wall = config.cameras[0].clone();
    config.cameras.push(CameraConfig { name: "gate".to_owned(), ..wall });
    config.mqtt.client_id = Some("captiond-hostile".to_owned());
    config.mqtt.homie = Some("homie".to_owned());
    config
}

/// A daemon in a process of its own: its memory and its log are nobody else's.
struct Daemon {
    child: Child,
    log: std::path::PathBuf,
    protocol: Protocol,
    _photos: tempfile::TempDir,
}

impl Daemon {
    fn start(server: &Server, protocol: Protocol) -> Daemon {
        let photos = color_photos();
        let log = photos.path().join("log");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hostile::child_daemon_of_the_hostile_tests", "--ignored", "--nocapture"])
            .env(
                SITE_VARIABLE,
                format!("{} {} {}", server.port(), protocol.as_str(), photos.path().display()),
            )
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Daemon { child, log, protocol, _photos: photos }
    }

    fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn count(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    fn assert_well(&mut self, before: u64) {
        assert!(self.child.try_wait().unwrap().is_none(), "the daemon has ended");
        assert_eq!(self.count("panic"), 0, "a panic is in the log");
        let after = self.rss();
        assert!(
            after <= before + GROWTH_MAX,
            "{:?}: memory grew from {before} to {after} bytes",
            self.protocol
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
#[ignore = "the child process of the tests of this file"]
fn child_daemon_of_the_hostile_tests() {
    let Ok(site) = std::env::var(SITE_VARIABLE) else { return };
    let mut site = site.splitn(3, ' ');
    let [port, protocol, photos] = [(); 3].map(|()| site.next().unwrap());
    let protocol = if protocol == "5" { Protocol::V5 } else { Protocol::V311 };
    captiond::logging::start(captiond::mqtt::client::LOG_FILTER, TEXT).unwrap();
    let config = watched(port.parse().unwrap(), protocol, Path::new(photos));
    let vision = SlowVision(ColorVision { hold: Hold::default() });
    let eyes = Eyes::shared(Box::new(vision), "color@00000000".to_owned(), config.cameras.len());
    captiond::daemon::run(&config, eyes, &Shutdown::new()).unwrap();
}

/// Topics on which the daemon takes wishes, and some that only look like it.
fn topics() -> Vec<String> {
    let mut topics: Vec<String> = [
        "wall/ask",
        "wall/describe",
        "wall/enabled/set",
        "wall/interval/set",
        "wall/prompt/set",
        "wall/volume/set",
        "wall/question/x/set",
        "wall/label/x/set",
        "wall/rule/x/set",
        "wall/poem/x/set",
        "wall/question/X y/set",
        "bridge/request/health_check",
        "bridge/request/republish",
        "bridge/request/reboot",
        "/ask",
        "//ask",
        "wall/ask/extra",
        "moat/ask",
        "moat/describe",
        "bridge/ask",
        "bridge/set",
        "/enabled/set",
        "///set",
        "wall/question//set",
        "\u{202e}llaw/ask",
        "wall%2fask/ask",
    ]
    .map(|topic| format!("captiond/{topic}"))
    .to_vec();
    for property in
        ["question/ask", "control/describe", "control/enabled", "control/prompt", "caption/text", "x/y"]
    {
        topics.push(format!("homie/5/captiond-hostile-wall/{property}/set"));
    }
    topics.push("homie/5/captiond-hostile-/$description".to_owned());
    for (start, end) in
        [("captiond/", "/ask"), ("captiond/bridge/request/", ""), ("captiond/wall/question/", "/set")]
    {
        let name = "x".repeat(TOPIC - start.len() - end.len());
        topics.push(format!("{start}{name}{end}"));
        topics.push(format!("{start}{}{end}", "a/".repeat(100)));
    }
    topics
}

fn payloads() -> Vec<Vec<u8>> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut payloads: Vec<Vec<u8>> =
        [1, 16, 1000, 8192].map(|n| (0..n).map(|_| random.random()).collect()).to_vec();
    payloads.extend([
        Vec::new(),
        b"\0".to_vec(),
        b"{".to_vec(),
        b"null".to_vec(),
        b"{\"question\": null, \"transaction\": {}}".to_vec(),
        b"{\"question\": \"\\ud800\"}".to_vec(),
        b"{\"question\": \"q\", \"deadline_ms\": 18446744073709551615}".to_vec(),
        b"{\"question\": \"q\", \"every\": \"99999999999999999999y\"}".to_vec(),
        b"{\"text\": \"t\", \"threshold\": 1e999}".to_vec(),
        b"\xff\xfe\xf8".to_vec(),
        "\u{202e}\u{feff}\u{1f980}".repeat(50).into_bytes(),
        b"[".repeat(4000),
        b"[".repeat(100_000),
        [b"{\"question\": ".to_vec(), b"[".repeat(100_000)].concat(),
        b"{\"a\":".repeat(1500),
        vec![b' '; 150 << 10],
    ]);
    payloads
}

/// Asks until an answer comes: over 3.1.1 what came while the daemon was away is lost.
fn assert_answers(client: &Client, transaction: &str) {
    let question = format!(r#"{{"question": "what color?", "transaction": "{transaction}"}}"#);
    wait_until("a question is answered", || {
        client.publish("captiond/gate/ask", question.as_str(), false);
        let is_ours = |m: &crate::support::client::Message| {
            m.topic == "captiond/gate/answer"
                && m.json()["transaction"] == transaction
                && m.json()["answer"].is_string()
        };
        client.poll(Duration::from_secs(2), is_ours).is_some()
    });
}

#[test]
fn garbage_on_every_topic_stops_and_fills_nothing() {
    for protocol in BOTH {
        let Some(server) = server::mosquitto() else { return };
        let stranger = Client::connect(server.port(), protocol, "stranger", "captiond/gate/answer");
        stranger.publish("captiond/wall/ask", "an old question", true);
        stranger.publish("captiond/wall/enabled/set", "OFF", true);
        let mut daemon = Daemon::start(&server, protocol);
        assert_answers(&stranger, "before");
        let before = daemon.rss();
        for topic in topics() {
            for payload in payloads() {
                stranger.publish(&topic, payload, false);
            }
        }
        if protocol == Protocol::V5 {
            let odd = ["captiond/gate/ask", "a/#", "$SYS/x", &"r/".repeat(150), &"r".repeat(60_000)];
            for response_topic in odd {
                let properties = PublishProperties {
                    response_topic: Some(response_topic.to_owned()),
                    correlation_data: Some(vec![7; 60_000].into()),
                    user_properties: vec![("k".repeat(1000), "v".repeat(1000)); 50],
                    ..PublishProperties::default()
                };
                // A broker may hang up on whoever names such a topic.
                let odd = Client::connect(server.port(), protocol, "odd", "nothing");
                odd.publish_with("captiond/wall/ask", b"why?".to_vec(), properties);
            }
        }
        assert_answers(&stranger, "after");
        assert_eq!(
            daemon.count("retrying"),
            0,
            "{protocol:?}: a message has cost the connection\n{}",
            daemon.log()
        );
        stranger.publish("captiond/wall/ask", vec![b'x'; 3 * PACKET], false);
        assert_answers(&stranger, "after one that is too large");
        let n_lost = if protocol == Protocol::V5 { 0 } else { 1 };
        // Homie has a connection of its own, and hears no questions of the other.
        assert_eq!(
            daemon.count("no broker, retrying"),
            n_lost,
            "3.1.1 cannot tell a broker what is too large"
        );
        daemon.assert_well(before);
    }
}

#[test]
fn a_flood_of_questions_is_answered_one_by_one_and_captions_go_on() {
    const PER_SECOND: u32 = 1000;
    for protocol in BOTH {
        // Else the broker itself would drop what the daemon has not taken yet.
        let Some(server) = server::mosquitto_with("max_queued_messages 0\n") else { return };
        let asker = Client::connect(server.port(), protocol, "asker", "captiond/wall/answer");
        let viewer = Client::connect(server.port(), protocol, "viewer", "captiond/+/caption");
        let mut daemon = Daemon::start(&server, protocol);
        assert_answers(&Client::connect(server.port(), protocol, "first", "captiond/gate/answer"), "before");
        let before = daemon.rss();
        let is_enough = AtomicBool::new(false);
        let (n_asked, n_answers, n_busy) = std::thread::scope(|scope| {
            let is_enough = &is_enough;
            let asking = scope.spawn(move || {
                let began = Instant::now();
                let (mut n_asked, mut missing) = (0_u32, BTreeSet::new());
                let (mut n_answers, mut n_busy) = (0, 0);
                let mut hear = |missing: &mut BTreeSet<u64>, patience| {
                    let Some(message) = asker.poll(patience, |_| true) else { return };
                    let reply = message.json();
                    assert!(
                        missing.remove(&reply["transaction"].as_u64().unwrap()),
                        "answered twice: {reply}"
                    );
                    n_answers += usize::from(reply["answer"].is_string());
                    n_busy += usize::from(reply["code"] == "busy");
                };
                while !is_enough.load(Relaxed) || began.elapsed() < Duration::from_secs(3) {
                    asker.publish(
                        "captiond/wall/ask",
                        format!(r#"{{"question": "q", "transaction": {n_asked}}}"#),
                        false,
                    );
                    missing.insert(u64::from(n_asked));
                    n_asked += 1;
                    while let Some(early) = (began + n_asked * Duration::from_secs(1) / PER_SECOND)
                        .checked_duration_since(Instant::now())
                    {
                        hear(&mut missing, early);
                    }
                }
                wait_until("every question has a reply", || {
                    hear(&mut missing, Duration::from_millis(100));
                    missing.is_empty()
                });
                (n_asked, n_answers, n_busy)
            });
            for camera in ["wall", "gate"] {
                for _ in 0..10 {
                    viewer.wait_for("a caption during the flood", |m| {
                        m.topic == format!("captiond/{camera}/caption")
                    });
                }
            }
            is_enough.store(true, Relaxed);
            asking.join().unwrap()
        });
        println!(
            "{protocol:?}: {n_asked} asked, {n_answers} answered, {n_busy} busy, {} more bytes",
            daemon.rss() as i64 - before as i64
        );
        assert_eq!(n_asked as usize, n_answers + n_busy);
        assert!(n_answers > 0);
        assert_eq!(daemon.count("retrying"), 0);
        daemon.assert_well(before);
    }
}

#[test]
fn access_rules_that_forbid_a_caption_are_said_once_and_the_rest_goes_on() {
    for protocol in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let rules = dir.path().join("rules");
        let text = "topic readwrite #\ntopic deny captiond/wall/caption\ntopic deny captiond/wall/ask\n";
        std::fs::write(&rules, text).unwrap();
        // A broker that is started by root drops to a user of its own, who must be able to read.
        let open = Command::new("chmod").args(["-R", "a+rX"]).arg(dir.path()).status().unwrap();
        assert!(open.success());
        let Some(server) = server::mosquitto_with(&format!("acl_file {}\n", rules.display())) else { return };
        let viewer = Client::connect(server.port(), protocol, "viewer", "captiond/#");
        let mut daemon = Daemon::start(&server, protocol);
        assert_answers(&viewer, "before");
        let before = daemon.rss();
        viewer.publish("captiond/wall/ask", "nobody hears this", false);
        for _ in 0..20 {
            viewer.wait_for_topic("captiond/gate/caption");
        }
        assert_answers(&viewer, "after");
        let never = |m: &crate::support::client::Message| {
            ["captiond/wall/caption", "captiond/wall/answer"].contains(&m.topic.as_str())
        };
        assert!(viewer.poll(Duration::ZERO, never).is_none());
        // 3.1.1 has no word for it: the broker acknowledges what it throws away.
        let n_said = usize::from(protocol == Protocol::V5);
        assert_eq!(daemon.count("the broker refuses what is published on this topic"), n_said);
        assert_eq!(daemon.count("retrying"), 0, "the connection stays");
        daemon.assert_well(before);
    }
}

/// Takes a client id again and again, at least once a second.
fn rob(port: u16, protocol: Protocol, client_id: &str, is_over: &AtomicBool) {
    let level = if protocol == Protocol::V5 { 5 } else { 4 };
    let mut body = [&[0, 4][..], b"MQTT", &[level, 0x02, 0, 60]].concat();
    if protocol == Protocol::V5 {
        body.push(0);
    }
    body.extend(u16::try_from(client_id.len()).unwrap().to_be_bytes());
    body.extend(client_id.as_bytes());
    let connect = [&[0x10, u8::try_from(body.len()).unwrap()][..], &body].concat();
    while !is_over.load(Relaxed) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(&connect).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut buffer = [0; 64];
        for _ in 0..20 {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Err(e) if ![ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => break,
                _ if is_over.load(Relaxed) => break,
                _ => {}
            }
        }
    }
}

#[test]
fn a_client_id_that_another_client_uses_is_said_in_both_versions() {
    for protocol in BOTH {
        let Some(server) = server::mosquitto() else { return };
        let client = Client::connect(server.port(), Protocol::V5, "viewer", "captiond/bridge/state");
        let daemon = Daemon::start(&server, protocol);
        client.wait_for_text("captiond/bridge/state", "online");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| rob(server.port(), protocol, "captiond-hostile", &is_over));
            // A failed assertion must not leave the scope waiting for its thread.
            let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                wait_until("the daemon says so", || daemon.count("another client") > 0);
            }));
            is_over.store(true, Relaxed);
            assert!(said.is_ok(), "{}", daemon.log());
        });
    }
}
