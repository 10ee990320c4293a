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
    fn is_doubtful(&self, pixels: &Tensor) -> bool {
        pixels.as_f32().unwrap()[0] < 1.0
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
            verdict: Verdict::Answered,
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
fn what_shows_too_little_is_marked() {
    let mut bench = Bench::new();
    let black = Arc::new(frame(1, 0));
    bench.run(9, [Work::Frame(Arc::clone(&black)), Work::Question(ask("a?"), Some(black))]);
    let [Publication::Caption(captioned), Publication::Answer(answered)] = &bench.published[..] else {
        panic!("{:?}", bench.published);
    };
    assert!(captioned.low_confidence);
    assert_eq!(answered.outcome.as_ref().unwrap().answer.verdict, Verdict::Unsure);
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
