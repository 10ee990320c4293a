//! The table `source` of a camera: one function a kind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Section;
use super::{REPLAY_INTERVAL, V4L2_HEIGHT, V4L2_INTERVAL, V4L2_WIDTH};
use crate::photo;
use crate::source::SourceConfig;
use crate::source::pixels::PixelFormat;
use crate::source::replay::{Photo, ReplayConfig};
use crate::source::v4l2::V4l2Config;
use crate::source::v4l2::controls::{Setting, Value, normalized};

pub(super) fn source(section: &mut Section<'_>, folder: &Path) -> Option<SourceConfig> {
    match section.required_string("type")?.as_str() {
        "replay" => replay(section, folder).map(SourceConfig::Replay),
        "v4l2" => v4l2(section).map(SourceConfig::V4l2),
        other => {
            section.problem("type", format!("must be \"replay\" or \"v4l2\" (got {other:?})"));
            section.forgive_unknown_keys();
            None
        }
    }
}

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
    let format = section.string("format").and_then(|name| pixel_format(section, &name));
    let controls = section.section("controls", |section| Some(settings(section))).unwrap_or_default();
    Some(V4l2Config { device: device?, width, height, interval, format, controls })
}

fn pixel_format(section: &Section<'_>, name: &str) -> Option<PixelFormat> {
    let format = PixelFormat::named(name);
    if format.is_none() {
        let known = PixelFormat::ALL.map(PixelFormat::name).join(", ");
        section.problem("format", format!("must be one of {known} (got {name:?})"));
    }
    format
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
