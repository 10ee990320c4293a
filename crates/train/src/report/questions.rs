//! Answers to questions, and frames that show nothing.

use anyhow::Result;

use super::saved::{Answers, Kind};
use super::tables::{count, signed, table};
use super::{Plots, Results};
use crate::plot::{Dot, reliability};

pub(super) fn answers(results: &Results, plots: &mut Plots) -> Result<Option<String>> {
    let mut all: Vec<&Answers> = results.answers.iter().collect();
    all.sort_by(|a, b| (&a.set, &a.bundle).cmp(&(&b.set, &b.bundle)));
    let parts: Vec<String> = all.into_iter().map(|answers| set(answers, plots)).collect();
    Ok((!parts.is_empty()).then(|| parts.join("\n")))
}

fn set(answers: &Answers, plots: &mut Plots) -> String {
    let Answers { bundle, set, kinds, reliability: bins, command } = answers;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let row = |(kind, of): (&String, &Kind)| {
        vec![
            kind.clone(),
            count(of.n),
            percent(of.right),
            format!("{:.1} to {:.1}", 100.0 * of.low, 100.0 * of.high),
            percent(of.blind),
            percent(of.majority),
            signed(of.delta),
            format!("{} to {}", signed(of.delta_low), signed(of.delta_high)),
        ]
    };
    let rows: Vec<Vec<String>> = kinds.iter().map(row).collect();
    let head =
        ["kind", "n", "right", "interval", "without the photo", "most frequent answer", "gain", "interval"];
    let mut text = format!("`{bundle}` on {set}");
    if !command.is_empty() {
        text += &format!(", `{command}`");
    }
    text += &format!(":\n\n{}", table(&head, &rows));
    if !bins.is_empty() {
        let dot =
            |bin: &super::saved::Bin| Dot { confidence: bin.confidence, accuracy: bin.accuracy, n: bin.n };
        let dots: Vec<Dot> = bins.iter().map(dot).collect();
        let svg = reliability(&format!("{bundle} on {set}: are confident answers right?"), &dots);
        let name: String = set.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let what = format!("share of right answers by confidence on {set}");
        text += &format!("\n{}", plots.add(&format!("reliability-{name}"), &what, svg));
    }
    text
}

pub(super) fn frames(results: &Results, _plots: &mut Plots) -> Result<Option<String>> {
    let parts: Vec<String> = results
        .frames
        .iter()
        .map(|frames| {
            let rows: Vec<Vec<String>> = frames
                .frames
                .iter()
                .map(|of| vec![of.what.clone(), format!("{} of {}", count(of.n_doubtful), count(of.n))])
                .collect();
            format!("`{}`, `{}`:\n\n{}", frames.bundle, frames.command, table(&["frames", "marked"], &rows))
        })
        .collect();
    Ok((!parts.is_empty()).then(|| parts.join("\n")))
}
