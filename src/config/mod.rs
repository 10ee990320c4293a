//! The configuration file, checked.
//!
//! [`Config::load`] reports every problem of a file at once, each with its TOML path, and what it
//! returns holds no value that the daemon would have to check again. All defaults are here. The
//! text of `docs/config.md` is in `document`.

mod camera;
pub mod document;
mod environment;
mod inference;
mod layers;
mod mqtt;
mod outline;
mod outputs;
mod problem;
mod reader;
pub mod reference;
pub mod schema;
mod source;
mod standing;
mod worker;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use camera::{CameraConfig, FROZEN, NAME_MAX, PROMPT_CHARS_MAX, is_prompt};
pub use environment::{bundle_dir, engine_library, log_filter, log_format};
pub use inference::{DEVICE_BYTES_LEAST, DEVICE_BYTES_MOST, ENGINE, EngineConfig};
pub use layers::FRAGMENTS;
use layers::Layers;
pub use problem::{Place, Problem, Problems};
use reader::Section;
pub use standing::{answer_kind, parse_change};
pub use worker::{
    JOB_BYTES_LIMIT, JOB_BYTES_MAX, WORKER_GROUP, WORKER_RECEIVE_MAX, WORKER_SESSION_EXPIRY, WorkerConfig,
};

use crate::gate::GateConfig;
use crate::spool::Limits;
use crate::tls::Tls;

/// Where the configuration is unless a command is told another place.
pub const FILE: &str = "/etc/captiond/captiond.toml";
pub const MQTT_HOST: &str = "localhost";
pub const MQTT_PORT: u16 = 1883;
/// Where brokers listen for TLS.
pub const MQTT_TLS_PORT: u16 = 8883;
pub const BASE_TOPIC: &str = "captiond";
pub const DISCOVERY_PREFIX: &str = "homeassistant";
pub const SESSION_EXPIRY: Duration = Duration::from_secs(300);
pub const QUEUE: Limits = Limits { bytes_max: 16 << 20, age_max: Duration::from_secs(7 * 86_400) };
pub const HOMIE_DOMAIN: &str = "homie";
/// An example: nothing is listened on unless it is asked for.
pub const HTTP_LISTEN: &str = "127.0.0.1:9464";
pub const KEEP_ALIVE: Duration = Duration::from_secs(30);
pub const REPLAY_INTERVAL: Duration = Duration::from_secs(2);
pub const FOLDER_INTERVAL: Duration = Duration::from_secs(1);
pub const HTTP_INTERVAL: Duration = Duration::from_secs(1);
pub const PIPE_INTERVAL: Duration = Duration::from_millis(500);
pub const MQTT_IMAGE_BYTES_MAX: usize = 2 << 20;
/// The most that may be asked for.
pub const MQTT_IMAGE_BYTES_LIMIT: usize = 32 << 20;
pub const V4L2_INTERVAL: Duration = Duration::from_millis(500);
pub const V4L2_WIDTH: u32 = 640;
pub const V4L2_HEIGHT: u32 = 480;
/// Most cameras send a keyframe every second or two, and those alone cost little to decode.
pub const RTSP_INTERVAL: Duration = Duration::from_secs(2);
pub const GSTREAMER_INTERVAL: Duration = Duration::from_millis(500);
/// A stream without video for so long is opened anew.
pub const STREAM_SILENCE: Duration = Duration::from_secs(10);
pub const GATE: GateConfig = GateConfig {
    enabled: true,
    pixel_change: 0.01,
    similarity: 0.95,
    deviations: 4.0,
    refresh: Duration::from_secs(3600),
    heartbeat: Duration::from_secs(60),
    min_interval: Duration::ZERO,
    burst: 1,
};

const CAMERAS_MAX: usize = 64;
const THREADS_MAX: usize = 64;
const TOPIC_MAX: usize = 128;
const QUEUE_BYTES_LEAST: u64 = 64 << 10;
const QUEUE_BYTES_MOST: u64 = 1 << 30;

/// What the daemon runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder named in the file; without one it is looked for, see [`bundle_dir`].
    pub bundle: Option<PathBuf>,
    pub engine: EngineConfig,
    /// Threads of one inference.
    pub threads: NonZeroUsize,
    pub mqtt: MqttConfig,
    /// With distinct names; at least one where there is no worker.
    pub cameras: Vec<CameraConfig>,
    /// Where metrics and health are told over HTTP; none where they are not.
    pub http: Option<SocketAddr>,
    /// None where no jobs are taken.
    pub worker: Option<WorkerConfig>,
}

/// Where and how to publish.
#[derive(Clone, Debug)]
pub struct MqttConfig {
    pub host: String,
    pub port: u16,
    pub protocol: Protocol,
    pub credentials: Option<(String, Secret)>,
    /// Without one it is derived from the machine and the base topic.
    pub client_id: Option<String>,
    /// One or more topic levels without wildcards.
    pub base_topic: String,
    pub qos: Qos,
    /// Whether the broker keeps captions, pictures, labels and answers to standing questions.
    pub retain: bool,
    pub keep_alive: Duration,
    /// The prefix under which Home Assistant is told of the cameras; none where it is not.
    pub discovery: Option<String>,
    /// The first level of the topics by the Homie convention; none where there are none.
    pub homie: Option<String>,
    /// The first levels of the topics of ONVIF events; none where there are none.
    pub onvif_prefix: Option<String>,
    /// None where the connection is not encrypted.
    pub tls: Option<Tls>,
    /// For how long the broker keeps the session while the daemon is away; none where it starts clean.
    pub session_expiry: Option<Duration>,
    /// Where captions and events wait while the broker is away; none where they are dropped.
    pub queue: Option<QueueConfig>,
}

/// The queue on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    pub dir: PathBuf,
    pub limits: Limits,
}

impl Default for MqttConfig {
    fn default() -> Self {
        MqttConfig {
            host: MQTT_HOST.to_owned(),
            port: MQTT_PORT,
            protocol: Protocol::V5,
            credentials: None,
            client_id: None,
            base_topic: BASE_TOPIC.to_owned(),
            qos: Qos::AtLeastOnce,
            retain: true,
            keep_alive: KEEP_ALIVE,
            discovery: Some(DISCOVERY_PREFIX.to_owned()),
            homie: None,
            onvif_prefix: None,
            tls: None,
            session_expiry: Some(SESSION_EXPIRY),
            queue: None,
        }
    }
}

/// The version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    V5,
    V311,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::V5 => "5",
            Protocol::V311 => "3.1.1",
        }
    }
}

/// How surely a message is delivered. Exactly once is of no use: every message is the whole state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    AtMostOnce = 0,
    AtLeastOnce = 1,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Threads of one inference unless the file says otherwise.
pub fn default_threads() -> NonZeroUsize {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    cores.min(NonZeroUsize::MIN.saturating_add(3))
}

impl Config {
    /// Reads and checks a file, those of [`FRAGMENTS`] beside it, and the environment. Relative paths start at the
    /// folder of the file, wherever they are said.
    ///
    /// # Errors
    /// Every problem, with the file and the line or the variable where it is.
    pub fn load(path: &Path) -> Result<Config, Problems> {
        Config::load_with(path, &environment::variables())
    }

    /// The same with another environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_with(path: &Path, variables: &[(String, String)]) -> Result<Config, Problems> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut layers = Layers::read(path)?;
        let overridden = layers.override_by(variables, &outline());
        let config = reader::read(layers.table.clone(), |root| config(root, folder));
        match (config, overridden) {
            (Ok(config), Ok(())) => Ok(config),
            (config, overridden) => {
                let mut problems = overridden.err().map(|problems| problems.0).unwrap_or_default();
                problems.extend(config.err().map(|problems| layers.place(problems).0).unwrap_or_default());
                Err(Problems(problems))
            }
        }
    }

    /// Checks the text of a file that lies in `folder`.
    ///
    /// # Errors
    /// Every problem of the text; a syntax error alone, with its line.
    pub fn parse(text: &str, folder: &Path) -> Result<Config, Problems> {
        let table: toml::Table = text.parse().map_err(|e| {
            let (line, why) = syntax_error(text, &e);
            Problems::one("", format!("line {line}, {why}"))
        })?;
        reader::read(table, |root| config(root, folder))
    }
}

/// The line, and what is wrong there, without the line itself: it may hold a password.
fn syntax_error(text: &str, e: &toml::de::Error) -> (usize, String) {
    let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, format!("column {column}: {}", e.message()))
}

/// Every key that is read.
fn outline() -> outline::Outline {
    reader::outline(|root| config(root, Path::new("")))
}

fn config(root: &mut Section<'_>, folder: &Path) -> Option<Config> {
    let bundle = root.string("bundle").map(|path| folder.join(path));
    let engine = inference::engine(root, folder);
    let threads = root.integer("threads", 1..=THREADS_MAX as u64).and_then(|n| NonZeroUsize::new(n as usize));
    let mqtt = root.section("mqtt", |section| mqtt::mqtt(section, folder));
    let cameras = root.sections("camera", |section| camera::camera(section, folder));
    let worker = root.section("worker", worker::worker);
    let http = root.section("http", http);
    if cameras.is_empty() && worker.is_none() {
        root.problem("camera", "at least one [[camera]] is needed, or a [worker]");
    }
    if cameras.len() > CAMERAS_MAX {
        root.problem("camera", format!("more than {CAMERAS_MAX} cameras"));
    }
    let mut cameras_checked: Vec<CameraConfig> = Vec::new();
    for (i, camera) in cameras.into_iter().enumerate() {
        let Some(camera) = camera else { continue };
        if cameras_checked.iter().any(|other| other.name == camera.name) {
            root.problem(&format!("camera[{i}].name"), format!("{:?} is taken", camera.name));
        }
        cameras_checked.push(camera);
    }
    let mqtt = mqtt.unwrap_or_default();
    if mqtt.homie.is_some() {
        outputs::refuse_same_homie_ids(root, &cameras_checked);
    }
    if worker.is_some() {
        worker::check(root, &mqtt);
    }
    Some(Config {
        bundle,
        engine,
        threads: threads.unwrap_or_else(default_threads),
        mqtt,
        cameras: cameras_checked,
        http,
        worker,
    })
}

/// Where to listen. Nothing is encrypted and nobody is asked who they are, so beyond this machine has to be asked for.
fn http(section: &mut Section<'_>) -> Option<SocketAddr> {
    let text = section.required_string("listen");
    let is_remote = section.boolean("remote").unwrap_or(false);
    let text = text?;
    let Ok(address) = text.parse::<SocketAddr>() else {
        section.problem(
            "listen",
            format!("must be an address and a port such as {HTTP_LISTEN:?} (got {text:?})"),
        );
        return None;
    };
    if !address.ip().is_loopback() && !is_remote {
        section.problem("listen", format!("must be of this machine alone, or remote = true (got {text:?})"));
    }
    Some(address)
}

/// The text of a file that holds a secret alone.
fn secret(section: &mut Section<'_>, key: &str, path: &Path) -> Secret {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim_end().is_empty() => {
            return Secret::new(text.trim_end_matches(['\r', '\n']).to_owned());
        }
        Ok(_) => section.problem(key, format!("{} is empty", path.display())),
        Err(e) => section.problem(key, format!("read {}: {e}", path.display())),
    }
    Secret::new(String::new())
}

fn is_base_topic(topic: &str) -> bool {
    is_topic(topic) && topic.split('/').all(|level| !level.is_empty())
}

fn is_topic(topic: &str) -> bool {
    (1..=TOPIC_MAX).contains(&topic.len()) && !topic.starts_with('$') && !topic.contains(['+', '#', '\0'])
}

#[cfg(test)]
mod tests;
