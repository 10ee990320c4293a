//! Loads a bundle for the commands.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use caption::{Bundle, CaptionError, Models};
use engine::{Engine, EngineError, EngineOptions};
use image::RgbImage;

use super::{BundleArgs, Failure};
use crate::allocator;
use crate::config::{self, Config, EngineConfig, bundle_dir, default_threads, engine_library};
use crate::daemon::Eyes;
use crate::pipeline::Vision;

/// An engine, and how graphs are loaded by it.
pub(super) struct Runtime {
    pub(super) engine: Box<dyn Engine>,
    pub(super) options: EngineOptions,
}

/// What is left of a bundle once it is loaded.
pub(super) struct Loaded {
    pub(super) models: Models,
    /// See [`Bundle::id`].
    pub(super) id: String,
    pub(super) dir: std::path::PathBuf,
    pub(super) runtime: Arc<Runtime>,
    /// From opening the folder to the last graph being ready.
    pub(super) took: Duration,
}

/// Loads the bundle that the arguments name, or the one in the usual places.
pub(super) fn load(args: &BundleArgs) -> anyhow::Result<Loaded> {
    let dir = bundle_dir(args.bundle.as_deref()).map_err(|why| anyhow!(why))?;
    let threads = args.threads.unwrap_or_else(default_threads);
    let config = EngineConfig { name: args.engine.clone(), device: args.device, ..EngineConfig::default() };
    load_dir(&dir, &Arc::new(settle(&config, threads)?))
}

/// Settles on the device that graphs are loaded on, and says so where that is the lesser of two.
fn settle(config: &EngineConfig, threads: NonZeroUsize) -> Result<Runtime, EngineError> {
    let engine = engine::open(&config.name)?;
    let mut options = EngineOptions {
        threads,
        library: engine_library(config.library.as_deref()),
        device_bytes_max: config.device_bytes_max,
        device_cache: config.device_cache.clone(),
        ..EngineOptions::default()
    };
    let (device, why) = engine.choose(config.device, &options)?;
    if let Some(why) = why {
        tracing::warn!(asked = %config.device, running = %device, why, "the better device does not run");
    }
    options.device = device;
    Ok(Runtime { engine, options })
}

fn load_dir(dir: &Path, runtime: &Arc<Runtime>) -> anyhow::Result<Loaded> {
    let started = Instant::now();
    let bundle = Bundle::open(dir).context("open the bundle")?;
    let models = Models::load(&bundle, &*runtime.engine, &runtime.options).context("load the bundle")?;
    let id = bundle.id().to_owned();
    // Its bytes, and the copies on the way to packed weights, are as much again as what stays.
    drop(bundle);
    allocator::give_back();
    tracing::info!(
        bundle = id,
        engine = runtime.engine.name(),
        device = %runtime.options.device,
        ms = started.elapsed().as_millis(),
        "bundle loaded"
    );
    let (dir, runtime) = (dir.to_owned(), Arc::clone(runtime));
    Ok(Loaded { models, id, dir, runtime, took: started.elapsed() })
}

/// The bundles of a configuration, each loaded once, and which of them is each camera's.
pub(super) struct Configured {
    pub(super) bundles: Vec<Loaded>,
    pub(super) runtime: Arc<Runtime>,
    of_camera: Vec<usize>,
    of_worker: usize,
}

/// Loads the bundles of a configuration.
pub(super) fn load_configured(config: &Config) -> Result<Configured, Failure> {
    let runtime = settle(&config.engine, config.threads).map_err(|e| refused(config, "engine", e.into()))?;
    let (bundles, of_camera) = (Vec::new(), Vec::new());
    let mut configured = Configured { bundles, runtime: Arc::new(runtime), of_camera, of_worker: 0 };
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

/// What is to blame when nothing was loaded: the engine or its device where those are not there, else `key`. A device that
/// does not answer may do so at the next start, whatever the configuration says.
fn refused(config: &Config, key: &str, e: anyhow::Error) -> Failure {
    let engine = e.chain().find_map(|cause| match cause.downcast_ref::<CaptionError>() {
        Some(CaptionError::Engine(e)) => Some(e),
        _ => cause.downcast_ref::<EngineError>(),
    });
    let key = match engine {
        Some(EngineError::Lost { .. }) => return Failure::Runtime(e),
        Some(EngineError::Unavailable { .. }) if config.engine.device == engine::DeviceChoice::default() => {
            "engine"
        }
        Some(EngineError::Unavailable { .. }) => "device",
        _ => key,
    };
    Failure::Config(config::Problems::one(key, format!("{e:#}")))
}

impl Configured {
    /// The place of a bundle, that of the daemon unless another is `named`; loads it where it is not loaded yet. `key`
    /// is to blame when it cannot be.
    fn load(&mut self, config: &Config, key: &str, named: Option<&Path>) -> Result<usize, Failure> {
        let dir = bundle_dir(named.or(config.bundle.as_deref()));
        let dir = dir.map_err(|why| Failure::Config(config::Problems::one(key, why)))?;
        if let Some(place) = self.bundles.iter().position(|loaded| loaded.dir == dir) {
            return Ok(place);
        }
        let loaded = load_dir(&dir, &self.runtime).map_err(|e| refused(config, key, e))?;
        self.bundles.push(loaded);
        Ok(self.bundles.len() - 1)
    }

    pub(super) fn warm_up(self) -> anyhow::Result<Eyes> {
        let visions = self.bundles.into_iter().map(Loaded::warm).collect::<anyhow::Result<_>>()?;
        let Runtime { engine, options } = &*self.runtime;
        let (engine, device) = (engine.name(), options.device);
        Ok(Eyes { visions, of_camera: self.of_camera, of_worker: self.of_worker, engine, device })
    }
}

impl Loaded {
    /// As the eyes of one camera.
    pub(super) fn warm_up(self) -> anyhow::Result<Eyes> {
        let (engine, device) = (self.runtime.engine.name(), self.runtime.options.device);
        Ok(Eyes { visions: vec![self.warm()?], of_camera: vec![0], of_worker: 0, engine, device })
    }

    /// Runs everything once, so that the first frame is as fast as the next.
    fn warm(mut self) -> anyhow::Result<(Box<dyn Vision>, String)> {
        let gray = RgbImage::from_pixel(64, 64, image::Rgb([128; 3]));
        let pixels = self.models.preprocess(&gray);
        let view = self.models.encode(&pixels).context("warm up the encoder")?;
        self.models.caption(&view).context("warm up the decoder")?;
        Ok((Box::new(self.models), self.id))
    }
}
