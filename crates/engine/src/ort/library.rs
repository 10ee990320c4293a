//! Finding ONNX Runtime's library, once for the process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ::ort::LoadDynamicError;
use ::ort::environment::Environment;
use ::ort::logging::LogLevel;

use crate::caught::caught;

/// Where the system's linker looks when no file is named: what is installed for programs, then what is for compilers.
const NAMES: [&str; 2] = ["libonnxruntime.so.1", "libonnxruntime.so"];

/// A process has one, by the library that came first.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// The environment of the library in `file`, or of the one that the system finds.
///
/// # Errors
/// When there is none, it is too old, or another one was loaded before.
pub(super) fn environment(file: Option<&Path>) -> Result<Environment, String> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, environment)) = &*loaded {
        return match file {
            Some(file) if file != path => {
                Err(format!("this process has loaded {} and cannot load {}", path.display(), file.display()))
            }
            _ => Ok(environment.clone()),
        };
    }
    let candidates = file.map_or_else(|| NAMES.map(PathBuf::from).to_vec(), |file| vec![file.to_owned()]);
    let mut why = String::new();
    for path in candidates {
        match open(&path) {
            Ok(environment) => {
                *loaded = Some((path, environment.clone()));
                return Ok(environment);
            }
            Err(e) if why.is_empty() => why = e,
            Err(e) => why = format!("{why}; {e}"),
        }
    }
    Err(why)
}

fn open(path: &Path) -> Result<Environment, String> {
    if path.is_absolute() && !path.is_file() {
        return Err(format!("there is no file {}", path.display()));
    }
    let builder = ::ort::init_from(path).map_err(|e| match e {
        LoadDynamicError::Dlopen { error, .. } => {
            format!("load the library {}: {}", path.display(), chain(&error))
        }
        LoadDynamicError::BadVersion { version_str, .. } => format!(
            "{} is ONNX Runtime {version_str}, and 1.{} or newer is needed",
            path.display(),
            ::ort::MINOR_VERSION
        ),
        other => format!("{} is no library of ONNX Runtime: {other}", path.display()),
    })?;
    // The crate panics when the library has not the interface that its version promises.
    let environment = caught(|| builder.with_telemetry(false).with_logger(Arc::new(log)).build());
    let lacks = |why| format!("{} lacks the interface of 1.{}: {why}", path.display(), ::ort::MINOR_VERSION);
    let environment = environment.map_err(lacks)?;
    environment.map_err(|e| format!("start ONNX Runtime of {}: {e}", path.display()))
}

/// What the library would write to stderr. What it calls an error comes back from the call that failed, too.
fn log(level: LogLevel, _category: &str, _id: &str, place: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => tracing::trace!(place, "{message}"),
        LogLevel::Warning => tracing::warn!(place, "{message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::debug!(place, "{message}"),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
