//! Jobs on the inference thread: a stranger's picture is decoded and looked at, without a gate and without memory.

use std::time::{Duration, Instant};

use caption::Verdict;
use image::RgbImage;

use super::{Pipeline, Vision};
use crate::job::{Done, Finding, Job, JobError, PIXELS_MAX, Said};
use crate::logging::contained;
use crate::message::{AskError, Latency};
use crate::photo;

impl Pipeline<'_> {
    pub(super) fn work(&mut self, job: &Job) {
        let vision = &mut self.visions[job.vision];
        // A job whose picture made a library panic would come back after every restart and end the worker again.
        let looked = contained(|| look(vision, job));
        let outcome = looked.unwrap_or_else(|| Err(JobError::Failed("inference panicked".to_owned())));
        if job.done.try_send(Done { ticket: job.ticket, outcome }).is_err() {
            tracing::error!(ticket = job.ticket, "outcome of a job dropped");
        }
    }
}

fn look(vision: &mut dyn Vision, job: &Job) -> Result<Finding, JobError> {
    let wait = job.came.elapsed();
    if job.expires.is_some_and(|expires| expires <= Instant::now()) {
        return Err(JobError::Expired);
    }
    let (image, decode) = timed(|| picture(&job.picture));
    let image = image?;
    let (pixels, preprocess) = timed(|| vision.preprocess(&image));
    let (view, encode) = timed(|| vision.encode(&pixels));
    let view = view.map_err(failed)?;
    let low_confidence = vision.is_doubtful(&pixels);
    let (said, text) = timed(|| match &job.question {
        None => vision.caption(&view, "").map(Said::Caption),
        Some(question) => vision.answer(&view, question).map(Said::Answer),
    });
    let mut said = said.map_err(failed)?;
    if let Said::Answer(answer) = &mut said
        && low_confidence
    {
        answer.verdict = Verdict::Unsure;
    }
    let latency = Latency { decode, wait, preprocess, encode, text, total: job.came.elapsed() };
    Ok(Finding { said, low_confidence, latency })
}

/// The pixels, unless they would take too much memory.
fn picture(bytes: &[u8]) -> Result<RgbImage, JobError> {
    let unreadable = |e: photo::PhotoError| JobError::Request(e.to_string());
    let (width, height) = photo::size(bytes).map_err(unreadable)?;
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        let why = format!("the picture of {width}x{height} has more than {PIXELS_MAX} pixels");
        return Err(JobError::Request(why));
    }
    photo::decode(bytes).map_err(unreadable)
}

fn timed<T>(step: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let outcome = step();
    (outcome, started.elapsed())
}

fn failed(e: caption::CaptionError) -> JobError {
    match super::ask_error(e) {
        AskError::Request(why) => JobError::Request(why),
        other => JobError::Failed(other.to_string()),
    }
}
