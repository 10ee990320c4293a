//! `captiond-train questions`: questions about photos, made from their captions by rules.
//!
//! All captions of a photo are read together: what one says and another denies is not asked. Rules, word lists and
//! no parser: a share of the questions is wrong or odd, the same share for every model that is measured with them.
//! Questions that no caption answers (why, who, what does it say) do not belong here.

mod ask;
mod balance;
mod caption;
mod deeds;
mod facts;
mod kinds;
mod lexicon;
mod scenes;
#[cfg(test)]
mod tests;
mod verbs;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::{self, Pair};
use crate::training::{step_rng, write_atomically};
use facts::Facts;
pub use scenes::Scenes;

#[derive(Clone, Debug, clap::Args)]
pub struct QuestionsArgs {
    /// Folder with `pairs.jsonl`
    #[arg(long)]
    pub data: PathBuf,
    /// Split of `pairs.jsonl`
    #[arg(long, default_value = "dev")]
    pub split: String,
    /// Photos of this source alone
    #[arg(long, default_value = "flickr8k")]
    pub source: String,
    /// File of JSON lines
    #[arg(long)]
    pub out: PathBuf,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Most questions of one kind
    #[arg(long, default_value_t = 700)]
    pub n_per_kind: usize,
    /// Ask about the first N photos alone
    #[arg(long)]
    pub limit: Option<usize>,
}

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    YesNo,
    Count,
    Color,
    Object,
    Place,
    Activity,
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::YesNo, Kind::Count, Kind::Color, Kind::Object, Kind::Place, Kind::Activity];

    /// As the files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::YesNo => "yes_no",
            Kind::Count => "count",
            Kind::Color => "color",
            Kind::Object => "object",
            Kind::Place => "place",
            Kind::Activity => "activity",
        }
    }
}

/// A question about one photo, as a prompt ("What color is the dog?") and its answer ("brown").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub kind: Kind,
    pub question: String,
    /// Lower case, without a full stop.
    pub answer: String,
    /// The answer and wrong ones of its kind in random order; empty for colours, whose choices are all colours.
    pub choices: Vec<String>,
    /// The thing, colour or deed that a yes or no is about.
    pub about: String,
}

/// One line of a file of questions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuestionRow {
    pub question_id: String,
    pub kind: Kind,
    pub question: String,
    pub answer: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// Path under the folder `images`.
    pub image: PathBuf,
}

/// A question about a photo that stands at `photo_idx` in a list.
#[derive(Clone, Debug)]
struct Asked {
    photo_idx: usize,
    question: Question,
    /// Place in the unshuffled list.
    order: usize,
}

/// Every question that the captions of one photo answer; neither balanced nor limited in number. Deterministic but
/// for the wrong answers, which are drawn from `scenes`.
pub fn of(captions: &[String], scenes: &Scenes, rng: &mut impl Rng) -> Vec<Question> {
    ask::all(&Facts::of(captions), scenes, rng)
}

/// Balanced questions about photos, of which `groups` holds the captions, at most `n_per_kind` of a kind; each with the
/// index of its photo.
pub fn of_groups(groups: &[&[String]], n_per_kind: usize, seed: u64) -> Vec<(usize, Question)> {
    let owned: Vec<Vec<String>> = groups.iter().map(|group| group.to_vec()).collect();
    let kept = balanced(groups, &Scenes::of(&owned), n_per_kind, seed);
    kept.into_iter().map(|asked| (asked.photo_idx, asked.question)).collect()
}

fn balanced(groups: &[&[String]], scenes: &Scenes, n_per_kind: usize, seed: u64) -> Vec<Asked> {
    let mut asked = Vec::new();
    for (photo_idx, captions) in groups.iter().enumerate() {
        let questions = of(captions, scenes, &mut step_rng(seed, photo_idx));
        asked.extend(questions.into_iter().map(|question| Asked { photo_idx, question, order: 0 }));
    }
    balance::balanced(asked, n_per_kind, &mut step_rng(seed, groups.len()))
}

/// The balanced questions of a split; the wrong answers come from the captions of the training split. One seed gives
/// the same questions on every machine.
pub fn rows(args: &QuestionsArgs) -> Result<Vec<QuestionRow>> {
    let of_source = |split: &str| -> Result<Vec<Pair>> {
        let mut pairs = data::pairs(&args.data, split)?;
        pairs.retain(|pair| pair.source == args.source);
        ensure!(!pairs.is_empty(), "no photo of the split {split} comes from {}", args.source);
        Ok(pairs)
    };
    let train: Vec<Vec<String>> = of_source("train")?.into_iter().map(|pair| pair.captions).collect();
    let mut pairs = of_source(&args.split)?;
    pairs.truncate(args.limit.unwrap_or(usize::MAX));
    let groups: Vec<&[String]> = pairs.iter().map(|pair| pair.captions.as_slice()).collect();
    let kept = balanced(&groups, &Scenes::of(&train), args.n_per_kind, args.seed);
    let row = |(idx, asked): (usize, Asked)| {
        let Question { kind, question, answer, choices, .. } = asked.question;
        let question_id = format!("{}-{}-{idx:05}", args.source, args.split);
        QuestionRow {
            question_id,
            kind,
            question,
            answer,
            choices,
            image: pairs[asked.photo_idx].image.clone(),
        }
    };
    Ok(kept.into_iter().enumerate().map(row).collect())
}

/// Answers of a kind with their numbers, most frequent first.
pub fn tally(rows: &[QuestionRow], kind: Kind) -> Vec<(&str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter().filter(|row| row.kind == kind).for_each(|row| *counts.entry(&row.answer).or_default() += 1);
    let mut tally: Vec<(&str, usize)> = counts.into_iter().collect();
    tally.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    tally
}

pub fn run(args: &QuestionsArgs) -> Result<()> {
    let rows = rows(args)?;
    let lines: Result<Vec<String>, serde_json::Error> = rows.iter().map(serde_json::to_string).collect();
    let file = lines?.join("\n") + "\n";
    write_atomically(&args.out, file.as_bytes())?;
    crate::report(&format!(
        "{} questions of {} {} (seed {})",
        rows.len(),
        args.source,
        args.split,
        args.seed
    ))?;
    for kind in Kind::ALL {
        let tally = tally(&rows, kind);
        let n: usize = tally.iter().map(|(_, n)| n).sum();
        let first: Vec<String> = tally.iter().take(8).map(|(answer, n)| format!("{answer} {n}")).collect();
        let answers = tally.len();
        crate::report(&format!("  {:8} {n:4}, {answers} answers: {}", kind.name(), first.join(", ")))?;
    }
    crate::report(&format!("  sha256 {:x}", Sha256::digest(&file)))
}
