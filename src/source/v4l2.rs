//! A V4L2 capture device: USB cameras and the like.
//!
//! Buffers are taken from the driver as fast as they come, so that a frame is never older than one
//! period of the camera; only those that are due are decoded. Any error tears everything down, and a
//! camera is opened anew from its path on: buffers of a camera that was unplugged are worth nothing, and
//! the link of its path may lead to another node.
//!
//! | module | what it holds |
//! |---|---|
//! | `negotiate` | which format, size and rate to ask for; pure |
//! | `controls` | settings by name; pure |
//! | `pace` | which frames are due; pure |
//! | `device` | an open device, safe and distrustful |
//! | `stream` | the ring of buffers |
//! | `sys` | structures, requests and maps of the kernel; all unsafe code |
//! | `scan` | which cameras a machine has |

pub mod controls;
mod device;
mod negotiate;
mod pace;
pub mod scan;
mod stream;
mod sys;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use humantime::format_duration;

use self::controls::Setting;
use self::device::{Agreement, Code, Device, Role};
use self::negotiate::{Wish, choose, slowest};
use self::pace::Pace;
use self::stream::{Next, Stream};
use super::pixels::{Layout, PixelFormat};
use super::{Capture, Image, NEXT_MAX, Source, SourceError};
use crate::logging::contained;
use crate::shutdown::Shutdown;

/// A camera that is silent for so long is lost, and for three of its periods where they are longer.
/// Without a limit the read blocks forever after the cable is pulled.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// A driver that states a longer period is not believed.
const PERIOD_MAX: Duration = Duration::from_secs(20);
/// How long a shutdown may go unnoticed.
const SLICE: Duration = Duration::from_millis(200);

/// Which device, and what to ask of it.
#[derive(Clone, Debug, PartialEq)]
pub struct V4l2Config {
    /// Best a link of `/dev/v4l/by-id`: `/dev/videoN` changes when a camera is plugged in again.
    pub device: PathBuf,
    /// Wished for; the camera's least size that holds it is taken, or else its greatest.
    pub width: u32,
    pub height: u32,
    /// From one decoded frame to the next.
    pub interval: Duration,
    /// This pixel format and no other.
    pub format: Option<PixelFormat>,
    /// Set at each opening.
    pub controls: Vec<Setting>,
}

impl fmt::Display for V4l2Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let V4l2Config { device, width, height, interval, format, controls } = self;
        write!(f, "{} at {width}x{height} every {}", device.display(), format_duration(*interval))?;
        if let Some(format) = format {
            write!(f, " in {format}")?;
        }
        for (i, Setting { name, value }) in controls.iter().enumerate() {
            write!(f, "{}{name} = {value}", if i == 0 { " with " } else { ", " })?;
        }
        Ok(())
    }
}

/// An opened and streaming device.
pub struct Camera {
    config: V4l2Config,
    layout: Layout,
    stream: Stream,
    pace: Pace,
    silence_max: Duration,
    /// Since when the driver has flagged every frame.
    damaged_since: Option<Instant>,
}

impl Camera {
    /// Opens the device, agrees on a format and starts its stream.
    ///
    /// # Errors
    /// With the operation that failed, the device, and what is offered where the format is the matter.
    pub fn open(config: &V4l2Config) -> Result<Camera, SourceError> {
        let opened = Camera::open_once(config).or_else(|e| {
            // Many cameras reserve as much of the bus for raw pixels as their highest rate needs, so that the
            // second of two on one bus finds no room.
            let is_full = matches!(&e, SourceError::Device { source, .. } if source.raw_os_error() == Some(libc::ENOSPC));
            if !is_full || config.format.is_some() {
                return Err(e);
            }
            tracing::debug!(device = %config.device.display(), error = %e, "trying MJPG alone");
            Camera::open_once(&V4l2Config { format: Some(PixelFormat::Mjpg), ..config.clone() }).or(Err(e))
        });
        opened.map_err(explained)
    }

    fn open_once(config: &V4l2Config) -> Result<Camera, SourceError> {
        let fail = |(operation, e)| failed(operation, &config.device, e);
        let device = Device::open(&config.device).map_err(|e| fail(("open", e)))?;
        match device.identity().map_err(|e| fail(("ask", e)))?.role {
            Role::Capture => {}
            Role::CaptureInPlanes => return Err(fail(("use", io::Error::other(IN_PLANES)))),
            Role::Other => return Err(fail(("use", io::Error::other("it is no capture device")))),
        }
        let (layout, code) = agree_on_format(&device, config)?;
        let period = agree_on_rate(&device, config, code, layout.size());
        set_controls(&device, config);
        let stream = Stream::start(device).map_err(fail)?;
        tracing::debug!(device = %config.device.display(), ?layout, ?period, "device opened");
        let period = period.unwrap_or_default();
        Ok(Camera {
            config: config.clone(),
            layout,
            stream,
            pace: Pace::new(Instant::now(), config.interval, period),
            silence_max: SILENCE_MAX.max(period.min(PERIOD_MAX) * 3),
            damaged_since: None,
        })
    }
}

const IN_PLANES: &str = "it gives each frame in several planes, which is not supported";

/// Asks for one format after another, the best first, until the driver takes one that is understood.
fn agree_on_format(device: &Device, config: &V4l2Config) -> Result<(Layout, Code), SourceError> {
    let wish = Wish { size: (config.width, config.height), interval: config.interval, format: config.format };
    let offered = device.formats();
    let mut left: Vec<PixelFormat> = match offered.len() {
        // A driver that cannot list its formats answers with one of them whatever it is asked for.
        0 => PixelFormat::ALL.to_vec(),
        _ => offered.iter().filter_map(|code| PixelFormat::of(*code)).collect(),
    };
    let mut failure = None;
    let code_of = |format: PixelFormat| {
        let listed = offered.iter().find(|code| PixelFormat::of(**code) == Some(format));
        listed.copied().unwrap_or(format.fourcc())
    };
    let sizes = |format| device.sizes(code_of(format));
    let rates = |format, size| device.rates(code_of(format), size);
    while let Some(choice) = choose(left.iter().copied(), &wish, sizes, rates) {
        let instead =
            |other: &str| io::Error::other(format!("it gives {other} instead of {}", choice.format));
        failure = Some(match device.set_format(code_of(choice.format), choice.size) {
            Ok(Agreement::On(layout, code)) if config.format.is_none_or(|only| only == layout.format()) => {
                return Ok((layout, code));
            }
            Ok(Agreement::On(layout, _)) => instead(layout.format().name()),
            Ok(Agreement::Unknown(code)) => instead(&scan::name(code)),
            Ok(Agreement::Unusable(e)) => io::Error::other(e.to_string()),
            Err(e) => e,
        });
        // Whoever holds the device, or has pulled it, is the matter, and not the format.
        let errno = failure.as_ref().and_then(io::Error::raw_os_error);
        if matches!(errno, Some(libc::EBUSY | libc::ENODEV)) {
            break;
        }
        left.retain(|format| *format != choice.format);
    }
    if let Some(e) = failure {
        return Err(failed("set format of", &config.device, e));
    }
    let names: Vec<String> = offered.iter().map(|code| scan::name(*code)).collect();
    let offered = names.join(", ");
    let wanted = match config.format {
        Some(only) => only.name().to_owned(),
        None => format!("one of {}", PixelFormat::ALL.map(PixelFormat::name).join(", ")),
    };
    Err(SourceError::Format { device: config.device.clone(), offered, wanted })
}

/// The camera's period, where it is known.
fn agree_on_rate(device: &Device, config: &V4l2Config, code: Code, size: (u32, u32)) -> Option<Duration> {
    let wish = slowest(&device.rates(code, size), config.interval)?;
    match device.set_rate(wish) {
        Ok(answer) => answer.duration(),
        Err(e) => {
            tracing::debug!(device = %config.device.display(), error = %e, "the camera keeps its own rate");
            None
        }
    }
}

/// A camera that lacks a control must still be captioned, so what cannot be set is said and no more.
fn set_controls(device: &Device, config: &V4l2Config) {
    if config.controls.is_empty() {
        return;
    }
    let name = config.device.display();
    let (orders, refusals) = controls::resolve(&config.controls, &device.controls());
    for controls::Refusal { control, why } in refusals {
        tracing::warn!(device = %name, control, why, "control not set");
    }
    // One control may free another that the driver refused before.
    let refused: Vec<_> =
        orders.into_iter().filter(|order| device.set_control(order.id, order.value).is_err()).collect();
    for order in refused {
        if let Err(e) = device.set_control(order.id, order.value) {
            tracing::warn!(device = %name, control = order.name, value = order.value, why = %e, "control not set");
        }
    }
}

/// The kernel's words with what they mean for a camera.
fn explained(e: SourceError) -> SourceError {
    let SourceError::Device { operation, device, source } = e else { return e };
    let meaning = match source.raw_os_error() {
        Some(libc::EBUSY) => "another program uses it",
        Some(libc::ENOSPC) => "the USB bus has no room left for its frames",
        Some(libc::EACCES | libc::EPERM) => "the group video may open it",
        _ => return SourceError::Device { operation, device, source },
    };
    failed(operation, &device, io::Error::new(source.kind(), format!("{source}: {meaning}")))
}

fn failed(operation: &'static str, device: &Path, source: io::Error) -> SourceError {
    SourceError::Device { operation, device: device.to_owned(), source }
}

impl Source for Camera {
    fn next(&mut self, shutdown: &Shutdown) -> Result<Capture, SourceError> {
        let mut heard = Instant::now();
        let broken = |why: String| Ok(Capture::Broken { what: "buffer".to_owned(), why });
        // Beyond the camera's own silence, which says more.
        let until = heard + NEXT_MAX - Duration::from_secs(2);
        while !shutdown.is_requested() {
            if heard >= until {
                return Ok(Capture::Nothing);
            }
            let next = self.stream.next(SLICE).map_err(|e| failed("read", &self.config.device, e))?;
            let (captured_at, taken) = (SystemTime::now(), Instant::now());
            let is_due = self.pace.is_due(taken);
            let bytes = match next {
                Next::Nothing if taken - heard < self.silence_max => continue,
                Next::Nothing => return Err(self.lost("no frame", self.silence_max)),
                Next::Damaged => {
                    heard = taken;
                    let since = *self.damaged_since.get_or_insert(taken);
                    if taken - since >= self.silence_max {
                        return Err(self.lost("none but damaged frames", taken - since));
                    }
                    if is_due {
                        self.pace.lost(taken);
                        return broken("the driver flags the frame as damaged".to_owned());
                    }
                    continue;
                }
                Next::Bytes(bytes) => bytes,
            };
            heard = taken;
            self.damaged_since = None;
            if !is_due {
                continue;
            }
            // The decoder has been fuzzed by others; a camera is worse.
            let decoded = contained(|| self.layout.decode(bytes).map_err(|e| e.to_string()))
                .unwrap_or_else(|| Err("the decoder gave up".to_owned()));
            return match decoded {
                Ok(pixels) => {
                    self.pace.taken(taken);
                    let decode = taken.elapsed();
                    Ok(Capture::Image(Image { pixels, file: None, captured_at, taken, decode }))
                }
                Err(why) => {
                    self.pace.lost(taken);
                    broken(why)
                }
            };
        }
        Ok(Capture::Interrupted)
    }
}

impl Camera {
    fn lost(&self, what: &str, time: Duration) -> SourceError {
        let why = format!("{what} for {}", format_duration(Duration::from_secs(time.as_secs())));
        failed("read", &self.config.device, io::Error::new(io::ErrorKind::TimedOut, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(device: &str) -> V4l2Config {
        V4l2Config {
            device: device.into(),
            width: 640,
            height: 480,
            interval: Duration::from_secs(1),
            format: None,
            controls: vec![],
        }
    }

    #[test]
    fn a_missing_device_is_an_error_that_names_it() {
        let e = Camera::open(&config("/dev/v4l/by-id/none")).err().unwrap().to_string();
        assert!(e.contains("open /dev/v4l/by-id/none"), "{e}");
        // A file that is no camera refuses the first question.
        let e = Camera::open(&config("/dev/null")).err().unwrap().to_string();
        assert!(e.contains("ask /dev/null"), "{e}");
        let e = Camera::open(&config("/dev/vid\0eo0")).err().unwrap().to_string();
        assert!(e.contains("open /dev/vid"), "{e}");
    }

    #[test]
    fn a_configuration_is_shown_with_everything_that_is_asked_of_the_camera() {
        let exposure = Setting { name: "exposure_auto".to_owned(), value: controls::Value::Number(1) };
        let lamps = Setting {
            name: "power_line_frequency".to_owned(),
            value: controls::Value::Text("50hz".to_owned()),
        };
        let full = V4l2Config {
            format: Some(PixelFormat::Yuyv),
            controls: vec![exposure, lamps],
            ..config("/dev/video0")
        };
        let expected =
            "/dev/video0 at 640x480 every 1s in YUYV with exposure_auto = 1, power_line_frequency = \"50hz\"";
        assert_eq!(full.to_string(), expected);
        assert_eq!(config("/dev/video0").to_string(), "/dev/video0 at 640x480 every 1s");
    }
}
