//! What is read from the environment: where a bundle is, what to log, where to keep things, and keys of the
//! configuration.

use std::env;
use std::path::{Path, PathBuf};

use crate::logging::LogFormat;

/// Names the bundle of every command that is not told one.
const BUNDLE_VARIABLE: &str = "CAPTIOND_BUNDLE";
/// Sets what is logged, unless `--log` does.
const LOG_VARIABLE: &str = "CAPTIOND_LOG";
/// Sets how it is logged, unless `--log-format` does.
const LOG_FORMAT_VARIABLE: &str = "CAPTIOND_LOG_FORMAT";

/// Names the library of ONNX Runtime for every program that loads it.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

const INSTALLED: &str = "/usr/share/captiond/models/lite";
const IN_WORKSPACE: &str = "models/lite";

/// The folder of the bundle: `named` if given, else `$CAPTIOND_BUNDLE`, else the first of the usual
/// places that holds a manifest: where packages install it, the workspace that this executable was
/// built in, the current folder.
///
/// # Errors
/// Says where it looked.
pub fn bundle_dir(named: Option<&Path>) -> Result<PathBuf, String> {
    let from_environment = || env::var_os(BUNDLE_VARIABLE).filter(|value| !value.is_empty());
    if let Some(dir) = named.map(Path::to_owned).or_else(|| from_environment().map(PathBuf::from)) {
        return Ok(dir);
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join(IN_WORKSPACE);
    let places = [PathBuf::from(INSTALLED), workspace, PathBuf::from(IN_WORKSPACE)];
    match places.iter().find(|place| place.join("manifest.toml").is_file()) {
        Some(place) => Ok(place.clone()),
        None => {
            let looked: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
            Err(format!(
                "no bundle: name one with --bundle or ${BUNDLE_VARIABLE} (looked in {})",
                looked.join(", ")
            ))
        }
    }
}

/// The file of the engine's library: `named` if given, else `$ORT_DYLIB_PATH`; without both the system looks for it.
pub fn engine_library(named: Option<&Path>) -> Option<PathBuf> {
    let from_environment = || env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty());
    named.map(Path::to_owned).or_else(|| from_environment().map(PathBuf::from))
}

/// What to log: `named` if given, else `$CAPTIOND_LOG`, else `fallback`.
pub fn log_filter(named: Option<String>, fallback: &str) -> String {
    let from_environment = || env::var(LOG_VARIABLE).ok().filter(|value| !value.is_empty());
    named.or_else(from_environment).unwrap_or_else(|| fallback.to_owned())
}

/// How to log: JSON where `named` or `$CAPTIOND_LOG_FORMAT` says so, and for the journal where stderr is connected to it.
///
/// # Errors
/// When it is neither `text` nor `json`.
pub fn log_format(named: Option<String>) -> Result<LogFormat, String> {
    let from_environment = || env::var(LOG_FORMAT_VARIABLE).ok().filter(|value| !value.is_empty());
    match named.or_else(from_environment).as_deref() {
        None | Some("text") => Ok(LogFormat::Text { to_journal: is_journal() }),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => Err(format!("log format {other:?}: must be text or json")),
    }
}

/// Whether stderr is the stream that systemd has connected to the journal (systemd.exec(5), `$JOURNAL_STREAM`).
fn is_journal() -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Every variable of the program that is set to something, in the order of their names.
pub(super) fn variables() -> Vec<(String, String)> {
    let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let name = name.into_string().ok().filter(|name| name.starts_with("CAPTIOND_"))?;
        let value = value.to_string_lossy().into_owned();
        (!value.is_empty()).then_some((name, value))
    };
    let mut all: Vec<_> = env::vars_os().filter_map(ours).collect();
    all.sort();
    all
}

/// Where systemd lets the daemon keep things (`StateDirectory=`).
pub(super) fn state_dir() -> Option<PathBuf> {
    env::var_os("STATE_DIRECTORY").filter(|value| !value.is_empty()).map(PathBuf::from)
}
