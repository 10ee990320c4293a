//! What `eval --out` writes: the scores of one evaluation, without a word of the captions, which may be near copies of
//! sentences that cannot be distributed.

use std::path::{Component, Path};

use anyhow::{Context, Result};
use metrics::{Example, Row};
use sha2::{Digest, Sha256};

use super::{EvalArgs, Measured, Photos};
use crate::report::saved::{self, Evaluation, Floors, Place, Scores, coarse, rounded};
use crate::retrieval::Retrieval;

/// Everything that a report needs of one evaluation.
pub(super) fn write(
    path: &Path,
    args: &EvalArgs,
    measured: &Measured<'_>,
    systems: &[(&str, &[Example])],
) -> Result<()> {
    let Measured { bundle, photos, report, retrieval, started_at } = measured;
    let mut scores = systems.iter().zip(&report.rows).map(|((_, examples), row)| scores(examples, row));
    let mut next = || scores.next().context("save an evaluation: a system has no scores");
    let evaluation = Evaluation {
        bundle: bundle.id().to_owned(),
        provenance: bundle.manifest().provenance.clone(),
        places: places(args),
        seed: seed(args, &bundle.manifest().provenance)?,
        source: args.source.clone(),
        split: args.split.clone(),
        input: args.input,
        n_photos: photos.pairs.len(),
        photos_sha256: fingerprint(photos)?,
        document_frequency: match &report.frozen {
            None => "of the references scored".to_owned(),
            Some((name, n)) => format!("frozen from {name} ({n} images)"),
        },
        scores: next()?,
        floors: Floors { constant: next()?, random: next()? },
        retrieval: retrieval.map(Retrieval::rounded),
        command: command(std::env::args()),
        wall_s: started_at.elapsed().as_secs_f64().round(),
        cider_d_per_photo: report.rows[0].per_image.iter().map(|value| coarse(*value)).collect(),
    };
    saved::write(path, &evaluation)
}

fn places(args: &EvalArgs) -> Vec<Place> {
    let place = |(group, label): (&String, &String)| Place { group: group.clone(), label: label.clone() };
    args.group.iter().zip(&args.label).map(place).collect()
}

fn scores(examples: &[Example], row: &Row) -> Scores {
    let n_words: usize = examples.iter().map(|example| example.candidate.split_whitespace().count()).sum();
    let metrics::Scores { bleu, rouge_l, cider_d } = row.scores;
    Scores {
        bleu_1: rounded(bleu[0]),
        bleu_4: rounded(bleu[3]),
        rouge_l: rounded(rouge_l),
        cider_d: rounded(cider_d),
        cider_d_low: rounded(row.interval.low),
        cider_d_high: rounded(row.interval.high),
        distinct: rounded(row.distinct),
        length_words: rounded(n_words as f64 / examples.len().max(1) as f64),
    }
}

/// The seed of the training run: as given, or the last one that the bundle's provenance names.
fn seed(args: &EvalArgs, provenance: &str) -> Result<u64> {
    let named = || {
        let (_, rest) = provenance.rsplit_once("seed ")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    args.seed_of_run.or_else(named).with_context(|| {
        format!("{}: its provenance names no seed: give --seed-of-run", args.bundle.display())
    })
}

/// Runs are compared photo by photo, so each says which photos, references and order it had.
fn fingerprint(photos: &Photos) -> Result<String> {
    let all: Vec<_> = photos.pairs.iter().map(|pair| (&pair.image, &pair.captions)).collect();
    Ok(Sha256::digest(serde_json::to_vec(&all)?).iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

/// The command as it can be repeated elsewhere: where a folder lay on this machine is nobody's concern.
pub(crate) fn command(args: impl Iterator<Item = String>) -> String {
    let short = |arg: String| match Path::new(&arg) {
        path if path.is_absolute() => match path.components().next_back() {
            Some(Component::Normal(name)) => name.to_string_lossy().into_owned(),
            _ => arg,
        },
        _ if arg.contains(' ') => format!("'{arg}'"),
        _ => arg,
    };
    let args: Vec<String> = args.skip(1).map(short).collect();
    format!("captiond-train {}", args.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_saved_command_names_no_folder_of_the_machine() {
        let args =
            ["/usr/bin/x", "eval", "--bundle", "models/lite", "--views", "/var/views", "--label", "a b"];
        assert_eq!(
            command(args.map(str::to_owned).into_iter()),
            "captiond-train eval --bundle models/lite --views views --label 'a b'"
        );
    }
}
