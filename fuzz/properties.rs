//! What must hold of every parser of bytes from outside, whatever they are: no panic, and nothing larger than its limits
//! comes out. The fuzz targets and the ordinary tests share these.

#![allow(dead_code, clippy::allow_attributes, reason = "each fuzz target uses one of them")]

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use caption::bundle;
use caption::bundle::TokenizerSettings;
use captiond::config::{Config, PROMPT_CHARS_MAX, parse_change};
use captiond::job::PIXELS_MAX;
use captiond::message::{AskError, Transaction};
use captiond::mqtt::payload::job::{JOB_CAMERA_BYTES_MAX, JOB_DEADLINE_MAX, parse_job};
use captiond::mqtt::payload::{
    ASK_BYTES_MAX, CHOICE_CHARS_MAX, CHOICES_MAX, INTERVAL_MAX, QUESTION_CHARS_MAX, ResponsePayload,
    TRANSACTION_BYTES_MAX, json, parse_ask, parse_set,
};
use captiond::mqtt::topic::{HomieTopics, Topics, matches};
use captiond::photo;
use captiond::source::pixels::{Color, Layout, PixelFormat};
use captiond::standing::StandingChange;
use engine::onnx;

/// A complaint repeats some of what it is about, escaped.
const COMPLAINT_BYTES_MAX: usize = 8 * ASK_BYTES_MAX;

fn assert_transaction(transaction: Option<&Transaction>) {
    if let Some(Transaction::Text(text)) = transaction {
        assert!(text.len() <= TRANSACTION_BYTES_MAX);
    }
}

/// A question on a camera's topic.
pub fn ask(bytes: &[u8]) {
    match parse_ask(bytes) {
        Ok(asked) => {
            assert!(bytes.len() <= ASK_BYTES_MAX);
            assert!((1..=QUESTION_CHARS_MAX).contains(&asked.question.text.chars().count()));
            assert!(asked.question.choices.len() <= CHOICES_MAX);
            let is_choice = |choice: &String| (1..=CHOICE_CHARS_MAX).contains(&choice.chars().count());
            assert!(asked.question.choices.iter().all(is_choice));
            assert_transaction(asked.transaction.as_ref());
        }
        Err((transaction, e)) => {
            assert!(matches!(e, AskError::Request(_)));
            assert!(e.to_string().len() <= COMPLAINT_BYTES_MAX);
            assert_transaction(transaction.as_ref());
        }
    }
}

/// A wish for another setting; the first byte chooses which.
pub fn set(bytes: &[u8]) {
    let (first, payload) = bytes.split_first().unwrap_or((&0, &[]));
    let settings = ["enabled", "interval", "prompt", "volume"];
    if let Ok(changes) = parse_set(settings[usize::from(*first) % settings.len()], payload) {
        assert!(changes.min_interval.is_none_or(|interval| interval <= INTERVAL_MAX));
        assert!(changes.prompt.is_none_or(|prompt| prompt.chars().count() <= PROMPT_CHARS_MAX));
    }
}

/// A wish for a standing question, a label or a rule; the first byte chooses which.
pub fn standing(bytes: &[u8]) {
    let (first, payload) = bytes.split_first().unwrap_or((&0, &[]));
    let kinds = ["question", "label", "rule", "poem"];
    let payload = &payload[..payload.len().min(ASK_BYTES_MAX)];
    let Ok(text) = std::str::from_utf8(payload) else { return };
    match parse_change(kinds[usize::from(*first) % kinds.len()], "x", text) {
        Ok(StandingChange::Question(id, question)) => {
            assert_eq!(id, "x");
            assert!(
                question.is_none_or(|asked| asked.id == id && asked.question.text.chars().count() <= 200)
            );
        }
        Ok(StandingChange::Label(id, label)) => {
            assert_eq!(id, "x");
            assert!(
                label.is_none_or(|label| label.release <= label.threshold && label.deviations.is_finite())
            );
        }
        Ok(StandingChange::Rule(id, rule)) => {
            assert_eq!(id, "x");
            assert!(
                rule.is_none_or(|rule| !rule.all.is_empty() && rule.cooldown <= Duration::from_secs(86_400))
            );
        }
        Err(why) => assert!(!why.is_empty() && why.len() <= COMPLAINT_BYTES_MAX),
    }
    // The name comes from the topic, which strangers choose, too.
    assert!(parse_change("question", text, "why?").is_ok_and(|_| true) == is_name(text));
}

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    (1..=32).contains(&text.len()) && text.chars().all(allowed) && text != "set"
}

/// The user properties of a job, as lines `key=value`.
pub fn job(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let pairs = text.split('\n').filter_map(|line| line.split_once('='));
    let properties: Vec<_> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    match parse_job(&properties, now) {
        Ok(request) => {
            assert!((1..=JOB_CAMERA_BYTES_MAX).contains(&request.label.camera.len()));
            assert!(request.left.is_none_or(|left| left <= JOB_DEADLINE_MAX));
            let is_question = |text: &str| (1..=QUESTION_CHARS_MAX).contains(&text.chars().count());
            assert!(request.question.is_none_or(|question| is_question(&question.text)));
        }
        Err(refused) => {
            assert!(refused.0.camera.len() <= JOB_CAMERA_BYTES_MAX);
            assert!(refused.1.to_string().len() <= COMPLAINT_BYTES_MAX);
        }
    }
}

/// A picture that came over MQTT. Larger ones than a job's are not decoded, and here none that takes long.
pub fn picture(bytes: &[u8]) {
    let Ok((width, height)) = photo::size(bytes) else { return };
    if u64::from(width) * u64::from(height) > PIXELS_MAX / 24 {
        return;
    }
    if let Ok(image) = photo::decode(bytes) {
        let (found, turned) = (image.dimensions(), (height, width));
        assert!(found == (width, height) || found == turned);
    }
}

/// The payload of a request to the daemon.
pub fn request(bytes: &[u8]) {
    let response = ResponsePayload::new(bytes, Err("no".to_owned()), SystemTime::UNIX_EPOCH);
    // A control character takes six bytes in JSON.
    assert!(json(&response).len() <= 6 * TRANSACTION_BYTES_MAX + 200);
}

/// Topics: what is taken out of one has one level, and makes the same topic again.
pub fn topics(bytes: &[u8]) {
    let Ok(topic) = std::str::from_utf8(bytes) else { return };
    let topics = Topics::new("captiond");
    let again = [
        topics.asked_camera(topic).map(|camera| (camera, topics.ask(camera))),
        topics.described_camera(topic).map(|camera| (camera, topics.describe(camera))),
        topics.requested(topic).map(|name| (name, format!("captiond/bridge/request/{name}"))),
    ];
    for (level, made) in again.into_iter().flatten() {
        assert!(!level.contains('/') && made == topic);
        assert!(!topics.is_response_topic(topic));
    }
    if let Some((camera, setting)) = topics.set_camera(topic) {
        assert_eq!(format!("captiond/{camera}/{setting}/set"), topic);
    }
    if let Some((camera, kind, id)) = topics.standing_of(topic) {
        assert_eq!(format!("captiond/{camera}/{kind}/{id}/set"), topic);
    }
    let homie = HomieTopics::new("homie", "captiond-1");
    if let Some((id, node, property)) = homie.set_property(topic) {
        assert_eq!(format!("{}/set", homie.value(id, node, property)), topic);
    }
    if let Some(id) = homie.described_id(topic) {
        assert_eq!(homie.description(id), topic);
    }
    assert!(matches("#", topic));
    if !topic.contains(['+', '#']) {
        assert!(matches(topic, topic));
    }
}

/// A configuration file. One that names other files is passed over: those are the operator's, and may be a terminal.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.contains("_file") {
        return;
    }
    match Config::parse(text, Path::new("/nowhere")) {
        Ok(config) => assert!(config.worker.is_some() || !config.cameras.is_empty()),
        Err(problems) => {
            assert!(!problems.0.is_empty() && problems.0.iter().all(|problem| !problem.why.is_empty()))
        }
    }
}

/// The manifest of a bundle: what is taken can be written, and is taken again.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match bundle::parse(text) {
        Ok(manifest) => {
            assert!(manifest.named_files().iter().all(|(name, ..)| is_plain(name)));
            let Ok(again) = toml::to_string(&manifest) else { panic!("a manifest that cannot be written") };
            assert!(bundle::parse(&again).is_ok(), "{again}");
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

/// A file name that leads out of no folder.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != ".."
}

/// An ONNX file, as it is checked before the engine sees it.
pub fn onnx_file(bytes: &[u8]) {
    let Ok(model) = onnx::parse(bytes) else {
        assert!(onnx::signature_of(bytes).is_err());
        return;
    };
    assert!(onnx::parse(&onnx::encode(&model)).is_ok());
    if let Ok(signature) = onnx::signature_of(bytes) {
        assert!(signature.inputs.iter().chain(&signature.outputs).all(|port| port.name.len() <= bytes.len()));
    }
}

const LITE_TOKENIZER: &[u8] = include_bytes!("../models/lite/tokenizer.json");
static LITE: LazyLock<Option<caption::Tokenizer>> =
    LazyLock::new(|| caption::Tokenizer::parse(LITE_TOKENIZER, &tokenizer_settings(8_000)).ok());

fn tokenizer_settings(vocab_size: usize) -> TokenizerSettings {
    TokenizerSettings {
        file: "tokenizer.json".to_owned(),
        bytes: 0,
        sha256: String::new(),
        bos: Some("<bos>".to_owned()),
        eos: "<eos>".to_owned(),
        pad: "<pad>".to_owned(),
        vocab_size,
        max_tokens: 48,
        padded: true,
    }
}

/// A text that the bundled tokenizer takes apart, when the first byte is even; else the file of another tokenizer.
pub fn tokenizer(bytes: &[u8]) {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    if first % 2 == 1 {
        let Ok(tokenizer) = caption::Tokenizer::parse(rest, &tokenizer_settings(8)) else { return };
        assert_eq!(tokenizer.encode_row("a dog").len(), 48);
        return;
    }
    let Some(tokenizer) = LITE.as_ref() else { panic!("the bundled tokenizer is refused") };
    let text = String::from_utf8_lossy(rest);
    let row = tokenizer.encode_row(&text);
    assert_eq!(row.len(), 48);
    assert!(row.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
    let tokens = tokenizer.encode(&text);
    assert!(tokens.iter().all(|id| *id != tokenizer.eos() && *id != tokenizer.pad()));
    drop(tokenizer.decode(&tokens));
}

/// A camera's buffer: format, color, size and bytes from line to line in the first twelve bytes.
pub fn pixels(bytes: &[u8]) {
    let Some((head, buffer)) = bytes.split_at_checked(12) else { return };
    let format = PixelFormat::ALL[usize::from(head[0]) % PixelFormat::ALL.len()];
    let color = Color::of_driver(format, head[1].into(), head[2].into(), head[3].into());
    let word = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    // Small pictures are as good as large ones, and many more of them can be tried.
    let (size, stride) = ((u32::from(word(4) % 600), u32::from(word(6) % 600)), u32::from(word(8) % 4_000));
    let Ok(layout) = Layout::new(format, size, stride, color) else { return };
    if format == PixelFormat::Mjpg {
        if photo::size(buffer).is_ok_and(|(w, h)| u64::from(w) * u64::from(h) <= PIXELS_MAX / 24) {
            drop(layout.decode(buffer));
        }
        return;
    }
    if let Ok(image) = layout.decode(buffer) {
        assert_eq!(image.dimensions(), size);
    }
}
