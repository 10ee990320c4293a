//! Builds the parts, spawns them, waits, and drains them in order. Nothing else spawns.
//!
//! ```text
//! cap-<camera> (one thread each) -> Inbox -> infer (one thread) -> publications -> publisher task
//!                                     ^                                               |
//!                                     +------------------ listener task <--- broker <-+
//! ```
//!
//! It ends in this order: captures, inbox, inference, publisher (which says offline), listener.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use sd_notify::NotifyState;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::EXIT_FAILURE;
use crate::config::Config;
use crate::health::{Health, notify};
use crate::inbox::Inbox;
use crate::mqtt;
use crate::mqtt::payload::Producer;
use crate::pipeline::{Pipeline, Vision};
use crate::shutdown::Shutdown;
use crate::source::Capturer;

/// Results that may wait for the publisher. Full: the newest is dropped and counted.
const PUBLICATIONS_MAX: usize = 64;
/// From the request to shut down until what is still running is named and left.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// What sees, and what it is called in payloads.
pub struct Eyes {
    pub vision: Box<dyn Vision>,
    pub bundle_id: String,
}

/// Runs the daemon until shutdown is requested. Blocks. `eyes` is loaded and warmed up.
///
/// # Errors
/// When a thread cannot be started, dies, or does not end within [`SHUTDOWN_GRACE`].
pub fn run(config: &Config, eyes: Eyes, shutdown: &Shutdown) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let health = Arc::new(Health::new(config.cameras.len(), sd_notify::watchdog_enabled()));
    let inbox = Arc::new(Inbox::new(config.cameras.len()));
    let (publications_tx, publications) = mpsc::channel(PUBLICATIONS_MAX);
    let producer =
        Producer { bundle: eyes.bundle_id, engine: config.engine.clone(), device: config.device.to_string() };

    let inference = {
        let (health, inbox) = (Arc::clone(&health), Arc::clone(&inbox));
        let gates: Vec<_> = config.cameras.iter().map(|camera| camera.gate).collect();
        let vision = eyes.vision;
        spawn("infer", move || Pipeline::new(vision, gates, &health, publications_tx).run(&inbox))?
    };
    let captures = spawn_captures(config, &inbox, &health, shutdown)?;
    let (listener, publisher) = mqtt::tasks(&config.mqtt, &config.cameras, producer, Arc::clone(&health));
    let listener = runtime.spawn(listener.run(Arc::clone(&inbox)));
    let mut publisher = runtime.spawn(publisher.run(publications));

    notify(&[NotifyState::Ready]);
    tracing::info!(cameras = config.cameras.len(), "started");
    let outcome = runtime.block_on(async {
        tokio::select! {
            () = shutdown.requested() => Ok(()),
            // Both end in order only after shutdown, so this is a failure.
            _ = &mut publisher => Err(anyhow!("the publisher or the inference thread ended")),
        }
    });
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping");
    shutdown.request();

    let deadline = Instant::now() + SHUTDOWN_GRACE;
    for capture in captures {
        join(capture, deadline)?;
    }
    inbox.close();
    join(inference, deadline)?;
    outcome?;
    runtime.block_on(async {
        let goodbye = async {
            if publisher.await.context("the publisher panicked")? {
                listener.await.context("the listener panicked")?;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout_at(deadline.into(), goodbye).await {
            Ok(said) => said,
            Err(_) => Err(anyhow!("the broker did not take the goodbye within {SHUTDOWN_GRACE:?}")),
        }
    })?;
    runtime.shutdown_background();
    tracing::info!("stopped");
    Ok(())
}

/// Requests shutdown at SIGINT or SIGTERM; a second signal ends the process at once.
///
/// # Errors
/// When the signals cannot be listened to.
pub fn heed_signals(shutdown: &Shutdown) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build().context("start the signal runtime")?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    drop(guard);
    let shutdown = shutdown.clone();
    spawn("signals", move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if shutdown.is_requested() {
                    std::process::exit(EXIT_FAILURE.into());
                }
                shutdown.request();
            }
        });
    })?;
    Ok(())
}

/// For input and output alone: inference never runs here.
fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("io")
        .enable_all()
        .build()
        .context("start the runtime")
}

fn spawn_captures(
    config: &Config,
    inbox: &Arc<Inbox>,
    health: &Arc<Health>,
    shutdown: &Shutdown,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let mut captures = Vec::with_capacity(config.cameras.len());
    for (i, camera) in config.cameras.iter().enumerate() {
        let capturer = Capturer { camera: i, name: camera.name.clone(), config: camera.source.clone() };
        let (inbox, health, shutdown) = (Arc::clone(inbox), Arc::clone(health), shutdown.clone());
        captures.push(spawn(&format!("cap-{}", camera.name), move || {
            capturer.run(&inbox, &health, &shutdown);
        })?);
    }
    Ok(captures)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(work).with_context(|| format!("start thread {name}"))
}

/// Joins a thread that was asked to end.
fn join(thread: JoinHandle<()>, deadline: Instant) -> anyhow::Result<()> {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return Err(anyhow!("thread {name} did not end within {SHUTDOWN_GRACE:?}"));
        }
        thread::sleep(POLL);
    }
    thread.join().map_err(|_panic| anyhow!("thread {name} panicked"))
}
