//! A V4L2 capture device: USB cameras and the like, in MJPG or YUYV.
//!
//! Buffers are taken from the driver as fast as they come, so that a frame is never older than one
//! period of the camera; only those that are due are decoded. Any error tears everything down: a
//! camera that was unplugged must be opened anew, buffers included.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use humantime::format_duration;
use v4l::buffer::{Flags, Type};
use v4l::io::traits::CaptureStream;
use v4l::prelude::MmapStream;
use v4l::video::Capture as _;
use v4l::{Device, Format, FourCC};

use super::pixels::{PixelError, decode_mjpg, decode_yuyv};
use super::{Capture, Image, Source, SourceError};
use crate::logging::contained;
use crate::photo::SIDE_MAX;
use crate::shutdown::Shutdown;

/// A camera that is silent for so long is lost. Without a limit the read blocks forever after the
/// cable is pulled.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Buffers in the driver's ring.
const BUFFERS: u32 = 4;

/// Which device, and what to ask of it.
#[derive(Clone, Debug, PartialEq)]
pub struct V4l2Config {
    /// Best a link of `/dev/v4l/by-id`: `/dev/videoN` changes when a camera is plugged in again.
    pub device: PathBuf,
    /// Wished for; the driver takes the nearest size it has.
    pub width: u32,
    pub height: u32,
    /// From one decoded frame to the next.
    pub interval: Duration,
}

impl fmt::Display for V4l2Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let V4l2Config { device, width, height, interval } = self;
        write!(f, "{} at {width}x{height} every {}", device.display(), format_duration(*interval))
    }
}

/// The pixel formats that are understood, best first: MJPG spares the USB bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Mjpg,
    Yuyv,
}

impl Encoding {
    const ALL: [Encoding; 2] = [Encoding::Mjpg, Encoding::Yuyv];

    fn fourcc(self) -> [u8; 4] {
        match self {
            Encoding::Mjpg => *b"MJPG",
            Encoding::Yuyv => *b"YUYV",
        }
    }

    fn of(fourcc: [u8; 4]) -> Option<Encoding> {
        Encoding::ALL.into_iter().find(|encoding| encoding.fourcc() == fourcc)
    }

    /// The best of what a device offers.
    fn choose(offered: &[[u8; 4]]) -> Option<Encoding> {
        Encoding::ALL.into_iter().find(|encoding| offered.contains(&encoding.fourcc()))
    }
}

/// What the driver agreed to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Layout {
    encoding: Encoding,
    width: u32,
    height: u32,
    /// Bytes from line to line, of YUYV.
    stride: usize,
}

impl Layout {
    /// Checks the driver's word: it is not trusted with sizes.
    fn of(fourcc: [u8; 4], width: u32, height: u32, stride: u32) -> Option<Layout> {
        let encoding = Encoding::of(fourcc)?;
        let sane = (1..=SIDE_MAX).contains(&width) && (1..=SIDE_MAX).contains(&height);
        // Some drivers leave the stride at zero where lines are not padded.
        let stride = if stride == 0 { width * 2 } else { stride } as usize;
        sane.then_some(Layout { encoding, width, height, stride })
    }

    fn decode(&self, bytes: &[u8]) -> Result<image::RgbImage, PixelError> {
        match self.encoding {
            Encoding::Mjpg => decode_mjpg(bytes),
            Encoding::Yuyv => decode_yuyv(bytes, self.width, self.height, self.stride),
        }
    }
}

/// An opened and streaming device.
pub struct Camera {
    config: V4l2Config,
    layout: Layout,
    /// Present until dropped.
    stream: Option<MmapStream<'static>>,
    due: Instant,
}

impl Camera {
    /// Opens the device, agrees on a format and maps its buffers.
    pub fn open(config: &V4l2Config) -> Result<Camera, SourceError> {
        contained(|| open(config)).unwrap_or_else(|| Err(driver(&config.device)))
    }
}

fn open(config: &V4l2Config) -> Result<Camera, SourceError> {
    let device = Device::with_path(&config.device).map_err(|e| failed("open", &config.device, e))?;
    let layout = negotiate(&device, config)?;
    let mut stream = MmapStream::with_buffers(&device, Type::VideoCapture, BUFFERS)
        .map_err(|e| failed("map buffers of", &config.device, e))?;
    stream.set_timeout(SILENCE_MAX);
    tracing::debug!(device = %config.device.display(), ?layout, "device opened");
    Ok(Camera { config: config.clone(), layout, stream: Some(stream), due: Instant::now() })
}

fn negotiate(device: &Device, config: &V4l2Config) -> Result<Layout, SourceError> {
    let refused = |offered: &[[u8; 4]]| {
        let names: Vec<_> = offered.iter().map(|code| String::from_utf8_lossy(code).into_owned()).collect();
        let offered = if names.is_empty() { "no format".to_owned() } else { names.join(", ") };
        SourceError::Format { device: config.device.clone(), offered }
    };
    let formats = device.enum_formats().map_err(|e| failed("list formats of", &config.device, e))?;
    let offered: Vec<[u8; 4]> = formats.iter().map(|format| format.fourcc.repr).collect();
    let encoding = Encoding::choose(&offered).ok_or_else(|| refused(&offered))?;
    let wish = Format::new(config.width, config.height, FourCC::new(&encoding.fourcc()));
    let got = device.set_format(&wish).map_err(|e| failed("set format of", &config.device, e))?;
    Layout::of(got.fourcc.repr, got.width, got.height, got.stride).ok_or_else(|| refused(&[got.fourcc.repr]))
}

fn failed(operation: &'static str, device: &Path, source: io::Error) -> SourceError {
    SourceError::Device { operation, device: device.to_owned(), source }
}

fn driver(device: &Path) -> SourceError {
    SourceError::Driver { device: device.to_owned() }
}

impl Source for Camera {
    fn next(&mut self, shutdown: &Shutdown) -> Result<Capture, SourceError> {
        let Some(stream) = self.stream.as_mut() else { return Ok(Capture::End) };
        while !shutdown.is_requested() {
            let (buffer, meta) = match stream.next() {
                Ok(next) => next,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed("read", &self.config.device, e)),
            };
            let (captured_at, taken) = (SystemTime::now(), Instant::now());
            if taken < self.due || meta.flags.contains(Flags::ERROR) {
                continue;
            }
            self.due = (self.due + self.config.interval).max(taken);
            let bytes = buffer.get(..meta.bytesused as usize).unwrap_or(buffer);
            return Ok(match self.layout.decode(bytes) {
                Ok(pixels) => {
                    let decode = taken.elapsed();
                    Capture::Image(Image { pixels, file: None, captured_at, taken, decode })
                }
                Err(e) => Capture::Broken { what: "buffer".to_owned(), why: e.to_string() },
            });
        }
        Ok(Capture::Interrupted)
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // The wrapper panics when a dying device refuses to stop streaming; the camera is lost
        // either way, the daemon is not.
        let stream = self.stream.take();
        if contained(|| drop(stream)).is_none() {
            tracing::warn!(device = %self.config.device.display(), "device did not stop cleanly");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_mjpg_before_yuyv_and_nothing_else() {
        assert_eq!(Encoding::choose(&[*b"YUYV", *b"MJPG"]), Some(Encoding::Mjpg));
        assert_eq!(Encoding::choose(&[*b"H264", *b"YUYV"]), Some(Encoding::Yuyv));
        assert_eq!(Encoding::choose(&[*b"H264"]), None);
        assert_eq!(Encoding::choose(&[]), None);
    }

    #[test]
    fn does_not_trust_the_driver_with_sizes() {
        let layout = |fourcc, width, height, stride| Layout::of(fourcc, width, height, stride);
        assert_eq!(layout(*b"YUYV", 640, 480, 0).unwrap().stride, 1280);
        assert_eq!(layout(*b"YUYV", 640, 480, 1536).unwrap().stride, 1536);
        assert!(layout(*b"YUYV", 0, 480, 0).is_none());
        assert!(layout(*b"MJPG", 640, u32::MAX, 0).is_none());
        assert!(layout(*b"NV12", 640, 480, 640).is_none());
    }

    #[test]
    fn decodes_by_the_agreed_layout() {
        let yuyv = Layout::of(*b"YUYV", 2, 1, 0).unwrap();
        assert_eq!(yuyv.decode(&[235, 128, 16, 128]).unwrap().dimensions(), (2, 1));
        let mjpg = Layout::of(*b"MJPG", 451, 300, 0).unwrap();
        let cat = include_bytes!("../../assets/demo/cat.jpg");
        assert_eq!(mjpg.decode(cat).unwrap().dimensions(), (451, 300));
    }

    #[test]
    fn a_missing_device_is_an_error_that_names_it() {
        let config = V4l2Config {
            device: "/dev/v4l/by-id/none".into(),
            width: 640,
            height: 480,
            interval: Duration::from_secs(1),
        };
        let e = Camera::open(&config).err().unwrap().to_string();
        assert!(e.contains("open /dev/v4l/by-id/none"), "{e}");
        // A file that is no camera refuses the first ioctl.
        let e = Camera::open(&V4l2Config { device: "/dev/null".into(), ..config }).err().unwrap().to_string();
        assert!(e.contains("/dev/null"), "{e}");
    }
}
