//! Questions with their right answers, from the public sets and from `captiond-train questions`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use caption::Question;
use serde::Deserialize;

use crate::data::read_jsonl;
use crate::questions::QuestionRow;

/// A question about a photo.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Under which its answer is counted.
    pub(crate) kind: String,
    pub(crate) question: Question,
    /// Right answers as [`plain`] spells them, with their worth, 0 to 1.
    pub(crate) answers: BTreeMap<String, f32>,
    /// Path under the folder `images`.
    pub(crate) image: PathBuf,
}

impl From<QuestionRow> for Item {
    fn from(row: QuestionRow) -> Item {
        Item {
            kind: row.kind.name().to_owned(),
            question: Question { text: row.question, choices: row.choices, kind: None },
            answers: BTreeMap::from([(plain(&row.answer), 1.0)]),
            image: row.image,
        }
    }
}

/// Answers compare without case, articles and the marks around them, as in the VQA evaluation (Antol et al. 2015).
pub(crate) fn plain(answer: &str) -> String {
    let words = answer
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase());
    words
        .filter(|word| !word.is_empty() && !["a", "an", "the"].contains(&word.as_str()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The lines of a file of `captiond-train questions`.
pub(crate) fn of_questions(path: &Path) -> Result<Vec<Item>> {
    let rows: Vec<QuestionRow> = read_jsonl(path)?;
    ensure!(!rows.is_empty(), "{}: no question", path.display());
    Ok(rows.into_iter().map(Item::from).collect())
}

#[derive(Deserialize)]
struct Row {
    question: String,
    answers: BTreeMap<String, f32>,
    #[serde(default)]
    image: Option<PathBuf>,
}

/// The rows of a public set whose photo is there; of one kind, named as the set.
pub(crate) fn of_set(data: &Path, set: &str) -> Result<Vec<Item>> {
    let path = data.join("vqa").join(format!("{set}.jsonl"));
    let rows: Vec<Row> = read_jsonl(&path)?;
    let is_statements = set.starts_with("vsr");
    let choices = if is_statements { vec!["yes".to_owned(), "no".to_owned()] } else { Vec::new() };
    let item = |row: Row| {
        let image = row.image?;
        Some(Item {
            kind: set.to_owned(),
            question: Question { text: row.question, choices: choices.clone(), kind: None },
            answers: row.answers.into_iter().map(|(answer, worth)| (plain(&answer), worth)).collect(),
            image,
        })
    };
    let items: Vec<Item> =
        rows.into_iter().filter_map(item).filter(|item| !item.answers.is_empty()).collect();
    ensure!(!items.is_empty(), "{}: no row has a photo", path.display());
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_compare_without_case_articles_and_marks() {
        assert_eq!(plain(" The  red Car."), "red car");
        assert_eq!(plain("on the beach"), plain("on beach"));
        assert_ne!(plain("two"), plain("three"));
    }
}
