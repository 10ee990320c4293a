//! The tables `[[camera.question]]`, `[[camera.label]]` and `[[camera.rule]]`, and the same as JSON over MQTT.

use std::time::Duration;

use caption::{AnswerKind, Question};

use super::reader::{self, Section};
use crate::standing::{
    Condition, Hours, LabelConfig, Occasion, QuestionConfig, RuleConfig, STANDING_MAX, StandingChange,
    StandingConfig,
};

/// Longest name of a standing question, a label or a rule.
const ID_MAX: usize = 32;
/// Longest text of one, in characters.
const TEXT_CHARS_MAX: usize = 200;
const TEXTS_MAX: usize = 32;
const DAY: Duration = Duration::from_secs(86_400);
/// Probability from which on a label is on: among 45 texts, so that a fifth is much; see `docs/benchmarks.md`.
pub(super) const LABEL_THRESHOLD: f32 = 0.2;
pub(super) const LABEL_DEVIATIONS: f32 = 2.0;
pub(super) const LABEL_HOLD: Duration = Duration::ZERO;
/// What a label stays on down to, as a share of its threshold.
pub(super) const RELEASE_SHARE: f32 = 0.7;

pub(super) fn standing(camera: &mut Section<'_>) -> StandingConfig {
    let config = StandingConfig {
        questions: camera.sections("question", question).into_iter().flatten().collect(),
        labels: camera.sections("label", label).into_iter().flatten().collect(),
        rules: camera.sections("rule", rule).into_iter().flatten().collect(),
    };
    unique(camera, "question", config.questions.iter().map(|question| &question.id));
    unique(camera, "label", config.labels.iter().map(|label| &label.id));
    unique(camera, "rule", config.rules.iter().map(|rule| &rule.id));
    for (i, rule) in config.rules.iter().enumerate() {
        for condition in &rule.all {
            let (kind, id, is_known) = match condition {
                Condition::Caption(_) => continue,
                Condition::Label { id, .. } => {
                    ("label", id, config.labels.iter().any(|label| label.id == *id))
                }
                Condition::Answer { question, .. } => {
                    ("question", question, config.questions.iter().any(|asked| asked.id == *question))
                }
            };
            if !is_known {
                camera.problem(&format!("rule[{i}]"), format!("there is no {kind} {id:?}"));
            }
        }
    }
    config
}

fn unique<'s>(camera: &Section<'_>, kind: &str, ids: impl Iterator<Item = &'s String>) {
    let ids: Vec<&String> = ids.collect();
    if ids.len() > STANDING_MAX {
        camera.problem(kind, format!("more than {STANDING_MAX}"));
    }
    for (i, id) in ids.iter().enumerate() {
        if ids[..i].contains(id) {
            camera.problem(&format!("{kind}[{i}].id"), format!("{id:?} is taken"));
        }
    }
}

/// What a message on `<base>/<camera>/<kind>/<id>/set` wishes: a JSON object with the keys of the configuration; nothing
/// takes the thing away. A question may be the bare text.
///
/// # Errors
/// What is wrong with it.
pub fn parse_change(kind: &str, id: &str, payload: &str) -> Result<StandingChange, String> {
    if !is_id(id) {
        return Err(format!("{id:?} is no name: lower-case letters, digits, - and _, at most {ID_MAX}"));
    }
    let text = payload.trim();
    let is_gone = text.is_empty();
    let table = if is_gone {
        toml::Table::new()
    } else if text.starts_with('{') {
        serde_json::from_str(text).map_err(|e| format!("is no JSON object: {e}"))?
    } else {
        let key = if kind == "label" { "text" } else { "question" };
        toml::Table::from_iter([(key.to_owned(), toml::Value::String(text.to_owned()))])
    };
    let mut table: toml::Table = table;
    table.insert("id".to_owned(), toml::Value::String(id.to_owned()));
    fn one<T>(
        is_gone: bool,
        table: toml::Table,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Result<Option<T>, String> {
        if is_gone { Ok(None) } else { reader::read(table, read).map(Some).map_err(|e| e.to_string()) }
    }
    let id = id.to_owned();
    match kind {
        "question" => Ok(StandingChange::Question(id, one(is_gone, table, question)?)),
        "label" => Ok(StandingChange::Label(id, one(is_gone, table, label)?)),
        "rule" => Ok(StandingChange::Rule(id, one(is_gone, table, rule)?)),
        other => Err(format!("{other:?} is neither question, label nor rule")),
    }
}

fn is_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    // `set` is where wishes go.
    (1..=ID_MAX).contains(&id.len()) && id.chars().all(allowed) && id != "set"
}

fn id(section: &mut Section<'_>) -> Option<String> {
    let id = section.required_string("id")?;
    if !is_id(&id) {
        let why = format!("must be lower-case letters, digits, - and _, at most {ID_MAX} (got {id:?})");
        section.problem("id", why);
    }
    Some(id)
}

fn is_text(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= TEXT_CHARS_MAX && !text.contains(char::is_control)
}

fn text(section: &mut Section<'_>, key: &str) -> Option<String> {
    let text = section.required_string(key)?;
    if !is_text(&text) {
        section.problem(key, format!("must be one line of 1 to {TEXT_CHARS_MAX} characters"));
    }
    Some(text)
}

fn texts(section: &mut Section<'_>, key: &str) -> Vec<String> {
    let texts = section.strings(key).unwrap_or_default();
    if texts.len() > TEXTS_MAX || !texts.iter().all(|text| is_text(text)) {
        section
            .problem(key, format!("must be at most {TEXTS_MAX} lines of 1 to {TEXT_CHARS_MAX} characters"));
    }
    texts
}

fn question(section: &mut Section<'_>) -> Option<QuestionConfig> {
    let (id, asked) = (id(section), text(section, "question"));
    let choices = texts(section, "choices");
    let kind = section.word("type", &ANSWER_KINDS).and_then(answer_kind);
    if kind == Some(AnswerKind::Choice) && choices.is_empty() {
        section.problem("choices", "are needed for one_of");
    }
    let every = section.duration("every", Duration::from_secs(1)..=DAY);
    let occasion = every.map_or(Occasion::Change, Occasion::Every);
    Some(QuestionConfig { id: id?, question: Question { text: asked?, choices, kind }, occasion })
}

const ANSWER_KINDS: [&str; 4] = ["yes_no", "number", "color", "one_of"];

/// The kind of answer of a word such as `yes_no`.
pub fn answer_kind(word: &str) -> Option<AnswerKind> {
    match word {
        "yes_no" => Some(AnswerKind::YesNo),
        "number" => Some(AnswerKind::Number),
        "color" => Some(AnswerKind::Color),
        "one_of" => Some(AnswerKind::Choice),
        _ => None,
    }
}

fn label(section: &mut Section<'_>) -> Option<LabelConfig> {
    let (id, text, against) = (id(section), text(section, "text"), texts(section, "against"));
    let threshold = section.number("threshold", 0.01..=0.99).unwrap_or(LABEL_THRESHOLD);
    let release = section.number("release", 0.0..=0.99).unwrap_or(RELEASE_SHARE * threshold);
    if release > threshold {
        section.problem("release", "must not be above the threshold");
    }
    let deviations = section.number("deviations", 0.0..=20.0).unwrap_or(LABEL_DEVIATIONS);
    let hold = section.duration("for", Duration::ZERO..=DAY).unwrap_or(LABEL_HOLD);
    Some(LabelConfig { id: id?, text: text?, against, threshold, release, deviations, hold })
}

fn rule(section: &mut Section<'_>) -> Option<RuleConfig> {
    let id = id(section);
    let mut all = Vec::new();
    let words = texts(section, "caption");
    if !words.is_empty() {
        all.push(Condition::Caption(words));
    }
    for (key, is_on) in [("label", true), ("no_label", false)] {
        let labels = texts(section, key);
        all.extend(labels.into_iter().map(|id| Condition::Label { id, is_on }));
    }
    for answered in texts(section, "answer") {
        match answered.split_once('=') {
            Some((question, answer)) => all.push(Condition::Answer {
                question: question.trim().to_owned(),
                answer: answer.trim().to_owned(),
            }),
            None => section.problem("answer", format!("must be \"question=answer\" (got {answered:?})")),
        }
    }
    if all.is_empty() {
        section.problem("caption", "or label, no_label or answer is needed");
    }
    let hold = section.duration("for", Duration::ZERO..=DAY).unwrap_or_default();
    let cooldown = section.duration("cooldown", Duration::ZERO..=DAY).unwrap_or_default();
    let hours = section.string("hours").and_then(|text| {
        let hours = hours(&text);
        if hours.is_none() {
            section.problem("hours", format!("must be like \"22:00-06:30\" (got {text:?})"));
        }
        hours
    });
    Some(RuleConfig { id: id?, all, hold, cooldown, hours })
}

fn hours(text: &str) -> Option<Hours> {
    let minute = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(60 * hour + minute)
    };
    let (from, until) = text.split_once('-')?;
    Some(Hours { from: minute(from)?, until: minute(until)? })
}
