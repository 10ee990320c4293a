//! What measurements leave behind: one JSON object a file, written by `eval`, `vqa`, `confidence` and `gap` with `--out`,
//! or a run's own `pseudo.json`.
//!
//! Scores alone. Captions, questions and photos stay where they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::eval::Input;
use crate::pseudo::Change;
use crate::retrieval::Retrieval;
use crate::training::write_atomically;

/// A file of the folder.
#[derive(Clone, Debug)]
pub enum Saved {
    Evaluation(Box<Evaluation>),
    Answers(Answers),
    Frames(Frames),
    Gap(Box<Gap>),
    Pseudo(Change),
}

/// One bundle's captions of one list of photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Name and hash.
    pub bundle: String,
    /// What the manifest says of the weights' origin.
    pub provenance: String,
    /// Where in the report the scores stand; may be empty.
    pub places: Vec<Place>,
    /// Of the training run.
    pub seed: u64,
    pub source: String,
    pub split: String,
    pub input: Input,
    pub n_photos: usize,
    /// Of photos, references and order: runs with different ones cannot be compared photo by photo.
    pub photos_sha256: String,
    pub document_frequency: String,
    pub scores: Scores,
    pub floors: Floors,
    /// None for text inputs.
    pub retrieval: Option<Retrieval>,
    pub command: String,
    pub wall_s: f64,
    /// In the order of the photos.
    pub cider_d_per_photo: Vec<f64>,
}

/// A row of a table of the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub group: String,
    pub label: String,
}

/// Raw: 1.0 is what papers print as 100.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    pub bleu_1: f64,
    pub bleu_4: f64,
    pub rouge_l: f64,
    pub cider_d: f64,
    /// 95 % interval over photos.
    pub cider_d_low: f64,
    pub cider_d_high: f64,
    /// Share of different captions, 0 to 1.
    pub distinct: f64,
    /// Mean length of a caption.
    pub length_words: f64,
}

/// What systems score that never look at the photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floors {
    pub constant: Scores,
    pub random: Scores,
}

/// One bundle's answers to one set of questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    pub bundle: String,
    /// Name of the set.
    pub set: String,
    /// By kind of question.
    pub kinds: BTreeMap<String, Kind>,
    /// How often answers of some confidence are right; may be empty.
    #[serde(default)]
    pub reliability: Vec<Bin>,
    #[serde(default)]
    pub command: String,
}

/// Shares are 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kind {
    pub n: usize,
    /// Share of right answers with its 95 % interval.
    pub right: f64,
    pub low: f64,
    pub high: f64,
    /// The same bundle without the photo.
    pub blind: f64,
    /// The most frequent answer for every question.
    pub majority: f64,
    /// `right - blind` with its 95 % interval, paired.
    pub delta: f64,
    pub delta_low: f64,
    pub delta_high: f64,
}

/// Answers of about one confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Mean, 0 to 1.
    pub confidence: f64,
    /// Share of right answers, 0 to 1.
    pub accuracy: f64,
    pub n: usize,
}

/// Which frames a bundle marks as doubtful.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frames {
    pub bundle: String,
    pub frames: Vec<FrameCount>,
    pub command: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameCount {
    /// What the frames show.
    pub what: String,
    pub n_doubtful: usize,
    pub n: usize,
}

/// What lies between a bundle's images and their captions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    pub bundle: String,
    pub n_photos: usize,
    pub n_captions: usize,
    pub difference: Difference,
    /// The image's one embedding first.
    pub nearness: Vec<Nearness>,
    pub command: String,
}

/// Of images less captions, unit rows both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Mean cosine of a photo and its captions, and of two captions of one photo.
    pub paired_cosine: f64,
    pub sibling_cosine: f64,
    /// Length of the images' mean, and of the captions'.
    pub mean_image: f64,
    pub mean_text: f64,
    /// Length of the differences' mean, and root mean square of their lengths.
    pub mean_norm: f64,
    pub rms_norm: f64,
    /// All coordinates of all differences as one sample; skewness and excess kurtosis of a Gaussian are 0.
    pub pooled_mean: f64,
    pub pooled_deviation: f64,
    pub skewness: f64,
    pub excess_kurtosis: f64,
    /// Middle of a bin in standard deviations, and the density there.
    pub histogram: Vec<[f64; 2]>,
    /// A coordinate's deviation over images by that over captions: 5th, 50th and 95th percentile of the coordinates.
    pub deviation_ratios: [f64; 3],
    /// Over how many directions the variance of what spreads (participation ratio).
    pub directions: Vec<(String, f64)>,
}

/// How near what stands for an image lies to its captions; cosines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nearness {
    pub what: String,
    /// Mean over rows, captions and photos, and the same with the captions of another photo.
    pub own: f64,
    pub other: f64,
    /// Of the row that is nearest to each caption.
    pub best_own: f64,
    pub best_other: f64,
    /// How much more `own - other` is than that of the image's one embedding, with its 95 % interval over photos.
    pub nearer: Option<[f64; 3]>,
    /// Recall at 1, 5 and 10 with the mean of the rows, in percent.
    pub text_to_image: [f64; 3],
}

/// A score as it is kept: six decimals, so that rounding it once more for a table does no harm.
pub fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// One photo's score as it is kept: there are a thousand in a file.
pub fn coarse(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Writes one key a line, so that changes of a saved result can be read.
///
/// # Errors
/// When `value` is no JSON object, or the file cannot be written.
pub fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let Value::Object(object) = serde_json::to_value(value)? else {
        bail!("write {}: a result is a JSON object", path.display());
    };
    let lines: Vec<String> = object.iter().map(|(key, value)| format!("  {key:?}: {value}")).collect();
    write_atomically(path, format!("{{\n{}\n}}\n", lines.join(",\n")).as_bytes())
}

/// Reads one result, told by its keys.
///
/// # Errors
/// When the file is absent, or no result of this version.
pub fn read(path: &Path) -> Result<Saved> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let parse = || -> Result<Saved> {
        let value: Value = serde_json::from_slice(&bytes)?;
        Ok(if value.get("cider_d_per_photo").is_some() {
            Saved::Evaluation(Box::new(checked(serde_json::from_value(value)?)?))
        } else if value.get("kinds").is_some() {
            Saved::Answers(shares(serde_json::from_value(value)?)?)
        } else if value.get("frames").is_some() {
            Saved::Frames(serde_json::from_value(value)?)
        } else if value.get("nearness").is_some() {
            Saved::Gap(Box::new(serde_json::from_value(value)?))
        } else if value.get("kept_cosine").is_some() {
            Saved::Pseudo(serde_json::from_value(value)?)
        } else {
            bail!("it has none of the keys cider_d_per_photo, kinds, frames, nearness, kept_cosine")
        })
    };
    parse().with_context(|| format!("parse result {}", path.display()))
}

fn checked(evaluation: Evaluation) -> Result<Evaluation> {
    let n = evaluation.cider_d_per_photo.len();
    ensure!(n == evaluation.n_photos, "{n} scores of {} photos", evaluation.n_photos);
    Ok(evaluation)
}

fn shares(answers: Answers) -> Result<Answers> {
    for (name, kind) in &answers.kinds {
        for share in [kind.right, kind.low, kind.high, kind.blind, kind.majority] {
            ensure!((0.0..=1.0).contains(&share), "{name}: shares are 0 to 1, not {share}");
        }
    }
    Ok(answers)
}

/// Every file beneath `dir` with this extension, in the order of their paths.
pub fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut pending = vec![dir.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
