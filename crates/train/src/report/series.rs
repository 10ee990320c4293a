//! Rows of the report: the runs of one recipe, one a seed, out of the saved evaluations.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use metrics::{Bootstrap, Estimate, Runs};

use super::saved::{Evaluation, Scores};
use super::tables::{count, score};
use crate::eval::Input;

/// One recipe, trained once a seed.
#[derive(Clone, Debug)]
pub struct Series<'a> {
    pub label: String,
    pub by_seed: BTreeMap<u64, &'a Evaluation>,
}

impl Series<'_> {
    /// Per-photo CIDEr-D of every run.
    pub fn runs(&self) -> Runs {
        self.by_seed.iter().map(|(seed, run)| (*seed, run.cider_d_per_photo.clone())).collect()
    }

    /// Mean over seeds.
    pub fn mean(&self, of: fn(&Scores) -> f64) -> f64 {
        self.by_seed.values().map(|run| of(&run.scores)).sum::<f64>() / self.by_seed.len().max(1) as f64
    }

    /// CIDEr-D with its interval over photos and seeds.
    pub fn cider_d(&self) -> Result<Estimate> {
        estimate(&[self], |mean| mean[0])
    }

    /// CIDEr-D of every run, in the order of the seeds.
    pub fn each(&self) -> String {
        let each: Vec<String> = self.by_seed.values().map(|run| score(run.scores.cider_d)).collect();
        each.join(", ")
    }
}

/// See [`metrics::estimate`]; the systems are the series, the images the photos.
pub fn estimate(series: &[&Series<'_>], statistic: impl Fn(&[f64]) -> f64) -> Result<Estimate> {
    let runs: Vec<Runs> = series.iter().map(|series| series.runs()).collect();
    let runs: Vec<&Runs> = runs.iter().collect();
    Ok(metrics::estimate(&runs, statistic, &Bootstrap::default())?)
}

/// The series of one group: those that `order` names first, in its order, then the others by their labels, numbers by
/// their size.
///
/// # Errors
/// When two runs share label and seed, or two runs were not measured on the same photos in the same way.
pub fn series<'a>(
    evaluations: &'a [Evaluation],
    group: &str,
    input: Input,
    order: &[&str],
) -> Result<Vec<Series<'a>>> {
    let mut by_label: BTreeMap<&str, BTreeMap<u64, &Evaluation>> = BTreeMap::new();
    let mut first: Option<&Evaluation> = None;
    for run in evaluations.iter().filter(|run| run.input == input) {
        for place in run.places.iter().filter(|place| place.group == group) {
            let known = by_label.entry(&place.label).or_default().insert(run.seed, run);
            ensure!(known.is_none(), "group {group}: two runs of {} have the seed {}", place.label, run.seed);
            let first = *first.get_or_insert(run);
            ensure!(
                first.photos_sha256 == run.photos_sha256
                    && first.document_frequency == run.document_frequency,
                "group {group}: {} (seed {}) was not measured on the photos of the first run, or otherwise",
                place.label,
                run.seed
            );
        }
    }
    let mut series: Vec<Series<'_>> =
        by_label.into_iter().map(|(label, by_seed)| Series { label: label.to_owned(), by_seed }).collect();
    let rank = |label: &str| order.iter().position(|known| *known == label).unwrap_or(order.len());
    series.sort_by_cached_key(|series| (rank(&series.label), natural(&series.label)));
    Ok(series)
}

/// The series with this label.
pub fn find<'s, 'a>(series: &'s [Series<'a>], label: &str) -> Option<&'s Series<'a>> {
    series.iter().find(|series| series.label == label)
}

/// Words and whole numbers of a label: `R = 5` comes before `R = 10`.
fn natural(label: &str) -> Vec<(String, u64)> {
    let mut parts = vec![(String::new(), 0u64)];
    let mut in_number = false;
    for c in label.chars() {
        match (c.to_digit(10), parts.last_mut()) {
            (Some(digit), Some(last)) => {
                last.1 = last.1.saturating_mul(10).saturating_add(u64::from(digit));
                in_number = true;
            }
            (None, Some(last)) if !in_number => last.0.push(c),
            _ => {
                parts.push((c.to_string(), 0));
                in_number = false;
            }
        }
    }
    parts
}

/// What every number of a table rests on, in one sentence.
pub fn setting(series: &[Series<'_>]) -> String {
    let Some(run) = series.iter().flat_map(|series| series.by_seed.values()).next() else {
        return String::new();
    };
    let n_seeds = || series.iter().map(|series| series.by_seed.len());
    let (fewest, most) = (n_seeds().min().unwrap_or(0), n_seeds().max().unwrap_or(0));
    let seeds = match (fewest, most) {
        (1, 1) => "one training seed; 95 % bootstrap intervals over photos".to_owned(),
        (a, b) if a == b => format!("{a} training seeds; 95 % bootstrap intervals over photos and seeds"),
        (a, b) => format!("{a} to {b} training seeds; 95 % bootstrap intervals over photos and seeds"),
    };
    format!(
        "{}, {} photos; document frequency {}; {seeds}.",
        split(run),
        count(run.n_photos),
        run.document_frequency
    )
}

/// The photos' data set and part.
pub fn split(run: &Evaluation) -> String {
    let source = match run.source.as_str() {
        "flickr8k" => "Flickr8k",
        "flickr30k" => "Flickr30k",
        "coco" => "COCO",
        other => other,
    };
    format!("{source} {}", run.split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_sort_by_the_size_of_their_numbers() {
        let mut labels = ["R = 10, once", "R = 5, twice", "R = 5, once", "R = 1"];
        labels.sort_by_key(|label| natural(label));
        assert_eq!(labels, ["R = 1", "R = 5, once", "R = 5, twice", "R = 10, once"]);
    }
}
