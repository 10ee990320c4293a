//! The daemon with another engine: the same captions, and one clear error for each way in which a library or a device is
//! not what it should be. The GPU of these tests is a library that forwards to ONNX Runtime's CPU (`support/ort_shim.c`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Instant;

use caption::{Bundle, Models};
use captiond::config::Protocol;
use captiond::demo::photos;
use captiond::source::replay::Photo;
use engine::EngineOptions;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::server;
use crate::support::{DEADLINE, shipped_bundle, skipped};

/// Captions of this many photos in seven must be the same by both engines. All are where this is written; what is left
/// between them, the order of sums in f32, may turn a choice between two captions that are worth the same.
const SAME_OF_SEVEN: usize = 6;
/// What is chosen by lies no further apart than this, whoever chose: the winner's cosine with the picture, and `fluency`
/// times its mean log-probability.
const MARGIN: f32 = 0.002;

/// What of the environment captiond would heed.
pub const VARIABLES: [&str; 3] = ["CAPTIOND_BUNDLE", "CAPTIOND_LOG", "ORT_DYLIB_PATH"];

/// The library of ONNX Runtime, where there is one, a bundle and Mosquitto.
pub fn library() -> Option<PathBuf> {
    if shipped_bundle().is_none() {
        skipped("models/lite is not there");
        return None;
    }
    let library = engine::testing::onnxruntime_library();
    if library.is_none() {
        skipped("no library of ONNX Runtime");
    }
    library
}

/// The library that pretends, compiled once.
pub fn shim() -> Option<PathBuf> {
    static SHIM: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let dir = SHIM.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/ort_shim.c");
        let file = dir.path().join("libonnxruntime.so.1");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&file, &source])
            .arg("-ldl")
            .status();
        match built {
            Ok(status) => assert!(status.success(), "the shim does not compile"),
            Err(_) => return None,
        }
        Some(dir)
    });
    if dir.is_none() {
        skipped("no C compiler");
    }
    Some(dir.as_ref()?.path().join("libonnxruntime.so.1"))
}

/// A folder with the photos of the demonstration and a configuration.
struct Site {
    dir: tempfile::TempDir,
    port: u16,
}

impl Site {
    fn new(port: u16) -> Site {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("photos")).unwrap();
        for photo in photos::all() {
            let Photo::Embedded { name, bytes } = photo else { unreachable!() };
            fs::write(dir.path().join("photos").join(name), bytes).unwrap();
        }
        Site { dir, port }
    }

    /// Writes the configuration that begins with `engine`.
    fn configure(&self, engine: &str) -> PathBuf {
        let file = self.dir.path().join("captiond.toml");
        let text = format!(
            "threads = 1\n{engine}\n[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n[[camera]]\nname = \"yard\"\n\
             source = {{ type = \"replay\", path = \"photos\", interval = \"300ms\", loop = true }}\n\
             gate = {{ enabled = false }}\n",
            self.port
        );
        fs::write(&file, text).unwrap();
        file
    }

    fn command(&self, what: &str, engine: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_captiond"));
        command.arg(what).arg("--config").arg(self.configure(engine));
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command
    }

    fn run(&self, mut command: Command) -> Daemon {
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        Daemon(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

struct Daemon(Child);

impl Daemon {
    fn ended(&mut self) -> Option<i32> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the daemon runs on");
            thread::yield_now();
        }
    }

    fn stop(mut self) {
        kill_process(Pid::from_raw(self.0.id() as i32).unwrap(), Signal::TERM).unwrap();
        assert_eq!(self.ended(), Some(0));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ort_on(device: &str, library: &Path) -> String {
    format!("engine = \"ort\"\ndevice = \"{device}\"\nengine_library = {library:?}")
}

/// A caption of every photo of the demonstration.
fn captions(viewer: &Client) -> BTreeMap<String, Value> {
    let mut captions = BTreeMap::new();
    while captions.len() < photos::all().len() {
        let caption = viewer.wait_for_topic("captiond/yard/caption").json();
        let name = Path::new(caption["file"].as_str().unwrap()).file_name().unwrap();
        captions.insert(name.to_string_lossy().into_owned(), caption);
    }
    captions
}

/// What a daemon says with an engine of the configuration `engine`: its captions, and who it says it is.
fn told_by(command: impl FnOnce(&Site) -> Command) -> Option<(BTreeMap<String, Value>, Value)> {
    let server = server::mosquitto()?;
    let site = Site::new(server.port());
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let daemon = site.run(command(&site));
    let info = viewer.wait_for_topic("captiond/bridge/info").json();
    let captions = captions(&viewer);
    daemon.stop();
    viewer.wait_for_text("captiond/bridge/state", "offline");
    Some((captions, info["cameras"][0].clone()))
}

fn n_same(a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) -> usize {
    let differ: Vec<_> = a.iter().filter(|(name, said)| said["caption"] != b[*name]["caption"]).collect();
    for (name, said) in &differ {
        crate::support::say(&format!("{name}: {} | {}", said["caption"], b[*name]["caption"]));
    }
    a.len() - differ.len()
}

/// What each engine's caption of each photo was chosen for, both by the embeddings of tract.
struct Judge {
    models: Models,
    fluency: f32,
}

impl Judge {
    fn new() -> Judge {
        let bundle = Bundle::open(&shipped_bundle().unwrap()).unwrap();
        let engine = engine::open("tract").unwrap();
        let models = Models::load(&bundle, &*engine, &EngineOptions::default()).unwrap();
        let decoder = bundle.manifest().decoder.clone().unwrap();
        Judge { models, fluency: decoder.rerank.unwrap().fluency }
    }

    /// The values of the captions in two payloads about one photo.
    fn values(&mut self, photo: &[u8], payloads: [&Value; 2]) -> [f32; 2] {
        let input = self.models.preprocess(&captiond::photo::decode(photo).unwrap());
        let view = self.models.encode(&input).unwrap();
        let texts = payloads.map(|payload| payload["caption"].as_str().unwrap());
        let embeddings = self.models.encode_texts(&texts).unwrap();
        [0, 1].map(|i| {
            let cosine: f32 = std::iter::zip(&view.embedding, &embeddings[i]).map(|(a, b)| a * b).sum();
            cosine + self.fluency * (payloads[i]["score"].as_f64().unwrap() as f32).ln()
        })
    }
}

#[test]
fn the_daemon_says_the_same_with_every_engine() {
    let Some(library) = library() else { return };
    let Some((tract, by_tract)) = told_by(|site| site.command("run", "")) else { return };
    let (ort, by_ort) = told_by(|site| site.command("run", &ort_on("cpu", &library))).unwrap();
    assert_eq!((&by_tract["engine"], &by_tract["device"]), (&json!("tract"), &json!("cpu")));
    assert_eq!((&by_ort["engine"], &by_ort["device"]), (&json!("ort"), &json!("cpu")));
    for (name, said) in &tract {
        let keys = |payload: &Value| payload.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(said), keys(&ort[name]), "{name}");
        assert_eq!((&said["engine"], &ort[name]["engine"]), (&json!("tract"), &json!("ort")));
    }
    let n_same = n_same(&tract, &ort);
    assert!(n_same >= SAME_OF_SEVEN, "{n_same} of {} captions are the same", tract.len());
    let mut judge = Judge::new();
    for photo in photos::all() {
        let Photo::Embedded { name, bytes } = photo else { unreachable!() };
        let [a, b] = judge.values(bytes, [&tract[name], &ort[name]]);
        crate::support::say(&format!("{name}: {a:.3} | {b:.3}"));
        assert!((a - b).abs() <= MARGIN, "{name}: {} | {}", tract[name]["caption"], ort[name]["caption"]);
    }
}

#[test]
fn what_runs_is_said_and_not_what_was_asked_for() {
    let Some(library) = library() else { return };
    let Some(server) = server::mosquitto() else { return };
    let site = Site::new(server.port());
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let daemon = site.run(site.command("run", &ort_on("cuda-or-cpu", &library)));
    assert_eq!(viewer.wait_for_topic("captiond/bridge/info").json()["cameras"][0]["device"], "cpu");
    assert_eq!(viewer.wait_for_topic("captiond/yard/caption").json()["device"], "cpu");
    let log = site.log();
    let line = log.lines().find(|line| line.contains("the better device does not run")).unwrap_or_default();
    assert!(line.contains("cuda-or-cpu") && line.contains("cuda:0") && line.contains("WARN"), "{log}");
    daemon.stop();
}

#[test]
fn a_device_keeps_the_cache_and_the_captions_are_the_same() {
    let (Some(library), Some(shim)) = (library(), shim()) else { return };
    let Some((expected, _)) = told_by(|site| site.command("run", &ort_on("cpu", &library))) else { return };
    for (device, more) in [
        ("cuda:0", "device_bytes_max = 1073741824"),
        ("tensorrt:1", "device_cache = \"cache\"\ndevice_bytes_max = 1073741824"),
        ("cuda-or-cpu", ""),
    ] {
        let pretend = |site: &Site| {
            let mut command = site.command("run", &format!("{}\n{more}", ort_on(device, &shim)));
            command.env("ORT_SHIM_REAL", &library).env("ORT_SHIM_CUDA", "1");
            command
        };
        let (said, by) = told_by(pretend).unwrap();
        let runs = if device == "cuda-or-cpu" { "cuda:0" } else { device };
        assert_eq!((&by["engine"], &by["device"]), (&json!("ort"), &json!(runs)));
        assert_eq!(n_same(&expected, &said), expected.len(), "the arithmetic is the same");
    }
}

/// What `captiond check` says, with its exit code.
fn checked(engine: &str, environment: &[(&str, &Path)]) -> (Option<i32>, String) {
    let site = Site::new(1);
    let mut command = site.command("check", engine);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    (output.status.code(), stderr(&output))
}

#[test]
fn a_library_or_a_device_that_is_not_there_is_one_error_with_its_key_and_78() {
    let Some(library) = library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (missing, text) = (dir.path().join("none.so"), dir.path().join("text.so"));
    fs::write(&text, "no library").unwrap();
    let other = "engine = \"tract\"\ndevice = \"cuda:0\"".to_owned();
    for (engine, words) in [
        (ort_on("cpu", &missing), ["engine: ", "there is no file", "none.so"]),
        (ort_on("cpu", &text), ["engine: ", "load the library", "text.so"]),
        (
            ort_on("cuda:0", &library),
            ["device: ", "engine ort on cuda:0", "CUDA execution provider is not enabled"],
        ),
        (
            ort_on("tensorrt:0", &library),
            ["device: ", "engine ort on tensorrt:0", "TensorRT execution provider is not enabled"],
        ),
        (ort_on("cuda-or-cpu", &missing), ["device: ", "there is no file", "none.so"]),
        (other, ["device: ", "engine tract on cuda:0", "cpu only"]),
    ] {
        let (code, said) = checked(&engine, &[]);
        assert_eq!((code, said.lines().count()), (Some(78), 1), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
    }
}

#[test]
fn a_library_of_another_time_is_one_error_and_78() {
    let (Some(library), Some(shim)) = (library(), shim()) else { return };
    let none = Path::new("none");
    let (code, said) = checked(&ort_on("cpu", &shim), &[("ORT_SHIM_REAL", &library), ("ORT_SHIM_API", none)]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("engine: ") && said.contains("lacks the interface of 1.17"), "{said}");
    let Some(old) = std::env::var_os("CAPTIOND_TEST_OLD_ORT") else {
        return skipped("CAPTIOND_TEST_OLD_ORT names no library of ONNX Runtime 1.16 or older");
    };
    let (code, said) = checked(&ort_on("cpu", Path::new(&old)), &[]);
    assert_eq!((code, said.lines().count()), (Some(78), 1), "{said}");
    assert!(said.contains("is ONNX Runtime 1.") && said.contains("1.17 or newer is needed"), "{said}");
}

/// A daemon on a device that pretends, and the file by which it fails.
fn failing(site: &Site, library: &Path, shim: &Path) -> (Command, PathBuf) {
    let file = site.dir.path().join("fail");
    let mut command = site.command("run", &ort_on("cuda:0", shim));
    command.env("ORT_SHIM_REAL", library).env("ORT_SHIM_CUDA", "1").env("ORT_SHIM_FAIL", &file);
    (command, file)
}

#[test]
fn without_device_memory_it_is_degraded_says_nothing_stale_and_recovers() {
    let (Some(library), Some(shim), Some(server)) = (library(), shim(), server::mosquitto()) else { return };
    let site = Site::new(server.port());
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let (command, fail) = failing(&site, &library, &shim);
    let daemon = site.run(command);
    viewer.wait_for_topic("captiond/yard/caption");
    fs::write(&fail, "graphs Failed to allocate memory for requested buffer of size 4194304").unwrap();
    let event = viewer
        .wait_for("degraded", |m| m.topic == "captiond/bridge/event" && m.json()["event_type"] == "degraded");
    assert!(event.json()["fault"].as_str().unwrap().contains("Failed to allocate memory"), "{event:?}");
    // Everything that was captioned before has arrived by now.
    while viewer.poll(std::time::Duration::ZERO, |m| m.topic == "captiond/yard/caption").is_some() {}
    viewer.request("captiond/yard/ask", r#"{"question": "is there a cat?"}"#, "viewer/1", b"c-1");
    let answer = viewer.wait_for_topic("viewer/1").json();
    assert_eq!(answer["code"], "failed", "{answer}");
    viewer.publish("captiond/bridge/request/health_check", "{}", false);
    let health = viewer.wait_for_topic("captiond/bridge/response/health_check").json();
    assert_eq!(health["data"]["healthy"], false, "{health}");
    let stale = viewer.poll(std::time::Duration::ZERO, |m| m.topic == "captiond/yard/caption");
    assert!(stale.is_none(), "{stale:?}");
    fs::remove_file(&fail).unwrap();
    viewer
        .wait_for("restored", |m| m.topic == "captiond/bridge/event" && m.json()["event_type"] == "restored");
    viewer.wait_for_topic("captiond/yard/caption");
    daemon.stop();
}

#[test]
fn when_the_driver_goes_the_daemon_ends_with_1_and_says_why_once() {
    let (Some(library), Some(shim), Some(server)) = (library(), shim(), server::mosquitto()) else { return };
    let site = Site::new(server.port());
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let (command, fail) = failing(&site, &library, &shim);
    let mut daemon = site.run(command);
    viewer.wait_for_topic("captiond/yard/caption");
    fs::write(&fail, "all CUDA failure 999: unknown error").unwrap();
    viewer.wait_for_text("captiond/bridge/state", "offline");
    assert_eq!(daemon.ended(), Some(1), "{}", site.log());
    let log = site.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("cuda:0 does not answer") && last.contains("CUDA failure 999"), "{log}");
    // As it would be after systemd's restart, with the driver still gone: not the configuration's fault.
    let again = failing(&site, &library, &shim).0.output().unwrap();
    assert_eq!(again.status.code(), Some(1), "{}", stderr(&again));
    assert!(stderr(&again).contains("cuda:0 does not answer"), "{}", stderr(&again));
}

#[test]
fn a_graph_that_finds_no_room_on_the_device_names_itself() {
    let (Some(library), Some(shim)) = (library(), shim()) else { return };
    let site = Site::new(1);
    let (_, fail) = failing(&site, &library, &shim);
    fs::write(&fail, "load CUDA failure 2: out of memory").unwrap();
    let environment =
        [("ORT_SHIM_REAL", library.as_path()), ("ORT_SHIM_CUDA", Path::new("1")), ("ORT_SHIM_FAIL", &fail)];
    let (code, said) = checked(&ort_on("cuda:0", &shim), &environment);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cuda:0 does not answer") && said.contains("out of memory"), "{said}");
}
