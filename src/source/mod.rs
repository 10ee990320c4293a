//! Where frames come from. One thread per camera runs [`Capturer::run`]; it feeds the inbox and nothing else.
//!
//! A kind of source is a file here: its configuration, how it is said to people, how it is opened, and how it gives the
//! next picture. What every camera needs beside that (turns and private areas, availability, the frozen picture, going
//! on after a failure) is in `capturer`.

mod capturer;
pub(crate) mod credentials;
pub mod folder;
mod frozen;
pub mod geometry;
#[cfg(feature = "gstreamer")]
pub mod gstreamer;
pub mod http;
mod jpeg_stream;
pub mod mqtt_image;
pub mod pipe;
pub mod pixels;
pub mod replay;
#[cfg(feature = "rtsp")]
pub mod rtsp;
pub mod v4l2;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;

pub use capturer::{Capturer, Office, Tenure};

use crate::mailbox::Mailbox;
use crate::photo::PhotoError;
use crate::shutdown::Shutdown;

/// A source looks up after this time at the latest, picture or not: one that does not hangs in its driver.
pub const NEXT_MAX: Duration = Duration::from_secs(10);

/// A live camera that gives no picture for so long is lost, or longer where its own interval is.
const SILENCE: Duration = Duration::from_secs(10);

/// Where one camera's frames come from.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceConfig {
    Replay(replay::ReplayConfig),
    Folder(folder::FolderConfig),
    V4l2(v4l2::V4l2Config),
    Http(http::HttpConfig),
    Pipe(pipe::PipeConfig),
    Mqtt(mqtt_image::MqttImageConfig),
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
            SourceConfig::Folder(config) => config.interval,
            SourceConfig::V4l2(config) => config.interval,
            SourceConfig::Http(config) => config.interval,
            SourceConfig::Pipe(config) => config.interval,
            SourceConfig::Mqtt(_) => Duration::ZERO,
            #[cfg(feature = "rtsp")]
            SourceConfig::Rtsp(config) => config.interval,
            #[cfg(feature = "gstreamer")]
            SourceConfig::Gstreamer(config) => config.interval,
        }
    }

    /// After so long without a picture the camera counts as lost, unless its configuration says otherwise; none where
    /// pictures come when somebody has one.
    pub fn silence(&self) -> Option<Duration> {
        self.is_live().then(|| SILENCE.max(3 * self.interval()))
    }

    /// The same, which is no less patient with its stream than the camera is to be with its pictures.
    pub fn with_patience(self, silence: Option<Duration>) -> SourceConfig {
        let patience = silence.unwrap_or(Duration::MAX);
        match self {
            #[cfg(feature = "rtsp")]
            SourceConfig::Rtsp(config) => {
                SourceConfig::Rtsp(rtsp::RtspConfig { silence: config.silence.max(patience), ..config })
            }
            #[cfg(feature = "gstreamer")]
            SourceConfig::Gstreamer(config) => {
                let silence = config.silence.max(patience);
                SourceConfig::Gstreamer(gstreamer::GstreamerConfig { silence, ..config })
            }
            other => {
                // Without those two nobody asks.
                let _ = patience;
                other
            }
        }
    }

    /// Whether a picture that stays the same bit for bit means that something is broken: a sensor has noise, a file
    /// has not.
    pub fn is_live(&self) -> bool {
        match self {
            SourceConfig::V4l2(_) | SourceConfig::Http(_) | SourceConfig::Pipe(_) => true,
            SourceConfig::Replay(_) | SourceConfig::Folder(_) | SourceConfig::Mqtt(_) => false,
            #[cfg(feature = "rtsp")]
            SourceConfig::Rtsp(_) => true,
            #[cfg(feature = "gstreamer")]
            SourceConfig::Gstreamer(_) => true,
        }
    }
}

/// For people; holds no secret.
impl fmt::Display for SourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceConfig::Replay(config) => config.fmt(f),
            SourceConfig::Folder(config) => config.fmt(f),
            SourceConfig::V4l2(config) => config.fmt(f),
            SourceConfig::Http(config) => config.fmt(f),
            SourceConfig::Pipe(config) => config.fmt(f),
            SourceConfig::Mqtt(config) => config.fmt(f),
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
    #[error("{device} offers {offered}, and not {wanted}")]
    Format { device: PathBuf, offered: String, wanted: String },
    #[error("{operation} {remote}: {why}")]
    Remote { operation: &'static str, remote: String, why: String },
    #[error("the same picture, bit for bit, for {}", humantime::format_duration(*.0))]
    Frozen(Duration),
    #[error("no picture for {}", humantime::format_duration(*.0))]
    Silent(Duration),
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
    /// Not yet; the source is well.
    Nothing,
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
    /// Blocks until the next picture is due and there, shutdown is requested, or [`NEXT_MAX`] is over.
    ///
    /// # Errors
    /// When the source is lost and must be opened anew.
    fn next(&mut self, shutdown: &Shutdown) -> Result<Capture, SourceError>;
}

/// Opens the device, the connection, the program or the folder. Blocks, at most [`NEXT_MAX`]. Pictures that come over
/// MQTT are taken from `mailbox`.
///
/// # Errors
/// When there is nothing to open.
pub fn open(config: &SourceConfig, mailbox: &Arc<Mailbox>) -> Result<Box<dyn Source>, SourceError> {
    Ok(match config {
        SourceConfig::Replay(config) => Box::new(replay::Replay::open(config)?),
        SourceConfig::Folder(config) => Box::new(folder::Folder::open(config)?),
        SourceConfig::V4l2(config) => Box::new(v4l2::Camera::open(config)?),
        SourceConfig::Http(config) => Box::new(http::Http::open(config)?),
        SourceConfig::Pipe(config) => Box::new(pipe::Pipe::open(config)?),
        SourceConfig::Mqtt(config) => Box::new(mqtt_image::MqttImages::open(config, mailbox)),
        #[cfg(feature = "rtsp")]
        SourceConfig::Rtsp(config) => Box::new(rtsp::Camera::open(config)?),
        #[cfg(feature = "gstreamer")]
        SourceConfig::Gstreamer(config) => Box::new(gstreamer::Pipeline::open(config)?),
    })
}
