//! The loop of the inference thread: work in, publications out. It owns every graph.
//!
//! It knows neither where frames come from nor where publications go.

use std::time::{Duration, Instant};

use caption::{Answer, Caption, CaptionError, ImageView, Question, Verdict};
use engine::Tensor;
use image::RgbImage;
use tokio::sync::mpsc;

use crate::frame::Frame;
use crate::gate::{Gate, GateConfig};
use crate::health::{Count, Health};
use crate::inbox::{Inbox, Work};
use crate::message::{Answered, Ask, AskError, Captioned, Latency, Publication, Reading};

/// The longest time without a sign of life while nothing comes in.
const IDLE: Duration = Duration::from_secs(1);

/// What the pipeline needs of a bundle, so that it can be tested without one.
pub trait Vision: Send {
    fn preprocess(&self, image: &RgbImage) -> Tensor;
    /// Whether the picture shows too little for its caption to be believed.
    fn is_doubtful(&self, pixels: &Tensor) -> bool;
    fn encode(&mut self, pixels: &Tensor) -> Result<ImageView, CaptionError>;
    fn caption(&mut self, view: &ImageView) -> Result<Caption, CaptionError>;
    fn answer(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError>;
}

impl Vision for caption::Models {
    fn preprocess(&self, image: &RgbImage) -> Tensor {
        self.preprocess(image)
    }

    fn is_doubtful(&self, pixels: &Tensor) -> bool {
        self.is_doubtful(pixels)
    }

    fn encode(&mut self, pixels: &Tensor) -> Result<ImageView, CaptionError> {
        self.encode(pixels)
    }

    fn caption(&mut self, view: &ImageView) -> Result<Caption, CaptionError> {
        self.caption(view)
    }

    fn answer(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError> {
        self.answer(view, question)
    }
}

/// The state of the inference thread.
pub struct Pipeline<'a> {
    vision: Box<dyn Vision>,
    cameras: Vec<Camera>,
    health: &'a Health,
    publications: mpsc::Sender<Publication>,
}

struct Camera {
    gate: Gate,
    /// The last frame that was encoded: a question about it need not encode it again.
    seen: Option<(u64, Sight)>,
}

/// An encoded frame.
struct Sight {
    view: ImageView,
    doubtful: bool,
}

/// The same and what it took.
struct Seen {
    sight: Sight,
    preprocess: Duration,
    encode: Duration,
}

impl<'a> Pipeline<'a> {
    /// One gate per camera, in the order of the configuration.
    pub fn new(
        vision: Box<dyn Vision>,
        gates: impl IntoIterator<Item = GateConfig>,
        health: &'a Health,
        publications: mpsc::Sender<Publication>,
    ) -> Pipeline<'a> {
        let camera = |config| Camera { gate: Gate::new(config), seen: None };
        Pipeline { vision, cameras: gates.into_iter().map(camera).collect(), health, publications }
    }

    /// Works until the inbox is closed.
    pub fn run(mut self, inbox: &Inbox) {
        loop {
            self.health.beat();
            match inbox.next(IDLE) {
                Work::Frame(frame) => self.look_at(&frame),
                Work::Question(ask, newest) => {
                    let outcome = self.read(&ask, newest.as_deref());
                    let camera = ask.camera;
                    self.publish(camera, Publication::Answer(Answered { ask, outcome }));
                }
                Work::Idle => {}
                Work::Closed => return,
            }
        }
    }

    fn look_at(&mut self, frame: &Frame) {
        let camera = frame.id.camera;
        let wait = frame.taken.elapsed();
        if !self.cameras[camera].gate.glance(&frame.image, frame.taken) {
            return self.health.count(camera, Count::Gated);
        }
        match self.describe(frame, wait) {
            Ok(Some(captioned)) => {
                self.health.count(camera, Count::Captioned);
                let counters = self.health.counters(camera);
                self.publish(camera, Publication::Caption(Captioned { counters, ..captioned }));
            }
            Ok(None) => self.health.count(camera, Count::Gated),
            Err(e) => {
                self.health.count(camera, Count::Failed);
                tracing::error!(camera, seq = frame.id.seq, error = %e, "frame was not captioned");
            }
        }
    }

    /// A caption, unless the frame shows the scene of the caption before.
    fn describe(&mut self, frame: &Frame, wait: Duration) -> Result<Option<Captioned>, CaptionError> {
        let seen = self.see(frame)?;
        let judgement = self.cameras[frame.id.camera].gate.judge(&seen.sight.view.embedding, frame.taken);
        let captioned = if judgement.caption {
            let started = Instant::now();
            let caption = self.vision.caption(&seen.sight.view)?;
            let latency = Latency {
                decode: frame.decode,
                wait: wait.saturating_sub(frame.decode),
                preprocess: seen.preprocess,
                encode: seen.encode,
                text: started.elapsed(),
                total: frame.taken.elapsed(),
            };
            Some(Captioned {
                frame: frame.id.clone(),
                caption,
                low_confidence: seen.sight.doubtful,
                changed: judgement.changed,
                similarity: judgement.similarity,
                latency,
                counters: self.health.counters(frame.id.camera),
            })
        } else {
            None
        };
        self.cameras[frame.id.camera].seen = Some((frame.id.seq, seen.sight));
        Ok(captioned)
    }

    fn read(&mut self, ask: &Ask, newest: Option<&Frame>) -> Result<Reading, AskError> {
        let frame = newest.ok_or(AskError::NoFrame)?;
        let wait = ask.asked_at.elapsed();
        let seen = match self.cameras[ask.camera].seen.take() {
            Some((seq, sight)) if seq == frame.id.seq => {
                Seen { sight, preprocess: Duration::ZERO, encode: Duration::ZERO }
            }
            _ => self.see(frame).map_err(ask_error)?,
        };
        let started = Instant::now();
        let mut answer = self.vision.answer(&seen.sight.view, &ask.question);
        if let Ok(answer) = &mut answer
            && seen.sight.doubtful
        {
            answer.verdict = Verdict::Unsure;
        }
        let latency = Latency {
            decode: Duration::ZERO,
            wait,
            preprocess: seen.preprocess,
            encode: seen.encode,
            text: started.elapsed(),
            total: ask.asked_at.elapsed(),
        };
        self.cameras[ask.camera].seen = Some((frame.id.seq, seen.sight));
        Ok(Reading { frame: frame.id.clone(), answer: answer.map_err(ask_error)?, latency })
    }

    fn see(&mut self, frame: &Frame) -> Result<Seen, CaptionError> {
        let started = Instant::now();
        let pixels = self.vision.preprocess(&frame.image);
        let preprocess = started.elapsed();
        let started = Instant::now();
        let view = self.vision.encode(&pixels)?;
        let encode = started.elapsed();
        let sight = Sight { view, doubtful: self.vision.is_doubtful(&pixels) };
        Ok(Seen { sight, preprocess, encode })
    }

    /// Never waits: a slow broker must not stall inference.
    fn publish(&self, camera: usize, publication: Publication) {
        if self.publications.try_send(publication).is_err() {
            self.health.count(camera, Count::Dropped);
        }
    }
}

fn ask_error(e: CaptionError) -> AskError {
    match e {
        CaptionError::Request(why) => AskError::Request(why),
        other => AskError::Failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
