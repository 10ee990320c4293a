use std::time::UNIX_EPOCH;

use caption::{Answer, Caption};

use super::*;
use crate::message::Latency;

const WORKER: &str = "captiond-9c4e01d2a7b8-worker";
/// 102 ms and 318 ms after 2026-11-20T21:00:00Z.
const FRAME: Duration = Duration::from_millis(1_795_208_400_102);
const NOW: Duration = Duration::from_millis(1_795_208_400_318);

fn now() -> SystemTime {
    UNIX_EPOCH + NOW
}

fn properties(more: &[(&str, &str)]) -> Vec<(String, String)> {
    let least = [("camera", "porch"), ("seq", "4711"), ("frame_ts", "2026-11-20T21:00:00.102Z")];
    // The first of a name counts.
    more.iter().chain(&least).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn parse(more: &[(&str, &str)]) -> Result<JobRequest, (Echo, JobError)> {
    parse_job(&properties(more), now()).map_err(|e| *e)
}

fn same_json(found: &[u8], example: &str) {
    let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    assert_eq!(value(found), value(example.as_bytes()));
}

fn finding(said: Said) -> Finding {
    let latency = Latency {
        decode: Duration::from_micros(4_110),
        wait: Duration::from_micros(2_000),
        preprocess: Duration::from_micros(1_380),
        encode: Duration::from_micros(41_700),
        text: Duration::from_micros(52_090),
        total: Duration::from_micros(101_400),
    };
    Finding { said, low_confidence: false, latency }
}

fn producer() -> Producer {
    Producer { bundle: "lite@1f0c93ab".to_owned(), engine: "tract".to_owned(), device: "cpu".to_owned() }
}

#[test]
fn the_caption_of_a_job_is_the_example_and_so_is_an_error() {
    let request = parse(&[]).unwrap();
    assert_eq!((request.question.as_ref(), request.left), (None, None));
    let caption = Caption { text: "a brown dog runs across the lawn".to_owned(), score: 0.418_26 };
    let payload = found(&finding(Said::Caption(caption)), &request, &producer(), WORKER, now());
    same_json(&payload, JOB_CAPTION_EXAMPLE);
    let request = parse(&[("question", "Is there a dog?")]).unwrap();
    same_json(&refusal(&JobError::Expired, (&request).into(), WORKER, now()), JOB_ERROR_EXAMPLE);
}

#[test]
fn the_answer_of_a_job_has_the_keys_of_a_camera_and_the_worker() {
    let request = parse(&[("question", "Is there a dog?"), ("choices", r#"["yes", "no"]"#)]).unwrap();
    assert_eq!(request.question.as_ref().unwrap().choices, ["yes", "no"]);
    let answer = Answer {
        text: "yes".to_owned(),
        score: 0.9031,
        verdict: Verdict::Unsure,
        candidates: vec![("yes".to_owned(), 0.9031), ("no".to_owned(), 0.0969)],
    };
    let payload = found(&finding(Said::Answer(answer)), &request, &producer(), WORKER, now());
    let read: JobAnswerPayload = serde_json::from_slice(&payload).unwrap();
    assert_eq!((read.worker.as_str(), read.answer.verdict), (WORKER, VerdictPayload::Unsure));
    assert_eq!((read.answer.seq, read.answer.camera.as_str()), (4711, "porch"));
    let keys = |json: &[u8]| {
        let value: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json).unwrap();
        value.into_iter().map(|(key, _)| key).collect::<std::collections::BTreeSet<_>>()
    };
    let mut of_a_camera = keys(super::super::ANSWER_EXAMPLE.as_bytes());
    of_a_camera.remove("transaction");
    of_a_camera.insert("worker".to_owned());
    assert_eq!(keys(&payload), of_a_camera);
}

#[test]
fn a_bad_job_is_refused_with_what_could_be_read_of_its_label() {
    let missing = parse_job(&[], now()).unwrap_err();
    assert_eq!(missing.1, JobError::Request("the user property camera is missing".to_owned()));
    let long = "x".repeat(JOB_CAMERA_BYTES_MAX + 1);
    for (more, seq, why) in [
        (&[("camera", "")][..], None, "camera must have"),
        (&[("camera", long.as_str())], None, "camera must have"),
        (&[("camera", "a\nb")], None, "camera must have"),
        (&[("seq", "-1")], None, "seq is no whole number"),
        (&[("frame_ts", "yesterday")], Some(4711), "frame_ts is no time"),
        (&[("question", " ")], Some(4711), "the question is empty"),
        (&[("question", "q"), ("choices", "yes, no")], Some(4711), "choices is no JSON list"),
        (&[("question", "q"), ("choices", "[1]")], Some(4711), "the request is not a question"),
        (&[("question", "q"), ("choices", r#"[""]"#)], Some(4711), "a choice is empty"),
        (&[("deadline_ms", "soon")], Some(4711), "deadline_ms must be"),
        (&[("deadline_ms", "86400001")], Some(4711), "deadline_ms must be"),
    ] {
        let (echo, e) = parse(more).unwrap_err();
        assert!(matches!(&e, JobError::Request(text) if text.starts_with(why)), "{e}");
        assert_eq!(echo.seq, seq, "{why}");
    }
}

#[test]
fn a_deadline_counts_from_the_frame() {
    let left = parse(&[("deadline_ms", "500")]).unwrap().left;
    assert_eq!(left, Some(Duration::from_millis(500) - (NOW - FRAME)));
    assert_eq!(parse(&[("deadline_ms", "216")]).unwrap_err().1, JobError::Expired);
    let ahead = parse(&[("deadline_ms", "500"), ("frame_ts", "2026-11-20T21:10:00Z")]).unwrap();
    assert_eq!(ahead.left, Some(Duration::from_millis(500)), "a clock that is ahead");
}

#[test]
fn docs_mqtt_md_shows_the_examples_of_jobs() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/mqtt.md")).unwrap();
    for example in [JOB_CAPTION_EXAMPLE, JOB_ERROR_EXAMPLE] {
        assert!(docs.contains(&format!("```json\n{example}```")), "docs/mqtt.md lacks {example}");
    }
}
