//! What each recipe is worth, and whether the recipes are in the order that their papers lead one to expect.

use anyhow::Result;
use metrics::{Estimate, Interval};

use super::saved::Scores;
use super::series::{Series, estimate, find, series, setting};
use super::tables::{percent, score, signed, signed_span, span, table, with_span};
use super::{Plots, Results};
use crate::eval::Input;
use crate::plot::{Axis, Bar, Mark, bars};

const GROUP: &str = "presets";
/// The one without any noise, the lower end of the gap.
pub(super) const TEXT: &str = "text";
/// The one that is trained on real pairs, the upper end.
pub(super) const ORACLE: &str = "oracle";
const ORDER: [&str; 14] = [
    TEXT,
    "capdec",
    "capdec at 0.7",
    "capdec at 0.7, re-ranked",
    "maccap",
    "maccap at 0.3",
    "decap",
    "viecap",
    "syntic",
    "captiond",
    "captiond, oracle's sentences",
    "captiond with memory, oracle's sentences",
    ORACLE,
    "oracle with noise",
];
/// The second is expected above the first.
const ORDERINGS: [(&str, &str); 6] = [
    (TEXT, "capdec"),
    (TEXT, "capdec at 0.7"),
    ("capdec", "maccap"),
    ("capdec at 0.7", "maccap at 0.3"),
    ("capdec at 0.7", "capdec at 0.7, re-ranked"),
    ("capdec", "syntic"),
];

pub(super) fn presets(results: &Results, plots: &mut Plots) -> Result<Option<String>> {
    let all = series(&results.evaluations, GROUP, Input::Image, &ORDER)?;
    if all.is_empty() {
        return Ok(None);
    }
    let plot = plots.add("presets", "CIDEr-D of the presets with their intervals and floors", plot(&all)?);
    let mut body = vec![setting(&all) + "\n", plot, scores_table(&all)?, orderings(&all)?];
    body.extend(bound(&all)?);
    Ok(Some(body.join("\n")))
}

fn scores_table(all: &[Series<'_>]) -> Result<String> {
    let mut rows = Vec::new();
    for series in all {
        let cider_d = series.cider_d()?;
        rows.push(vec![
            series.label.clone(),
            score(cider_d.value),
            span(cider_d.interval),
            series.each(),
            score(series.mean(|scores| scores.bleu_4)),
            score(series.mean(|scores| scores.rouge_l)),
            percent(series.mean(|scores| scores.distinct)),
            format!("{:.1}", series.mean(|scores| scores.length_words)),
            gap_closed(series, all)?,
            share_of_oracle(series, all)?,
        ]);
    }
    if let Some(run) = all.iter().flat_map(|series| series.by_seed.values()).next() {
        rows.push(floor("one constant sentence", &run.floors.constant));
        rows.push(floor("a random training caption", &run.floors.random));
    }
    let head = [
        "preset",
        "CIDEr-D",
        "interval",
        "by seed",
        "BLEU-4",
        "ROUGE-L",
        "distinct",
        "words",
        "gap closed",
        "of `oracle`",
    ];
    Ok(table(&head, &rows))
}

fn floor(name: &str, scores: &Scores) -> Vec<String> {
    vec![
        name.to_owned(),
        score(scores.cider_d),
        format!("{} to {}", score(scores.cider_d_low), score(scores.cider_d_high)),
        String::new(),
        score(scores.bleu_4),
        score(scores.rouge_l),
        percent(scores.distinct),
        format!("{:.1}", scores.length_words),
        String::new(),
        String::new(),
    ]
}

/// `(own - text) / (oracle - text)` with its interval; empty where one of the ends was not measured.
pub(super) fn gap_closed(own: &Series<'_>, all: &[Series<'_>]) -> Result<String> {
    let (Some(text), Some(oracle)) = (find(all, TEXT), find(all, ORACLE)) else { return Ok(String::new()) };
    if own.label == TEXT || own.label == ORACLE {
        return Ok(String::new());
    }
    let share = estimate(&[own, text, oracle], |mean| (mean[0] - mean[1]) / (mean[2] - mean[1]))?;
    Ok(share_with_span(&share))
}

/// `own / oracle` with its interval; empty where the oracle was not measured.
fn share_of_oracle(own: &Series<'_>, all: &[Series<'_>]) -> Result<String> {
    match find(all, ORACLE) {
        Some(oracle) if own.label != ORACLE => {
            Ok(share_with_span(&estimate(&[own, oracle], |mean| mean[0] / mean[1])?))
        }
        _ => Ok(String::new()),
    }
}

fn share_with_span(share: &Estimate) -> String {
    let Interval { low, high } = share.interval;
    if !(low.is_finite() && high.is_finite()) {
        return String::new();
    }
    format!("{} ({} to {})", percent(share.value), percent(low), percent(high))
}

fn orderings(all: &[Series<'_>]) -> Result<String> {
    let mut rows = Vec::new();
    for (below, above) in ORDERINGS {
        let claim = format!("{below} < {above}");
        rows.push(match (find(all, below), find(all, above)) {
            (Some(below), Some(above)) => {
                let difference = estimate(&[below, above], |mean| mean[1] - mean[0])?;
                vec![
                    claim,
                    signed(difference.value),
                    signed_span(difference.interval),
                    verdict(&difference).to_owned(),
                ]
            }
            _ => vec![claim, String::new(), String::new(), "not measured yet".to_owned()],
        });
    }
    Ok(table(&["expected", "difference in CIDEr-D", "interval", "verdict"], &rows))
}

/// What the interval of a difference that is expected to be positive says.
pub(super) fn verdict(difference: &Estimate) -> &'static str {
    if difference.interval.low > 0.0 {
        "confirmed"
    } else if difference.interval.high < 0.0 {
        "refuted"
    } else {
        "undecided"
    }
}

/// How near the best preset without real pairs comes to the best of those with them.
fn bound(all: &[Series<'_>]) -> Result<Option<String>> {
    let (mut series, others): (Vec<&Series<'_>>, Vec<&Series<'_>>) =
        all.iter().partition(|series| series.label.starts_with(ORACLE));
    let n_oracles = series.len();
    let mean = |series: &&&Series<'_>| series.mean(|scores| scores.cider_d);
    let best = |of: &[&Series<'_>]| {
        of.iter().max_by(|a, b| mean(a).total_cmp(&mean(b))).map(|best| best.label.clone())
    };
    let (Some(oracle), Some(preset)) = (best(&series), best(&others)) else { return Ok(None) };
    series.extend(others);
    let ratio = estimate(&series, |mean| {
        let (oracles, others) = mean.split_at(n_oracles);
        let best = |of: &[f64]| of.iter().copied().fold(f64::MIN, f64::max);
        best(others) / best(oracles)
    })?;
    Ok(Some(format!(
        "The best preset without real pairs, {preset}, reaches {} of the CIDEr-D of the best with them, {oracle}; the \
         interval chooses both anew in each resample.\n",
        with_span(&ratio)
    )))
}

fn plot(all: &[Series<'_>]) -> Result<String> {
    let mut tops = Vec::new();
    for series in all {
        let Estimate { value, interval: Interval { low, high } } = series.cider_d()?;
        tops.push(Bar { name: series.label.clone(), value, low, high });
    }
    let highest = tops.iter().map(|bar| bar.high).fold(0.1, f64::max);
    let y = Axis { label: "CIDEr-D (1.0 = 100)".to_owned(), min: 0.0, max: 1.1 * highest };
    let floor = all.iter().flat_map(|series| series.by_seed.values()).next();
    let floor =
        floor.map(|run| Mark { name: "one constant sentence".to_owned(), at: run.floors.constant.cider_d });
    Ok(bars("Presets: mean over seeds, 95 % interval over photos and seeds", &y, &tops, floor.as_ref()))
}
