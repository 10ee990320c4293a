//! What runs the graphs, and where.

use std::path::{Path, PathBuf};

use engine::DeviceChoice;

use super::THREADS_MAX;
use super::reader::Section;

/// Unless the file says otherwise; every build has it.
pub const ENGINE: &str = "tract";
pub const DEVICE_BYTES_LEAST: u64 = 64 << 20;
pub const DEVICE_BYTES_MOST: u64 = 1 << 40;

/// An engine and its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// One that this build has.
    pub name: String,
    pub device: DeviceChoice,
    /// The file of the engine's library; without one the system looks for it, see [`super::engine_library`].
    pub library: Option<PathBuf>,
    /// Bytes of the GPU's memory that each graph may take for its tensors; without a limit, all there is.
    pub device_bytes_max: Option<usize>,
    /// The folder where TensorRT keeps what it has built; without one it builds at each start.
    pub device_cache: Option<PathBuf>,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            name: ENGINE.to_owned(),
            device: DeviceChoice::default(),
            library: None,
            device_bytes_max: None,
            device_cache: None,
        }
    }
}

pub(super) fn engine(root: &mut Section<'_>, folder: &Path) -> EngineConfig {
    let name = root.string("engine").unwrap_or_else(|| ENGINE.to_owned());
    if let Err(e) = engine::open(&name) {
        root.problem("engine", e.to_string());
    }
    let library = root.string("engine_library").map(|path| folder.join(path));
    let device = root.string("device").map(|text| text.parse::<DeviceChoice>());
    let device = device.transpose().unwrap_or_else(|e| {
        root.problem("device", e.to_string());
        None
    });
    let limit = root.integer("device_bytes_max", DEVICE_BYTES_LEAST..=DEVICE_BYTES_MOST);
    let device_cache = root.string("device_cache").map(|path| folder.join(path));
    EngineConfig {
        name,
        device: device.unwrap_or_default(),
        library,
        device_bytes_max: limit.and_then(|n| usize::try_from(n).ok()),
        device_cache,
    }
}

/// Of the bundle and the engine, the part of the commented reference.
pub(super) fn reference() -> String {
    format!(
        r#"# The folder of the bundle. Without it: $CAPTIOND_BUNDLE, then /usr/share/captiond/models/lite,
# then models/lite of the workspace that the executable was built in, then of the current folder.
#bundle = "/usr/share/captiond/models/lite"
# What runs the graphs: "tract", or "ort" (ONNX Runtime) in a build with the feature `ort` (docs/engines.md).
engine = "{ENGINE}"
# Where: "cpu"; with ort "cuda:N" and "tensorrt:N" for a GPU as well, and "cuda-or-cpu" for the first GPU or, where that does
# not run, the CPU.
device = "cpu"
# The library of ONNX Runtime. Default: $ORT_DYLIB_PATH, then where the system looks for libraries.
#engine_library = "/usr/lib/libonnxruntime.so.1"
# Bytes of the GPU's memory that each graph may take for its tensors, {DEVICE_BYTES_LEAST} to {DEVICE_BYTES_MOST}. Default: all there is.
#device_bytes_max = 1073741824
# A folder where TensorRT keeps what it has built for a graph. Default: it builds at each start, which takes it minutes.
#device_cache = "/var/lib/captiond/tensorrt"
# Threads of one inference, 1 to {THREADS_MAX}. Default: the cores of the machine, at most 4.
#threads = 2

"#
    )
}
