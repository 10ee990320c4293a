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
    load_dir(&dir, ENGINE, EngineOptions { device: Device::Cpu, threads })
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

/// Loads the bundle of a configuration.
pub(super) fn load_configured(config: &Config) -> Result<Loaded, config::Problems> {
    let invalid = |why: String| config::Problems::one("bundle", why);
    let dir = bundle_dir(config.bundle.as_deref()).map_err(invalid)?;
    let options = EngineOptions { device: config.device, threads: config.threads };
    load_dir(&dir, &config.engine, options).map_err(|e| invalid(format!("{e:#}")))
}

impl Loaded {
    /// Runs everything once, so that the first frame is as fast as the next.
    pub(super) fn warm_up(mut self) -> anyhow::Result<Eyes> {
        let gray = RgbImage::from_pixel(64, 64, image::Rgb([128; 3]));
        let pixels = self.models.preprocess(&gray);
        let view = self.models.encode(&pixels).context("warm up the encoder")?;
        self.models.caption(&view).context("warm up the decoder")?;
        Ok(Eyes { vision: Box::new(self.models), bundle_id: self.bundle.id().to_owned() })
    }
}
