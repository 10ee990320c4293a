//! Workers that share jobs at a real Mosquitto: what they answer, how they scale, and what a killed one leaves undone.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use caption::{Answer, Caption, CaptionError, ImageView, Question};
use captiond::config::{Config, Protocol, WorkerConfig};
use captiond::daemon::Eyes;
use captiond::pipeline::Vision;
use captiond::shutdown::Shutdown;
use engine::Tensor;
use image::RgbImage;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use serde_json::json;

use crate::support::client::{Client, Message};
use crate::support::proxy::Proxy;
use crate::support::server::{self, Server};
use crate::support::{ColorVision, Hold, RunningDaemon, color_photos, config, python, wait_until};

const CHILD_VARIABLE: &str = "CAPTIOND_TEST_WORKER";
const ANSWERS: &str = "gateway/answers";
const JOBS: &str = "captiond/work/site";

/// Sees colors, and takes its time for every image: inference on a machine of its own.
struct SlowVision {
    inner: ColorVision,
    per_image: Duration,
}

impl Vision for SlowVision {
    fn logit_rows(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, CaptionError> {
        self.inner.logit_rows(texts)
    }
    fn preprocess(&self, image: &RgbImage) -> Tensor {
        self.inner.preprocess(image)
    }
    fn is_doubtful(&self, pixels: &Tensor) -> bool {
        self.inner.is_doubtful(pixels)
    }
    fn encode(&mut self, pixels: &Tensor) -> Result<ImageView, CaptionError> {
        thread::sleep(self.per_image);
        self.inner.encode(pixels)
    }
    fn caption(&mut self, view: &ImageView, opening: &str) -> Result<Caption, CaptionError> {
        assert!(opening.is_empty());
        self.inner.caption(view, opening)
    }
    fn answer(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError> {
        if question.text == "panic" {
            panic!("as libraries do");
        }
        self.inner.answer(view, question)
    }
}

fn eyes(per_image: Duration, hold: &Hold) -> Eyes {
    let vision = SlowVision { inner: ColorVision { hold: hold.clone() }, per_image };
    Eyes::shared(Box::new(vision), "color@00000000".to_owned(), 0)
}

/// A worker and no camera.
fn worker_config(port: u16, id: &str) -> Config {
    let mut config = config(port, Protocol::V5, std::path::Path::new("nowhere"));
    config.cameras.clear();
    config.mqtt.client_id = Some(id.to_owned());
    config.worker = Some(WorkerConfig { bytes_max: 100 << 10, ..WorkerConfig::default() });
    config
}

/// A running worker that has subscribed.
fn worker(site: &Site, id: &str, per_image: Duration) -> RunningDaemon {
    let hold = Hold::default();
    let eyes = eyes(per_image, &hold);
    let worker = RunningDaemon::start_with(worker_config(site.server.port(), id), eyes, hold);
    site.wait_for_state(id, "online");
    worker
}

/// A broker and somebody who asks.
struct Site {
    server: Server,
    client: Client,
}

impl Site {
    fn new() -> Option<Site> {
        let server = server::mosquitto()?;
        let client = Client::connect(server.port(), Protocol::V5, "gateway", "#");
        Some(Site { server, client })
    }

    fn wait_for_state(&self, id: &str, state: &str) {
        self.client.wait_for_text(&format!("captiond/worker/{id}-worker/state"), state);
    }

    /// Publishes a job about a picture; `more` are user properties that go before those that every job has.
    fn submit(&self, seq: u64, picture: Vec<u8>, more: &[(&str, &str)]) {
        let properties = PublishProperties {
            response_topic: Some(ANSWERS.to_owned()),
            correlation_data: Some(seq.to_be_bytes().to_vec().into()),
            content_type: Some("image/png".to_owned()),
            user_properties: user_properties(seq, more),
            ..PublishProperties::default()
        };
        self.client.publish_with(JOBS, picture, properties);
    }

    fn answer(&self) -> (u64, Message) {
        let message = self.client.wait_for_topic(ANSWERS);
        let correlation = message.correlation.as_deref().unwrap().try_into().unwrap();
        (u64::from_be_bytes(correlation), message)
    }

    /// Waits until each of these is answered once at least, and says how often each was.
    fn answers(&self, seqs: std::ops::Range<u64>) -> BTreeMap<u64, usize> {
        let mut n_answers = BTreeMap::new();
        while seqs.clone().any(|seq| !n_answers.contains_key(&seq)) {
            let (seq, message) = self.answer();
            assert!(message.json().get("caption").is_some());
            assert_eq!(message.json()["seq"], seq, "a repeat is known by correlation data and seq");
            *n_answers.entry(seq).or_default() += 1;
        }
        n_answers
    }
}

fn user_properties(seq: u64, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let seq = seq.to_string();
    let least = [("camera", "porch"), ("seq", seq.as_str()), ("frame_ts", "2026-11-20T21:00:00.102Z")];
    more.iter().chain(&least).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn picture(color: [u8; 3]) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(64, 48, image::Rgb(color)).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

const RED: [u8; 3] = [220, 9, 9];
const BLUE: [u8; 3] = [9, 9, 220];

#[test]
fn a_job_without_a_question_is_captioned_and_one_with_a_question_answered() {
    let Some(site) = Site::new() else { return };
    let worker = worker(&site, "w", Duration::ZERO);
    site.submit(7, picture(RED), &[("camera", "a gate/7")]);
    let (seq, message) = site.answer();
    let caption = message.json();
    assert_eq!((seq, &caption["seq"], &caption["camera"]), (7, &json!(7), &json!("a gate/7")));
    assert_eq!(caption["caption"], "a red wall");
    assert_eq!((&caption["worker"], &caption["bundle"]), (&json!("w-worker"), &json!("color@00000000")));
    assert_eq!(caption["frame_ts"], "2026-11-20T21:00:00.102Z");
    assert_eq!(message.content_type.as_deref(), Some("application/json"));
    site.submit(8, picture(BLUE), &[("question", "what color?"), ("choices", r#"["red", "blue"]"#)]);
    let answer = site.answer().1.json();
    assert_eq!((&answer["answer"], &answer["question"]), (&json!("blue"), &json!("what color?")));
    assert_eq!((&answer["verdict"], &answer["seq"]), (&json!("answered"), &json!(8)));
    worker.stop();
    site.wait_for_state("w", "offline");
}

/// A PNG whose header claims so many pixels a side.
fn claiming(side: u32) -> Vec<u8> {
    let mut bytes = picture(RED);
    let header = bytes.windows(4).position(|w| w == b"IHDR").unwrap();
    for at in [header + 4, header + 8] {
        bytes[at..at + 4].copy_from_slice(&side.to_be_bytes());
    }
    let crc = crc32fast::hash(&bytes[header..header + 17]).to_be_bytes();
    bytes[header + 17..header + 21].copy_from_slice(&crc);
    bytes
}

/// A picture, user properties, and the code of the error.
type BadJob<'a> = (Vec<u8>, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn a_bad_job_gets_one_error_and_never_comes_again() {
    let Some(site) = Site::new() else { return };
    let first = worker(&site, "w", Duration::ZERO);
    let good = || picture(RED);
    let bad: [BadJob<'_>; 11] = [
        (b"no picture".to_vec(), &[], "bad_request"),
        (Vec::new(), &[], "bad_request"),
        (good()[..60].to_vec(), &[], "bad_request"),
        (claiming(60_000), &[], "bad_request"),
        (claiming(16_000), &[], "bad_request"),
        (claiming(6_000), &[], "bad_request"),
        (vec![0; 150 << 10], &[], "bad_request"),
        (good(), &[("seq", "x")], "bad_request"),
        (good(), &[("question", "q"), ("choices", "{")], "bad_request"),
        (good(), &[("deadline_ms", "1")], "expired"),
        (good(), &[("question", "panic")], "failed"),
    ];
    let n_bad = bad.len() as u64;
    for (seq, (picture, more, code)) in (0..).zip(bad) {
        site.submit(seq, picture, more);
        let (answered, message) = site.answer();
        let error = message.json();
        assert_eq!((answered, &error["code"]), (seq, &json!(code)), "{error}");
        assert!(error["error"].is_string() && error["worker"] == "w-worker");
    }
    // The broker keeps what is larger than the worker's packets to itself.
    site.submit(98, vec![0; 600 << 10], &[]);
    // Nobody can be told about these.
    for response_topic in [None, Some(JOBS), Some("captiond/porch/ask"), Some("$SYS/x")] {
        let properties = PublishProperties {
            response_topic: response_topic.map(str::to_owned),
            user_properties: user_properties(99, &[]),
            ..PublishProperties::default()
        };
        site.client.publish_with(JOBS, good(), properties);
    }
    site.submit(n_bad, good(), &[]);
    assert_eq!(site.answer().0, n_bad, "the worker lives");
    first.stop();
    // Whatever was not acknowledged would come to the one who comes back.
    let second = worker(&site, "w", Duration::ZERO);
    site.submit(n_bad + 1, good(), &[]);
    assert_eq!(site.answer().0, n_bad + 1);
    second.stop();
}

#[test]
fn a_daemon_with_cameras_takes_jobs_as_well() {
    let Some(site) = Site::new() else { return };
    let photos = color_photos();
    let cameras = config(site.server.port(), Protocol::V5, photos.path()).cameras;
    let both = Config { cameras, ..worker_config(site.server.port(), "w") };
    let daemon = RunningDaemon::start(both);
    site.wait_for_state("w", "online");
    site.client.wait_for_text("captiond/bridge/state", "online");
    (0..20).for_each(|seq| site.submit(seq, picture(RED), &[]));
    site.answers(0..20);
    for _ in 0..3 {
        site.client.wait_for_topic("captiond/wall/caption");
    }
    daemon.stop();
    site.wait_for_state("w", "offline");
    site.client.wait_for_text("captiond/bridge/state", "offline");
}

/// Jobs a second of so many workers.
fn throughput(n_workers: u32) -> Option<f64> {
    const N_JOBS: u64 = 32;
    let site = Site::new()?;
    let start = |n| worker(&site, &format!("w{n}"), Duration::from_millis(100));
    let workers: Vec<_> = (0..n_workers).map(start).collect();
    let (picture, started) = (picture(RED), Instant::now());
    (0..N_JOBS).for_each(|seq| site.submit(seq, picture.clone(), &[]));
    let n_answers = site.answers(0..N_JOBS);
    let per_s = N_JOBS as f64 / started.elapsed().as_secs_f64();
    assert!(n_answers.values().all(|n| *n == 1), "no worker was lost: {n_answers:?}");
    workers.into_iter().for_each(RunningDaemon::stop);
    Some(per_s)
}

#[test]
fn throughput_grows_with_the_number_of_workers() {
    let mut rounds = Vec::new();
    // A machine that is busy with something else in one round is not in all three.
    while rounds.len() < 3 {
        let [Some(one), Some(two), Some(four)] = [1, 2, 4].map(throughput) else { return };
        rounds.push([one, two, four]);
        if two >= 1.7 * one && four >= 3.0 * one {
            return;
        }
    }
    panic!("jobs/s of 1, 2 and 4 workers: {rounds:.1?}");
}

/// A worker in a process of its own, which can be killed.
struct ChildWorker(Child);

impl ChildWorker {
    fn start(site: &Site, id: &str, per_image: Duration, session_expiry: Duration) -> ChildWorker {
        let port = site.server.port();
        let (ms, s) = (per_image.as_millis(), session_expiry.as_secs());
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "fleet::child_worker_of_the_kill_tests", "--ignored", "--nocapture"])
            .env(CHILD_VARIABLE, format!("{port} {id} {ms} {s}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let worker = ChildWorker(child);
        site.wait_for_state(id, "online");
        worker
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for ChildWorker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
#[ignore = "the child process of the tests that kill a worker"]
fn child_worker_of_the_kill_tests() {
    let Ok(settings) = std::env::var(CHILD_VARIABLE) else { return };
    let settings: Vec<_> = settings.split(' ').collect();
    let number = |at: usize| settings[at].parse::<u64>().unwrap();
    let mut config = worker_config(number(0) as u16, settings[1]);
    config.worker.as_mut().unwrap().session_expiry = Duration::from_secs(number(3));
    let eyes = eyes(Duration::from_millis(number(2)), &Hold::default());
    captiond::daemon::run(&config, eyes, &Shutdown::new()).unwrap();
}

const IN_NO_TIME: Duration = Duration::from_millis(20);

#[test]
fn a_killed_worker_that_comes_back_answers_what_it_left() {
    let Some(site) = Site::new() else { return };
    let (never, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
    let mut doomed = ChildWorker::start(&site, "doomed", never, minute);
    let _other = ChildWorker::start(&site, "other", IN_NO_TIME, minute);
    (0..40).for_each(|seq| site.submit(seq, picture(RED), &[]));
    // The other one answers its half, and nobody else can: this broker deals the jobs out in turn.
    let n_answers: Vec<u64> = (0..20).map(|_| site.answer().0).collect();
    doomed.kill();
    site.wait_for_state("doomed", "offline");
    let _revived = ChildWorker::start(&site, "doomed", IN_NO_TIME, minute);
    let left = (0..40).filter(|seq| !n_answers.contains(seq)).count();
    assert_eq!(left, 20);
    for _ in 0..left {
        let (seq, message) = site.answer();
        assert!(!n_answers.contains(&seq) && message.json()["worker"] == "doomed-worker", "{seq}");
    }
}

#[test]
fn killed_in_the_middle_of_its_answers_a_worker_repeats_some_at_most() {
    let Some(site) = Site::new() else { return };
    let minute = Duration::from_secs(60);
    let mut doomed = ChildWorker::start(&site, "doomed", IN_NO_TIME, minute);
    let _other = ChildWorker::start(&site, "other", IN_NO_TIME, minute);
    let n_jobs = 60;
    (0..n_jobs).for_each(|seq| site.submit(seq, picture(RED), &[]));
    let mut n_answers = BTreeMap::<u64, usize>::new();
    for _ in 0..10 {
        *n_answers.entry(site.answer().0).or_default() += 1;
    }
    doomed.kill();
    let _revived = ChildWorker::start(&site, "doomed", IN_NO_TIME, minute);
    while (n_answers.len() as u64) < n_jobs {
        let (seq, message) = site.answer();
        assert_eq!(message.json()["seq"], seq, "a repeat is known by correlation data and seq");
        *n_answers.entry(seq).or_default() += 1;
    }
    let n_repeats: usize = n_answers.values().map(|n| n - 1).sum();
    println!("repeats after the kill: {n_repeats}");
    // Only those whose answer was out and whose acknowledgement was not.
    assert!(n_repeats <= 10, "{n_answers:?}");
}

#[test]
fn an_answer_whose_job_was_not_acknowledged_is_repeated_with_the_same_correlation_data() {
    let Some(site) = Site::new() else { return };
    // The answer reaches the broker, and the acknowledgement that follows does not.
    let proxy = Proxy::start(site.server.port(), b"a red wall");
    let hold = Hold::default();
    let eyes = eyes(Duration::ZERO, &hold);
    let worker = RunningDaemon::start_with(worker_config(proxy.port(), "w"), eyes, hold);
    site.wait_for_state("w", "online");
    site.submit(1, picture(RED), &[]);
    let (first, message) = site.answer();
    assert_eq!((first, &message.json()["caption"]), (1, &json!("a red wall")));
    proxy.cut();
    let (again, repeat) = site.answer();
    assert_eq!((again, &repeat.json()["seq"]), (1, &json!(1)));
    assert_eq!(repeat.correlation, message.correlation);
    // From then on the job is done with: what comes next is the answer to the next one.
    site.submit(2, picture(BLUE), &[]);
    assert_eq!(site.answer().0, 2);
    worker.stop();
}

#[test]
fn what_a_worker_that_never_comes_back_left_is_answered_when_it_is_sent_again() {
    let Some(site) = Site::new() else { return };
    let (never, second) = (Duration::from_secs(3600), Duration::from_secs(1));
    let mut doomed = ChildWorker::start(&site, "doomed", never, second);
    let _other = ChildWorker::start(&site, "other", IN_NO_TIME, second);
    (0..10).for_each(|seq| site.submit(seq, picture(RED), &[]));
    let answered: Vec<u64> = (0..5).map(|_| site.answer().0).collect();
    doomed.kill();
    // Its session ends a second later, and from then on no job is dealt to it; what it had been dealt is gone with
    // Mosquitto 2.0, and goes to the other one with brokers that do what MQTT 5 says they should.
    let mut left: Vec<u64> = (0..10).filter(|seq| !answered.contains(seq)).collect();
    wait_until("every job is answered", || {
        left.iter().for_each(|seq| site.submit(*seq, picture(RED), &[]));
        // One answer for those that were sent again: those that still go to the dead one get none.
        let probe = 1000;
        site.submit(probe, picture(RED), &[]);
        site.submit(probe, picture(RED), &[]);
        loop {
            let (seq, _) = site.answer();
            left.retain(|other| *other != seq);
            if seq == probe {
                break;
            }
        }
        left.is_empty()
    });
}

#[test]
fn a_long_queue_is_answered_whatever_the_broker_hands_over_at_a_time() {
    let Some(site) = Site::new() else { return };
    let worker = worker(&site, "w", Duration::from_millis(2));
    let n_jobs = 4 * captiond::job::JOBS_MAX as u64;
    (0..n_jobs).for_each(|seq| site.submit(seq, picture(RED), &[]));
    for (seq, n_answers) in site.answers(0..n_jobs) {
        assert_eq!(n_answers, 1, "{seq}");
    }
    worker.stop();
}

#[test]
fn a_worker_that_is_stopped_in_good_order_leaves_its_jobs_and_repeats_none() {
    let Some(site) = Site::new() else { return };
    let first = worker(&site, "w", Duration::from_millis(200));
    (0..60).for_each(|seq| site.submit(seq, picture(RED), &[]));
    let mut answered = vec![site.answer().0];
    let started = Instant::now();
    first.stop();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    site.wait_for_state("w", "offline");
    let second = worker(&site, "w", Duration::ZERO);
    answered.extend((1..60).map(|_| site.answer().0));
    site.submit(60, picture(RED), &[]);
    answered.push(site.answer().0);
    answered.sort();
    assert!(answered.into_iter().eq(0..=60), "each once");
    second.stop();
}

#[test]
fn workers_find_their_broker_again() {
    let Some(Site { server, client }) = Site::new() else { return };
    let port = server.port();
    let first = Site { server, client };
    let worker = worker(&first, "w", Duration::ZERO);
    let Site { server, client } = first;
    drop(client);
    let server = server.restart();
    let client = Client::connect(port, Protocol::V5, "gateway", "#");
    let site = Site { server, client };
    site.wait_for_state("w", "online");
    site.submit(1, picture(RED), &[]);
    assert_eq!(site.answer().0, 1);
    worker.stop();
}

#[test]
fn a_worker_without_a_broker_stops_at_once() {
    let hold = Hold::default();
    let eyes = eyes(Duration::ZERO, &hold);
    let daemon = RunningDaemon::start_with(worker_config(server::free_port(), "w"), eyes, hold);
    let started = Instant::now();
    daemon.stop();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

fn gateway(python: &str, port: u16, photos: &std::path::Path) -> Command {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fleet/gateway.py");
    let mut gateway = Command::new(python);
    gateway
        .arg(script)
        .args(["--host", "127.0.0.1", "--camera", "porch", "--port", &port.to_string()])
        .arg(photos);
    gateway
}

#[test]
fn the_gateway_of_the_examples_prints_the_answers_to_its_photos() {
    let Some(python) = python("paho.mqtt") else { return };
    let Some(site) = Site::new() else { return };
    let (photos, worker) = (color_photos(), worker(&site, "w", Duration::ZERO));
    let printed = gateway(&python, site.server.port(), photos.path()).output().unwrap();
    let mut captions: Vec<String> = String::from_utf8(printed.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|answer| format!("{} {} {}", answer["camera"], answer["seq"], answer["caption"]))
        .collect();
    captions.sort();
    let expected = [r#""porch" 1 "a red wall""#, r#""porch" 2 "a green wall""#, r#""porch" 3 "a blue wall""#];
    assert_eq!(captions, expected);
    assert!(printed.status.success());
    worker.stop();
}

#[test]
fn the_gateway_of_the_examples_sends_again_and_drops_repeats() {
    let Some(python) = python("paho.mqtt") else { return };
    let Some(site) = Site::new() else { return };
    let photos = color_photos();
    let running = gateway(&python, site.server.port(), photos.path())
        .args(["--timeout", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let answer = |job: &Message, seq: u64| {
        let correlation_data = job.correlation.clone().map(Into::into);
        let properties = PublishProperties { correlation_data, ..PublishProperties::default() };
        let payload = json!({ "seq": seq, "caption": "a wall" }).to_string().into_bytes();
        site.client.publish_with(job.response_topic.as_deref().unwrap(), payload, properties);
    };
    let job = || site.client.wait_for("a job", |m| m.topic == "captiond/work/gateway");
    // The first job is forgotten, the others are answered twice, and one answer is to another frame.
    let (forgotten, second, third) = (job(), job(), job());
    answer(&second, 9);
    (0..2).for_each(|_| answer(&second, 2));
    (0..2).for_each(|_| answer(&third, 3));
    let again = site.client.wait_for("the job comes again", |m| m.correlation == forgotten.correlation);
    assert_eq!((&again.topic, &again.payload), (&forgotten.topic, &forgotten.payload));
    answer(&again, 1);
    let printed = running.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap().lines().count(), 3);
    let told = String::from_utf8(printed.stderr).unwrap();
    assert!(told.contains("3 answers") && told.contains("3 repeats dropped, 0 without"), "{told}");
}
