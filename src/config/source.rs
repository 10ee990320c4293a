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
use super::{REPLAY_INTERVAL, V4L2_HEIGHT, V4L2_INTERVAL, V4L2_WIDTH};
use crate::photo;
use crate::source::SourceConfig;
#[cfg(feature = "gstreamer")]
use crate::source::gstreamer::{GstreamerConfig, Launch};
use crate::source::replay::{Photo, ReplayConfig};
#[cfg(feature = "rtsp")]
use crate::source::rtsp::{Address, RtspConfig, Transport};
use crate::source::v4l2::V4l2Config;

pub(super) fn source(section: &mut Section<'_>, folder: &Path) -> Option<SourceConfig> {
    match section.required_string("type")?.as_str() {
        "replay" => replay(section, folder).map(SourceConfig::Replay),
        "v4l2" => v4l2(section).map(SourceConfig::V4l2),
        #[cfg(feature = "rtsp")]
        "rtsp" => rtsp(section, folder).map(SourceConfig::Rtsp),
        #[cfg(feature = "gstreamer")]
        "gstreamer" => gstreamer(section).map(SourceConfig::Gstreamer),
        // Those that are built stand above.
        kind if ["rtsp", "gstreamer"].contains(&kind) => {
            let why = format!("{kind:?} needs a build with the feature {kind} (the packages have it)");
            section.problem("type", why);
            section.forgive_unknown_keys();
            None
        }
        other => {
            let kinds = "\"replay\", \"v4l2\", \"rtsp\" or \"gstreamer\"";
            section.problem("type", format!("must be {kinds} (got {other:?})"));
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

/// Without video for so long a stream is lost.
#[cfg(any(feature = "rtsp", feature = "gstreamer"))]
fn silence(section: &mut Section<'_>) -> Duration {
    let range = Duration::from_secs(1)..=Duration::from_secs(3600);
    section.duration("silence", range).unwrap_or(STREAM_SILENCE)
}

#[cfg(feature = "rtsp")]
fn rtsp(section: &mut Section<'_>, folder: &Path) -> Option<RtspConfig> {
    let address = section
        .required_string("url")
        .and_then(|url| Address::parse(&url).map_err(|why| section.problem("url", why)).ok());
    let credentials = super::credentials(section, folder);
    let transport = match section.string("transport").as_deref() {
        None | Some("tcp") => Transport::Tcp,
        Some("udp") => Transport::Udp,
        Some(other) => {
            section.problem("transport", format!("must be \"tcp\" or \"udp\" (got {other:?})"));
            Transport::Tcp
        }
    };
    let (interval, silence) = (interval(section, RTSP_INTERVAL), silence(section));
    let (address, in_url) = address?;
    if in_url.is_some() && credentials.is_some() {
        section.problem("username", "the url has one already");
    }
    Some(RtspConfig { address, credentials: credentials.or(in_url), transport, interval, silence })
}

#[cfg(feature = "gstreamer")]
fn gstreamer(section: &mut Section<'_>) -> Option<GstreamerConfig> {
    let launch = section.required_string("pipeline").map(Launch::new);
    let (interval, silence) = (interval(section, GSTREAMER_INTERVAL), silence(section));
    Some(GstreamerConfig { launch: launch?, interval, silence })
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
