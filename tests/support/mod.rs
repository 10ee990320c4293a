//! Brokers, clients and a daemon that sees without a bundle.

pub mod client;
pub mod durable;
pub mod homie;
pub mod http;
pub mod proxy;
#[cfg(feature = "rtsp")]
pub mod rtsp;
pub mod server;
pub mod v4l2;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use caption::{Answer, Caption, CaptionError, ImageView, Question, Verdict};
use captiond::config::{CameraConfig, Config, EngineConfig, GATE, MqttConfig, Protocol};
use captiond::daemon::{self, Eyes};
use captiond::gate::GateConfig;
use captiond::logging::LogFormat;
use captiond::pipeline::Vision;
use captiond::pressure::Paths;
use captiond::reload::{Load, ReloadRequest};
use captiond::shutdown::Shutdown;
use captiond::source::SourceConfig;
use captiond::source::replay::{Photo, ReplayConfig};
use engine::Tensor;
use image::RgbImage;

/// How a process of a test logs.
pub const TEXT: LogFormat = LogFormat::Text { to_journal: false };

/// How long a test waits for what must come.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for a condition; panics with `what` at the deadline.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The bundle that the repository ships, once it does.
pub fn shipped_bundle() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/lite");
    dir.join("manifest.toml").is_file().then_some(dir)
}

/// An executable of the path or of the folders for daemons.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A Python 3 that has a module; `CAPTIOND_TEST_PYTHON` may name one.
pub fn python(module: &str) -> Option<String> {
    let python = std::env::var("CAPTIOND_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imported = std::process::Command::new(&python)
        .args(["-c", &format!("import {module}")])
        .stderr(std::process::Stdio::null())
        .status();
    let has_it = imported.is_ok_and(|status| status.success());
    if !has_it {
        skipped(&format!("no Python with {module}"));
    }
    has_it.then_some(python)
}

/// Says why a test did nothing.
pub fn skipped(why: &str) {
    say(&format!("skipped: {why}"));
}

/// Says a line, whatever the test harness keeps to itself.
pub fn say(line: &str) {
    use io::Write;
    // Straight to the descriptor: the test harness keeps what goes through `println!`.
    drop(writeln!(io::stderr(), "{line}"));
}

/// Sees the color of the first pixel and nothing else.
pub struct ColorVision {
    /// Answers wait here while it is held.
    pub hold: Hold,
}

/// A gate that a test opens.
#[derive(Clone, Default)]
pub struct Hold(Arc<(Mutex<Held>, Condvar)>);

#[derive(Default)]
struct Held {
    closed: bool,
    n_waiting: usize,
}

impl Hold {
    pub fn set(&self, closed: bool) {
        self.0.0.lock().unwrap().closed = closed;
        self.0.1.notify_all();
    }

    pub fn n_waiting(&self) -> usize {
        self.0.0.lock().unwrap().n_waiting
    }

    fn pass(&self) {
        let mut held = self.0.0.lock().unwrap();
        held.n_waiting += 1;
        while held.closed {
            held = self.0.1.wait(held).unwrap();
        }
        held.n_waiting -= 1;
    }
}

fn color(view: &ImageView) -> &'static str {
    let names = ["red", "green", "blue"];
    let loudest = (0..3).max_by(|a, b| view.embedding[*a].total_cmp(&view.embedding[*b]));
    names[loudest.unwrap()]
}

impl Vision for ColorVision {
    fn preprocess(&self, image: &RgbImage) -> Tensor {
        let pixel = image.get_pixel(0, 0).0.map(f32::from);
        Tensor::f32([3], pixel.to_vec())
    }

    fn is_doubtful(&self, _: &Tensor) -> bool {
        false
    }

    fn encode(&mut self, pixels: &Tensor) -> Result<ImageView, CaptionError> {
        let pixels = pixels.as_f32().unwrap();
        let norm = pixels.iter().map(|x| x * x).sum::<f32>().sqrt().max(1.0);
        let embedding = pixels.iter().map(|x| x / norm).collect();
        Ok(ImageView { embedding, patches: vec![], weights: vec![] })
    }

    fn caption(&mut self, view: &ImageView, _opening: &str) -> Result<Caption, CaptionError> {
        Ok(Caption { text: format!("a {} wall", color(view)), score: 0.5 })
    }

    fn answer(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError> {
        self.hold.pass();
        let answer = match &question.choices[..] {
            [] => color(view).to_owned(),
            choices => choices.iter().find(|choice| *choice == color(view)).unwrap_or(&choices[0]).clone(),
        };
        Ok(Answer {
            text: answer.clone(),
            score: 0.75,
            verdict: Verdict::Answered,
            candidates: vec![(answer, 0.75)],
        })
    }

    fn logit_rows(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, CaptionError> {
        let row = |text: &String| ["red", "green", "blue"].map(|name| if text == name { 10.0 } else { 0.0 });
        Ok(texts.iter().map(|text| row(text).to_vec()).collect())
    }
}

pub fn eyes(hold: &Hold, n_cameras: usize) -> Eyes {
    Eyes::shared(Box::new(ColorVision { hold: hold.clone() }), "color@00000000".to_owned(), n_cameras)
}

/// A folder with one red, one green and one blue photo.
pub fn color_photos() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, color) in [("1-red", [220, 9, 9]), ("2-green", [9, 220, 9]), ("3-blue", [9, 9, 220])] {
        let image = RgbImage::from_pixel(64, 48, image::Rgb(color));
        image.save(dir.path().join(name).with_extension("png")).unwrap();
    }
    dir
}

/// A daemon with one camera, `wall`, that replays `photos` again and again.
pub fn config(port: u16, protocol: Protocol, photos: &Path) -> Config {
    let replay = ReplayConfig {
        photos: vec![Photo::Folder(photos.to_owned())],
        interval: Duration::from_millis(100),
        repeat: true,
    };
    let camera = CameraConfig {
        gate: GateConfig { refresh: Duration::from_secs(5), heartbeat: Duration::from_secs(5), ..GATE },
        ..CameraConfig::new("wall", SourceConfig::Replay(replay))
    };
    Config {
        bundle: None,
        engine: EngineConfig::default(),
        threads: std::num::NonZeroUsize::MIN,
        mqtt: MqttConfig { host: "127.0.0.1".to_owned(), port, protocol, ..MqttConfig::default() },
        cameras: vec![camera],
        http: None,
        worker: None,
    }
}

/// On a machine that is neither hot nor short of memory, whatever else runs on it.
pub fn calm() -> daemon::Options {
    let nowhere = PathBuf::from("/nonexistent");
    let pressure = Paths { thermal: nowhere.clone(), cgroup: None, memory_pressure: nowhere };
    daemon::Options { pressure, ..daemon::Options::default() }
}

/// A daemon on a thread of this process.
pub struct RunningDaemon {
    shutdown: Shutdown,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    pub hold: Hold,
}

impl RunningDaemon {
    pub fn start(config: Config) -> RunningDaemon {
        let hold = Hold::default();
        let eyes = eyes(&hold, config.cameras.len());
        RunningDaemon::start_with(config, eyes, hold)
    }

    /// One whose configuration can change.
    pub fn start_reloadable(config: Config, request: ReloadRequest, load: Load) -> RunningDaemon {
        let hold = Hold::default();
        let eyes = eyes(&hold, config.cameras.len());
        let shutdown = Shutdown::new();
        let inner = shutdown.clone();
        let options = daemon::Options { reload: Some((request, load)), ..calm() };
        let thread = thread::spawn(move || daemon::run_with(&config, eyes, &inner, options));
        RunningDaemon { shutdown, thread: Some(thread), hold }
    }

    /// With other eyes; `hold` is theirs.
    pub fn start_with(config: Config, eyes: Eyes, hold: Hold) -> RunningDaemon {
        let shutdown = Shutdown::new();
        let inner = shutdown.clone();
        let thread = thread::spawn(move || daemon::run_with(&config, eyes, &inner, calm()));
        RunningDaemon { shutdown, thread: Some(thread), hold }
    }

    pub fn stop(mut self) {
        self.shutdown.request();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for RunningDaemon {
    /// A failing test must not leave a daemon behind.
    fn drop(&mut self) {
        self.hold.set(false);
        self.shutdown.request();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
