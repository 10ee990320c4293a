//! An RTSP camera: H.264 or Motion JPEG, by retina and OpenH264.
//!
//! `rtsp/stream.rs` is the session with the camera, `rtsp/pace.rs` the choice of what is decoded.
//! Everything asynchronous ends here: a camera has a runtime of its own on its capture thread.

mod address;
mod color;
mod h264;
mod pace;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use humantime::format_duration;
use retina::client::SessionGroup;
use tokio::runtime::{Builder, Runtime};

pub use address::Address;
use stream::Stream;

use super::{Capture, NEXT_MAX, Source, SourceError};
use crate::config::Secret;
use crate::logging::contained;
use crate::shutdown::Shutdown;

/// From the first request to a stream that plays.
const OPEN_MAX: Duration = Duration::from_secs(4);
/// A camera is told that its stream is not wanted any more; one that does not answer is left alone.
const TEARDOWN_MAX: Duration = Duration::from_secs(1);

/// Which camera, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct RtspConfig {
    pub address: Address,
    /// Username and password.
    pub credentials: Option<(String, Secret)>,
    pub transport: Transport,
    /// From one decoded frame to the next.
    pub interval: Duration,
    /// A camera that sends no packet of video for so long is lost, whether its pictures are due or not.
    pub silence: Duration,
}

/// How the packets of the video come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Inside the connection that carries the requests.
    Tcp,
    Udp,
}

impl Transport {
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }
}

impl fmt::Display for RtspConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RtspConfig { address, transport, interval, .. } = self;
        write!(f, "{address} over {} every {}", transport.as_str(), format_duration(*interval))
    }
}

/// What went wrong with a camera; its address is added where it leaves this module.
#[derive(Debug)]
struct Failure {
    operation: &'static str,
    why: String,
}

impl Failure {
    fn new(operation: &'static str, why: impl Into<String>) -> Failure {
        Failure { operation, why: why.into() }
    }

    fn of(self, address: &Address) -> SourceError {
        let Failure { operation, why } = self;
        SourceError::Remote { operation, remote: address.to_string(), why: address.clean(&why) }
    }
}

/// A camera, connected from the first frame on.
pub struct Camera {
    config: RtspConfig,
    /// Present until dropped.
    runtime: Option<Runtime>,
    /// The sessions that the camera has not been told to end.
    sessions: Arc<SessionGroup>,
    stream: Option<Stream>,
}

impl Camera {
    /// Prepares; the camera is asked for its stream when its first frame is wanted, which shutdown
    /// can interrupt.
    pub fn open(config: &RtspConfig) -> Result<Camera, SourceError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failure::new("prepare", e.to_string()).of(&config.address))?;
        let sessions = Arc::new(SessionGroup::default());
        Ok(Camera { config: config.clone(), runtime: Some(runtime), sessions, stream: None })
    }
}

/// A stream that plays, in the time that a source has.
async fn opened(config: &RtspConfig, sessions: &Arc<SessionGroup>) -> Result<Stream, Failure> {
    let within = config.silence.min(OPEN_MAX);
    tokio::time::timeout(within, Stream::open(config, sessions)).await.unwrap_or_else(|_| {
        Err(Failure::new("open", format!("the camera does not answer within {}", format_duration(within))))
    })
}

impl Source for Camera {
    fn next(&mut self, shutdown: &Shutdown) -> Result<Capture, SourceError> {
        let Camera { config, runtime: Some(runtime), sessions, stream } = self else {
            return Ok(Capture::End);
        };
        let capture = async {
            let stream = match stream {
                Some(stream) => stream,
                None => stream.insert(opened(config, sessions).await?),
            };
            // A frame that has begun to come is kept by the stream.
            tokio::time::timeout(NEXT_MAX / 2, stream.next()).await.unwrap_or(Ok(Capture::Nothing))
        };
        let until_shutdown = async {
            tokio::select! {
                biased;
                () = shutdown.requested() => Ok(Capture::Interrupted),
                captured = capture => captured,
            }
        };
        // What a camera sends goes through parsers that were not all written for hostile input.
        contained(|| runtime.block_on(until_shutdown))
            .unwrap_or_else(|| Err(Failure::new("read", "the parser of its stream panicked")))
            .map_err(|failure| failure.of(&config.address))
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        let (Some(runtime), stream) = (self.runtime.take(), self.stream.take()) else { return };
        let sessions = &self.sessions;
        let torn_down = contained(|| {
            runtime.block_on(async {
                // Dropping the session is what asks the camera to end it.
                drop(stream);
                tokio::time::timeout(TEARDOWN_MAX, sessions.await_teardown())
                    .await
                    .is_ok_and(|told| told.is_ok())
            })
        });
        if torn_down != Some(true) {
            tracing::debug!(camera = %self.config.address, "session not torn down");
        }
        // A name that is being resolved cannot be interrupted, and nobody waits for it.
        runtime.shutdown_background();
    }
}
