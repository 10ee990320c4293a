//! Saving a run so that a kill at any moment costs at most the steps since the last checkpoint.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use serde::{Deserialize, Serialize};

use super::durable::{remove_folder, sync_folder, write_atomically};
use super::{Inputs, Optimizer};

/// Where a run stands; everything else follows from its arguments, its inputs and its seed.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    pub step: usize,
    /// The run's arguments as JSON: a checkpoint of other arguments is refused.
    pub run: serde_json::Value,
    /// What the arguments' paths held: a checkpoint of other inputs is refused, one that records none is not.
    #[serde(default)]
    pub inputs: Inputs,
}

/// The checkpoint folder of one run. The complete old checkpoint stays until the new one is complete.
pub struct Checkpoint {
    dir: PathBuf,
    run: serde_json::Value,
    inputs: Inputs,
    /// Held as long as the run: two at once would resume each other's checkpoints. A kill gives it back.
    _lock: File,
}

impl Checkpoint {
    /// `run` holds every argument that shapes the result. Call it before anything is written to `out`.
    ///
    /// # Errors
    /// When `out` holds a checkpoint of other arguments or inputs, or one that cannot be read, or another process is
    /// at work in it.
    pub fn open(out: &Path, run: serde_json::Value, inputs: Inputs) -> Result<Checkpoint> {
        let checkpoint = Checkpoint { dir: out.join("checkpoint"), run, inputs, _lock: lock(out)? };
        let dir = complete(&checkpoint.dir);
        if dir.exists() {
            let state = Checkpoint::state(out)?;
            ensure!(
                state.run == checkpoint.run,
                "checkpoint {}: it belongs to a run with other arguments: give another --out, or remove it",
                dir.display()
            );
            let other = checkpoint.inputs.differing(&state.inputs);
            ensure!(
                state.inputs.is_empty() || other.is_empty(),
                "checkpoint {}: it was trained with another {}: give another --out, or remove it",
                dir.display(),
                other.join(" and another ")
            );
        }
        Ok(checkpoint)
    }

    /// Writes beside the last checkpoint and then takes its place. Blocks until it is on the disk.
    ///
    /// # Errors
    /// When the disk is full or does not take it otherwise: the last checkpoint is intact then.
    pub fn save<M: Module>(&self, step: usize, model: &M, optimizer: &Optimizer) -> Result<()> {
        let fresh = self.dir.with_extension("new");
        let write = || -> Result<()> {
            remove_folder(&fresh)?;
            fs::create_dir_all(&fresh)?;
            // Both are on the disk when they return: burn writes its files as `write_atomically` does.
            model.clone().save_file(fresh.join("model"))?;
            optimizer.inner.save(fresh.join("optimizer"))?;
            let state = State { step, run: self.run.clone(), inputs: self.inputs.clone() };
            write_atomically(&fresh.join("state.json"), &serde_json::to_vec_pretty(&state)?)?;
            Ok(replace(&self.dir, &fresh)?)
        };
        let written = write();
        if written.is_err() {
            // It would take the room that the next attempt needs.
            let _gone = remove_folder(&fresh).is_ok();
        }
        let kept = if complete(&self.dir).exists() { " (the last one is intact)" } else { "" };
        written.with_context(|| format!("write checkpoint {}{kept}", self.dir.display()))
    }

    /// Where the run in `out` stands.
    pub fn state(out: &Path) -> Result<State> {
        let path = complete(&out.join("checkpoint")).join("state.json");
        let json = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&json).with_context(|| format!("parse {}", path.display()))
    }

    /// The model alone of the run in `out`, whatever its arguments were.
    pub fn load_model<M: Module>(out: &Path, model: M) -> Result<M> {
        let path = complete(&out.join("checkpoint")).join("model");
        model.try_load_file(&path).with_context(|| format!("read the model of {}", path.display()))
    }

    /// The step, model and optimizer to go on from, if there is a checkpoint.
    pub fn load<M: Module>(&self, model: M, optimizer: Optimizer) -> Result<(usize, M, Optimizer)> {
        let dir = complete(&self.dir);
        if !dir.exists() {
            return Ok((0, model, optimizer));
        }
        let read = || -> Result<(usize, M, Optimizer)> {
            let state: State = serde_json::from_slice(&fs::read(dir.join("state.json"))?)?;
            let model = model.try_load_file(dir.join("model"))?;
            let Optimizer { inner, grad_clip } = optimizer;
            let inner = inner.load(dir.join("optimizer"))?;
            Ok((state.step, model, Optimizer { inner, grad_clip }))
        };
        read().with_context(|| format!("read checkpoint {}", dir.display()))
    }
}

fn lock(out: &Path) -> Result<File> {
    fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let path = out.join(".lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    // A file system that knows no locks is no reason not to train.
    let taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    ensure!(!taken, "{}: another run is at work in this folder", out.display());
    Ok(file)
}

/// Where the last checkpoint moves while a new one takes its place.
fn old(dir: &Path) -> PathBuf {
    dir.with_extension("old")
}

/// The folder of the last complete checkpoint: a kill between two renames leaves it under its old name.
fn complete(dir: &Path) -> PathBuf {
    if dir.exists() { dir.to_owned() } else { old(dir) }
}

/// Moves the complete folder `fresh` to `dir`.
fn replace(dir: &Path, fresh: &Path) -> io::Result<()> {
    let old = old(dir);
    if dir.exists() {
        // What a kill left there is older than what stands in its place.
        remove_folder(&old)?;
        fs::rename(dir, &old)?;
    }
    fs::rename(fresh, dir)?;
    sync_folder(dir.parent().unwrap_or(dir))?;
    remove_folder(&old)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(dir: &Path, step: usize) {
        fs::create_dir_all(dir).unwrap();
        let state = State { step, run: serde_json::Value::Null, inputs: Inputs::default() };
        fs::write(dir.join("state.json"), serde_json::to_vec(&state).unwrap()).unwrap();
    }

    /// What a kill leaves: the step of each folder that is there.
    fn left(out: &Path, last: Option<usize>, old: Option<usize>) -> PathBuf {
        let dir = out.join("checkpoint");
        for (name, step) in [(dir.clone(), last), (super::old(&dir), old)] {
            if let Some(step) = step {
                folder(&name, step);
            }
        }
        dir
    }

    #[test]
    fn a_kill_between_any_two_moves_leaves_a_complete_checkpoint_that_the_next_one_replaces() {
        // Before any, before the first rename, between the renames, before the old one is removed.
        for (last, old, step) in [
            (None, None, None),
            (Some(2), None, Some(2)),
            (None, Some(2), Some(2)),
            (Some(4), Some(2), Some(4)),
        ] {
            let out = tempfile::tempdir().unwrap();
            let dir = left(out.path(), last, old);
            assert_eq!(Checkpoint::state(out.path()).ok().map(|state| state.step), step);
            let fresh = dir.with_extension("new");
            folder(&fresh, 6);
            replace(&dir, &fresh).unwrap();
            assert_eq!(Checkpoint::state(out.path()).unwrap().step, 6);
            assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1, "nothing lies beside it");
        }
    }

    #[test]
    fn a_folder_takes_one_run_at_a_time() {
        let out = tempfile::tempdir().unwrap();
        let open = || Checkpoint::open(out.path(), serde_json::Value::Null, Inputs::default());
        let first = open().unwrap();
        let error = open().map(drop).unwrap_err().to_string();
        assert!(error.contains("another run is at work"), "{error}");
        drop(first);
        open().unwrap();
    }

    #[test]
    fn a_checkpoint_of_other_inputs_is_refused_by_their_names() {
        let out = tempfile::tempdir().unwrap();
        let dir = left(out.path(), Some(2), None);
        let inputs = Inputs::default().with("corpus", b"a").with("tokenizer", b"b");
        let state = State { step: 2, run: serde_json::Value::Null, inputs: inputs.clone() };
        let open = |inputs| Checkpoint::open(out.path(), serde_json::Value::Null, inputs).map(drop);
        open(inputs.clone()).unwrap();
        fs::write(dir.join("state.json"), serde_json::to_vec(&state).unwrap()).unwrap();
        open(inputs.clone()).unwrap();
        let error = open(inputs.with("tokenizer", b"c")).unwrap_err().to_string();
        assert!(error.contains("it was trained with another tokenizer:"), "{error}");
    }
}
