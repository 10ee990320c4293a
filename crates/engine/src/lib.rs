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

mod caught;
mod check;
mod error;
mod kernels;
pub mod onnx;
mod quantized;
mod signature;
mod tensor;
pub mod testing;
mod tract;

use std::num::NonZeroUsize;

pub use caught::is_engine_panic;
pub use error::EngineError;
pub use kernels::exponential::{log_softmax, softmax};
pub use signature::{Dim, ElementType, ParsePortError, Port, Signature};
pub use tensor::{Tensor, TensorData, TensorView};

/// Where a graph runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    #[default]
    Cpu,
    /// CUDA device of this index.
    Cuda(usize),
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(idx) => write!(f, "cuda:{idx}"),
        }
    }
}

/// How to load a graph.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    pub device: Device,
    /// Threads of one run.
    pub threads: NonZeroUsize,
    /// Whether products with stored int8 weights quantize each row of their input to int8, too, in graphs that allow it
    /// ([`onnx::allow_int8_rows`]). Without it they are computed in f32: slower, and for comparisons.
    pub int8_rows: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions { device: Device::Cpu, threads: NonZeroUsize::MIN, int8_rows: true }
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
    /// [`EngineError::Unavailable`] when the device is not there. A panic inside the engine is
    /// reported as `Load`.
    fn load(
        &self,
        label: &str,
        onnx: &[u8],
        signature: &Signature,
        options: &EngineOptions,
    ) -> Result<Box<dyn Graph>, EngineError>;
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
    fn run(&mut self, inputs: &[(&str, TensorView<'_>)]) -> Result<Vec<Tensor>, EngineError>;
}

/// Finds an engine by name: `"tract"`.
///
/// # Errors
/// [`EngineError::Unavailable`] lists what this build has.
pub fn open(name: &str) -> Result<Box<dyn Engine>, EngineError> {
    match name {
        "tract" => Ok(Box::new(tract::Tract { fuse: true })),
        _ => Err(EngineError::Unavailable {
            engine: name.to_owned(),
            device: Device::Cpu.to_string(),
            why: "this build has the engines: tract".to_owned(),
        }),
    }
}
