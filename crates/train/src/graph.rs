//! Graphs and bundles on the daemon's own engine: what is trained here is looked at as the daemon will see it.

use anyhow::Result;
use caption::{Bundle, Models};
use engine::{EngineOptions, Graph};

/// Loads an ONNX graph with the ports that it declares, on one thread. Blocks.
///
/// # Errors
/// When it cannot be parsed or the engine cannot run it; `label` stands in the message.
pub fn load(label: &str, onnx: &[u8]) -> Result<Box<dyn Graph>> {
    let signature = engine::onnx::signature_of(onnx)?;
    Ok(engine::open("tract")?.load(label, onnx, &signature, &EngineOptions::default())?)
}

/// Loads every graph of a bundle, each on one thread. Blocks.
///
/// # Errors
/// When a graph cannot be loaded or the bundle's parts do not fit together.
pub fn models(bundle: &Bundle) -> Result<Models> {
    Ok(Models::load(bundle, &*engine::open("tract")?, &EngineOptions::default())?)
}
