//! `captiond-train vqa`: accuracy of a bundle's answers beside what a constant answer reaches.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use caption::{Bundle, Question, Verdict};
use serde::Deserialize;

use crate::data::{read_jsonl, read_photo};
use crate::graph;

#[derive(Clone, Debug, clap::Args)]
pub struct VqaArgs {
    #[arg(long)]
    pub bundle: PathBuf,
    /// Folder with `vqa` and `images`
    #[arg(long)]
    pub data: PathBuf,
    /// File under `vqa`, without `.jsonl`
    #[arg(long, default_value = "vsr_dev")]
    pub set: String,
}

#[derive(Deserialize)]
struct Row {
    question: String,
    answers: BTreeMap<String, f32>,
    #[serde(default)]
    image: Option<PathBuf>,
}

/// A share of `n` with its 95 % interval (Wilson 1927).
struct Share {
    hits: usize,
    n: usize,
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const Z: f64 = 1.96;
        let n = self.n.max(1) as f64;
        let p = self.hits as f64 / n;
        let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        write!(
            f,
            "{:.1} % of {} [{:.1}, {:.1}]",
            100.0 * p,
            self.n,
            100.0 * (centre - half),
            100.0 * (centre + half)
        )
    }
}

pub fn run(args: &VqaArgs) -> Result<()> {
    let path = args.data.join("vqa").join(format!("{}.jsonl", args.set));
    let rows: Vec<Row> = read_jsonl(&path)?;
    let rows: Vec<&Row> = rows.iter().filter(|row| row.image.is_some() && !row.answers.is_empty()).collect();
    ensure!(!rows.is_empty(), "{}: no row has a photo", path.display());
    let choices: Vec<String> =
        if args.set.starts_with("vsr") { vec!["yes".to_owned(), "no".to_owned()] } else { Vec::new() };
    let bundle = Bundle::open(&args.bundle)?;
    let mut models = graph::models(&bundle)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut hits, mut unsure) = (0, 0);
    for row in &rows {
        let best =
            row.answers.iter().max_by(|a, b| a.1.total_cmp(b.1)).map_or("", |(answer, _)| answer.as_str());
        *counts.entry(best).or_default() += 1;
        let Some(image) = &row.image else { continue };
        let photo = read_photo(&args.data.join("images").join(image))?;
        let view = models.encode(&models.preprocess(&photo))?;
        let question = Question { text: row.question.clone(), choices: choices.clone() };
        let answer = models.answer(&view, &question)?;
        hits += usize::from(row.answers.contains_key(&answer.text));
        unsure += usize::from(answer.verdict == Verdict::Unsure);
    }
    let n = rows.len();
    let (majority, majority_hits) =
        counts.iter().max_by_key(|(_, count)| **count).map_or(("", 0), |(answer, count)| (*answer, *count));
    crate::report(&format!("{}: answers of {}", args.set, bundle.id()))?;
    crate::report(&format!("  right     {}", Share { hits, n }))?;
    crate::report(&format!("  majority  {} (always {majority:?})", Share { hits: majority_hits, n }))?;
    crate::report(&format!("  unsure    {unsure} of {n}"))
}
