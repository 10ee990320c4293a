//! ONNX Runtime behind the seam: this file and those below it are the only ones that know its types.
//!
//! What of a graph runs is what the file says: weights stored small are expanded as for every engine, and ONNX Runtime's own
//! rewriting of quantized values is switched off, since it quantizes weights anew and drops a residual's digits.

mod graph;
mod library;

use std::sync::{Mutex, MutexGuard, PoisonError};

use ::ort::ep::{ArenaExtendStrategy, CUDA, ExecutionProviderDispatch, TensorRT, cuda::ConvAlgorithmSearch};
use ::ort::session::Session;
use ::ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use crate::caught::{brief, caught};
use crate::check::parsed;
use crate::onnx::{self, pb};
use crate::quantized;
use crate::{Device, Dim, Engine, EngineError, EngineOptions, Graph, Signature, probe};

use graph::OrtGraph;

pub(crate) struct Ort;

/// A loaded graph of one node for each device beside the CPU, which tells a device that is gone from a run that failed.
static PROBES: Mutex<Vec<(Device, OrtGraph)>> = Mutex::new(Vec::new());

impl Engine for Ort {
    fn name(&self) -> &'static str {
        "ort"
    }

    fn load(
        &self,
        label: &str,
        onnx: &[u8],
        signature: &Signature,
        options: &EngineOptions,
    ) -> Result<Box<dyn Graph>, EngineError> {
        let fail = |why: String| EngineError::Load { graph: label.to_owned(), why: brief(&why) };
        let (mut model, found) = parsed(label, onnx, signature)?;
        let int8_rows = options.int8_rows && onnx::allows_int8_rows(&model);
        quantized::spell(&mut model, int8_rows).map_err(fail)?;
        onnx::expand_weights(&mut model).map_err(|e| fail(e.to_string()))?;
        if options.device != Device::Cpu {
            load_probe(options)?;
        }
        Ok(Box::new(open(label, &model, found, options)?))
    }
}

fn open(
    label: &str,
    model: &pb::ModelProto,
    signature: Signature,
    options: &EngineOptions,
) -> Result<OrtGraph, EngineError> {
    let unavailable = |why: String| EngineError::Unavailable {
        engine: "ort".to_owned(),
        device: options.device.to_string(),
        why: brief(&why),
    };
    let builder = caught(|| {
        let environment = library::environment(options.library.as_deref())?;
        builder(&environment, model, &signature, options).map_err(|e| e.to_string())
    });
    let mut builder = builder.flatten().map_err(unavailable)?;
    let bytes = onnx::encode(model);
    let fail = |why: String| EngineError::Load { graph: label.to_owned(), why: brief(&why) };
    let session = caught(|| builder.commit_from_memory(&bytes).map_err(|e| e.to_string())).flatten();
    OrtGraph::new(label, signature, session.map_err(fail)?, options).map_err(fail)
}

/// Loads the graph of one node on a device, unless it is there already, and runs it.
fn load_probe(options: &EngineOptions) -> Result<(), EngineError> {
    // Not held while the graph is loaded: what fails there asks whether the device is alive.
    if probes().iter().any(|(device, _)| *device == options.device) {
        return Ok(());
    }
    let (onnx, signature) = probe::graph();
    let fail = |why: onnx::OnnxError| EngineError::Load { graph: "probe".to_owned(), why: why.to_string() };
    let model = onnx::parse(&onnx).map_err(fail)?;
    let graph = open("probe", &model, signature, options).and_then(|mut graph| {
        probe::run(&mut graph)?;
        Ok(graph)
    });
    let device = options.device.to_string();
    let graph = graph.map_err(|e| match e {
        EngineError::Load { graph, why } | EngineError::Run { graph, why } => {
            EngineError::Lost { graph, device, why }
        }
        other => other,
    })?;
    probes().push((options.device, graph));
    Ok(())
}

/// Whether a device still runs anything. The CPU always does.
fn is_alive(device: Device) -> bool {
    let mut probes = probes();
    let probe = probes.iter_mut().find(|(loaded, _)| *loaded == device);
    probe.is_none_or(|(_, graph)| graph.runs_probe())
}

fn probes() -> MutexGuard<'static, Vec<(Device, OrtGraph)>> {
    PROBES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn builder(
    environment: &::ort::environment::Environment,
    model: &pb::ModelProto,
    signature: &Signature,
    options: &EngineOptions,
) -> ::ort::Result<SessionBuilder> {
    let has_symbols =
        signature.inputs.iter().flat_map(|port| &port.dims).any(|dim| matches!(dim, Dim::Symbol(_)));
    let is_quantized = model
        .graph
        .iter()
        .flat_map(|graph| &graph.node)
        .any(|node| ["QuantizeLinear", "DequantizeLinear"].contains(&node.op_type.as_str()));
    // Another order of pixels in memory is another order of sums, and what is rounded to steps ends a step apart.
    let level = if is_quantized { GraphOptimizationLevel::Level2 } else { GraphOptimizationLevel::All };
    let mut builder = Session::builder(environment)?
        .with_intra_threads(options.threads.get())?
        .with_inter_threads(1)?
        .with_optimization_level(level)?
        // Patterns are of one size, and a decoder's cache has another at each step.
        .with_memory_pattern(!has_symbols)?
        .with_config_entry("session.disable_quant_qdq", "1")?
        // A thread that spins while it waits slows down the cameras beside it.
        .with_config_entry("session.intra_op.allow_spinning", "0")?
        .with_config_entry("session.inter_op.allow_spinning", "0")?;
    let providers = providers(options, has_symbols);
    if !providers.is_empty() {
        builder = builder.with_execution_providers(providers)?;
    }
    Ok(builder)
}

/// Without `error_on_failure` a provider that is not there is left out, and the CPU computes in its place.
fn providers(options: &EngineOptions, has_symbols: bool) -> Vec<ExecutionProviderDispatch> {
    let cuda = |idx: usize| {
        // Of the options those that 1.17 knows; it refuses others.
        let mut cuda = CUDA::default()
            .with_device_id(i32::try_from(idx).unwrap_or(i32::MAX))
            .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic);
        if let Some(limit) = options.device_bytes_max {
            cuda = cuda
                .with_memory_limit(limit)
                .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
                .with_conv_max_workspace(false);
        }
        cuda.build().error_on_failure()
    };
    let tensorrt = |idx: usize| {
        let mut tensorrt = TensorRT::default().with_device_id(i32::try_from(idx).unwrap_or(i32::MAX));
        if let Some(limit) = options.device_bytes_max {
            tensorrt = tensorrt.with_max_workspace_size(limit);
        }
        if let Some(dir) = &options.device_cache {
            let dir = dir.display();
            tensorrt = tensorrt.with_engine_cache(true).with_engine_cache_path(&dir);
            tensorrt = tensorrt.with_timing_cache(true).with_timing_cache_path(&dir);
        }
        tensorrt.build().error_on_failure()
    };
    match options.device {
        Device::Cpu => Vec::new(),
        Device::Cuda(idx) => vec![cuda(idx)],
        // It builds for sizes, for minutes, and a decoder's cache has another at each step.
        Device::TensorRt(idx) if has_symbols => vec![cuda(idx)],
        Device::TensorRt(idx) => vec![tensorrt(idx), cuda(idx)],
    }
}
