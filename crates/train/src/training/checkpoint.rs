//! Saving a run so that a kill at any moment costs at most the steps since the last checkpoint.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::module::Module;
use serde::{Deserialize, Serialize};

use super::Optimizer;

/// Where a run stands; everything else follows from its arguments and seed.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    pub step: usize,
    /// The run's arguments as JSON: a checkpoint of other arguments is refused.
    pub run: serde_json::Value,
}

/// The checkpoint folder of one run. The complete old checkpoint stays until the new one is complete.
pub struct Checkpoint {
    dir: PathBuf,
    run: serde_json::Value,
}

impl Checkpoint {
    /// `run` holds every argument that shapes the result.
    pub fn new(out: &Path, run: serde_json::Value) -> Checkpoint {
        Checkpoint { dir: out.join("checkpoint"), run }
    }

    /// Writes beside the last checkpoint and then takes its place.
    pub fn save<M: Module>(&self, step: usize, model: &M, optimizer: &Optimizer) -> Result<()> {
        let fresh = self.dir.with_extension("new");
        let old = self.dir.with_extension("old");
        let write = || -> Result<()> {
            if fresh.exists() {
                fs::remove_dir_all(&fresh)?;
            }
            fs::create_dir_all(&fresh)?;
            model.clone().save_file(fresh.join("model"))?;
            optimizer.inner.save(fresh.join("optimizer"))?;
            let state = State { step, run: self.run.clone() };
            fs::write(fresh.join("state.json"), serde_json::to_vec_pretty(&state)?)?;
            if self.dir.exists() {
                fs::rename(&self.dir, &old)?;
            }
            fs::rename(&fresh, &self.dir)?;
            if old.exists() {
                fs::remove_dir_all(&old)?;
            }
            Ok(())
        };
        write().with_context(|| format!("write checkpoint {} (the last one is intact)", self.dir.display()))
    }

    /// Where the run in `out` stands.
    pub fn state(out: &Path) -> Result<State> {
        let path = out.join("checkpoint/state.json");
        let json = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&json).with_context(|| format!("parse {}", path.display()))
    }

    /// The model alone of the run in `out`, whatever its arguments were.
    pub fn load_model<M: Module>(out: &Path, model: M) -> Result<M> {
        let path = out.join("checkpoint/model");
        model.try_load_file(&path).with_context(|| format!("read the model of {}", path.display()))
    }

    /// The step, model and optimizer to go on from, if a checkpoint of the same run exists.
    pub fn load<M: Module>(&self, model: M, optimizer: Optimizer) -> Result<(usize, M, Optimizer)> {
        let old = self.dir.with_extension("old");
        let dir = if self.dir.exists() { &self.dir } else { &old };
        if !dir.exists() {
            return Ok((0, model, optimizer));
        }
        let read = || -> Result<(usize, M, Optimizer)> {
            let state: State = serde_json::from_slice(&fs::read(dir.join("state.json"))?)?;
            anyhow::ensure!(
                state.run == self.run,
                "it belongs to a run with other arguments: give another --out, or remove it"
            );
            let model = model.try_load_file(dir.join("model"))?;
            let Optimizer { inner, grad_clip } = optimizer;
            let inner = inner.load(dir.join("optimizer"))?;
            Ok((state.step, model, Optimizer { inner, grad_clip }))
        };
        read().with_context(|| format!("read checkpoint {}", dir.display()))
    }
}

/// Writes a file under a temporary name and renames it into place.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let write = || -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("write {}", path.display()))
}
