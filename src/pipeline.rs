//! The loop of the inference thread: work in, publications out. It owns every graph.
//!
//! It knows neither where frames come from nor where publications go.

mod job;
mod standing;
mod watched;

use std::time::{Duration, Instant};

use caption::{Answer, Caption, CaptionError, ImageView, Question, Verdict};
use engine::{EngineError, Tensor};
use image::RgbImage;
use tokio::sync::mpsc;

use crate::frame::{Frame, FrameId};
use crate::gate::{Gate, Glance};
use crate::health::{Count, Health};
use crate::inbox::{Inbox, Work};
use crate::message::{
    Answered, Ask, AskError, Captioned, Changes, Latency, Publication, Reading, Settings, Watch,
};
use crate::metrics::Stage;
use crate::photo;
use crate::standing::Standing;
use watched::Watched;

/// The longest time without a sign of life while nothing comes in.
const IDLE: Duration = Duration::from_secs(1);

/// What the pipeline needs of a bundle, so that it can be tested without one.
pub trait Vision: Send {
    fn preprocess(&self, image: &RgbImage) -> Tensor;
    /// Whether the picture shows too little for its caption to be believed.
    fn is_doubtful(&self, pixels: &Tensor) -> bool;
    fn encode(&mut self, pixels: &Tensor) -> Result<ImageView, CaptionError>;
    /// A caption that begins with the words of `opening`.
    fn caption(&mut self, view: &ImageView, opening: &str) -> Result<Caption, CaptionError>;
    fn answer(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError>;
    /// Rows (embed_dim), one a text, whose product with an image embedding is a logit.
    fn logit_rows(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, CaptionError>;
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

    fn caption(&mut self, view: &ImageView, opening: &str) -> Result<Caption, CaptionError> {
        self.caption_from(view, opening)
    }

    fn answer(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError> {
        self.answer(view, question)
    }

    fn logit_rows(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, CaptionError> {
        self.logit_rows(texts)
    }
}

/// The state of the inference thread.
pub struct Pipeline<'a> {
    visions: Vec<Watched<'a>>,
    cameras: Vec<Camera>,
    health: &'a Health,
    publications: mpsc::Sender<Publication>,
    /// The minute of the local day, 0 to 1439.
    minute_of_day: fn() -> u16,
}

struct Camera {
    gate: Gate,
    vision: usize,
    settings: Settings,
    /// The caption that is out.
    told: Option<Captioned>,
    /// The last frame that was encoded: a question about it need not encode it again.
    seen: Option<(u64, Sight)>,
    standing: Standing,
    image: bool,
    /// For every label those of its texts, see [`Vision::logit_rows`]; none until they are needed.
    label_rows: Option<Vec<Vec<Vec<f32>>>>,
    /// The last frame that was looked at.
    last: Option<FrameId>,
    /// When that was; a frame that is passed over under pressure is none.
    looked: Option<Instant>,
}

impl Camera {
    fn new(watch: Watch) -> Camera {
        Camera {
            gate: Gate::new(watch.gate),
            vision: watch.vision,
            settings: Settings { enabled: true, min_interval: watch.gate.min_interval, prompt: watch.prompt },
            told: None,
            seen: None,
            standing: Standing::new(watch.standing),
            image: watch.image,
            label_rows: None,
            last: None,
            looked: None,
        }
    }
}

/// What came of a frame.
enum Outcome {
    /// It shows the scene of the caption that is out.
    Same,
    /// The same, and it is time to say so.
    Confirmed,
    Captioned(Box<Captioned>),
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
    /// One watch per camera, in the order of the configuration; each names one of `visions`.
    pub fn new(
        visions: Vec<Box<dyn Vision>>,
        watches: impl IntoIterator<Item = Watch>,
        health: &'a Health,
        publications: mpsc::Sender<Publication>,
    ) -> Pipeline<'a> {
        let cameras = watches.into_iter().map(Camera::new).collect();
        let visions = visions.into_iter().map(|vision| Watched::new(vision, health)).collect();
        Pipeline { visions, cameras, health, publications, minute_of_day: crate::clock::minute_of_day }
    }

    /// Works until the inbox is closed.
    ///
    /// # Errors
    /// [`EngineError::Lost`] when the device is gone: nothing would be looked at any more.
    pub fn run(mut self, inbox: &Inbox) -> Result<(), EngineError> {
        loop {
            self.health.beat();
            match inbox.next(IDLE) {
                Work::Frame(frame, wanted) => self.look_at(&frame, wanted),
                Work::Question(ask, newest) => {
                    let outcome = self.read(&ask, newest.as_deref());
                    let camera = ask.camera;
                    self.publish(camera, Publication::Answer(Answered { ask, outcome }));
                }
                Work::Job(job) => self.work(&job),
                Work::Change(camera, changes) => self.change(camera, changes),
                Work::Watch(camera, watch) => self.watch(camera, *watch),
                Work::Idle => {}
                Work::Closed => return Ok(()),
            }
            if let Some(lost) = self.visions.iter_mut().find_map(|vision| vision.lost.take()) {
                return Err(lost);
            }
            self.tick();
        }
    }

    /// Looks at another camera from now on, at a place that another had or at the next.
    fn watch(&mut self, camera: usize, watch: Watch) {
        let standing = watch.standing.clone();
        while self.cameras.len() <= camera {
            self.cameras.push(Camera::new(watch.clone()));
        }
        self.cameras[camera] = Camera::new(watch);
        self.publish(camera, Publication::Settings(camera, self.cameras[camera].settings.clone()));
        self.publish(camera, Publication::Standing(camera, standing));
    }

    fn change(&mut self, camera: usize, changes: Changes) {
        let Camera { gate, settings, image, .. } = &mut self.cameras[camera];
        let Changes { enabled, min_interval, prompt, standing, gate: other_gate, image: other_image } =
            changes;
        if let Some(config) = other_gate {
            *gate = Gate::new(config);
            settings.min_interval = config.min_interval;
        }
        *image = other_image.unwrap_or(*image);
        if let Some(min_interval) = min_interval {
            gate.set_min_interval(min_interval);
            settings.min_interval = min_interval;
        }
        if let Some(enabled) = enabled {
            settings.enabled = enabled;
        }
        if let Some(prompt) = prompt {
            // The caption that is out begins with other words.
            gate.forget();
            settings.prompt = prompt;
        }
        let settings = settings.clone();
        self.publish(camera, Publication::Settings(camera, settings));
        self.change_standing(camera, standing);
    }

    fn look_at(&mut self, frame: &Frame, wanted: bool) {
        let camera = frame.id.camera;
        let wait = frame.taken.elapsed();
        if !self.cameras[camera].settings.enabled && !wanted {
            self.health.count(camera, Count::Gated);
            return;
        }
        let slow_interval = self.health.slow_interval();
        let looked = &mut self.cameras[camera].looked;
        if !wanted && looked.is_some_and(|at| frame.taken.saturating_duration_since(at) < slow_interval) {
            self.health.count(camera, Count::Gated);
            return;
        }
        *looked = Some(frame.taken);
        let gate = &mut self.cameras[camera].gate;
        if wanted {
            gate.want();
        }
        let outcome = match gate.glance(&frame.image, frame.taken) {
            Glance::Pass => Ok(Outcome::Same),
            Glance::Confirm => Ok(Outcome::Confirmed),
            Glance::Look => self.describe(frame, wait),
        };
        let is_changed = matches!(&outcome, Ok(Outcome::Captioned(captioned)) if captioned.changed);
        match outcome {
            Ok(Outcome::Captioned(captioned)) => {
                self.health.count(camera, Count::Captioned);
                self.cameras[camera].told = Some((*captioned).clone());
                self.cameras[camera].standing.hear_caption(&captioned.caption.text);
                let is_new = captioned.changed;
                self.tell(*captioned);
                if self.cameras[camera].image && is_new {
                    self.show(frame);
                }
            }
            Ok(Outcome::Same) => {
                self.health.count(camera, Count::Gated);
            }
            Ok(Outcome::Confirmed) => {
                self.health.count(camera, Count::Gated);
                if let Some(told) = &self.cameras[camera].told {
                    self.tell(Captioned { frame: frame.id.clone(), changed: false, ..told.clone() });
                }
            }
            Err(e) => {
                self.cameras[camera].gate.forget();
                self.health.count(camera, Count::Failed);
                tracing::error!(camera, seq = frame.id.seq, error = %e, "frame was not captioned");
            }
        }
        self.stand(frame, is_changed);
    }

    /// A caption, unless the frame shows the scene of the caption before.
    fn describe(&mut self, frame: &Frame, wait: Duration) -> Result<Outcome, CaptionError> {
        let seen = self.see(frame)?;
        let Camera { gate, vision, settings, .. } = &mut self.cameras[frame.id.camera];
        let judgement = gate.judge(&seen.sight.view.embedding, frame.taken);
        let outcome = if judgement.caption {
            let started = Instant::now();
            let caption = self.visions[*vision].caption(&seen.sight.view, &settings.prompt)?;
            let latency = Latency {
                decode: frame.decode,
                wait: wait.saturating_sub(frame.decode),
                preprocess: seen.preprocess,
                encode: seen.encode,
                text: started.elapsed(),
                total: frame.taken.elapsed(),
            };
            self.time(&latency);
            Outcome::Captioned(Box::new(Captioned {
                frame: frame.id.clone(),
                caption,
                low_confidence: seen.sight.doubtful,
                changed: judgement.changed,
                similarity: judgement.similarity,
                latency,
                counters: self.health.counters(frame.id.camera),
            }))
        } else if judgement.confirm {
            Outcome::Confirmed
        } else {
            Outcome::Same
        };
        self.cameras[frame.id.camera].seen = Some((frame.id.seq, seen.sight));
        Ok(outcome)
    }

    /// Counts what a caption took, but for what every encoded frame takes.
    fn time(&self, latency: &Latency) {
        let Latency { decode, wait, text, total, .. } = *latency;
        for (stage, took) in
            [(Stage::Decode, decode), (Stage::Wait, wait), (Stage::Caption, text), (Stage::Total, total)]
        {
            self.health.stages().record(stage, took);
        }
    }

    /// Publishes the picture of a caption.
    fn show(&self, frame: &Frame) {
        match photo::encode(&frame.image) {
            Ok(jpeg) => self.publish(frame.id.camera, Publication::Image(frame.id.camera, jpeg)),
            Err(e) => tracing::error!(camera = frame.id.camera, error = %e, "picture not published"),
        }
    }

    fn tell(&self, captioned: Captioned) {
        let camera = captioned.frame.camera;
        let counters = self.health.counters(camera);
        self.publish(camera, Publication::Caption(Captioned { counters, ..captioned }));
    }

    fn read(&mut self, ask: &Ask, newest: Option<&Frame>) -> Result<Reading, AskError> {
        let frame = newest.ok_or(AskError::NoFrame)?;
        let is_late = || ask.deadline.is_some_and(|deadline| Instant::now() > deadline);
        if is_late() {
            return Err(AskError::Late);
        }
        let wait = ask.asked_at.elapsed();
        let seen = match self.cameras[ask.camera].seen.take() {
            Some((seq, sight)) if seq == frame.id.seq => {
                Seen { sight, preprocess: Duration::ZERO, encode: Duration::ZERO }
            }
            _ => self.see(frame).map_err(ask_error)?,
        };
        let started = Instant::now();
        let vision = self.cameras[ask.camera].vision;
        let mut answer = self.visions[vision].answer(&seen.sight.view, &ask.question);
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
        self.health.stages().record(Stage::Answer, latency.text);
        // One that comes too late may be acted upon as if it were of now.
        if is_late() {
            return Err(AskError::Late);
        }
        Ok(Reading { frame: frame.id.clone(), answer: answer.map_err(ask_error)?, latency })
    }

    fn see(&mut self, frame: &Frame) -> Result<Seen, CaptionError> {
        let vision = &mut self.visions[self.cameras[frame.id.camera].vision];
        let started = Instant::now();
        let pixels = vision.preprocess(&frame.image);
        let preprocess = started.elapsed();
        let started = Instant::now();
        let view = vision.encode(&pixels)?;
        let encode = started.elapsed();
        self.health.stages().record(Stage::Preprocess, preprocess);
        self.health.stages().record(Stage::Encode, encode);
        let sight = Sight { view, doubtful: vision.is_doubtful(&pixels) };
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
