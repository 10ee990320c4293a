//! The table `source` of a camera: one function a kind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Section;
use super::{REPLAY_INTERVAL, V4L2_HEIGHT, V4L2_INTERVAL, V4L2_WIDTH};
use crate::photo;
use crate::source::SourceConfig;
use crate::source::replay::{Photo, ReplayConfig};
use crate::source::v4l2::V4l2Config;

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
    Some(V4l2Config { device: device?, width, height, interval })
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
