//! `captiond demo`: the whole daemon with no camera, no broker and no configuration.
//!
//! The daemon replays the photos that are part of the executable and publishes to a broker of its
//! own on the loopback interface; what is printed has gone through that broker.

pub mod broker;
pub mod photos;
mod wire;

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::config::{CameraConfig, Config, EngineConfig, GATE, MqttConfig};
use crate::daemon::{self, Eyes};
use crate::gate::GateConfig;
use crate::mqtt::client::{self, Event, Session};
use crate::mqtt::payload::CaptionPayload;
use crate::mqtt::topic::Topics;
use crate::shutdown::Shutdown;
use crate::source::SourceConfig;
use crate::source::replay::ReplayConfig;
use broker::Broker;

const CAMERA: &str = "demo";
const INTERVAL: Duration = Duration::from_secs(1);

/// What the daemon of the demonstration runs with.
pub fn config(port: u16, threads: NonZeroUsize) -> Config {
    let replay = ReplayConfig { photos: photos::all(), interval: INTERVAL, repeat: true };
    let gate = GateConfig { enabled: false, ..GATE };
    let camera = CameraConfig { gate, ..CameraConfig::new(CAMERA, SourceConfig::Replay(replay)) };
    Config {
        bundle: None,
        engine: EngineConfig::default(),
        threads,
        mqtt: MqttConfig { host: "127.0.0.1".to_owned(), port, ..MqttConfig::default() },
        cameras: vec![camera],
        http: None,
        worker: None,
    }
}

/// Runs until shutdown is requested, or `count` captions are written to `captions`. Blocks.
///
/// # Errors
/// When the broker or the daemon fails, or an output cannot be written to. A reader of `captions`
/// that went away is the end, not an error.
pub fn run(
    eyes: Eyes,
    threads: NonZeroUsize,
    count: Option<u64>,
    shutdown: &Shutdown,
    captions: impl Write + Send + 'static,
    mut notes: impl Write,
) -> anyhow::Result<()> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("demo")
        .enable_all()
        .build()
        .context("start the runtime of the demonstration")?;
    let broker = runtime.block_on(Broker::bind()).context("start the broker of the demonstration")?;
    let config = config(broker.port(), threads);
    let base = &config.mqtt.base_topic;
    writeln!(notes, "Watch the demonstration from another terminal:")?;
    writeln!(notes, "    mosquitto_sub -h 127.0.0.1 -p {} -v -t '{base}/#'", broker.port())?;
    notes.flush()?;

    runtime.spawn(broker.serve());
    let (ready_tx, ready) = oneshot::channel();
    let viewer = runtime.spawn(view(config.mqtt.clone(), count, shutdown.clone(), captions, ready_tx));
    // The daemon starts when its viewer listens: the first caption is not missed.
    if runtime.block_on(ready).is_ok() {
        daemon::run(&config, eyes, shutdown)?;
    }
    runtime.block_on(viewer).context("run the viewer of the demonstration")?
}

/// Shows captions; when that ends, for whatever reason, so does the daemon.
async fn view(
    mqtt: MqttConfig,
    count: Option<u64>,
    shutdown: Shutdown,
    captions: impl Write,
    ready: oneshot::Sender<()>,
) -> anyhow::Result<()> {
    let outcome = show(&mqtt, count, &shutdown, captions, ready).await;
    shutdown.request();
    outcome
}

/// Writes one line per caption that comes from the broker, until shutdown.
async fn show(
    mqtt: &MqttConfig,
    count: Option<u64>,
    shutdown: &Shutdown,
    mut captions: impl Write,
    ready: oneshot::Sender<()>,
) -> anyhow::Result<()> {
    let topics = Topics::new(&mqtt.base_topic);
    let (client, mut eventloop) = client::client(mqtt, &Session::new("captiond-viewer"));
    client.subscribe(topics.caption(CAMERA)).await?;
    let (mut ready, mut shown) = (Some(ready), 0);
    loop {
        let event = tokio::select! {
            event = eventloop.poll() => event,
            () = shutdown.requested() => return Ok(()),
        };
        let message = match event.context("watch the broker of the demonstration")? {
            Event::Message(message) => message,
            Event::Subscribed => {
                // The demonstration is over when nobody waits.
                if ready.take().is_some_and(|ready| ready.send(()).is_err()) {
                    return Ok(());
                }
                continue;
            }
            _ => continue,
        };
        let payload: CaptionPayload = serde_json::from_slice(&message.payload).context("read a caption")?;
        match writeln!(captions, "{}  {}", payload.camera, payload.caption).and_then(|()| captions.flush()) {
            Ok(()) => shown += 1,
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(e) => return Err(e).context("write a caption"),
        }
        if Some(shown) == count {
            return Ok(());
        }
    }
}
