//! `caption`, `ask` and `label`: photos in, words out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use caption::{ImageView, Models, Question, Verdict};
use serde_json::{Value, json};

use super::models::load;
use super::output::{self, complain};
use super::{BundleArgs, Failure};
use crate::mqtt::payload::{milliseconds, rounded};
use crate::photo;

/// One sentence for each photo; a broken photo does not stop the others.
pub(super) fn caption(inputs: &[PathBuf], bundle: &BundleArgs, json: bool) -> Result<(), Failure> {
    let mut models = load(bundle)?.models;
    let mut failed = false;
    for input in inputs {
        let photos = if input.is_dir() {
            photo::list(input).map_err(anyhow::Error::from).and_then(|photos| {
                anyhow::ensure!(!photos.is_empty(), "no photo in {}", input.display());
                Ok(photos)
            })
        } else {
            Ok(vec![input.clone()])
        };
        match photos {
            Ok(photos) => {
                for path in photos {
                    let outcome = caption_one(&mut models, &path);
                    failed |= outcome.is_err();
                    print_caption(&path, outcome, json)?;
                }
            }
            Err(e) => {
                failed = true;
                print_caption(input, Err(e), json)?;
            }
        }
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

fn caption_one(models: &mut Models, path: &Path) -> anyhow::Result<Value> {
    let mut seen = see(models, path)?;
    let caption = seen.time("caption", |view| models.caption(view))?;
    Ok(json!({
        "image": path.to_string_lossy(),
        "caption": caption.text,
        "score": rounded(caption.score),
        "low_confidence": seen.doubtful,
        "latency_ms": seen.latency(),
    }))
}

fn print_caption(path: &Path, outcome: anyhow::Result<Value>, json: bool) -> anyhow::Result<()> {
    let image = path.to_string_lossy();
    let printed = match (outcome, json) {
        (Ok(found), true) => output::json(&found),
        (Ok(found), false) => {
            output::line(&format!("{image}  {}", found["caption"].as_str().unwrap_or_default()))
        }
        (Err(e), true) => output::json(&json!({ "image": image, "error": format!("{e:#}") })),
        (Err(e), false) => {
            complain(&format!("{image}: {e:#}"));
            Ok(())
        }
    };
    printed.context("write to stdout")
}

/// One answer about one photo.
pub(super) fn ask(path: &Path, question: Question, bundle: &BundleArgs, json: bool) -> Result<(), Failure> {
    let mut models = load(bundle)?.models;
    let mut seen = see(&mut models, path)?;
    let answer = seen.time("answer", |view| models.answer(view, &question))?;
    let unsure = answer.verdict == Verdict::Unsure;
    if json {
        let candidate = |(text, score): &(String, f32)| json!({ "answer": text, "score": rounded(*score) });
        output::json(&json!({
            "image": path.to_string_lossy(),
            "question": question.text,
            "answer": answer.text,
            "score": rounded(answer.score),
            "verdict": if unsure { "unsure" } else { "answered" },
            "candidates": answer.candidates.iter().map(candidate).collect::<Vec<_>>(),
            "latency_ms": seen.latency(),
        }))?;
    } else {
        output::line(&format!("{}{}", answer.text, if unsure { "  (unsure)" } else { "" }))?;
    }
    Ok(())
}

/// The labels, best first.
pub(super) fn label(path: &Path, labels: &[String], bundle: &BundleArgs, json: bool) -> Result<(), Failure> {
    let labels: Vec<String> = labels.iter().map(|label| label.trim().to_owned()).collect();
    let mut models = load(bundle)?.models;
    let mut seen = see(&mut models, path)?;
    let scores = seen.time("label", |view| models.label(view, &labels))?;
    if json {
        let score = |score: &caption::LabelScore| {
            json!({
                "label": score.label,
                "score": rounded(score.score),
                "cosine": rounded(score.cosine),
            })
        };
        output::json(&json!({
            "image": path.to_string_lossy(),
            "labels": scores.iter().map(score).collect::<Vec<_>>(),
            "latency_ms": seen.latency(),
        }))?;
    } else {
        for score in scores {
            output::line(&format!("{:5.1} %  {}", score.score * 100.0, score.label))?;
        }
    }
    Ok(())
}

/// An encoded photo and how long each stage took so far.
struct Seen {
    view: ImageView,
    doubtful: bool,
    stages: Vec<(&'static str, Duration)>,
}

impl Seen {
    fn time<T, E>(
        &mut self,
        stage: &'static str,
        work: impl FnOnce(&ImageView) -> Result<T, E>,
    ) -> Result<T, E> {
        let started = Instant::now();
        let outcome = work(&self.view);
        self.stages.push((stage, started.elapsed()));
        outcome
    }

    fn latency(&self) -> Value {
        let total: Duration = self.stages.iter().map(|(_, took)| *took).sum();
        let stages = self.stages.iter().copied().chain([("total", total)]);
        stages.map(|(stage, took)| (stage.to_owned(), json!(milliseconds(took)))).collect()
    }
}

fn see(models: &mut Models, path: &Path) -> anyhow::Result<Seen> {
    let bytes = photo::read(path)?;
    let started = Instant::now();
    let pixels = photo::decode(&bytes)?;
    let decoded = Instant::now();
    let input = models.preprocess(&pixels);
    let preprocessed = Instant::now();
    let view = models.encode(&input)?;
    let stages = vec![
        ("decode", decoded - started),
        ("preprocess", preprocessed - decoded),
        ("encode", preprocessed.elapsed()),
    ];
    Ok(Seen { view, doubtful: models.is_doubtful(&input), stages })
}
