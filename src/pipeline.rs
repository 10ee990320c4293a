//! The loop of the inference thread: work in, publications out. It owns every graph.
//!
//! It knows neither where frames come from nor where publications go.

use std::time::{Duration, Instant};

use caption::{Answer, Caption, CaptionError, ImageView, Question};
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
    fn encode(&mut self, pixels: &Tensor) -> Result<ImageView, CaptionError>;
    fn caption(&mut self, view: &ImageView) -> Result<Caption, CaptionError>;
    fn answer(&mut self, view: &ImageView, question: &Question) -> Result<Answer, CaptionError>;
}

impl Vision for caption::Models {
    fn preprocess(&self, image: &RgbImage) -> Tensor {
        self.preprocess(image)
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
    seen: Option<(u64, ImageView)>,
}

/// An encoded frame and what it took.
struct Seen {
    view: ImageView,
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
        let judgement = self.cameras[frame.id.camera].gate.judge(&seen.view.embedding, frame.taken);
        let captioned = if judgement.caption {
            let started = Instant::now();
            let caption = self.vision.caption(&seen.view)?;
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
                changed: judgement.changed,
                similarity: judgement.similarity,
                latency,
                counters: self.health.counters(frame.id.camera),
            })
        } else {
            None
        };
        self.cameras[frame.id.camera].seen = Some((frame.id.seq, seen.view));
        Ok(captioned)
    }

    fn read(&mut self, ask: &Ask, newest: Option<&Frame>) -> Result<Reading, AskError> {
        let frame = newest.ok_or(AskError::NoFrame)?;
        let wait = ask.asked_at.elapsed();
        let seen = match self.cameras[ask.camera].seen.take() {
            Some((seq, view)) if seq == frame.id.seq => {
                Seen { view, preprocess: Duration::ZERO, encode: Duration::ZERO }
            }
            _ => self.see(frame).map_err(ask_error)?,
        };
        let started = Instant::now();
        let answer = self.vision.answer(&seen.view, &ask.question);
        let latency = Latency {
            decode: Duration::ZERO,
            wait,
            preprocess: seen.preprocess,
            encode: seen.encode,
            text: started.elapsed(),
            total: ask.asked_at.elapsed(),
        };
        self.cameras[ask.camera].seen = Some((frame.id.seq, seen.view));
        Ok(Reading { frame: frame.id.clone(), answer: answer.map_err(ask_error)?, latency })
    }

    fn see(&mut self, frame: &Frame) -> Result<Seen, CaptionError> {
        let started = Instant::now();
        let pixels = self.vision.preprocess(&frame.image);
        let preprocess = started.elapsed();
        let started = Instant::now();
        let view = self.vision.encode(&pixels)?;
        Ok(Seen { view, preprocess, encode: started.elapsed() })
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
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::SystemTime;

    use super::*;
    use crate::frame::FrameId;
    use crate::message::Reply;

    /// Calls a frame by the brightness of its first pixel; pixel 255 makes encoding fail.
    struct Fake(Arc<AtomicUsize>);

    impl Vision for Fake {
        fn preprocess(&self, image: &RgbImage) -> Tensor {
            Tensor::f32([1], vec![f32::from(image.get_pixel(0, 0).0[0])])
        }
        fn encode(&mut self, pixels: &Tensor) -> Result<ImageView, CaptionError> {
            self.0.fetch_add(1, Relaxed);
            let level = pixels.as_f32().unwrap()[0];
            if level > 254.0 {
                return Err(CaptionError::Request("too bright".to_owned()));
            }
            let angle = level / 255.0;
            Ok(ImageView { embedding: vec![angle.cos(), angle.sin()], patches: vec![], weights: vec![] })
        }
        fn caption(&mut self, view: &ImageView) -> Result<Caption, CaptionError> {
            Ok(Caption { text: format!("level {:.2}", view.embedding[1]), score: 0.5 })
        }
        fn answer(&mut self, _: &ImageView, question: &Question) -> Result<Answer, CaptionError> {
            if question.text.is_empty() {
                return Err(CaptionError::Request("the question is empty".to_owned()));
            }
            Ok(Answer {
                text: format!("re: {}", question.text),
                score: 1.0,
                verdict: caption::Verdict::Answered,
                candidates: vec![],
            })
        }
    }

    const GATE: GateConfig = GateConfig {
        enabled: true,
        pixel_change: 0.01,
        similarity: 0.95,
        refresh: Duration::from_secs(600),
        min_interval: Duration::ZERO,
    };

    fn frame(seq: u64, level: u8) -> Frame {
        Frame {
            id: FrameId { camera: 0, seq, captured_at: SystemTime::now(), file: None },
            taken: Instant::now(),
            decode: Duration::ZERO,
            image: RgbImage::from_pixel(64, 64, image::Rgb([level; 3])),
        }
    }

    fn ask(text: &str) -> Ask {
        let question = Question { text: text.to_owned(), choices: vec![] };
        Ask { camera: 0, question, reply: Reply::default(), asked_at: Instant::now() }
    }

    struct Bench {
        health: Health,
        encoded: Arc<AtomicUsize>,
        inbox: Inbox,
        published: Vec<Publication>,
    }

    impl Bench {
        fn new() -> Bench {
            Bench {
                health: Health::new(1, None),
                encoded: Arc::default(),
                inbox: Inbox::new(1),
                published: vec![],
            }
        }

        /// Runs each piece of work to its end on one pipeline.
        fn run(&mut self, queue: usize, work: impl IntoIterator<Item = Work>) {
            let (tx, mut rx) = mpsc::channel(queue);
            let mut pipeline = Pipeline::new(Box::new(Fake(self.encoded.clone())), [GATE], &self.health, tx);
            for work in work {
                match work {
                    Work::Frame(frame) => pipeline.look_at(&frame),
                    Work::Question(ask, newest) => {
                        let outcome = pipeline.read(&ask, newest.as_deref());
                        pipeline.publish(0, Publication::Answer(Answered { ask, outcome }));
                    }
                    Work::Idle | Work::Closed => {}
                }
            }
            drop(pipeline);
            while let Ok(publication) = rx.try_recv() {
                self.published.push(publication);
            }
        }

        fn texts(&self) -> Vec<String> {
            let text = |publication: &Publication| match publication {
                Publication::Caption(captioned) => captioned.caption.text.clone(),
                Publication::Answer(answered) => match &answered.outcome {
                    Ok(reading) => format!("{} ({})", reading.answer.text, reading.frame.seq),
                    Err(e) => e.to_string(),
                },
            };
            self.published.iter().map(text).collect()
        }
    }

    #[test]
    fn captions_a_new_scene_and_gates_the_same_one() {
        let mut bench = Bench::new();
        let frames = [frame(1, 10), frame(2, 10), frame(3, 30), frame(4, 200)];
        bench.run(9, frames.map(|frame| Work::Frame(Arc::new(frame))));
        assert_eq!(bench.texts(), ["level 0.04", "level 0.71"]);
        assert_eq!(bench.encoded.load(Relaxed), 3, "the second frame is not even encoded");
        let counters = bench.health.counters(0);
        assert_eq!((counters.captioned, counters.gated, counters.failed), (2, 2, 0));
    }

    #[test]
    fn a_failing_frame_is_counted_and_the_next_one_captioned() {
        let mut bench = Bench::new();
        bench.run(9, [frame(1, 255), frame(2, 10)].map(|frame| Work::Frame(Arc::new(frame))));
        assert_eq!(bench.texts(), ["level 0.04"]);
        assert_eq!(bench.health.counters(0).failed, 1);
    }

    #[test]
    fn answers_from_the_newest_frame_and_encodes_it_once() {
        let mut bench = Bench::new();
        let newest = Arc::new(frame(5, 10));
        let question = |text: &str| Work::Question(ask(text), Some(Arc::clone(&newest)));
        bench.run(9, [question("a?"), question("b?"), question(""), Work::Question(ask("c?"), None)]);
        assert_eq!(
            bench.texts(),
            ["re: a? (5)", "re: b? (5)", "the question is empty", "the camera has not delivered a frame yet"]
        );
        assert_eq!(bench.encoded.load(Relaxed), 1);
    }

    #[test]
    fn a_full_queue_drops_the_publication_and_counts_it() {
        let mut bench = Bench::new();
        let question = || Work::Question(ask("a?"), Some(Arc::new(frame(1, 10))));
        bench.run(1, [question(), question()]);
        assert_eq!(bench.published.len(), 1);
        assert_eq!(bench.health.counters(0).dropped, 1);
    }

    #[test]
    fn ends_when_the_inbox_is_closed() {
        let bench = Bench::new();
        bench.inbox.put_question(ask("a?")).unwrap();
        bench.inbox.close();
        let (tx, mut rx) = mpsc::channel(9);
        Pipeline::new(Box::new(Fake(Arc::default())), [GATE], &bench.health, tx).run(&bench.inbox);
        assert!(rx.try_recv().is_ok(), "the waiting question is answered first");
    }
}
