//! A job: a picture that somebody else took, and what is to be said about it. Plain data between the worker task, which
//! takes jobs from the broker, and the inference thread.

use std::time::Instant;

use bytes::Bytes;
use caption::{Answer, Caption, Question};
use tokio::sync::mpsc;

use crate::message::Latency;

/// Jobs that may wait for the inference thread, each with its picture; the most that a broker is asked to hand over.
pub const JOBS_MAX: usize = 64;

/// Largest picture, in pixels. A progressive JPEG takes some nine bytes for each while it is decoded, and a worker that
/// runs out of memory is killed, comes back, and finds the same job.
pub const PIXELS_MAX: u64 = 24_000_000;

/// A job on its way to the inference thread.
#[derive(Clone, Debug)]
pub struct Job {
    /// Chosen by the worker task; comes back with the outcome.
    pub ticket: u64,
    /// JPEG or PNG, as it came: hostile until decoded.
    pub picture: Bytes,
    /// None asks for a caption.
    pub question: Option<Question>,
    /// After this the outcome is of no use.
    pub expires: Option<Instant>,
    pub came: Instant,
    /// Which of the visions looks at it.
    pub vision: usize,
    /// Where the outcome goes. Has room for every job that waits.
    pub done: mpsc::Sender<Done>,
}

/// What came of a job.
#[derive(Clone, Debug)]
pub struct Done {
    pub ticket: u64,
    pub outcome: Result<Finding, JobError>,
}

/// What a job's picture shows.
#[derive(Clone, Debug)]
pub struct Finding {
    pub said: Said,
    /// The picture shows too little for a caption to be believed.
    pub low_confidence: bool,
    /// `total` counts from the job's coming.
    pub latency: Latency,
}

#[derive(Clone, Debug)]
pub enum Said {
    Caption(Caption),
    Answer(Answer),
}

/// Why a job has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JobError {
    #[error("the deadline has passed")]
    Expired,
    /// The job is wrong and will be when it is sent again.
    #[error("{0}")]
    Request(String),
    #[error("{0}")]
    Failed(String),
}
