//! Loads a bundle for the commands.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use caption::{Bundle, Models};
use engine::{Device, EngineOptions};
use image::RgbImage;

use super::BundleArgs;
use crate::config::{self, Config, ENGINE, bundle_dir, default_threads};
use crate::daemon::Eyes;
use crate::pipeline::Vision;

/// A loaded bundle.
pub(super) struct Loaded {
    pub(super) models: Models,
    pub(super) bundle: Bundle,
    pub(super) dir: std::path::PathBuf,
    pub(super) threads: NonZeroUsize,
    /// From opening the folder to the last graph being ready.
    pub(super) took: Duration,
}

/// Loads the bundle that the arguments name, or the one in the usual places, on the CPU.
pub(super) fn load(args: &BundleArgs) -> anyhow::Result<Loaded> {
    let dir = bundle_dir(args.bundle.as_deref()).map_err(|why| anyhow!(why))?;
    let threads = args.threads.unwrap_or_else(default_threads);
    load_dir(&dir, ENGINE, EngineOptions { device: Device::Cpu, threads, ..EngineOptions::default() })
}

fn load_dir(dir: &Path, engine: &str, options: EngineOptions) -> anyhow::Result<Loaded> {
    let started = Instant::now();
    let bundle = Bundle::open(dir).context("open the bundle")?;
    let engine = engine::open(engine)?;
    let models = Models::load(&bundle, &*engine, &options).context("load the bundle")?;
    tracing::info!(bundle = bundle.id(), ms = started.elapsed().as_millis(), "bundle loaded");
    let dir = dir.to_owned();
    Ok(Loaded { models, bundle, dir, threads: options.threads, took: started.elapsed() })
}

/// The bundles of a configuration, each loaded once, and which of them is each camera's.
pub(super) struct Configured {
    pub(super) bundles: Vec<Loaded>,
    of_camera: Vec<usize>,
    of_worker: usize,
}

/// Loads the bundles of a configuration.
pub(super) fn load_configured(config: &Config) -> Result<Configured, config::Problems> {
    let mut configured = Configured { bundles: Vec::new(), of_camera: Vec::new(), of_worker: 0 };
    for (i, camera) in config.cameras.iter().enumerate() {
        let key = if camera.bundle.is_some() { format!("camera[{i}].bundle") } else { "bundle".to_owned() };
        let place = configured.load(config, &key, camera.bundle.as_deref())?;
        configured.of_camera.push(place);
    }
    if config.worker.is_some() {
        configured.of_worker = configured.load(config, "bundle", None)?;
    }
    Ok(configured)
}

impl Configured {
    /// The place of a bundle, that of the daemon unless another is `named`; loads it where it is not loaded yet. `key`
    /// is to blame when it cannot be.
    fn load(&mut self, config: &Config, key: &str, named: Option<&Path>) -> Result<usize, config::Problems> {
        let invalid = |why: String| config::Problems::one(key, why);
        let dir = bundle_dir(named.or(config.bundle.as_deref())).map_err(invalid)?;
        if let Some(place) = self.bundles.iter().position(|loaded| loaded.dir == dir) {
            return Ok(place);
        }
        let options =
            EngineOptions { device: config.device, threads: config.threads, ..EngineOptions::default() };
        let loaded = load_dir(&dir, &config.engine, options).map_err(|e| invalid(format!("{e:#}")))?;
        self.bundles.push(loaded);
        Ok(self.bundles.len() - 1)
    }

    pub(super) fn warm_up(self) -> anyhow::Result<Eyes> {
        let visions = self.bundles.into_iter().map(Loaded::warm).collect::<anyhow::Result<_>>()?;
        Ok(Eyes { visions, of_camera: self.of_camera, of_worker: self.of_worker })
    }
}

impl Loaded {
    /// As the eyes of one camera.
    pub(super) fn warm_up(self) -> anyhow::Result<Eyes> {
        Ok(Eyes { visions: vec![self.warm()?], of_camera: vec![0], of_worker: 0 })
    }

    /// Runs everything once, so that the first frame is as fast as the next.
    fn warm(mut self) -> anyhow::Result<(Box<dyn Vision>, String)> {
        let gray = RgbImage::from_pixel(64, 64, image::Rgb([128; 3]));
        let pixels = self.models.preprocess(&gray);
        let view = self.models.encode(&pixels).context("warm up the encoder")?;
        self.models.caption(&view).context("warm up the decoder")?;
        Ok((Box::new(self.models), self.bundle.id().to_owned()))
    }
}
