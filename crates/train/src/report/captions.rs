//! The captions and the retrieval of the bundles that ship.

use anyhow::Result;

use super::saved::{Evaluation, Scores};
use super::tables::{count, percent, score, table};
use super::{Plots, Results, series};
use crate::eval::Input;

const GROUP: &str = "bundle";

/// Every run of the group, with its name.
fn shipped(results: &Results) -> Result<Vec<(String, &Evaluation)>> {
    let all = series::series(&results.evaluations, GROUP, Input::Image, &[])?;
    let mut runs = Vec::new();
    for series in all {
        runs.extend(series.by_seed.into_values().map(|run| (series.label.clone(), run)));
    }
    Ok(runs)
}

pub(super) fn captions(results: &Results, _plots: &mut Plots) -> Result<Option<String>> {
    let runs = shipped(results)?;
    let Some((_, first)) = runs.first() else { return Ok(None) };
    let mut rows: Vec<Vec<String>> =
        runs.iter().map(|(label, run)| row(&format!("`{label}`"), &run.scores)).collect();
    rows.push(row("one constant sentence", &first.floors.constant));
    rows.push(row("a random training caption", &first.floors.random));
    let commands: Vec<String> = runs.iter().map(|(_, run)| format!("`{}`", run.command)).collect();
    let head = ["system", "BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D", "interval", "distinct", "words"];
    Ok(Some(format!(
        "{}, {} photos; document frequency {}; 95 % bootstrap interval over photos.\nThe bundle is {}.\n{}:\n\n{}",
        series::split(first),
        count(first.n_photos),
        first.document_frequency,
        first.bundle,
        commands.join("\n"),
        table(&head, &rows)
    )))
}

fn row(name: &str, scores: &Scores) -> Vec<String> {
    vec![
        name.to_owned(),
        score(scores.bleu_1),
        score(scores.bleu_4),
        score(scores.rouge_l),
        score(scores.cider_d),
        format!("{} to {}", score(scores.cider_d_low), score(scores.cider_d_high)),
        percent(scores.distinct),
        format!("{:.1}", scores.length_words),
    ]
}

pub(super) fn retrieval(results: &Results, _plots: &mut Plots) -> Result<Option<String>> {
    let shares = |[one, five, ten]: [f64; 3]| format!("{one:.1} / {five:.1} / {ten:.1} %");
    let mut rows = Vec::new();
    for (label, run) in shipped(results)? {
        if let Some(retrieval) = &run.retrieval {
            rows.push(vec![
                format!("`{label}`"),
                shares(retrieval.text_to_image),
                shares(retrieval.image_to_text),
                format!("{:.3}", retrieval.paired_cosine),
                count(retrieval.n_images),
                count(retrieval.n_texts),
            ]);
        }
    }
    let head = [
        "encoders of",
        "text to image R@1/5/10",
        "image to text R@1/5/10",
        "cosine of a photo and its captions",
        "photos",
        "captions",
    ];
    Ok((!rows.is_empty()).then(|| table(&head, &rows)))
}
