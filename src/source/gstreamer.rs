//! Any pipeline of GStreamer: what no other source reaches, such as the cameras and decoders of a board.
//!
//! GStreamer runs its own threads; this side takes the newest frame from an `appsink`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use gstreamer::prelude::*;
use gstreamer::{Bus, Caps, ClockTime, FlowSuccess, MessageView, Sample, State};
use gstreamer_app::{AppSink, AppSinkCallbacks};
use humantime::format_duration;
use image::RgbImage;

use super::{Capture, Image, NEXT_MAX, Source, SourceError};
use crate::photo::SIDE_MAX;
use crate::shutdown::Shutdown;

/// The name of the sink that frames are taken from.
const SINK: &str = "captiond";
/// So often the bus, the clock and the shutdown are looked at while there is no frame.
const LOOK: ClockTime = ClockTime::from_mseconds(100);

/// Which pipeline, and how often it is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct GstreamerConfig {
    pub launch: Launch,
    /// From one frame that is taken to the next.
    pub interval: Duration,
    /// A pipeline without a frame for so long is lost.
    pub silence: Duration,
}

impl fmt::Display for GstreamerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} every {}", self.launch, format_duration(self.interval))
    }
}

/// A line as `gst-launch-1.0` takes it. Shown as its elements alone: a property may be a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Launch(String);

impl Launch {
    pub fn new(line: String) -> Launch {
        Launch(line)
    }

    /// The line with a sink for frames in RGB at its end, unless it has that.
    fn with_sink(&self) -> String {
        let line = self.0.trim().trim_end_matches('!');
        let last = line.rsplit('!').next().unwrap_or_default();
        let mut words = last.split_whitespace();
        if words.next() == Some("appsink") && words.any(|word| word == format!("name={SINK}")) {
            return line.to_owned();
        }
        format!(
            "{line} ! videoconvert ! video/x-raw,format=RGB ! \
             appsink name={SINK} drop=true max-buffers=1 sync=false"
        )
    }
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elements =
            self.0.split('!').filter_map(|part| part.split([' ', ',', '\n']).find(|word| !word.is_empty()));
        f.write_str(&elements.collect::<Vec<_>>().join(" ! "))
    }
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A pipeline that runs until dropped.
pub struct Pipeline {
    config: GstreamerConfig,
    pipeline: gstreamer::Element,
    bus: Bus,
    sink: AppSink,
    /// When the newest frame came to the sink, or the pipeline was started.
    heard: Arc<Mutex<Instant>>,
    due: Instant,
}

impl Pipeline {
    /// Builds the pipeline and starts it; whether it gives frames shows later.
    pub fn open(config: &GstreamerConfig) -> Result<Pipeline, SourceError> {
        let failed = |why: String| failed("open", &config.launch, why);
        gstreamer::init().map_err(|e| failed(e.to_string()))?;
        let line = config.launch.with_sink();
        let pipeline = gstreamer::parse::launch(&line).map_err(|e| failed(e.to_string()))?;
        let sink = pipeline.clone().downcast::<gstreamer::Bin>().ok().and_then(|bin| bin.by_name(SINK));
        let sink = sink.and_then(|sink| sink.downcast::<AppSink>().ok());
        let (Some(sink), Some(bus)) = (sink, pipeline.bus()) else {
            return Err(failed(format!("it has no appsink {SINK}")));
        };
        sink.set_caps(Some(&Caps::builder("video/x-raw").field("format", "RGB").build()));
        let heard = Arc::new(Mutex::new(Instant::now()));
        let came = heard.clone();
        let note = move |_: &AppSink| {
            *came.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            Ok(FlowSuccess::Ok)
        };
        sink.set_callbacks(AppSinkCallbacks::builder().new_sample(note).build());
        let opened = Pipeline { config: config.clone(), pipeline, bus, sink, heard, due: Instant::now() };
        match opened.pipeline.set_state(State::Playing) {
            Ok(_) => Ok(opened),
            // Why is on the bus.
            Err(e) => Err(opened.trouble().unwrap_or_else(|| failed(e.to_string()))),
        }
    }

    /// What the pipeline itself says is wrong with it.
    fn trouble(&self) -> Option<SourceError> {
        while let Some(message) = self.bus.pop() {
            let why = match message.view() {
                MessageView::Eos(_) => "the pipeline came to its end".to_owned(),
                MessageView::Error(e) => {
                    let element = e.src().map(|src| src.name().to_string()).unwrap_or_default();
                    // The last line says why; one with a URL may hold a password.
                    let debug = e.debug().unwrap_or_default();
                    let line = debug.lines().last().filter(|line| !line.contains("://")).unwrap_or_default();
                    [element.as_str(), ": ", &e.error().to_string(), " ", line].concat().trim_end().to_owned()
                }
                _ => continue,
            };
            return Some(failed("run", &self.config.launch, why));
        }
        None
    }

    fn heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(operation: &'static str, launch: &Launch, why: String) -> SourceError {
    SourceError::Remote { operation, remote: format!("pipeline {launch}"), why }
}

impl Source for Pipeline {
    fn next(&mut self, shutdown: &Shutdown) -> Result<Capture, SourceError> {
        let until = Instant::now() + NEXT_MAX / 2;
        if shutdown.wait_for(self.due.min(until).saturating_duration_since(Instant::now())) {
            return Ok(Capture::Interrupted);
        }
        while !shutdown.is_requested() {
            if Instant::now() >= until {
                return Ok(Capture::Nothing);
            }
            if let Some(sample) = self.sink.try_pull_sample(LOOK) {
                // The sink keeps the newest frame, and that may have waited here for a while.
                let taken = self.heard();
                let captured_at =
                    SystemTime::now().checked_sub(taken.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH);
                let started = Instant::now();
                self.due = (self.due + self.config.interval).max(started);
                return Ok(match pixels(&sample) {
                    Some(pixels) => {
                        let decode = started.elapsed();
                        Capture::Image(Image { pixels, file: None, captured_at, taken, decode })
                    }
                    None => Capture::Broken { what: "sample".to_owned(), why: "is no RGB frame".to_owned() },
                });
            }
            if let Some(e) = self.trouble() {
                return Err(e);
            }
            if self.heard().elapsed() >= self.config.silence {
                let why = format!("no frame for {}", format_duration(self.config.silence));
                return Err(failed("read", &self.config.launch, why));
            }
        }
        Ok(Capture::Interrupted)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if let Err(e) = self.pipeline.set_state(State::Null) {
            tracing::warn!(pipeline = %self.config.launch, error = %e, "pipeline did not stop cleanly");
        }
    }
}

/// Copies the lines out of their padding.
fn pixels(sample: &Sample) -> Option<RgbImage> {
    let structure = sample.caps()?.structure(0)?;
    let side = |name| structure.get::<i32>(name).ok().and_then(|n| u32::try_from(n).ok());
    let (width, height) = (side("width")?, side("height")?);
    if !(1..=SIDE_MAX).contains(&width) || !(1..=SIDE_MAX).contains(&height) {
        return None;
    }
    let map = sample.buffer()?.map_readable().ok()?;
    let line = width as usize * 3;
    // The layout of RGB where nobody negotiated another, which takes a sink that asks for it.
    let stride = line.next_multiple_of(4);
    let mut rgb = Vec::with_capacity(line * height as usize);
    for row in 0..height as usize {
        rgb.extend_from_slice(map.get(row * stride..row * stride + line)?);
    }
    RgbImage::from_raw(width, height, rgb)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(line: &str) -> GstreamerConfig {
        let silence = Duration::from_millis(1500);
        GstreamerConfig { launch: Launch::new(line.to_owned()), interval: Duration::from_millis(50), silence }
    }

    fn open(line: &str) -> Pipeline {
        Pipeline::open(&config(line)).unwrap()
    }

    fn error(line: &str) -> String {
        let opened = Pipeline::open(&config(line));
        let outcome = opened.and_then(|mut pipeline| {
            loop {
                match pipeline.next(&Shutdown::new())? {
                    Capture::Image(_) => {}
                    other => return Ok(other),
                }
            }
        });
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn a_sink_is_appended_unless_there_is_ours() {
        let line = |text: &str| Launch::new(text.to_owned()).with_sink();
        assert!(
            line("videotestsrc")
                .starts_with("videotestsrc ! videoconvert ! video/x-raw,format=RGB ! appsink")
        );
        let own = "videotestsrc ! appsink name=captiond drop=true";
        assert_eq!(line(own), own);
        assert!(line("videotestsrc ! tee name=captiond").contains("! appsink name=captiond"));
    }

    #[test]
    fn shows_elements_without_their_properties() {
        let launch = Launch::new("rtspsrc user-pw=hunter2 ! decodebin ! video/x-raw,width=640".to_owned());
        assert_eq!(format!("{launch} {launch:?}"), "rtspsrc ! decodebin ! video/x-raw ".repeat(2).trim_end());
    }

    #[test]
    fn gives_the_colors_of_the_pipeline_line_by_line() {
        // 5 pixels are 15 bytes, which the pipeline pads to 16.
        let size = "video/x-raw,width=5,height=3";
        let mut pipeline = open(&format!("videotestsrc is-live=true pattern=red ! {size}"));
        for _ in 0..3 {
            let Capture::Image(image) = pipeline.next(&Shutdown::new()).unwrap() else { panic!("no image") };
            assert_eq!(image.pixels.dimensions(), (5, 3));
            assert!(image.pixels.pixels().all(|pixel| pixel.0[0] > 250 && pixel.0[1] < 5 && pixel.0[2] < 5));
            assert!(image.taken.elapsed() < Duration::from_secs(1));
        }
    }

    #[test]
    fn a_broken_silent_or_ended_pipeline_is_one_clear_error() {
        assert!(error("nosuchelement").contains("open pipeline nosuchelement: no element \"nosuchelement\""));
        let e = error("filesrc location=/nonexistent ! decodebin");
        assert!(e.contains("pipeline filesrc ! decodebin: ") && e.contains("Resource not found"), "{e}");
        let e = error("videotestsrc num-buffers=2");
        assert!(e.ends_with("the pipeline came to its end"), "{e}");
        let e = error("videotestsrc is-live=true ! valve drop=true");
        assert!(e.ends_with("no frame for 1s 500ms"), "{e}");
    }

    #[test]
    fn is_interrupted_by_shutdown() {
        let mut pipeline = open("videotestsrc is-live=true ! valve drop=true");
        let shutdown = Shutdown::new();
        shutdown.request();
        assert!(matches!(pipeline.next(&shutdown), Ok(Capture::Interrupted)));
    }
}
