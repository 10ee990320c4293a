//! Single graphs, run on inputs that are made up: what one token costs, without the search around it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use caption::Bundle;
use caption::bundle::Role;
use engine::{Dim, ElementType, Signature, Tensor};

use crate::cli::models::Runtime;

/// Runs of a graph for each run over the photos: one takes a fraction of a millisecond.
const REPEATS: u32 = 20;
/// Tokens that a caption has when a step is measured.
const N_TOKENS: usize = 8;
/// Any token but the first few, which have meanings of their own.
const TOKEN: i64 = 5;

/// A graph and the sizes that its symbols take.
struct Case {
    stage: &'static str,
    role: Role,
    n_lines: usize,
    n_new: usize,
    n_past: usize,
}

/// Times every graph but the image encoder of the bundle in `dir`. Blocks.
///
/// # Errors
/// When the bundle cannot be read, or a graph not loaded, or it fails.
pub(super) fn measure(
    dir: &Path,
    runtime: &Runtime,
    runs: u32,
) -> anyhow::Result<Vec<(&'static str, Vec<Duration>)>> {
    let bundle = &Bundle::open(dir).context("open the bundle")?;
    let prefix = bundle.manifest().decoder.as_ref().map_or(0, |decoder| decoder.prefix_length);
    let case = |stage, role, n_lines, n_new, n_past| Case { stage, role, n_lines, n_new, n_past };
    let cases = [
        case("text", Role::TextEncoder, 1, N_TOKENS, 0),
        case("adapter", Role::Adapter, 1, 1, 0),
        case("prefill", Role::Decoder, 1, prefix, 0),
        case("step", Role::Decoder, 1, 1, prefix + N_TOKENS),
        case("step of 8", Role::Decoder, 8, 1, prefix + N_TOKENS),
    ];
    let has = |case: &&Case| bundle.manifest().signature(case.role).is_some();
    cases.iter().filter(has).map(|case| Ok((case.stage, time(bundle, runtime, runs, case)?))).collect()
}

fn time(bundle: &Bundle, runtime: &Runtime, runs: u32, case: &Case) -> anyhow::Result<Vec<Duration>> {
    let manifest = bundle.manifest();
    let signature = manifest.signature(case.role).context("the bundle has no such graph")?;
    let file = &manifest.graphs.get(case.role).context("the bundle has no such graph")?.file;
    let onnx = bundle.file(file).context("the bundle has no such file")?;
    let mut graph = runtime.engine.load(case.stage, onnx, &signature, &runtime.options)?;
    let inputs = inputs(&signature, case);
    let views: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.view())).collect();
    graph.run(&views)?;
    let mut samples = Vec::new();
    for _ in 0..runs * REPEATS {
        let started = Instant::now();
        graph.run(&views)?;
        samples.push(started.elapsed());
    }
    Ok(samples)
}

fn inputs(signature: &Signature, case: &Case) -> Vec<(String, Tensor)> {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(n) => *n,
        Dim::Symbol(name) if name == "T" => case.n_past,
        Dim::Symbol(name) if name == "S" => case.n_new,
        Dim::Symbol(_) => case.n_lines,
    };
    let input = |port: &engine::Port| {
        let shape: Vec<usize> = port.dims.iter().map(size).collect();
        let n: usize = shape.iter().product();
        let tensor = match port.element_type {
            ElementType::F32 => Tensor::f32(shape, (0..n).map(|i| 0.05 * (i as f32).sin()).collect()),
            ElementType::I64 if port.name == "positions" => {
                Tensor::i64(shape, (case.n_past as i64..).take(n).collect())
            }
            ElementType::I64 => Tensor::i64(shape, vec![TOKEN; n]),
        };
        (port.name.clone(), tensor)
    };
    signature.inputs.iter().map(input).collect()
}
