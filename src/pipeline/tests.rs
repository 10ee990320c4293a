use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::SystemTime;

use super::*;
use crate::frame::FrameId;
use crate::gate::GateConfig;
use crate::message::Reply;
use crate::standing::StandingConfig;

/// Calls a frame by the brightness of its first pixel; pixel 255 makes encoding fail, 253 the engine, 252 its device.
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
        let (graph, why) = ("fake".to_owned(), "no room".to_owned());
        if level > 252.0 {
            return Err(EngineError::Run { graph, why }.into());
        }
        if level > 251.0 {
            return Err(EngineError::Lost { graph, device: "cuda:0".to_owned(), why }.into());
        }
        let angle = level / 255.0;
        Ok(ImageView { embedding: vec![angle.cos(), angle.sin()], patches: vec![], weights: vec![] })
    }
    fn caption(&mut self, view: &ImageView, opening: &str) -> Result<Caption, CaptionError> {
        if view.embedding[1] > 0.5 && self.0.load(Relaxed) == 1 {
            return Err(CaptionError::Request("too bright to be the first".to_owned()));
        }
        Ok(Caption { text: format!("{opening}level {:.2}", view.embedding[1]), score: 0.5 })
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
    fn logit_rows(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, CaptionError> {
        Ok(texts.iter().map(|text| if text == "bright" { vec![0.0, 10.0] } else { vec![5.0, 0.0] }).collect())
    }
}

/// Sees, and cannot say what.
struct Mute;

impl Vision for Mute {
    fn preprocess(&self, _: &RgbImage) -> Tensor {
        Tensor::f32([1], vec![0.0])
    }
    fn is_doubtful(&self, _: &Tensor) -> bool {
        false
    }
    fn encode(&mut self, _: &Tensor) -> Result<ImageView, CaptionError> {
        Ok(ImageView { embedding: vec![0.0; 2], patches: vec![], weights: vec![] })
    }
    fn caption(&mut self, _: &ImageView, _: &str) -> Result<Caption, CaptionError> {
        Err(EngineError::Run { graph: "mute".to_owned(), why: "no room".to_owned() }.into())
    }
    fn answer(&mut self, view: &ImageView, _: &Question) -> Result<Answer, CaptionError> {
        self.caption(view, "").map(|_| unreachable!())
    }
    fn logit_rows(&mut self, _: &[String]) -> Result<Vec<Vec<f32>>, CaptionError> {
        Ok(Vec::new())
    }
}

const GATE: GateConfig = GateConfig {
    refresh: Duration::from_secs(600),
    heartbeat: Duration::from_secs(60),
    ..crate::config::GATE
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
    let question = Question { text: text.to_owned(), ..Question::default() };
    Ask { camera: 0, question, reply: Reply::default(), asked_at: Instant::now(), deadline: None }
}

fn unasked(frame: Frame) -> Work {
    Work::Frame(Arc::new(frame), false)
}

fn pipeline(fake: Fake, health: &Health, tx: mpsc::Sender<Publication>) -> Pipeline<'_> {
    let watch = Watch {
        gate: GATE,
        vision: 0,
        prompt: String::new(),
        standing: StandingConfig::default(),
        image: false,
    };
    Pipeline::new(vec![Box::new(fake)], [watch], health, tx)
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
        let mut pipeline = pipeline(Fake(self.encoded.clone()), &self.health, tx);
        for work in work {
            match work {
                Work::Frame(frame, wanted) => pipeline.look_at(&frame, wanted),
                Work::Question(ask, newest) => {
                    let outcome = pipeline.read(&ask, newest.as_deref());
                    pipeline.publish(0, Publication::Answer(Answered { ask, outcome }));
                }
                Work::Job(job) => pipeline.work(&job),
                Work::Change(camera, changes) => pipeline.change(camera, changes),
                Work::Watch(camera, watch) => pipeline.watch(camera, *watch),
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
            Publication::Settings(_, settings) => format!("{settings:?}"),
            Publication::Standing(_, config) => format!("{} questions", config.questions.len()),
            Publication::StandingAnswer(id, answered) => {
                format!("{id}: {}", answered.outcome.as_ref().unwrap().answer.text)
            }
            Publication::Labels(labels) => format!(
                "{:?}",
                labels.readings.iter().map(|label| (label.id.as_str(), label.is_on)).collect::<Vec<_>>()
            ),
            Publication::Image(camera, jpeg) => {
                format!("{} of {camera}", photo::decode(jpeg).unwrap().width())
            }
            Publication::Event(event) => format!("{} {}", event.event.rule, event.event.begins),
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
    bench.run(9, frames.map(unasked));
    assert_eq!(bench.texts(), ["level 0.04", "level 0.71"]);
    assert_eq!(bench.encoded.load(Relaxed), 3, "the second frame is not even encoded");
    let counters = bench.health.counters(0);
    assert_eq!((counters.captioned, counters.gated, counters.failed), (2, 2, 0));
}

#[test]
fn a_failing_frame_is_counted_and_the_next_one_captioned() {
    let mut bench = Bench::new();
    bench.run(9, [frame(1, 255), frame(2, 10)].map(unasked));
    assert_eq!(bench.texts(), ["level 0.04"]);
    assert_eq!(bench.health.counters(0).failed, 1);
}

#[test]
fn a_scene_whose_caption_failed_is_tried_again() {
    let mut bench = Bench::new();
    bench.run(9, [frame(1, 200), frame(2, 200)].map(unasked));
    assert_eq!(bench.texts(), ["level 0.71"]);
    let counters = bench.health.counters(0);
    assert_eq!((counters.captioned, counters.gated, counters.failed), (1, 0, 1));
}

#[test]
fn the_caption_of_an_unchanged_scene_is_confirmed_without_inference() {
    let mut bench = Bench::new();
    let later = Frame { taken: Instant::now() + 2 * GATE.heartbeat, ..frame(2, 10) };
    bench.run(9, [frame(1, 10), later].map(unasked));
    assert_eq!(bench.texts(), ["level 0.04", "level 0.04"]);
    let Publication::Caption(confirmed) = &bench.published[1] else { panic!("not a caption") };
    assert!(!confirmed.changed && confirmed.frame.seq == 2);
    assert_eq!(bench.encoded.load(Relaxed), 1);
    assert_eq!(bench.health.counters(0).gated, 1);
}

#[test]
fn a_caption_that_is_asked_for_is_made_of_an_unchanged_scene() {
    let mut bench = Bench::new();
    let same = Arc::new(frame(1, 10));
    bench.run(9, [Work::Frame(Arc::clone(&same), false), Work::Frame(same, true)]);
    assert_eq!(bench.texts(), ["level 0.04", "level 0.04"]);
    assert_eq!(bench.health.counters(0).captioned, 2);
}

#[test]
fn each_camera_is_seen_by_its_vision_and_captioned_from_its_prompt() {
    let (health, (tx, mut rx)) = (Health::new(2, None), mpsc::channel(9));
    let n_encoded: [Arc<AtomicUsize>; 2] = Default::default();
    let visions = n_encoded.clone().map(|n| Box::new(Fake(n)) as Box<dyn Vision>).into();
    let watches = [("", 1), ("there is ", 0)].map(|(prompt, vision)| Watch {
        gate: GATE,
        vision,
        prompt: prompt.to_owned(),
        standing: StandingConfig::default(),
        image: false,
    });
    let mut pipeline = Pipeline::new(visions, watches, &health, tx);
    let second = Frame { id: FrameId { camera: 1, ..frame(1, 10).id }, ..frame(1, 10) };
    pipeline.look_at(&second, false);
    let Ok(Publication::Caption(captioned)) = rx.try_recv() else { panic!("no caption") };
    assert_eq!((captioned.frame.camera, captioned.caption.text.as_str()), (1, "there is level 0.04"));
    assert_eq!(n_encoded.map(|n| n.load(Relaxed)), [1, 0]);
}

#[test]
fn settings_change_from_the_next_frame_on_and_are_said() {
    let mut bench = Bench::new();
    let change = |changes: Changes| Work::Change(0, changes);
    bench.run(
        9,
        [
            change(Changes { enabled: Some(false), ..Changes::default() }),
            unasked(frame(1, 10)),
            change(Changes {
                enabled: Some(true),
                prompt: Some("there is ".to_owned()),
                ..Changes::default()
            }),
            unasked(frame(2, 10)),
            change(Changes { min_interval: Some(Duration::from_secs(600)), ..Changes::default() }),
            unasked(frame(3, 200)),
            unasked(frame(4, 30)),
        ],
    );
    let texts = bench.texts();
    assert!(texts[0].contains("enabled: false") && texts[1].contains("there is"), "{texts:?}");
    assert_eq!((texts[2].as_str(), texts[4].as_str()), ("there is level 0.04", "there is level 0.71"));
    assert!(texts[3].contains("600s"), "{texts:?}");
    assert_eq!(texts.len(), 5, "too soon after the last one: {texts:?}");
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
    bench.run(9, [Work::Frame(Arc::clone(&black), false), Work::Question(ask("a?"), Some(black))]);
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
    pipeline(Fake(Arc::default()), &bench.health, tx).run(&bench.inbox).unwrap();
    assert!(rx.try_recv().is_ok(), "the waiting question is answered first");
}

#[test]
fn what_fails_three_times_in_a_row_is_a_state_until_it_succeeds() {
    let health = Health::new(1, None);
    let mut vision = watched::Watched::new(Box::new(Fake(Arc::default())), &health);
    let mut look = |level: f32| vision.encode(&Tensor::f32([1], vec![level])).is_ok();
    assert!(!look(253.0) && !look(253.0) && look(10.0) && !look(253.0) && !look(253.0));
    assert_eq!(health.engine_fault(), None, "twice is an accident");
    assert!(!look(253.0));
    assert_eq!(health.engine_fault().as_deref(), Some("run graph fake: no room"));
    assert!(!look(255.0), "what is wrong with a request is no news of the engine");
    assert!(health.engine_fault().is_some());
    assert!(look(10.0));
    assert_eq!(health.engine_fault(), None);
}

#[test]
fn an_encoder_that_works_does_not_hide_a_captioner_that_does_not() {
    let health = Health::new(1, None);
    let view = ImageView { embedding: vec![0.0; 2], patches: vec![], weights: vec![] };
    let mut vision = watched::Watched::new(Box::new(Mute), &health);
    for _ in 0..3 {
        assert_eq!(health.engine_fault(), None);
        assert!(vision.encode(&Tensor::f32([1], vec![0.0])).is_ok() && vision.caption(&view, "").is_err());
    }
    assert!(health.engine_fault().is_some());
}

#[test]
fn a_device_that_is_gone_ends_the_thread_with_its_name() {
    let bench = Bench::new();
    bench.inbox.put_frame(frame(1, 252));
    let (tx, _rx) = mpsc::channel(9);
    let ended = pipeline(Fake(Arc::default()), &bench.health, tx).run(&bench.inbox);
    assert!(matches!(&ended, Err(EngineError::Lost { device, .. }) if device == "cuda:0"), "{ended:?}");
}

#[test]
fn a_job_is_looked_at_in_time_or_refused_and_never_ends_the_thread() {
    use crate::job::{Job, JobError, Said};

    let (done, mut outcomes) = mpsc::channel(9);
    let picture = |level| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        RgbImage::from_pixel(8, 8, image::Rgb([level; 3]))
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    };
    let asks = |text: &str| Some(Question { text: text.to_owned(), ..Question::default() });
    let now = Instant::now();
    let jobs = [
        (picture(10), None, None),
        (picture(0), asks("dark?"), None),
        (b"no picture".to_vec(), None, None),
        (picture(10), None, Some(now)),
        (picture(255), None, None),
        (picture(10), asks(""), None),
    ];
    let mut bench = Bench::new();
    bench.run(
        9,
        jobs.into_iter().zip(0..).map(|((picture, question, expires), ticket)| {
            let (picture, done) = (picture.into(), done.clone());
            Work::Job(Job { ticket, picture, question, expires, came: now, vision: 0, done })
        }),
    );
    let mut next = || outcomes.try_recv().unwrap().outcome;
    let Ok(Said::Caption(caption)) = next().map(|finding| finding.said) else { panic!("no caption") };
    assert_eq!(caption.text, "level 0.04");
    let Ok(Said::Answer(answer)) = next().map(|finding| finding.said) else { panic!("no answer") };
    assert_eq!((answer.text.as_str(), answer.verdict), ("re: dark?", Verdict::Unsure));
    assert!(matches!(next(), Err(JobError::Request(why)) if why.starts_with("decode photo")));
    assert_eq!(next().unwrap_err(), JobError::Expired);
    assert_eq!(next().unwrap_err(), JobError::Request("too bright".to_owned()));
    assert_eq!(next().unwrap_err(), JobError::Request("the question is empty".to_owned()));
    assert!(bench.published.is_empty());
}
