//! What `docs/faults.md` promises of the machine: its disk, its clock, its limits, and a process that is stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use caption::{Answer, Caption, CaptionError, ImageView, Question};
use captiond::config::{Config, Protocol};
use captiond::daemon::{self, Eyes};
use captiond::pipeline::Vision;
use captiond::shutdown::Shutdown;
use captiond::spool::{Limits, Spool};
use engine::Tensor;
use image::RgbImage;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::support::client::Client;
use crate::support::server::{self, free_port};
use crate::support::{
    ColorVision, Hold, TEXT, calm, color_photos, find, shipped_bundle, skipped, wait_until,
};

const CONFIG_VARIABLE: &str = "CAPTIOND_TEST_FAULTS";

/// Sees colors, and panics when it is asked to.
struct Fragile(ColorVision);

impl Vision for Fragile {
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
        assert_ne!(question.text, "panic", "as it was asked to");
        self.0.answer(view, question)
    }

    fn logit_rows(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, CaptionError> {
        self.0.logit_rows(texts)
    }
}

#[test]
#[ignore = "the child process of the tests of this file"]
fn child_daemon() {
    let Some(file) = std::env::var_os(CONFIG_VARIABLE) else { return };
    captiond::logging::start("info", TEXT).unwrap();
    let config = Config::load(Path::new(&file)).unwrap();
    let shutdown = Shutdown::new();
    daemon::heed_signals(&shutdown, None).unwrap();
    let vision = Fragile(ColorVision { hold: Hold::default() });
    let eyes = Eyes::shared(Box::new(vision), "color@00000000".to_owned(), config.cameras.len());
    daemon::run_with(&config, eyes, &shutdown, calm()).unwrap();
}

/// A daemon in a process of its own, its log in a file.
struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
}

impl Daemon {
    /// `wrap` may put other programs before it.
    fn start(
        port: u16,
        mqtt: &str,
        n_cameras: usize,
        photos: &Path,
        wrap: impl FnOnce(Command) -> Command,
    ) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("captiond.toml");
        let camera = |i: usize| {
            format!(
                "[[camera]]\nname = \"wall{i}\"\nsource = {{ type = \"replay\", path = {photos:?}, interval = \"100ms\" }}\n\
                 gate = {{ enabled = false }}\n"
            )
        };
        let cameras: String = (0..n_cameras).map(camera).collect();
        fs::write(&file, format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {port}\n{mqtt}\n{cameras}")).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "faults::child_daemon", "--ignored", "--nocapture"]);
        let mut command = wrap(command);
        let log = fs::File::create(dir.path().join("log")).unwrap();
        command.env(CONFIG_VARIABLE, &file).stdout(Stdio::null()).stderr(log);
        Daemon { child: command.spawn().unwrap(), dir }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn same(command: Command) -> Command {
    command
}

fn caption_of(viewer: &Client, camera: &str) -> serde_json::Value {
    viewer.wait_for_topic(&format!("captiond/{camera}/caption")).json()
}

#[test]
fn a_queue_that_cannot_be_written_does_not_keep_the_captions_away() {
    let (server, photos) = (server::embedded(), color_photos());
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let daemon = Daemon::start(server.port(), "queue_dir = \"captiond.toml/queue\"", 1, photos.path(), same);
    caption_of(&viewer, "wall0");
    let log = daemon.log();
    assert_eq!(log.matches("captions are dropped while the broker is away").count(), 1, "{log}");
}

/// In a mount namespace of its own, with a small file system where the queue is.
fn on_a_small_disk(queue: &Path) -> Option<impl FnOnce(Command) -> Command> {
    let mut trial = Command::new("unshare");
    trial.args(["--mount", "--map-root-user", "mount", "-t", "tmpfs", "none"]).arg(queue);
    if !trial.output().is_ok_and(|output| output.status.success()) {
        skipped("unshare cannot mount here");
        return None;
    }
    let queue = queue.to_owned();
    Some(move |inner: Command| {
        let script = "mount -t tmpfs -o size=16k none \"$0\" && exec \"$@\"";
        let mut outer = Command::new("unshare");
        outer.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(queue);
        outer.arg(inner.get_program()).args(inner.get_args());
        outer
    })
}

#[test]
fn a_full_disk_costs_what_finds_no_room_and_nothing_else() {
    let (photos, queue) = (color_photos(), tempfile::tempdir().unwrap());
    let Some(wrap) = on_a_small_disk(queue.path()) else { return };
    if find("mosquitto").is_none() {
        return skipped("mosquitto is not installed");
    }
    let port = free_port();
    let mut daemon = Daemon::start(port, &format!("queue_dir = {:?}", queue.path()), 1, photos.path(), wrap);
    wait_until("the disk is full", || daemon.log().contains("No space left on device"));
    assert!(daemon.is_running());
    let server = server::Server::mosquitto_on(port);
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let live = viewer.wait_for("captions go on", |m| {
        m.topic == "captiond/wall0/caption" && m.json().get("late").is_none()
    });
    assert!(live.json()["counters"]["dropped"].as_u64().unwrap() > 0, "{}", live.json());
    let log = daemon.log();
    assert_eq!(log.matches("No space left on device").count(), 1, "said once: {log}");
}

#[test]
fn a_clock_that_jumps_by_years_keeps_a_queue_that_is_bounded_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (day, now) = (Duration::from_secs(86_400), SystemTime::now());
    let limits = Limits { bytes_max: 64 << 10, age_max: 7 * day };
    let mut spool = Spool::open(dir.path(), limits, now).unwrap();
    spool.push(b"now", now).unwrap();
    // Back to a time before any camera: nothing is older than it may be.
    spool.push(b"long ago", now - 20_000 * day).unwrap();
    spool.push(b"now again", now).unwrap();
    let read = |spool: &mut Spool| {
        let (mut from, mut all) = (0, Vec::new());
        while let Some((number, record)) = spool.read(from).unwrap() {
            all.push(String::from_utf8(record).unwrap());
            from = number + 1;
        }
        all
    };
    assert_eq!(read(&mut spool), ["now", "long ago", "now again"]);
    drop(spool);
    // Ten years ahead all of it is too old, and there is room for what comes.
    let mut spool = Spool::open(dir.path(), limits, now + 3650 * day).unwrap();
    spool.push(b"later", now + 3650 * day).unwrap();
    assert_eq!(read(&mut spool).last().unwrap(), "later");
    let bytes: u64 =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= limits.bytes_max, "{bytes}");
}

#[test]
fn captions_go_on_through_jumps_of_the_clock_by_years() {
    let library = ["x86_64-linux-gnu", "aarch64-linux-gnu", "arm-linux-gnueabihf"]
        .map(|machine| PathBuf::from(format!("/usr/lib/{machine}/faketime/libfaketimeMT.so.1")));
    let Some(library) = library.into_iter().find(|path| path.is_file()) else {
        return skipped("libfaketime is not installed");
    };
    let (server, photos, dir) = (server::embedded(), color_photos(), tempfile::tempdir().unwrap());
    let shift = dir.path().join("shift");
    let set = |by: &str| {
        fs::write(dir.path().join("new"), by).unwrap();
        fs::rename(dir.path().join("new"), &shift).unwrap();
    };
    set("+0y");
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let mut daemon = Daemon::start(server.port(), "", 1, photos.path(), |mut command| {
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &shift);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    });
    let year = |caption: &serde_json::Value| {
        let ts = caption["ts"].as_str().unwrap();
        ts.split('-').next().unwrap().parse::<i32>().unwrap()
    };
    let this_year = year(&caption_of(&viewer, "wall0"));
    for jump in [10, -20, 0] {
        set(&format!("{jump:+}y"));
        viewer.wait_for("a caption of another year", |m| {
            m.topic == "captiond/wall0/caption" && (year(&m.json()) - this_year - jump).abs() <= 1
        });
    }
    assert!(daemon.is_running());
    assert!(!daemon.log().contains("camera down"), "{}", daemon.log());
}

#[test]
fn without_file_descriptors_cameras_are_lost_and_come_back() {
    let (server, photos) = (server::embedded(), color_photos());
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let mut daemon = Daemon::start(server.port(), "", 1, photos.path(), same);
    caption_of(&viewer, "wall0");
    let usual = getrlimit(Resource::Nofile);
    prlimit(Some(daemon.pid()), Resource::Nofile, Rlimit { current: Some(3), maximum: usual.maximum })
        .unwrap();
    wait_until("the camera is lost", || daemon.log().contains("camera lost"));
    assert!(daemon.is_running());
    prlimit(Some(daemon.pid()), Resource::Nofile, usual).unwrap();
    wait_until("the camera is back", || daemon.log().matches("camera up").count() == 2);
    let events = ["camera_down", "camera_up"].map(|event_type| {
        viewer.wait_for(event_type, |m| {
            m.topic == "captiond/bridge/event" && m.json()["event_type"] == event_type
        })
    });
    assert!(
        events[0].json()["fault"].as_str().unwrap().contains("Too many open files"),
        "{}",
        events[0].json()
    );
    caption_of(&viewer, "wall0");
    assert!(daemon.log().contains("Too many open files"), "{}", daemon.log());
}

#[test]
fn a_process_that_was_stopped_blames_no_camera() {
    let (server, photos) = (server::embedded(), color_photos());
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let mqtt = "keep_alive = \"1m\"";
    let mut daemon = Daemon::start(server.port(), mqtt, 3, photos.path(), same);
    (0..3).for_each(|i| drop(caption_of(&viewer, &format!("wall{i}"))));
    kill_process(daemon.pid(), Signal::STOP).unwrap();
    // Longer than any camera may be silent: the time itself is what is tested.
    thread::sleep(Duration::from_secs(13));
    kill_process(daemon.pid(), Signal::CONT).unwrap();
    let resumed = SystemTime::now();
    for i in 0..3 {
        viewer.wait_for("a caption of after the stop", |m| {
            let caption = (m.topic == format!("captiond/wall{i}/caption")).then(|| m.json());
            caption
                .is_some_and(|c| humantime::parse_rfc3339(c["frame_ts"].as_str().unwrap()).unwrap() > resumed)
        });
    }
    wait_until("it noticed", || daemon.log().contains("the process stood still"));
    let log = daemon.log();
    assert!(daemon.is_running() && !log.contains("camera lost") && !log.contains("hangs"), "{log}");
}

#[test]
fn a_panic_is_in_the_log_ends_the_process_and_the_will_tells() {
    let (server, photos) = (server::embedded(), color_photos());
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let mut daemon = Daemon::start(server.port(), "", 1, photos.path(), same);
    viewer.wait_for_text("captiond/bridge/state", "online");
    caption_of(&viewer, "wall0");
    viewer.publish("captiond/wall0/ask", "panic", false);
    viewer.wait_for_text("captiond/bridge/state", "offline");
    assert_eq!(daemon.child.wait().unwrap().code(), Some(1));
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("panic, ending the process")).unwrap_or_default();
    assert!(line.contains("infer") && line.contains("as it was asked to"), "{log}");
}

#[test]
fn a_bundle_that_is_truncated_under_the_daemon_is_noticed_at_the_next_start() {
    let Some(shipped) = shipped_bundle() else { return skipped("models/lite is not there") };
    let (server, photos, dir) = (server::embedded(), color_photos(), tempfile::tempdir().unwrap());
    let bundle = dir.path().join("bundle");
    fs::create_dir(&bundle).unwrap();
    for entry in fs::read_dir(shipped).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), bundle.join(entry.file_name())).unwrap();
        }
    }
    let file = dir.path().join("captiond.toml");
    let source = format!("type = \"replay\", path = {:?}, interval = \"100ms\"", photos.path());
    let text = format!(
        "bundle = {bundle:?}\n[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n[[camera]]\nname = \"wall0\"\nsource = {{ {source} }}\ngate = {{ enabled = false }}\n",
        server.port()
    );
    fs::write(&file, text).unwrap();
    let viewer = Client::connect(server.port(), Protocol::V5, "viewer", "#");
    let mut command = Command::new(env!("CARGO_BIN_EXE_captiond"));
    command.args(["run", "--config"]).arg(&file).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let mut daemon = Daemon { child, dir };
    let seq = caption_of(&viewer, "wall0")["seq"].as_u64().unwrap();
    for entry in fs::read_dir(&bundle).unwrap() {
        let path = entry.unwrap().path();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
    }
    viewer.wait_for("captions go on", |m| {
        m.topic == "captiond/wall0/caption" && m.json()["seq"].as_u64().unwrap() > seq + 5
    });
    kill_process(daemon.pid(), Signal::TERM).unwrap();
    let deadline = Instant::now() + crate::support::DEADLINE;
    while daemon.is_running() {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(78) && said.contains("bundle"), "{said}");
}
