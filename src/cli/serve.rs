//! `run`, `check` and `demo`: the daemon and its configuration.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use humantime::format_duration;

use super::models::{Configured, Loaded, load, load_configured};
use super::{BundleArgs, Failure, output};
use crate::config::{CameraConfig, Config, MqttConfig, WorkerConfig};
use crate::mqtt::purge;
use crate::reload::{Load, ReloadRequest};
use crate::shutdown::Shutdown;
use crate::{daemon, demo};

/// Runs the daemon until a signal.
pub(super) fn run(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path).map_err(Failure::Config)?;
    let (shutdown, request) = (Shutdown::new(), ReloadRequest::default());
    daemon::heed_signals(&shutdown, Some(&request))?;
    let eyes = load_configured(&config)?.warm_up()?;
    let path = path.to_owned();
    let reload = Some((request, Box::new(move || Config::load(&path)) as Load));
    Ok(daemon::run_with(&config, eyes, &shutdown, daemon::Options { reload, ..daemon::Options::default() })?)
}

/// Says what the daemon would run with.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path).map_err(Failure::Config)?;
    let loaded = load_configured(&config)?;
    output::line(&summary(&config, &loaded))?;
    Ok(())
}

/// Takes everything away that the broker keeps, and lists it.
pub(super) fn purge(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path).map_err(Failure::Config)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let purged = runtime.block_on(purge::purge(&config.mqtt)).context("purge the broker")?;
    for topic in &purged {
        output::line(topic)?;
    }
    tracing::info!(topics = purged.len(), "taken away");
    Ok(())
}

/// Runs the daemon on bundled photos.
pub(super) fn demo(count: Option<u64>, bundle: &BundleArgs) -> Result<(), Failure> {
    let shutdown = Shutdown::new();
    daemon::heed_signals(&shutdown, None)?;
    let loaded = load(bundle)?;
    let threads = loaded.runtime.options.threads;
    Ok(demo::run(loaded.warm_up()?, threads, count, &shutdown, io::stdout(), io::stderr())?)
}

fn summary(config: &Config, configured: &Configured) -> String {
    let mqtt = &config.mqtt;
    let user = match &mqtt.credentials {
        Some((username, _)) => format!(" as {username}"),
        None => String::new(),
    };
    let bundle = |loaded: &Loaded| format!("bundle {} in {}", loaded.id, loaded.dir.display());
    let mut lines: Vec<String> = configured.bundles.iter().map(bundle).collect();
    lines.extend([
        format!(
            "engine {} on {}, {} threads",
            configured.runtime.engine.name(),
            configured.runtime.options.device,
            config.threads
        ),
        format!(
            "mqtt {} to {}:{}{user}, topics under {}{}, qos {}, keep alive {}",
            mqtt.protocol.as_str(),
            mqtt.host,
            mqtt.port,
            mqtt.base_topic,
            outputs(mqtt),
            mqtt.qos as u8,
            format_duration(mqtt.keep_alive)
        ),
    ]);
    lines.extend(config.cameras.iter().map(camera_summary));
    lines.extend(config.http.map(|address| format!("metrics and health on http://{address}")));
    lines.extend(config.worker.as_ref().map(worker_summary));
    lines.join("\n")
}

/// Where else it publishes.
fn outputs(mqtt: &MqttConfig) -> String {
    let named = [("Home Assistant", &mqtt.discovery), ("Homie", &mqtt.homie), ("ONVIF", &mqtt.onvif_prefix)];
    let under =
        |(name, prefix): (&str, &Option<String>)| Some(format!(", {name} under {}", prefix.as_ref()?));
    named.into_iter().filter_map(under).collect()
}

fn worker_summary(worker: &WorkerConfig) -> String {
    format!(
        "worker of the group {} on {}; {} jobs at a time of at most {} bytes, kept for {} while away",
        worker.group,
        worker.topic.as_deref().unwrap_or("the base topic's work/+"),
        worker.receive_max,
        worker.bytes_max,
        format_duration(worker.session_expiry)
    )
}

fn camera_summary(camera: &CameraConfig) -> String {
    let gate = if camera.gate.enabled {
        format!(
            "gate at {:?} of the pixels and similarity {:?}, refresh {}",
            camera.gate.pixel_change,
            camera.gate.similarity,
            format_duration(camera.gate.refresh)
        )
    } else {
        "no gate".to_owned()
    };
    let least = format_duration(camera.gate.min_interval);
    let lost = |limit: Option<Duration>| {
        limit.map_or_else(|| "never".to_owned(), |l| format_duration(l).to_string())
    };
    format!(
        "camera {}: {}; {}; {gate}; captions at least {least} apart, confirmed every {}; \
         lost when silent for {}, or the same for {}",
        camera.name,
        camera.source,
        camera.geometry,
        format_duration(camera.gate.heartbeat),
        lost(camera.silence),
        lost(camera.frozen)
    )
}
