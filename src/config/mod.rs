//! The configuration file, checked.
//!
//! [`Config::load`] reports every problem of a file at once, each with its TOML path, and what it
//! returns holds no value that the daemon would have to check again. All defaults are here. The
//! text of `docs/config.md` is in `reference`.

mod bundle_dir;
mod camera;
mod problem;
mod reader;
pub mod reference;
mod source;
mod worker;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::Device;

pub use bundle_dir::{bundle_dir, log_filter};
pub use camera::{CameraConfig, FROZEN, NAME_MAX, PROMPT_CHARS_MAX, is_prompt};
pub use problem::{Problem, Problems};
use reader::Section;
pub use worker::{
    JOB_BYTES_LIMIT, JOB_BYTES_MAX, WORKER_GROUP, WORKER_RECEIVE_MAX, WORKER_SESSION_EXPIRY, WorkerConfig,
};

use crate::gate::GateConfig;
use crate::tls::{Tls, TlsSettings};

pub const ENGINE: &str = "tract";
pub const MQTT_HOST: &str = "localhost";
pub const MQTT_PORT: u16 = 1883;
/// Where brokers listen for TLS.
pub const MQTT_TLS_PORT: u16 = 8883;
pub const BASE_TOPIC: &str = "captiond";
pub const DISCOVERY_PREFIX: &str = "homeassistant";
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
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the daemon runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder named in the file; without one it is looked for, see [`bundle_dir`].
    pub bundle: Option<PathBuf>,
    pub engine: String,
    pub device: Device,
    /// Threads of one inference.
    pub threads: NonZeroUsize,
    pub mqtt: MqttConfig,
    /// With distinct names; at least one where there is no worker.
    pub cameras: Vec<CameraConfig>,
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
    pub keep_alive: Duration,
    /// The prefix under which Home Assistant is told of the cameras; none where it is not.
    pub discovery: Option<String>,
    /// None where the connection is not encrypted.
    pub tls: Option<Tls>,
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
            keep_alive: KEEP_ALIVE,
            discovery: Some(DISCOVERY_PREFIX.to_owned()),
            tls: None,
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
    /// Reads and checks a file. Relative paths in it start at its folder.
    ///
    /// # Errors
    /// Every problem of the file.
    pub fn load(path: &Path) -> Result<Config, Problems> {
        let unreadable = |why: String| Problems::one("", format!("read {}: {why}", path.display()));
        let size = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(unreadable(format!("{size} bytes are more than {FILE_BYTES_MAX}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        Config::parse(&text, path.parent().unwrap_or(Path::new("")))
    }

    /// Checks the text of a file that lies in `folder`.
    ///
    /// # Errors
    /// Every problem of the text; a syntax error alone, with its line.
    pub fn parse(text: &str, folder: &Path) -> Result<Config, Problems> {
        let table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| Problems::one("", e.to_string().trim_end()))?;
        reader::read(table, |root| config(root, folder))
    }
}

fn config(root: &mut Section<'_>, folder: &Path) -> Option<Config> {
    let bundle = root.string("bundle").map(|path| folder.join(path));
    let engine = root.string("engine").unwrap_or_else(|| ENGINE.to_owned());
    if let Err(e) = engine::open(&engine) {
        root.problem("engine", e.to_string());
    }
    let device = match root.string("device").as_deref() {
        None | Some("cpu") => Device::Cpu,
        Some(text) => match text.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(idx)) => Device::Cuda(idx),
            _ => {
                root.problem("device", format!("must be \"cpu\" or \"cuda:N\" (got {text:?})"));
                Device::Cpu
            }
        },
    };
    let threads = root.integer("threads", 1..=THREADS_MAX as u64).and_then(|n| NonZeroUsize::new(n as usize));
    let mqtt = root.section("mqtt", |section| mqtt(section, folder));
    let cameras = root.sections("camera", |section| camera::camera(section, folder));
    let worker = root.section("worker", worker::worker);
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
    if worker.is_some() {
        worker::check(root, &mqtt);
    }
    Some(Config {
        bundle,
        engine,
        device,
        threads: threads.unwrap_or_else(default_threads),
        mqtt,
        cameras: cameras_checked,
        worker,
    })
}

fn mqtt(section: &mut Section<'_>, folder: &Path) -> Option<MqttConfig> {
    let default = MqttConfig::default();
    let host = section.string("host").unwrap_or(default.host);
    if host.is_empty() {
        section.problem("host", "is empty");
    }
    let tls = tls(section, folder);
    let usual = if tls.is_some() { MQTT_TLS_PORT } else { default.port };
    let port = section.integer("port", 1..=u64::from(u16::MAX)).map_or(usual, |port| port as u16);
    let protocol = match section.string("protocol").as_deref() {
        None | Some("5") => Protocol::V5,
        Some("3.1.1") => Protocol::V311,
        Some(other) => {
            section.problem("protocol", format!("must be \"5\" or \"3.1.1\" (got {other:?})"));
            Protocol::V5
        }
    };
    let credentials = credentials(section, folder);
    let client_id = section.string("client_id");
    if client_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > TOPIC_MAX) {
        section.problem("client_id", format!("must have 1 to {TOPIC_MAX} bytes"));
    }
    let base_topic = section.string("base_topic").unwrap_or(default.base_topic);
    if !is_base_topic(&base_topic) {
        let why = "must be topic levels without wildcards, such as \"captiond\" or \"home/captiond\"";
        section.problem("base_topic", format!("{why} (got {base_topic:?})"));
    }
    let qos = match section.integer("qos", 0..=1) {
        Some(0) => Qos::AtMostOnce,
        _ => default.qos,
    };
    let hour = Duration::from_secs(3600);
    let keep_alive =
        section.duration("keep_alive", Duration::from_secs(5)..=hour).unwrap_or(default.keep_alive);
    let discovery = discovery(section);
    Some(MqttConfig {
        host,
        port,
        protocol,
        credentials,
        client_id,
        base_topic,
        qos,
        keep_alive,
        discovery,
        tls,
    })
}

/// The files are read here: a name that is misspelt would else be a broker that is down.
fn tls(section: &mut Section<'_>, folder: &Path) -> Option<Tls> {
    let is_wanted = section.boolean("tls").unwrap_or(false);
    let mut path = |key: &str| section.string(key).map(|path| folder.join(path));
    let [ca_file, cert_file, key_file] = ["ca_file", "cert_file", "key_file"].map(&mut path);
    let alpn = section.strings("alpn").unwrap_or_default();
    if !is_wanted {
        if ca_file.is_some() || cert_file.is_some() || key_file.is_some() || !alpn.is_empty() {
            section.problem("tls", "must be true for ca_file, cert_file, key_file and alpn");
        }
        return None;
    }
    let identity = match (cert_file, key_file) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some((cert, key)),
        _ => {
            section.problem("cert_file", "and key_file are needed together");
            return None;
        }
    };
    let loaded = TlsSettings { ca_file, identity, alpn }.load();
    loaded.map_err(|e| section.problem("tls", e.to_string())).ok()
}

fn discovery(section: &mut Section<'_>) -> Option<String> {
    let is_wanted = section.boolean("discovery").unwrap_or(true);
    let prefix = section.string("discovery_prefix").unwrap_or_else(|| DISCOVERY_PREFIX.to_owned());
    if !is_base_topic(&prefix) {
        let why = "must be topic levels without wildcards, such as \"homeassistant\"";
        section.problem("discovery_prefix", format!("{why} (got {prefix:?})"));
    }
    is_wanted.then_some(prefix)
}

fn credentials(section: &mut Section<'_>, folder: &Path) -> Option<(String, Secret)> {
    let username = section.string("username");
    let file = section.string("password_file").map(|path| folder.join(path));
    if username.is_none() && file.is_some() {
        section.problem("password_file", "needs a username");
    }
    let password = file.map(|path| secret(section, "password_file", &path));
    username.map(|username| (username, password.unwrap_or_else(|| Secret::new(String::new()))))
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
