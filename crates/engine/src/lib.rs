//! Runs an ONNX graph on something.
//!
//! This crate knows tensors, graphs and devices. It knows nothing of CLIP, frames or MQTT, and the
//! types of an inference engine never leave the one file that wraps it.
//!
//! - [`Engine`] turns the bytes of an ONNX graph into a loaded [`Graph`], after checking them
//!   against the [`Signature`] that the caller expects.
//! - [`Graph`] runs. It is `Send` but not `Sync`: one thread owns it.
//! - [`open`] finds an engine by the name the user typed. There is no fallback.

#![warn(unreachable_pub)]

mod awake;
mod beside;
mod caught;
mod check;
mod device;
mod error;
mod floats;
mod kept;
mod kernels;
pub mod onnx;
#[cfg(feature = "ort")]
mod ort;
mod probe;
mod quantized;
mod share;
mod signature;
mod tensor;
pub mod testing;
mod tract;

use std::num::NonZeroUsize;
use std::path::PathBuf;

pub use beside::beside;
pub use caught::is_engine_panic;
pub use device::{Device, DeviceChoice, ParseDeviceError};
pub use error::EngineError;
pub use kept::Kept;
pub use kernels::bank::bank_products;
pub use kernels::exponential::{greatest, log_softmax, softmax};
pub use signature::{Dim, ElementType, ParsePortError, Port, Signature};
pub use tensor::{Tensor, TensorData, TensorView};

/// How to load a graph.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    pub device: Device,
    /// Threads of one run.
    pub threads: NonZeroUsize,
    /// Whether products with stored int8 weights quantize each row of their input to int8, too, in graphs that allow it
    /// ([`onnx::allow_int8_rows`]). Without it they are computed in f32: slower, and for comparisons.
    pub int8_rows: bool,
    /// The file of the library that an engine outside of this program lies in; without one, the system looks for it.
    pub library: Option<PathBuf>,
    /// Bytes of a GPU's memory that each graph may take for its tensors; without a limit, all there is.
    pub device_bytes_max: Option<usize>,
    /// A folder where TensorRT keeps what it has built for a graph, which takes it minutes; without one it builds at each
    /// start.
    pub device_cache: Option<PathBuf>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            device: Device::Cpu,
            threads: NonZeroUsize::MIN,
            int8_rows: true,
            library: None,
            device_bytes_max: None,
            device_cache: None,
        }
    }
}

/// An inference engine.
pub trait Engine: Send + Sync {
    /// The name by which [`open`] finds it, as published in payloads.
    fn name(&self) -> &'static str;

    /// Loads the ONNX graph in `onnx`; `label` names it in errors.
    ///
    /// The graph must be self-contained (no external tensors). Weights stored as int8 or f16 behind
    /// `DequantizeLinear` or `Cast` are expanded to f32 once, here. Blocks for as long as the engine
    /// needs to optimize the graph: hundreds of milliseconds for a CLIP tower.
    ///
    /// # Errors
    /// [`EngineError::Load`] when the bytes are no graph that this engine can run,
    /// [`EngineError::Signature`] when its ports differ from `signature`,
    /// [`EngineError::Unavailable`] when the engine's library has no such device or is not there itself,
    /// [`EngineError::Lost`] when nothing runs on the device. A panic inside the engine is reported as `Load`.
    fn load(
        &self,
        label: &str,
        onnx: &[u8],
        signature: &Signature,
        options: &EngineOptions,
    ) -> Result<Box<dyn Graph>, EngineError>;

    /// The device that graphs are to be loaded on for `choice`, and why not the better one where it is the lesser of two.
    /// A device that the choice leaves open is tried with a graph of one node; `options` but for their device hold. Blocks.
    ///
    /// # Errors
    /// As [`load`](Engine::load), when the lesser one does not run either.
    fn choose(
        &self,
        choice: DeviceChoice,
        options: &EngineOptions,
    ) -> Result<(Device, Option<String>), EngineError> {
        let try_on = |device| {
            let options = EngineOptions { device, ..options.clone() };
            let (onnx, signature) = probe::graph();
            self.load("probe", &onnx, &signature, &options).and_then(|mut graph| probe::run(&mut *graph))
        };
        match choice {
            DeviceChoice::Only(device) => Ok((device, None)),
            DeviceChoice::CudaOrCpu => match try_on(Device::Cuda(0)) {
                Ok(()) => Ok((Device::Cuda(0), None)),
                Err(why) => try_on(Device::Cpu).map(|()| (Device::Cpu, Some(why.to_string()))),
            },
        }
    }
}

/// A loaded graph, owned by one thread.
pub trait Graph: Send {
    fn signature(&self) -> &Signature;

    /// Runs the graph once and returns its outputs in the order of the signature. Blocks.
    ///
    /// # Errors
    /// [`EngineError::Run`] when an input is missing, unknown, or of another type or shape than the
    /// signature allows (a symbol must take one value throughout), when an output is not finite,
    /// or when the engine fails or panics. The graph stays usable after an error.
    /// [`EngineError::Lost`] when the device is gone.
    fn run(&mut self, inputs: &[(&str, TensorView<'_>)]) -> Result<Vec<Tensor>, EngineError>;

    /// As [`run`](Graph::run), for a graph that is fed its own outputs: inputs in `kept` come from earlier runs, and of the
    /// outputs the first `n_returned` are returned; the others stay where the engine computes, and may be not finite.
    ///
    /// # Errors
    /// As [`run`](Graph::run), and when a kept tensor is of another engine.
    fn run_keeping(
        &mut self,
        inputs: &[(&str, TensorView<'_>)],
        kept: &[(&str, &Kept)],
        n_returned: usize,
    ) -> Result<(Vec<Tensor>, Vec<Kept>), EngineError>;

    /// Rows of f32 tensors that are kept, along their first axis and in this order; a row may be taken several times.
    ///
    /// # Errors
    /// As [`run`](Graph::run), and when there is no such row.
    fn take_rows(&mut self, kept: &[Kept], rows: &[usize]) -> Result<Vec<Kept>, EngineError>;
}

/// The engines of this build.
pub const ENGINES: &[&str] = &[
    "tract",
    #[cfg(feature = "ort")]
    "ort",
];

/// Finds an engine by name, one of [`ENGINES`]. Whether its library and the device are there shows when a graph is loaded.
///
/// # Errors
/// [`EngineError::Unavailable`] lists what this build has.
pub fn open(name: &str) -> Result<Box<dyn Engine>, EngineError> {
    match name {
        "tract" => Ok(Box::new(tract::Tract { fuse: true })),
        #[cfg(feature = "ort")]
        "ort" => Ok(Box::new(ort::Ort)),
        _ => Err(EngineError::Unavailable {
            engine: name.to_owned(),
            device: Device::Cpu.to_string(),
            why: format!("this build has the engines: {}", ENGINES.join(", ")),
        }),
    }
}
