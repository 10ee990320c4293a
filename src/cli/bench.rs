//! `bench`: how long each stage takes here, and how much memory and disk the bundle needs.

mod graphs;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use caption::{Models, Question};
use serde_json::{Value, json};

use super::models::load;
use super::{BundleArgs, Failure, output};
use crate::demo::photos;
use crate::mqtt::payload::milliseconds;
use crate::photo;
use crate::source::replay::Photo;

const QUESTION: &str = "is there a person?";
const STAGES: [&str; 6] = ["decode", "preprocess", "encode", "caption", "answer", "frame"];

/// How often every photo is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) runs: u32,
    pub(super) warmup: u32,
}

/// Measures and prints.
pub(super) fn bench(inputs: &[PathBuf], plan: Plan, bundle: &BundleArgs, json: bool) -> Result<(), Failure> {
    let photos = photos(inputs)?;
    let mut loaded = load(bundle)?;
    let after_load = resident("VmRSS:");
    let mut samples: [Vec<Duration>; STAGES.len()] = Default::default();
    for run in 0..plan.warmup + plan.runs {
        for bytes in &photos {
            let took = measure(&mut loaded.models, bytes)?;
            if run >= plan.warmup {
                samples.iter_mut().zip(took).for_each(|(samples, took)| samples.push(took));
            }
        }
    }
    let peak = resident("VmHWM:");
    let graphs = graphs::measure(&loaded.dir, &loaded.runtime, plan.runs)?;
    let stages: Vec<(&str, Value)> = STAGES
        .into_iter()
        .zip(samples)
        .chain(graphs)
        .map(|(stage, samples)| (stage, distribution(samples)))
        .collect();
    let report = json!({
        "bundle": loaded.id,
        "bundle_bytes": bytes_on_disk(&loaded.dir)?,
        "engine": loaded.runtime.engine.name(),
        "device": loaded.runtime.options.device.to_string(),
        "threads": loaded.runtime.options.threads,
        "photos": photos.len(),
        "runs": plan.runs,
        "warmup": plan.warmup,
        "load_ms": milliseconds(loaded.took),
        "rss_after_load_bytes": after_load,
        "rss_peak_bytes": peak,
        "latency_ms": stages.iter().map(|(stage, value)| ((*stage).to_owned(), value.clone())).collect::<Value>(),
    });
    if json {
        output::json(&report)?;
    } else {
        print_table(&report, &stages)?;
    }
    Ok(())
}

/// The bytes of every photo: reading files is not measured.
fn photos(inputs: &[PathBuf]) -> anyhow::Result<Vec<Vec<u8>>> {
    if inputs.is_empty() {
        let embedded = |photo| match photo {
            Photo::Embedded { bytes, .. } => Some(bytes.to_vec()),
            Photo::Folder(_) | Photo::File(_) => None,
        };
        return Ok(photos::all().into_iter().filter_map(embedded).collect());
    }
    let mut all = Vec::new();
    for input in inputs {
        let paths = if input.is_dir() { photo::list(input)? } else { vec![input.clone()] };
        for path in paths {
            all.push(photo::read(&path)?);
        }
    }
    anyhow::ensure!(!all.is_empty(), "no photo to measure");
    Ok(all)
}

/// One photo through every stage; the last entry is a whole frame, which has no question.
fn measure(models: &mut Models, bytes: &[u8]) -> anyhow::Result<[Duration; STAGES.len()]> {
    let question =
        Question { text: QUESTION.to_owned(), choices: vec!["yes".to_owned(), "no".to_owned()], kind: None };
    let started = Instant::now();
    let pixels = photo::decode(bytes)?;
    let decoded = Instant::now();
    let input = models.preprocess(&pixels);
    let preprocessed = Instant::now();
    let view = models.encode(&input)?;
    let encoded = Instant::now();
    models.caption(&view)?;
    let captioned = Instant::now();
    models.answer(&view, &question)?;
    let answered = Instant::now();
    Ok([
        decoded - started,
        preprocessed - decoded,
        encoded - preprocessed,
        captioned - encoded,
        answered - captioned,
        captioned - started,
    ])
}

fn distribution(mut samples: Vec<Duration>) -> Value {
    samples.sort();
    json!({ "p50": milliseconds(quantile(&samples, 0.5)), "p95": milliseconds(quantile(&samples, 0.95)) })
}

/// The smallest sample that is not exceeded by a share `q` of all.
fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn print_table(report: &Value, stages: &[(&str, Value)]) -> std::io::Result<()> {
    let megabytes = |key: &str| report[key].as_f64().unwrap_or_default() / 1e6;
    output::line(&format!(
        "{}  {:.1} MB on disk, loaded in {} ms, {} threads, peak memory {:.0} MB",
        report["bundle"].as_str().unwrap_or_default(),
        megabytes("bundle_bytes"),
        report["load_ms"],
        report["threads"],
        megabytes("rss_peak_bytes"),
    ))?;
    for (stage, times) in stages {
        output::line(&format!("{stage:>10}  p50 {:>8} ms  p95 {:>8} ms", times["p50"], times["p95"]))?;
    }
    Ok(())
}

/// Every file of a bundle, which has no folders of its own.
fn bytes_on_disk(dir: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let metadata = entry?.metadata()?;
        sum += if metadata.is_file() { metadata.len() } else { 0 };
    }
    Ok(sum)
}

/// Bytes of this process in memory, now (`VmRSS:`) or at most so far (`VmHWM:`); none where the kernel does not say.
fn resident(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<Duration> = (1..=20).map(Duration::from_millis).collect();
        assert_eq!(quantile(&samples, 0.5), Duration::from_millis(10));
        assert_eq!(quantile(&samples, 0.95), Duration::from_millis(19));
        assert_eq!(quantile(&samples[..1], 0.95), Duration::from_millis(1));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn memory_is_known_here_and_more_than_a_megabyte() {
        let now = resident("VmRSS:").unwrap();
        assert!((1 << 20..=resident("VmHWM:").unwrap()).contains(&now));
    }
}
