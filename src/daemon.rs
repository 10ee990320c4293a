//! Builds the parts, spawns them, waits, and drains them in order. Nothing else spawns.
//!
//! ```text
//! cap-<camera> (one thread each) -> Inbox -> infer (one thread) -> publications -> publisher task
//!                                     ^                                               |
//!                                     +------------------ listener task <--- broker <-+
//!                                     +-- jobs -- worker task <--> broker, on a connection of its own
//! ```
//!
//! It ends in this order: captures, inbox, inference, publisher and worker (which say offline), listener, and the task
//! of the Homie devices where there is one: it gets copies from the publisher and has a connection of its own.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use engine::{Device, EngineError};
use sd_notify::NotifyState;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::allocator::Tidy;
use crate::captures::{Captures, HANG};
use crate::cli::EXIT_FAILURE;
use crate::config::{CameraConfig, Config, ENGINE};
use crate::health::{Health, Trouble, notify};
use crate::inbox::Inbox;
use crate::mailbox::Mailbox;
use crate::message::{Publication, Watch};
use crate::mqtt;
use crate::mqtt::News;
use crate::mqtt::payload::Producer;
use crate::pipeline::{Pipeline, Vision};
use crate::pressure::{Paths, Pressure};
use crate::reload::{Load, PLACES_MAX, Places, ReloadRequest, Reloader, watch_of};
use crate::shutdown::Shutdown;
use crate::source::Capturer;
use crate::status;

/// Results that may wait for the publisher. Full: the newest is dropped and counted.
const PUBLICATIONS_MAX: usize = 64;
/// News of a reload that may wait for the publisher. Full: the thread that reloads waits.
const NEWS_MAX: usize = 8;
/// From the request to shut down until what is still running is named and left.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Of that, what the captures get: one that hangs in its driver may not keep the goodbye from the broker.
const CAPTURES_GRACE: Duration = Duration::from_secs(3);
const LOOK_AFTER: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);

/// What sees, and for which cameras.
pub struct Eyes {
    /// Each with the name of its bundle in payloads.
    pub visions: Vec<(Box<dyn Vision>, String)>,
    /// The place among the visions, for every camera in the order of the configuration.
    pub of_camera: Vec<usize>,
    /// The place among the visions of the one that looks at jobs, where there is a worker.
    pub of_worker: usize,
    /// What the visions run on.
    pub engine: &'static str,
    pub device: Device,
}

impl Eyes {
    /// One vision for all of `n_cameras`.
    pub fn shared(vision: Box<dyn Vision>, bundle_id: String, n_cameras: usize) -> Eyes {
        Eyes {
            visions: vec![(vision, bundle_id)],
            of_camera: vec![0; n_cameras],
            of_worker: 0,
            engine: ENGINE,
            device: Device::Cpu,
        }
    }
}

/// What a test may want otherwise, and who may ask for a reload.
pub struct Options {
    /// After so long without a sign of life a capture thread hangs.
    pub hang: Duration,
    /// None where the configuration is not read again.
    pub reload: Option<(ReloadRequest, Load)>,
    /// Where heat and short memory are seen.
    pub pressure: Paths,
}

impl Default for Options {
    fn default() -> Options {
        Options { hang: HANG, reload: None, pressure: Paths::of_system() }
    }
}

/// Runs the daemon until shutdown is requested. Blocks. `eyes` is loaded and warmed up.
///
/// # Errors
/// When a thread cannot be started, dies, or does not end within [`SHUTDOWN_GRACE`].
pub fn run(config: &Config, eyes: Eyes, shutdown: &Shutdown) -> anyhow::Result<()> {
    run_with(config, eyes, shutdown, Options::default())
}

/// The same with other options.
///
/// # Errors
/// As [`run`].
pub fn run_with(config: &Config, eyes: Eyes, shutdown: &Shutdown, options: Options) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let health = Arc::new(Health::new(PLACES_MAX, sd_notify::watchdog_enabled()));
    for (camera, CameraConfig { name, .. }) in config.cameras.iter().enumerate() {
        health.name_camera(camera, Some(name));
    }
    let mut tasks = JoinSet::new();
    serve_status(config, &mut tasks, &runtime, &health, shutdown)?;
    let inbox = Arc::new(Inbox::new(PLACES_MAX));
    let (publications_tx, publications) = mpsc::channel(PUBLICATIONS_MAX);
    let producers: Vec<Producer> = eyes.visions.iter().map(|(_, bundle)| producer(&eyes, bundle)).collect();
    let worker = config.worker.as_ref().map(|worker| {
        let producer = producers[eyes.of_worker].clone();
        mqtt::Worker::new(&config.mqtt, worker, eyes.of_worker, producer, Arc::clone(&inbox))
    });
    let producers_of = eyes.of_camera.iter().map(|eye| producers[*eye].clone()).collect();
    let places = Places::new(config, &eyes.of_camera, producers);

    let inference = start_inference(config, eyes, &health, &inbox, publications_tx, shutdown)?;
    let mailboxes: Vec<Arc<Mailbox>> = (0..PLACES_MAX).map(|_| Arc::default()).collect();
    let captures = start_captures(config, &inbox, &mailboxes, &health, shutdown, options.hang)?;
    let (news_tx, news) = mpsc::channel(NEWS_MAX);
    let news_tx = (!config.cameras.is_empty()).then_some(news_tx);
    let reloader = options.reload.map(|(request, load)| {
        let (inbox, health, news) = (Arc::clone(&inbox), Arc::clone(&health), news_tx.clone());
        Reloader { request, load, places, inbox, health, news }
    });
    let pressure = Pressure::new(options.pressure);
    let captures = watch(captures, reloader, pressure, news_tx, Arc::clone(&health), shutdown)?;
    // What a daemon says of itself and its cameras would be said of every worker at once.
    if !config.cameras.is_empty() {
        let (listener, publisher, homie) =
            mqtt::tasks(&config.mqtt, &config.cameras, producers_of, Arc::clone(&health), news)
                .context("open the queue for messages")?;
        let listener = runtime.spawn(listener.run(Arc::clone(&inbox), mailboxes.clone()));
        let homie = homie.map(|homie| runtime.spawn(homie.run(Arc::clone(&inbox))));
        tasks.spawn_on(publish(publisher, publications, listener, homie), runtime.handle());
    }
    if let Some(worker) = worker {
        let shutdown = shutdown.clone();
        let run = async move {
            worker.run(shutdown).await;
            Ok(())
        };
        tasks.spawn_on(run, runtime.handle());
    }

    notify(&[NotifyState::Ready]);
    tracing::info!(cameras = config.cameras.len(), worker = config.worker.is_some(), "started");
    let outcome = runtime.block_on(until_shutdown(&mut tasks, shutdown));
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping");
    shutdown.request();
    mailboxes.iter().for_each(|mailbox| mailbox.close());

    let deadline = Instant::now() + SHUTDOWN_GRACE;
    join(captures, deadline)?.join(Instant::now() + CAPTURES_GRACE)?;
    inbox.close();
    let inference = join(inference, deadline)?;
    let goodbye = runtime.block_on(say_goodbye(tasks, deadline));
    runtime.shutdown_background();
    // The first of them is why the others failed, if they did.
    inference.context("inference ended")?;
    outcome?;
    goodbye?;
    tracing::info!("stopped");
    Ok(())
}

/// Waits until shutdown is requested; a task that ends before is a failure.
async fn until_shutdown(tasks: &mut JoinSet<anyhow::Result<()>>, shutdown: &Shutdown) -> anyhow::Result<()> {
    tokio::select! {
        () = shutdown.requested() => Ok(()),
        // A task may hear of the shutdown first.
        _ = tasks.join_next() => match shutdown.is_requested() {
            true => Ok(()),
            false => Err(anyhow!("a task at the broker or the inference thread ended")),
        },
    }
}

/// Waits for the tasks at the broker, which were asked to end.
async fn say_goodbye(mut tasks: JoinSet<anyhow::Result<()>>, deadline: Instant) -> anyhow::Result<()> {
    let goodbye = async {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a task at the broker panicked")??;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout_at(deadline.into(), goodbye).await {
        Ok(said) => said,
        Err(_) => Err(anyhow!("the broker did not take the goodbye within {SHUTDOWN_GRACE:?}")),
    }
}

/// Publishes until there is nothing more to publish; the listener ends when the broker has heard the goodbye.
async fn publish(
    publisher: mqtt::Publisher,
    publications: mpsc::Receiver<Publication>,
    listener: tokio::task::JoinHandle<()>,
    homie: Option<tokio::task::JoinHandle<()>>,
) -> anyhow::Result<()> {
    if publisher.run(publications).await {
        listener.await.context("the listener panicked")?;
    }
    if let Some(homie) = homie {
        homie.await.context("the Homie devices' task panicked")?;
    }
    Ok(())
}

/// Tells metrics and health over HTTP, where that is configured.
fn serve_status(
    config: &Config,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    runtime: &Runtime,
    health: &Arc<Health>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let Some(address) = config.http else { return Ok(()) };
    let listener = runtime.block_on(status::bind(address));
    let listener = listener.with_context(|| format!("listen on {address} for metrics"))?;
    let (health, shutdown) = (Arc::clone(health), shutdown.clone());
    let run = async move {
        status::serve(listener, &health, &shutdown).await;
        Ok(())
    };
    tasks.spawn_on(run, runtime.handle());
    Ok(())
}

/// What runs a camera's results, as payloads name it.
fn producer(eyes: &Eyes, bundle: &str) -> Producer {
    Producer { bundle: bundle.to_owned(), engine: eyes.engine.to_owned(), device: eyes.device.to_string() }
}

/// Requests shutdown at SIGINT or SIGTERM; a second of them ends the process at once. SIGHUP asks for a reload where
/// there is one, and is left as it is where there is none.
///
/// # Errors
/// When the signals cannot be listened to.
pub fn heed_signals(shutdown: &Shutdown, reload: Option<&ReloadRequest>) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build().context("start the signal runtime")?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    let mut hangup = match reload {
        Some(reload) => Some((signal(SignalKind::hangup()).context("listen to SIGHUP")?, reload.clone())),
        None => None,
    };
    drop(guard);
    let shutdown = shutdown.clone();
    spawn("signals", move || {
        runtime.block_on(async {
            loop {
                let asked = async {
                    match &mut hangup {
                        Some((hangup, reload)) => hangup.recv().await.map(|()| reload.request()),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = asked => continue,
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

/// Does `work` on a thread of its own, and leaves it behind when it takes longer than `limit`: none then.
///
/// # Errors
/// When the thread cannot be started.
pub fn bounded<T: Send + 'static>(
    name: &str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<Option<T>> {
    let (done_tx, done) = std::sync::mpsc::sync_channel(1);
    // Whoever waited may have gone.
    spawn(name, move || drop(done_tx.send(work())))?;
    Ok(done.recv_timeout(limit).ok())
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

/// Requests shutdown when inference ends of its own, since nothing goes on without it.
fn start_inference(
    config: &Config,
    eyes: Eyes,
    health: &Arc<Health>,
    inbox: &Arc<Inbox>,
    publications: mpsc::Sender<Publication>,
    shutdown: &Shutdown,
) -> anyhow::Result<JoinHandle<Result<(), EngineError>>> {
    let (health, inbox, shutdown) = (Arc::clone(health), Arc::clone(inbox), shutdown.clone());
    let watches = config.cameras.iter().zip(&eyes.of_camera);
    let watches: Vec<Watch> = watches.map(|(camera, vision)| watch_of(camera, *vision)).collect();
    let visions = eyes.visions.into_iter().map(|(vision, _)| vision).collect();
    spawn("infer", move || {
        let ended = Pipeline::new(visions, watches, &health, publications).run(&inbox);
        shutdown.request();
        ended
    })
}

fn start_captures(
    config: &Config,
    inbox: &Arc<Inbox>,
    mailboxes: &[Arc<Mailbox>],
    health: &Arc<Health>,
    shutdown: &Shutdown,
    hang: Duration,
) -> anyhow::Result<Captures> {
    let (inbox, health, shutdown) = (Arc::clone(inbox), Arc::clone(health), shutdown.clone());
    let mailboxes = mailboxes.to_vec();
    let start = move |camera: usize, config: &CameraConfig, office| {
        let mailbox = Arc::clone(&mailboxes[camera]);
        let capturer = Capturer::new(camera, config, mailbox, office);
        let (inbox, health, shutdown) = (Arc::clone(&inbox), Arc::clone(&health), shutdown.clone());
        let name = format!("cap-{}", capturer.name);
        spawn(&name, move || capturer.run(&inbox, &health, &shutdown))
    };
    Captures::start(&config.cameras, hang, Box::new(start))
}

/// Looks after the captures until shutdown is requested, and gives them back to be joined. Reloads are heeded here,
/// since cameras come and go by them, and so are heat and short memory; memory that is free goes back to the system.
fn watch(
    mut captures: Captures,
    mut reloader: Option<Reloader>,
    mut pressure: Pressure,
    news: Option<mpsc::Sender<News>>,
    health: Arc<Health>,
    shutdown: &Shutdown,
) -> anyhow::Result<JoinHandle<Captures>> {
    let shutdown = shutdown.clone();
    let mut trouble = Trouble::default();
    let mut tidy = Tidy::new(Instant::now());
    spawn("watch", move || {
        while !shutdown.wait_for(LOOK_AFTER) {
            captures.look_after(Instant::now(), &health);
            tidy.look(Instant::now());
            if let Some(reloader) = &mut reloader {
                reloader.heed(&mut captures);
            }
            let happening = pressure.look(Instant::now());
            health.set_slow_interval(pressure.interval());
            for happening in happening.into_iter().chain(trouble.look(&health)) {
                let Some(news) = &news else { continue };
                if news.try_send(News::Happening(happening)).is_err() {
                    tracing::debug!("the publisher is busy: nobody hears of it but by the statistics");
                }
            }
        }
        captures
    })
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work).with_context(|| format!("start thread {name}"))
}

/// Joins a thread that was asked to end.
fn join<T>(thread: JoinHandle<T>, deadline: Instant) -> anyhow::Result<T> {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return Err(anyhow!("thread {name} did not end within {SHUTDOWN_GRACE:?}"));
        }
        thread::sleep(POLL);
    }
    thread.join().map_err(|_panic| anyhow!("thread {name} panicked"))
}
