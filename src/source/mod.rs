//! Where frames come from. One thread per camera runs [`Capturer::run`]; it feeds the inbox and nothing else.

#[cfg(feature = "gstreamer")]
pub mod gstreamer;
pub mod pixels;
pub mod replay;
#[cfg(feature = "rtsp")]
pub mod rtsp;
pub mod v4l2;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;

use crate::backoff::Backoff;
use crate::frame::{Frame, FrameId};
use crate::health::{Count, Health};
use crate::inbox::Inbox;
use crate::photo::PhotoError;
use crate::shutdown::Shutdown;

/// A camera that delivered for so long was well: its next failure is a new one.
const GOOD_MINUTE: Duration = Duration::from_secs(60);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_LONGEST: Duration = Duration::from_secs(30);

/// Where one camera's frames come from.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceConfig {
    Replay(replay::ReplayConfig),
    V4l2(v4l2::V4l2Config),
    #[cfg(feature = "rtsp")]
    Rtsp(rtsp::RtspConfig),
    #[cfg(feature = "gstreamer")]
    Gstreamer(gstreamer::GstreamerConfig),
}

impl SourceConfig {
    /// From one frame that is looked at to the next, where the source is well.
    pub fn interval(&self) -> Duration {
        match self {
            SourceConfig::Replay(config) => config.interval,
            SourceConfig::V4l2(config) => config.interval,
            #[cfg(feature = "rtsp")]
            SourceConfig::Rtsp(config) => config.interval,
            #[cfg(feature = "gstreamer")]
            SourceConfig::Gstreamer(config) => config.interval,
        }
    }
}

/// For people; holds no secret.
impl fmt::Display for SourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceConfig::Replay(config) => config.fmt(f),
            SourceConfig::V4l2(config) => config.fmt(f),
            #[cfg(feature = "rtsp")]
            SourceConfig::Rtsp(config) => config.fmt(f),
            #[cfg(feature = "gstreamer")]
            SourceConfig::Gstreamer(config) => config.fmt(f),
        }
    }
}

/// Why a source does not deliver. Every one of them is retried.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Photo(#[from] PhotoError),
    #[error("no photo in {0}")]
    Empty(PathBuf),
    #[error("{operation} {device}: {source}")]
    Device { operation: &'static str, device: PathBuf, source: std::io::Error },
    #[error("{device} offers {offered}, none of which is MJPG or YUYV")]
    Format { device: PathBuf, offered: String },
    #[error("{device} panicked in its driver wrapper")]
    Driver { device: PathBuf },
    /// `what` is the address of a camera or a pipeline, without secrets.
    #[error("{operation} {what}: {why}")]
    Stream { operation: &'static str, what: String, why: String },
}

/// What a source gives next.
#[derive(Debug)]
pub enum Capture {
    Image(Image),
    /// This image is lost, the next one may be well.
    Broken {
        what: String,
        why: String,
    },
    /// Nothing comes after this.
    End,
    /// Shutdown was requested while waiting.
    Interrupted,
}

/// One decoded image.
#[derive(Debug)]
pub struct Image {
    pub pixels: RgbImage,
    pub file: Option<String>,
    pub captured_at: SystemTime,
    pub taken: Instant,
    pub decode: Duration,
}

/// An opened source.
pub trait Source {
    /// Blocks until the next image is due and there, or shutdown is requested.
    fn next(&mut self, shutdown: &Shutdown) -> Result<Capture, SourceError>;
}

/// Opens the device or lists the photos.
pub fn open(config: &SourceConfig) -> Result<Box<dyn Source>, SourceError> {
    Ok(match config {
        SourceConfig::Replay(config) => Box::new(replay::Replay::open(config)?),
        SourceConfig::V4l2(config) => Box::new(v4l2::Camera::open(config)?),
        #[cfg(feature = "rtsp")]
        SourceConfig::Rtsp(config) => Box::new(rtsp::Camera::open(config)?),
        #[cfg(feature = "gstreamer")]
        SourceConfig::Gstreamer(config) => Box::new(gstreamer::Pipeline::open(config)?),
    })
}

/// One camera: its place in the configuration, its name, its source.
#[derive(Debug)]
pub struct Capturer {
    pub camera: usize,
    pub name: String,
    pub config: SourceConfig,
}

impl Capturer {
    /// Captures until shutdown or the end of the source; opens it again, ever later, when it fails.
    pub fn run(&self, inbox: &Inbox, health: &Health, shutdown: &Shutdown) {
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_LONGEST);
        let mut seq = 0;
        while !shutdown.is_requested() {
            let opened = Instant::now();
            let outcome = self.run_once(&mut seq, inbox, health, shutdown);
            if health.set_camera_online(self.camera, false) {
                tracing::info!(camera = self.name, "camera down");
            }
            let Err(e) = outcome else { return };
            if opened.elapsed() >= GOOD_MINUTE {
                backoff.reset();
            }
            let wait = backoff.next_wait();
            tracing::warn!(camera = self.name, error = %e, retry_ms = wait.as_millis(), "camera lost, retrying");
            shutdown.wait_for(wait);
        }
    }

    /// One life of the source, from opening to its end or failure.
    fn run_once(
        &self,
        seq: &mut u64,
        inbox: &Inbox,
        health: &Health,
        shutdown: &Shutdown,
    ) -> Result<(), SourceError> {
        let mut source = open(&self.config)?;
        loop {
            match source.next(shutdown)? {
                Capture::Image(image) => {
                    *seq += 1;
                    health.count(self.camera, Count::Captured);
                    if health.set_camera_online(self.camera, true) {
                        tracing::info!(camera = self.name, "camera up");
                    }
                    if inbox.put_frame(self.frame(*seq, image)) {
                        health.count(self.camera, Count::Overwritten);
                    }
                }
                Capture::Broken { what, why } => {
                    health.count(self.camera, Count::Failed);
                    tracing::warn!(camera = self.name, what, why, "image lost");
                }
                Capture::End | Capture::Interrupted => return Ok(()),
            }
        }
    }

    fn frame(&self, seq: u64, image: Image) -> Frame {
        let Image { pixels, file, captured_at, taken, decode } = image;
        Frame { id: FrameId { camera: self.camera, seq, captured_at, file }, taken, decode, image: pixels }
    }
}

#[cfg(test)]
mod tests {
    use super::replay::{Photo, ReplayConfig};
    use super::*;

    fn capturer(photos: Vec<Photo>, repeat: bool) -> Capturer {
        let config = ReplayConfig { photos, interval: Duration::from_millis(1), repeat };
        Capturer { camera: 0, name: "yard".to_owned(), config: SourceConfig::Replay(config) }
    }

    fn run(capturer: &Capturer) -> Health {
        let (inbox, health, shutdown) = (Inbox::new(1), Health::new(1, None), Shutdown::new());
        capturer.run(&inbox, &health, &shutdown);
        health
    }

    const PHOTO: &[u8] = include_bytes!("../../assets/demo/cat.jpg");

    #[test]
    fn a_source_that_ends_goes_offline_and_counts_what_it_gave() {
        let broken = Photo::Embedded { name: "broken.jpg", bytes: b"garbage" };
        let good = Photo::Embedded { name: "cat.jpg", bytes: PHOTO };
        let health = run(&capturer(vec![good.clone(), broken, good], false));
        let counters = health.counters(0);
        assert_eq!((counters.captured, counters.failed, counters.overwritten), (2, 1, 1));
        assert_eq!(*health.cameras_online().borrow(), [false]);
    }

    #[test]
    fn a_source_that_fails_to_open_is_retried_until_shutdown() {
        let capturer = capturer(vec![Photo::Folder("/nonexistent".into())], true);
        let (inbox, health, shutdown) = (Inbox::new(1), Health::new(1, None), Shutdown::new());
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| capturer.run(&inbox, &health, &shutdown));
            assert!(!thread.is_finished());
            shutdown.request();
        });
    }
}
