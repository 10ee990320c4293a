//! The table `source` of a camera: one function a kind.

use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(feature = "gstreamer")]
use super::GSTREAMER_INTERVAL;
#[cfg(feature = "rtsp")]
use super::RTSP_INTERVAL;
#[cfg(any(feature = "rtsp", feature = "gstreamer"))]
use super::STREAM_SILENCE;
use super::reader::Section;
use super::{
    FOLDER_INTERVAL, HTTP_INTERVAL, MQTT_IMAGE_BYTES_LIMIT, MQTT_IMAGE_BYTES_MAX, PIPE_INTERVAL,
    REPLAY_INTERVAL, Secret, V4L2_HEIGHT, V4L2_INTERVAL, V4L2_WIDTH,
};
use crate::photo;
use crate::source::SourceConfig;
use crate::source::credentials::take_credentials;
use crate::source::folder::FolderConfig;
#[cfg(feature = "gstreamer")]
use crate::source::gstreamer::{GstreamerConfig, Launch};
use crate::source::http::HttpConfig;
use crate::source::mqtt_image::MqttImageConfig;
use crate::source::pipe::{PipeConfig, PipeFormat};
use crate::source::pixels::PixelFormat;
use crate::source::replay::{Photo, ReplayConfig};
#[cfg(feature = "rtsp")]
use crate::source::rtsp::{Address, RtspConfig, Transport};
use crate::source::v4l2::V4l2Config;
use crate::source::v4l2::controls::{Setting, Value, normalized};

pub(super) fn source(section: &mut Section<'_>, folder: &Path) -> Option<SourceConfig> {
    match section.variant("type", &KINDS)? {
        "replay" => replay(section, folder).map(SourceConfig::Replay),
        "folder" => watched(section, folder).map(SourceConfig::Folder),
        "v4l2" => v4l2(section).map(SourceConfig::V4l2),
        "http" => http(section, folder).map(SourceConfig::Http),
        "pipe" => pipe(section).map(SourceConfig::Pipe),
        "mqtt" => mqtt(section).map(SourceConfig::Mqtt),
        #[cfg(feature = "rtsp")]
        "rtsp" => rtsp(section, folder).map(SourceConfig::Rtsp),
        #[cfg(feature = "gstreamer")]
        "gstreamer" => gstreamer(section).map(SourceConfig::Gstreamer),
        // Those that are built stand above.
        kind => {
            let why = format!("{kind:?} needs a build with the feature {kind} (the packages have it)");
            section.problem("type", why);
            section.forgive_unknown_keys();
            None
        }
    }
}

const KINDS: [&str; 8] = ["v4l2", "rtsp", "http", "pipe", "gstreamer", "mqtt", "folder", "replay"];

/// From one frame that is looked at to the next.
fn interval(section: &mut Section<'_>, default: Duration) -> Duration {
    section.duration("interval", Duration::from_millis(10)..=Duration::from_secs(86_400)).unwrap_or(default)
}

fn v4l2(section: &mut Section<'_>) -> Option<V4l2Config> {
    let side = 1..=u64::from(photo::SIDE_MAX);
    let device = section.required_string("device").map(PathBuf::from);
    let width = section.integer("width", side.clone()).map_or(V4L2_WIDTH, |n| n as u32);
    let height = section.integer("height", side).map_or(V4L2_HEIGHT, |n| n as u32);
    let interval = interval(section, V4L2_INTERVAL);
    let format =
        section.word("format", &PixelFormat::ALL.map(PixelFormat::name)).and_then(PixelFormat::named);
    let controls = section.section("controls", |section| Some(settings(section))).unwrap_or_default();
    Some(V4l2Config { device: device?, width, height, interval, format, controls })
}

/// Which controls there are is the camera's to say, when it is opened.
fn settings(section: &mut Section<'_>) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    for (key, value) in section.rest() {
        let value = match value {
            toml::Value::Integer(n) => Value::Number(n),
            toml::Value::Boolean(on) => Value::Switch(on),
            toml::Value::String(text) => Value::Text(text),
            other => {
                let wanted = "an integer, true or false, or the text of a menu's entry";
                section.problem(&key, format!("must be {wanted} (got {})", other.type_str()));
                continue;
            }
        };
        let name = normalized(&key);
        if name.is_empty() {
            section.problem(&key, "is no name of a control, such as brightness");
        } else if settings.iter().any(|setting| setting.name == name) {
            section.problem(&key, format!("{name} is set twice"));
        } else {
            settings.push(Setting { name, value });
        }
    }
    settings
}

/// An address with its credentials, which are moved out of it: nothing that is printed may hold them.
fn http(section: &mut Section<'_>, folder: &Path) -> Option<HttpConfig> {
    let url = section.required_string("url");
    let username = section.string("username");
    let password_file = section.string("password_file").map(|path| folder.join(path));
    let ca_file = section.string("ca_file").map(|path| folder.join(path));
    if let Some(path) = &ca_file
        && let Err(e) = std::fs::File::open(path)
    {
        section.problem("ca_file", format!("{}: {e}", path.display()));
    }
    let interval = interval(section, HTTP_INTERVAL);
    let mut url = match reqwest::Url::parse(&url?) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        _ => {
            section.problem("url", "must be an address such as \"http://camera/snapshot.jpg\"");
            return None;
        }
    };
    let credentials = url_credentials(section, &mut url, username, password_file);
    Some(HttpConfig { url, credentials, ca_file, interval })
}

fn url_credentials(
    section: &mut Section<'_>,
    url: &mut reqwest::Url,
    username: Option<String>,
    password_file: Option<PathBuf>,
) -> Option<(String, Secret)> {
    let within = take_credentials(url).unwrap_or_else(|()| {
        section.problem("url", "cannot hold a username");
        None
    });
    if username.is_none() && password_file.is_some() {
        section.problem("password_file", "needs a username");
    }
    if within.is_some() && username.is_some() {
        section.problem("username", "stands in the url, too");
    }
    let password = password_file.map(|path| super::secret(section, "password_file", &path));
    match username {
        Some(username) => Some((username, password.unwrap_or_else(|| Secret::new(String::new())))),
        None => within,
    }
}

fn pipe(section: &mut Section<'_>) -> Option<PipeConfig> {
    section.report_missing("command");
    let command = section.strings("command");
    if command.as_ref().is_some_and(|words| words.first().is_none_or(String::is_empty)) {
        section.problem("command", "must name a program, and may have arguments after it");
    }
    let format = section.word("format", &["mjpeg", "rgb24"]).unwrap_or("mjpeg");
    let side = 1..=u64::from(photo::SIDE_MAX);
    let [width, height] = ["width", "height"].map(|key| section.integer(key, side.clone()));
    let interval = interval(section, PIPE_INTERVAL);
    let format = match (format, width, height) {
        ("mjpeg", None, None) => PipeFormat::Mjpeg,
        ("mjpeg", _, _) => {
            section.problem("width", "and height are those of the pictures themselves with format \"mjpeg\"");
            return None;
        }
        ("rgb24", Some(width), Some(height)) if width * height * 3 <= photo::DECODED_BYTES_MAX => {
            PipeFormat::Rgb24 { width: width as u32, height: height as u32 }
        }
        _ => {
            section.problem("format", "\"rgb24\" needs the width and height that the program writes");
            return None;
        }
    };
    Some(PipeConfig { command: command?, format, interval })
}

fn mqtt(section: &mut Section<'_>) -> Option<MqttImageConfig> {
    let topic = section.required_string("topic");
    let bytes_max = section.integer("bytes_max", 1_000..=MQTT_IMAGE_BYTES_LIMIT as u64);
    if topic.as_ref().is_some_and(|topic| !super::is_topic(topic)) {
        section.problem("topic", "must be a topic without wildcards");
    }
    let bytes_max = bytes_max.map_or(MQTT_IMAGE_BYTES_MAX, |n| n as usize);
    Some(MqttImageConfig { topic: topic?, bytes_max })
}

fn watched(section: &mut Section<'_>, folder: &Path) -> Option<FolderConfig> {
    let path = section.required_string("path").map(|path| folder.join(path));
    let interval = interval(section, FOLDER_INTERVAL);
    if let Some(path) = &path
        && !path.is_dir()
    {
        section.problem("path", format!("{} is not a folder", path.display()));
    }
    Some(FolderConfig { path: path?, interval })
}

#[cfg(feature = "rtsp")]
fn rtsp(section: &mut Section<'_>, folder: &Path) -> Option<RtspConfig> {
    let address = section
        .required_string("url")
        .and_then(|url| Address::parse(&url).map_err(|why| section.problem("url", why)).ok());
    let credentials = super::mqtt::credentials(section, folder);
    let transport = match section.word("transport", &["tcp", "udp"]) {
        Some("udp") => Transport::Udp,
        _ => Transport::Tcp,
    };
    let interval = interval(section, RTSP_INTERVAL);
    let (address, in_url) = address?;
    if in_url.is_some() && credentials.is_some() {
        section.problem("username", "the url has one already");
    }
    Some(RtspConfig {
        address,
        credentials: credentials.or(in_url),
        transport,
        interval,
        silence: STREAM_SILENCE,
    })
}

#[cfg(feature = "gstreamer")]
fn gstreamer(section: &mut Section<'_>) -> Option<GstreamerConfig> {
    let launch = section.required_string("pipeline").map(Launch::new);
    let interval = interval(section, GSTREAMER_INTERVAL);
    Some(GstreamerConfig { launch: launch?, interval, silence: STREAM_SILENCE })
}

fn replay(section: &mut Section<'_>, folder: &Path) -> Option<ReplayConfig> {
    let path = section.string("path");
    let files = section.strings("files");
    let interval = interval(section, REPLAY_INTERVAL);
    let repeat = section.boolean("loop").unwrap_or(true);
    let photos = replayed(section, path, files, folder)?;
    Some(ReplayConfig { photos, interval, repeat })
}

/// Photos must exist when the daemon starts: a typo would otherwise be a camera that never comes.
fn replayed(
    section: &mut Section<'_>,
    path: Option<String>,
    files: Option<Vec<String>>,
    folder: &Path,
) -> Option<Vec<Photo>> {
    let (key, paths) = match (path, files) {
        (Some(path), None) => ("path", vec![path]),
        (None, Some(files)) if !files.is_empty() => ("files", files),
        _ => {
            section.problem("path", "one of path (a folder or a photo) and files (a list) is needed");
            return None;
        }
    };
    let mut photos = Vec::with_capacity(paths.len());
    for path in paths {
        let path = folder.join(path);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() && key == "path" => photos.push(Photo::Folder(path)),
            Ok(metadata) if metadata.is_file() => photos.push(Photo::File(path)),
            Ok(_) => section.problem(key, format!("{} is not a photo", path.display())),
            Err(e) => section.problem(key, format!("{}: {e}", path.display())),
        }
    }
    Some(photos)
}
