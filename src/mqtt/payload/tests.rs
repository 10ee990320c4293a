use std::time::{Duration, Instant, UNIX_EPOCH};

use caption::{Answer, Caption, Question};
use serde::de::DeserializeOwned;

use super::*;
use crate::message::{Ask, Reply};

fn producer() -> Producer {
    Producer { bundle: "lite@1f0c93ab".to_owned(), engine: "tract".to_owned(), device: "cpu".to_owned() }
}

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

fn frame(seq: u64) -> FrameId {
    FrameId { camera: 0, seq, captured_at: at(1_795_208_400_102), file: None }
}

fn same_json(found: &[u8], example: &str) {
    let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    assert_eq!(value(found), value(example.as_bytes()));
}

/// By the name of the payload.
const EXAMPLES: [(&str, &str); 9] = [
    ("bridge_event", BRIDGE_EVENT_EXAMPLE),
    ("response", RESPONSE_EXAMPLE),
    ("caption", CAPTION_EXAMPLE),
    ("ask", ASK_EXAMPLE),
    ("answer", ANSWER_EXAMPLE),
    ("error", ERROR_EXAMPLE),
    ("labels", LABELS_EXAMPLE),
    ("event", EVENT_EXAMPLE),
    ("stats", STATS_EXAMPLE),
];

fn ask(transaction: Option<Transaction>) -> Ask {
    let question = Question { text: "Is there a dog?".to_owned(), ..Question::default() };
    Ask {
        camera: 0,
        question,
        reply: Reply { transaction, ..Reply::default() },
        asked_at: Instant::now(),
        deadline: None,
    }
}

#[test]
fn a_caption_is_the_example() {
    let captioned = Captioned {
        frame: frame(4711),
        caption: Caption { text: "a brown dog runs across the lawn".to_owned(), score: 0.418_26 },
        low_confidence: false,
        changed: true,
        similarity: Some(0.711_2),
        latency: Latency {
            decode: Duration::from_micros(4_110),
            wait: Duration::from_micros(2_000),
            preprocess: Duration::from_micros(1_380),
            encode: Duration::from_micros(41_700),
            text: Duration::from_micros(52_090),
            total: Duration::from_micros(101_400),
        },
        counters: Counters {
            captured: 4711,
            captioned: 212,
            overwritten: 3,
            gated: 4496,
            ..Counters::default()
        },
    };
    let payload = CaptionPayload::new(&captioned, "porch", &producer(), at(1_795_208_400_318));
    same_json(&json(&payload), CAPTION_EXAMPLE);
}

#[test]
fn an_answer_is_the_example_and_so_is_an_error() {
    let reading = Reading {
        frame: FrameId { captured_at: at(1_795_208_407_102), ..frame(4724) },
        answer: Answer {
            text: "yes".to_owned(),
            score: 0.9031,
            verdict: Verdict::Answered,
            candidates: vec![("yes".to_owned(), 0.9031), ("no".to_owned(), 0.0969)],
        },
        latency: Latency {
            wait: Duration::from_micros(12_500),
            text: Duration::from_micros(61_800),
            total: Duration::from_micros(74_310),
            ..Latency::default()
        },
    };
    let transaction = Some(Transaction::Text("42".to_owned()));
    let now = at(1_795_208_407_500);
    let good = Answered { ask: ask(transaction.clone()), outcome: Ok(reading) };
    same_json(&answered(&good, "porch", &producer(), now), ANSWER_EXAMPLE);
    let busy = Answered { ask: ask(transaction), outcome: Err(AskError::Busy) };
    same_json(&answered(&busy, "porch", &producer(), now), ERROR_EXAMPLE);
}

#[test]
fn every_example_is_a_payload() {
    fn round_trip<T: DeserializeOwned + Serialize>(example: &str) {
        same_json(&json(&serde_json::from_str::<T>(example).unwrap()), example);
    }
    round_trip::<CaptionPayload>(CAPTION_EXAMPLE);
    round_trip::<AnswerPayload>(ANSWER_EXAMPLE);
    round_trip::<ErrorPayload>(ERROR_EXAMPLE);
    round_trip::<InfoPayload>(INFO_EXAMPLE);
    round_trip::<StatsPayload>(STATS_EXAMPLE);
    round_trip::<LabelsPayload>(LABELS_EXAMPLE);
    round_trip::<EventPayload>(EVENT_EXAMPLE);
    round_trip::<BridgeEventPayload>(BRIDGE_EVENT_EXAMPLE);
    round_trip::<ResponsePayload>(RESPONSE_EXAMPLE);
}

#[test]
fn docs_mqtt_md_shows_the_examples() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/mqtt.md")).unwrap();
    for example in EXAMPLES.map(|(_, example)| example).into_iter().chain([INFO_EXAMPLE]) {
        assert!(docs.contains(&format!("```json\n{example}```")), "docs/mqtt.md lacks {example}");
    }
}

#[test]
fn reads_a_question_as_json_or_plain_text() {
    let Asked { question, transaction, patience } = parse_ask(ASK_EXAMPLE.as_bytes()).unwrap();
    assert_eq!((question.kind, patience), (Some(caption::AnswerKind::YesNo), Some(Duration::from_secs(3))));
    assert_eq!((question.text.as_str(), question.choices.len()), ("Is there a dog?", 2));
    assert_eq!(transaction, Some(Transaction::Text("42".to_owned())));
    let Asked { question, transaction, .. } = parse_ask(b" what is this? \n").unwrap();
    assert_eq!((question.text.as_str(), transaction), ("what is this?", None));
    let newer = br#"{"question": "x", "transaction": 7, "language": "de"}"#;
    assert_eq!(parse_ask(newer).unwrap().transaction, Some(Transaction::Number(7)));
}

#[test]
fn refuses_what_is_no_question_and_keeps_its_transaction() {
    let long = "x".repeat(QUESTION_CHARS_MAX + 1);
    let refused = |payload: &[u8]| parse_ask(payload).unwrap_err();
    let seven = Some(Transaction::Number(7));
    assert_eq!(refused(br#"{"transaction": 7}"#).0, seven);
    assert_eq!(refused(br#"{"question": "  ", "transaction": 7}"#).0, seven);
    assert_eq!(refused(br#"{"question": "x", "choices": [""], "transaction": 7}"#).0, seven);
    assert_eq!(refused(br#"{"question": "x", "type": "poem", "transaction": 7}"#).0, seven);
    assert_eq!(refused(br#"{"question": "x", "type": "one_of", "transaction": 7}"#).0, seven);
    assert_eq!(refused(br#"{"question": "x", "deadline_ms": -1, "transaction": 7}"#).0, seven);
    for bad in [&b""[..], b" ", b"\xFF\xFE", b"{", long.as_bytes(), &[b'x'; ASK_BYTES_MAX + 1]] {
        assert!(matches!(refused(bad), (None, AskError::Request(_))));
    }
    let big = format!(r#"{{"question": "x", "transaction": "{}"}}"#, "t".repeat(TRANSACTION_BYTES_MAX + 1));
    assert!(refused(big.as_bytes()).1.to_string().contains("transaction"));
    let many = format!(r#"{{"question": "x", "choices": [{}"a"]}}"#, "\"a\",".repeat(CHOICES_MAX));
    assert!(refused(many.as_bytes()).1.to_string().contains("choices"));
}

#[test]
fn a_long_text_is_cut_between_words_and_characters() {
    assert_eq!(shorten("short"), "short");
    let cut = shorten(&"größe ".repeat(60));
    assert!(cut.chars().count() <= SHORT_CHARS_MAX && cut.ends_with("größe…"), "{cut}");
    assert_eq!(shorten(&"ü".repeat(300)).chars().count(), SHORT_CHARS_MAX);
}

/// Compiled, by the name of the payload.
fn check(name: &str, value: &serde_json::Value) -> Result<(), String> {
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("schema.json", schemas_of()[name].clone()).unwrap();
    let schema = compiler.compile("schema.json", &mut schemas).unwrap();
    schemas.validate(value, schema).map_err(|e| format!("{e:#}"))
}

fn schemas_of() -> serde_json::Map<String, serde_json::Value> {
    super::schemas()
}

#[test]
fn every_example_fits_its_schema_and_nothing_else_does() {
    assert_eq!(schemas_of().len(), EXAMPLES.len());
    for (name, example) in EXAMPLES {
        let value: serde_json::Value = serde_json::from_str(example).unwrap();
        check(name, &value).unwrap();
        // A required key that is missing, and a value of another type.
        let required = schemas_of()[name]["required"][0].as_str().unwrap().to_owned();
        let mut without = value.clone();
        without.as_object_mut().unwrap().remove(&required);
        assert!(check(name, &without).is_err(), "{name} without {required}");
        let mut wrong = value.clone();
        wrong[required.as_str()] = serde_json::json!([{}]);
        assert!(check(name, &wrong).is_err(), "{name} with another {required}");
    }
}
