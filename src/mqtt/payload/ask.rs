//! Questions as they come in: anybody may send anything, so everything is bounded.

use std::time::Duration;

use caption::{AnswerKind, Question};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ASK_BYTES_MAX, CHOICE_CHARS_MAX, CHOICES_MAX, QUESTION_CHARS_MAX, TRANSACTION_BYTES_MAX,
    TransactionPayload,
};
use crate::config::answer_kind;
use crate::message::{AskError, Transaction};

/// A question as it comes in. Keys that are not known are ignored, so that askers can be newer.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct AskPayload {
    question: String,
    #[serde(default)]
    choices: Vec<String>,
    /// The kind of answer that is wanted.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// From its arrival on.
    deadline_ms: Option<u64>,
    transaction: Option<TransactionPayload>,
}

/// A question that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub question: Question,
    pub transaction: Option<Transaction>,
    /// From its arrival on, no answer is wanted after this time.
    pub patience: Option<Duration>,
}

/// Reads a question: JSON, or the plain text of one.
///
/// # Errors
/// The transaction, where it could be read, and what is wrong.
pub fn parse_ask(payload: &[u8]) -> Result<Asked, (Option<Transaction>, AskError)> {
    let refuse = |transaction, why: String| Err((transaction, AskError::Request(why)));
    if payload.len() > ASK_BYTES_MAX {
        return refuse(None, format!("the request has more than {ASK_BYTES_MAX} bytes"));
    }
    let Ok(text) = std::str::from_utf8(payload) else {
        return refuse(None, "the request is not UTF-8".to_owned());
    };
    let ask = if text.trim_start().starts_with('{') {
        match serde_json::from_str(text) {
            Ok(ask) => ask,
            Err(e) => return refuse(transaction_of(payload), format!("the request is not a question: {e}")),
        }
    } else {
        AskPayload {
            question: text.to_owned(),
            choices: Vec::new(),
            kind: None,
            deadline_ms: None,
            transaction: None,
        }
    };
    let transaction = match ask.transaction {
        Some(TransactionPayload::Text(text)) if text.len() > TRANSACTION_BYTES_MAX => {
            return refuse(None, format!("the transaction has more than {TRANSACTION_BYTES_MAX} bytes"));
        }
        Some(TransactionPayload::Text(text)) => Some(Transaction::Text(text)),
        Some(TransactionPayload::Number(number)) => Some(Transaction::Number(number)),
        None => None,
    };
    let text = ask.question.trim().to_owned();
    if text.is_empty() {
        return refuse(transaction, "the question is empty".to_owned());
    }
    if text.chars().count() > QUESTION_CHARS_MAX {
        return refuse(transaction, format!("the question has more than {QUESTION_CHARS_MAX} characters"));
    }
    if ask.choices.len() > CHOICES_MAX {
        return refuse(transaction, format!("there are more than {CHOICES_MAX} choices"));
    }
    if ask.choices.iter().any(|c| c.trim().is_empty() || c.chars().count() > CHOICE_CHARS_MAX) {
        return refuse(
            transaction,
            format!("a choice is empty or has more than {CHOICE_CHARS_MAX} characters"),
        );
    }
    let kind = match ask.kind.as_deref() {
        None => None,
        Some(word) => match answer_kind(word) {
            Some(kind) => Some(kind),
            None => return refuse(transaction, "the type is not yes_no, number, color or one_of".to_owned()),
        },
    };
    if kind == Some(AnswerKind::Choice) && ask.choices.is_empty() {
        return refuse(transaction, "one_of needs choices".to_owned());
    }
    let question = Question { text, choices: ask.choices, kind };
    Ok(Asked { question, transaction, patience: ask.deadline_ms.map(Duration::from_millis) })
}

/// The transaction of a request that is wrong otherwise, so that its asker hears of it.
pub(super) fn transaction_of(request: &[u8]) -> Option<Transaction> {
    if request.len() > ASK_BYTES_MAX {
        return None;
    }
    match serde_json::from_slice::<serde_json::Value>(request).ok()?.get("transaction")? {
        serde_json::Value::String(text) if text.len() <= TRANSACTION_BYTES_MAX => {
            Some(Transaction::Text(text.clone()))
        }
        value => value.as_i64().map(Transaction::Number),
    }
}
