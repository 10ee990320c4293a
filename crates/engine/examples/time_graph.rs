//! Times an ONNX graph on made-up inputs, every symbol taken as 1: `time_graph FILE [RUNS [THREADS]]`.
//!
//! Prints one JSON line: the median and the least time of a run in milliseconds. scripts/bench_vit.py drives it.

use std::io::Write as _;
use std::time::Instant;

use engine::{Dim, ElementType, EngineOptions, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: time_graph FILE [RUNS [THREADS]]")?;
    let runs: usize = args.next().map_or(Ok(20), |runs| runs.parse())?;
    let threads = args.next().map_or(Ok(std::num::NonZeroUsize::MIN), |threads| threads.parse())?;

    let onnx = std::fs::read(&file)?;
    let signature = engine::onnx::signature_of(&onnx)?;
    let options = EngineOptions { threads, ..EngineOptions::default() };
    let mut graph = engine::open("tract")?.load(&file, &onnx, &signature, &options)?;
    let inputs: Vec<(String, Tensor)> = signature
        .inputs
        .iter()
        .map(|port| {
            let size = |dim: &Dim| if let Dim::Fixed(n) = dim { *n } else { 1 };
            let shape: Vec<usize> = port.dims.iter().map(size).collect();
            let n = shape.iter().product();
            let tensor = match port.element_type {
                ElementType::F32 => Tensor::f32(shape, (0..n).map(|i| (i as f32 * 0.1).sin()).collect()),
                ElementType::I64 => Tensor::i64(shape, vec![1; n]),
            };
            (port.name.clone(), tensor)
        })
        .collect();
    let views: Vec<_> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.view())).collect();
    let mut output = graph.run(&views)?;
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let started = Instant::now();
        output = graph.run(&views)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(runs / 2).copied().unwrap_or_default();
    let least = times.first().copied().unwrap_or_default();
    let first: Vec<f32> = output
        .first()
        .and_then(|tensor| tensor.as_f32())
        .map(|values| values[..values.len().min(512)].to_vec())
        .unwrap_or_default();
    writeln!(std::io::stdout(), r#"{{"p50": {median:.3}, "least": {least:.3}, "output": {first:?}}}"#)?;
    Ok(())
}
