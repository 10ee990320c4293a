//! The runs, one from another, that a decoder comes from, and what a bundle says of them.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use caption::Bundle;
use caption::bundle::MANIFEST_FILE;

use crate::training::{Checkpoint, State};

/// Longest chain of runs that go on from one another.
const RUNS_MAX: usize = 16;

/// Where a decoder comes from: the bundle that its first run started from, if any, and its runs, the first one first.
pub(super) struct Lineage {
    bundle: Option<Bundle>,
    runs: Vec<State>,
}

impl Lineage {
    /// Reads what the run in `dir` was started from, and so on.
    ///
    /// # Errors
    /// When a checkpoint or a bundle cannot be read, or the chain does not end.
    pub(super) fn of(dir: &Path) -> Result<Lineage> {
        let mut lineage = Lineage { bundle: None, runs: Vec::new() };
        let mut next = Some(dir.to_owned());
        while let Some(dir) = next.take() {
            ensure!(
                lineage.runs.len() < RUNS_MAX,
                "{}: more than {RUNS_MAX} runs go on from one another",
                dir.display()
            );
            if dir.join(MANIFEST_FILE).exists() {
                lineage.bundle = Some(Bundle::open(&dir)?);
                break;
            }
            let state = Checkpoint::state(&dir)?;
            next = state.run["args"]["init"].as_str().map(PathBuf::from);
            lineage.runs.push(state);
        }
        lineage.runs.reverse();
        Ok(lineage)
    }

    /// What `encoder` says of the image encoder, and what the decoder saw, run after run, without the paths of the machine
    /// that it ran on.
    pub(super) fn provenance(&self, encoder: &str) -> String {
        let runs = self
            .runs
            .iter()
            .map(|State { step, run, .. }| {
                let (args, recipe) = (&run["args"], &run["recipe"]);
                let plain = |value: &serde_json::Value| value.to_string().replace('"', "").to_lowercase();
                let mut noise: Vec<String> = (recipe["noise_cosine"].as_array().into_iter().flatten())
                    .map(|cosine| format!("{:.2}", cosine.as_f64().unwrap_or(1.0)))
                    .collect();
                noise.dedup();
                let n_questions = args["questions"].as_u64().unwrap_or(0);
                let questions = if n_questions > 0 {
                    format!(", up to {n_questions} questions of each kind made from them")
                } else {
                    String::new()
                };
                let own = match args["self_critical"].as_u64() {
                    None | Some(0) => String::new(),
                    Some(n) => format!(", and {n} captions of its own of each"),
                };
                let apart =
                    if args["exclude_pairs"] == true { ", no sentence of the encoder's photos" } else { "" };
                format!(
                    "{step} steps of {} (preset {}, source {}, target {}, noise cosine {}, sources {}{apart}{questions}{own}, seed {})",
                    plain(&args["batch"]),
                    plain(&recipe["preset"]),
                    plain(&recipe["source"]),
                    plain(&recipe["target"]),
                    noise.join(" to "),
                    plain(&args["sources"]),
                    plain(&args["seed"])
                )
            });
        // What a bundle says of its decoder is the last thing that it says.
        let earlier = self.bundle.as_ref().map(|bundle| bundle.manifest().provenance.clone());
        let earlier =
            earlier.map(|text| text.rsplit("decoder: text only, ").next().unwrap_or_default().to_owned());
        let described: Vec<String> = earlier.into_iter().chain(runs).collect();
        format!(
            "image encoder: {encoder}; text encoder: distilled from all-MiniLM-L6-v2; decoder: text only, {}",
            described.join(", then ")
        )
    }
}
