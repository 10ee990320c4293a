//! Jobs as they come in and what is answered to them. Anybody may send anything, so everything is bounded.

use std::time::{Duration, SystemTime};

use caption::{Question, Verdict};
use serde::{Deserialize, Serialize};

use super::{
    AnswerPayload, CANDIDATES_MAX, CandidatePayload, ErrorCode, LatencyPayload, Producer, VERSION,
    VerdictPayload, parse_ask, rounded, shorten, timestamp,
};
use crate::job::{Finding, JobError, Said};

pub const JOB_CAPTION_EXAMPLE: &str = include_str!("../examples/job_caption.json");
pub const JOB_ERROR_EXAMPLE: &str = include_str!("../examples/job_error.json");

/// Longest camera name of a job, in bytes.
pub const JOB_CAMERA_BYTES_MAX: usize = 128;
/// Longest deadline.
pub const JOB_DEADLINE_MAX: Duration = Duration::from_secs(86_400);

/// What a job is about, echoed in its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    pub camera: String,
    pub seq: u64,
    /// RFC 3339 in UTC, as it came.
    pub frame_ts: String,
}

/// The properties of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRequest {
    pub label: Label,
    /// None asks for a caption.
    pub question: Option<Question>,
    /// How long the answer is still of use.
    pub left: Option<Duration>,
}

/// As much of a label as could be read, for an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Echo {
    /// Empty where it could not be read.
    pub camera: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_ts: Option<String>,
    pub question: String,
}

/// The caption of a job: that of a camera, without what only a watched camera has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobCaptionPayload {
    pub v: u32,
    pub ts: String,
    pub camera: String,
    pub seq: u64,
    pub frame_ts: String,
    pub caption: String,
    pub short: String,
    pub score: f64,
    pub low_confidence: bool,
    #[serde(flatten)]
    pub producer: Producer,
    pub latency_ms: LatencyPayload,
    pub worker: String,
}

/// The answer of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobAnswerPayload {
    #[serde(flatten)]
    pub answer: AnswerPayload,
    pub worker: String,
}

/// Instead of either.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobErrorPayload {
    pub v: u32,
    pub ts: String,
    #[serde(flatten)]
    pub echo: Echo,
    pub code: ErrorCode,
    pub error: String,
    pub worker: String,
}

/// Reads the user properties of a job; of several of one name the first counts, others are ignored.
///
/// # Errors
/// What could be read of the label, and what is wrong.
pub fn parse_job(
    properties: &[(String, String)],
    now: SystemTime,
) -> Result<JobRequest, Box<(Echo, JobError)>> {
    let mut echo = Echo::default();
    read(properties, now, &mut echo).map_err(|e| Box::new((echo, e)))
}

fn read(properties: &[(String, String)], now: SystemTime, echo: &mut Echo) -> Result<JobRequest, JobError> {
    let property = |name: &str| {
        let found = properties.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    let needed =
        |name: &str| property(name).ok_or_else(|| refused(format!("the user property {name} is missing")));
    let camera = needed("camera")?;
    if !(1..=JOB_CAMERA_BYTES_MAX).contains(&camera.len()) || camera.contains(char::is_control) {
        return Err(refused(format!("camera must have 1 to {JOB_CAMERA_BYTES_MAX} bytes on one line")));
    }
    echo.camera = camera.to_owned();
    let seq = needed("seq")?.parse().map_err(|_e| refused("seq is no whole number".to_owned()))?;
    echo.seq = Some(seq);
    let frame_ts = needed("frame_ts")?;
    let Some(captured_at) = humantime::parse_rfc3339(frame_ts).ok() else {
        return Err(refused("frame_ts is no time such as 2026-11-20T21:00:00.102Z".to_owned()));
    };
    echo.frame_ts = Some(frame_ts.to_owned());
    let question = property("question").map(|text| question(text, property("choices"))).transpose()?;
    echo.question = question.as_ref().map(|question| question.text.clone()).unwrap_or_default();
    let left = property("deadline_ms").map(|text| left(text, captured_at, now)).transpose()?;
    let label = Label { camera: camera.to_owned(), seq, frame_ts: frame_ts.to_owned() };
    Ok(JobRequest { label, question, left })
}

fn refused(why: String) -> JobError {
    JobError::Request(why)
}

/// Within the limits of a question on a camera's topic: it is read as one.
fn question(text: &str, choices: Option<&str>) -> Result<Question, JobError> {
    let choices: serde_json::Value = serde_json::from_str(choices.unwrap_or("[]"))
        .map_err(|e| refused(format!("choices is no JSON list: {e}")))?;
    let ask = serde_json::json!({ "question": text, "choices": choices });
    let parsed = parse_ask(ask.to_string().as_bytes());
    parsed.map(|asked| asked.question).map_err(|(_, e)| refused(e.to_string()))
}

/// What is left of a deadline that counts from the frame.
fn left(text: &str, captured_at: SystemTime, now: SystemTime) -> Result<Duration, JobError> {
    let deadline = text.parse().ok().map(Duration::from_millis).filter(|d| *d <= JOB_DEADLINE_MAX);
    let Some(deadline) = deadline else {
        let most = JOB_DEADLINE_MAX.as_millis();
        return Err(refused(format!("deadline_ms must be a whole number up to {most}")));
    };
    // A frame of the future is one of a clock that is ahead: it is taken as new.
    let age = now.duration_since(captured_at).unwrap_or_default();
    deadline.checked_sub(age).filter(|left| !left.is_zero()).ok_or(JobError::Expired)
}

/// The JSON of a caption or an answer.
pub fn found(
    finding: &Finding,
    request: &JobRequest,
    producer: &Producer,
    worker: &str,
    now: SystemTime,
) -> Vec<u8> {
    let JobRequest { label: Label { camera, seq, frame_ts }, question, .. } = request;
    let (ts, camera, frame_ts) = (timestamp(now), camera.clone(), frame_ts.clone());
    let (producer, worker) = (producer.clone(), worker.to_owned());
    let latency_ms = finding.latency.into();
    match &finding.said {
        Said::Caption(caption) => super::json(&JobCaptionPayload {
            v: VERSION,
            ts,
            camera,
            seq: *seq,
            frame_ts,
            caption: caption.text.clone(),
            short: shorten(&caption.text),
            score: rounded(caption.score),
            low_confidence: finding.low_confidence,
            producer,
            latency_ms,
            worker,
        }),
        Said::Answer(answer) => {
            let candidate = |(answer, score): &(String, f32)| CandidatePayload {
                answer: answer.clone(),
                score: rounded(*score),
            };
            let answer = AnswerPayload {
                v: VERSION,
                ts,
                camera,
                transaction: None,
                question: question.as_ref().map(|question| question.text.clone()).unwrap_or_default(),
                answer: answer.text.clone(),
                short: shorten(&answer.text),
                score: rounded(answer.score),
                verdict: match answer.verdict {
                    Verdict::Answered => VerdictPayload::Answered,
                    Verdict::Unsure => VerdictPayload::Unsure,
                },
                candidates: answer.candidates.iter().take(CANDIDATES_MAX).map(candidate).collect(),
                seq: *seq,
                frame_ts,
                file: None,
                producer,
                latency_ms,
            };
            super::json(&JobAnswerPayload { answer, worker })
        }
    }
}

/// The JSON of an error.
pub fn refusal(e: &JobError, echo: Echo, worker: &str, now: SystemTime) -> Vec<u8> {
    let code = match e {
        JobError::Expired => ErrorCode::Expired,
        JobError::Request(_) => ErrorCode::BadRequest,
        JobError::Failed(_) => ErrorCode::Failed,
    };
    let (ts, error) = (timestamp(now), e.to_string());
    super::json(&JobErrorPayload { v: VERSION, ts, echo, code, error, worker: worker.to_owned() })
}

impl From<&JobRequest> for Echo {
    fn from(request: &JobRequest) -> Echo {
        let Label { camera, seq, frame_ts } = request.label.clone();
        let question = request.question.as_ref().map(|question| question.text.clone());
        Echo { camera, seq: Some(seq), frame_ts: Some(frame_ts), question: question.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests;
