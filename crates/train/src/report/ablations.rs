//! One part of a recipe taken at several values: regions, samples to choose among, stages of synthetic pairs, memories.

use anyhow::Result;

use super::presets::gap_closed;
use super::series::{estimate, series, setting};
use super::tables::{percent, score, signed_with_span, span, table};
use super::{Plots, Results};
use crate::eval::Input;

/// From sentences alone to real pairs; a `+` goes on from the row above.
const LADDER: [&str; 7] = ["text", "text and noise", "synthetic", "+ pseudo", "+ memory", "+ tags", "oracle"];

pub(super) fn regions(results: &Results, _plots: &mut Plots) -> Result<Option<String>> {
    body(results, "regions", "regions", &[])
}

pub(super) fn rerank(results: &Results, _plots: &mut Plots) -> Result<Option<String>> {
    body(results, "rerank", "candidates", &[])
}

pub(super) fn synthetic(results: &Results, _plots: &mut Plots) -> Result<Option<String>> {
    let Some(table) = body(results, "synthetic", "trained on", &LADDER)? else { return Ok(None) };
    // Whether the pseudo-features still are the images', or have become the captions themselves.
    let changes = results.pseudo.iter().map(|change| format!("\n{change}.\n"));
    Ok(Some(table + &changes.collect::<String>()))
}

pub(super) fn cross_domain(results: &Results, _plots: &mut Plots) -> Result<Option<String>> {
    body(results, "cross-domain", "text and memory", &[])
}

/// One row a label, each compared with the first.
fn body(results: &Results, group: &str, what: &str, order: &[&str]) -> Result<Option<String>> {
    let all = series(&results.evaluations, group, Input::Image, order)?;
    let Some(first) = all.first() else { return Ok(None) };
    let with_gap = order.contains(&"oracle");
    let mut rows = Vec::new();
    for (place, series) in all.iter().enumerate() {
        let cider_d = series.cider_d()?;
        let gain = match place {
            0 => String::new(),
            _ => signed_with_span(&estimate(&[first, series], |mean| mean[1] - mean[0])?),
        };
        let mut row = vec![
            series.label.clone(),
            score(cider_d.value),
            span(cider_d.interval),
            series.each(),
            gain,
            score(series.mean(|scores| scores.bleu_4)),
            percent(series.mean(|scores| scores.distinct)),
        ];
        if with_gap {
            row.push(gap_closed(series, &all)?);
        }
        rows.push(row);
    }
    let mut head = vec![what, "CIDEr-D", "interval", "by seed", "above the first row", "BLEU-4", "distinct"];
    if with_gap {
        head.push("gap closed");
    }
    Ok(Some(format!("{}\n\n{}", setting(&all), table(&head, &rows))))
}
