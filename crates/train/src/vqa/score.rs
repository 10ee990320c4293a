//! Accuracy by kind of question, with what it has to be compared with.

use std::collections::BTreeMap;

use anyhow::Result;
use caption::Reply;
use caption::bundle::VqaSettings;
use metrics::{Bootstrap, paired_within};

use super::Seen;
use super::items::{Item, plain};
use crate::report::saved::{Kind, rounded};

/// One kind's shares; a public set's answer that is partly right counts by its worth, and the Wilson interval takes
/// every question for one about a photo of its own. The difference is bootstrapped over photos.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Score {
    pub(crate) shares: Kind,
    /// The best constant answer.
    pub(crate) majority_answer: String,
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (of, percent) = (&self.shares, |share: f64| 100.0 * share);
        write!(
            f,
            "{:5.1} % of {} [{:.1}, {:.1}]; without the photo {:.1} %, difference {:+.1} [{:+.1}, {:+.1}]; always {:?} {:.1} %",
            percent(of.right),
            of.n,
            percent(of.low),
            percent(of.high),
            percent(of.blind),
            percent(of.delta),
            percent(of.delta_low),
            percent(of.delta_high),
            self.majority_answer,
            percent(of.majority)
        )
    }
}

/// The 95 % interval of a share of `n` (Wilson 1927).
pub(crate) fn wilson(share: f64, n: usize) -> (f64, f64) {
    const Z: f64 = 1.96;
    let n = n.max(1) as f64;
    let centre = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    (centre - half, centre + half)
}

/// What an answer is worth, 0 to 1.
pub(crate) fn worth(item: &Item, answer: &str) -> f64 {
    item.answers.get(&plain(answer)).map_or(0.0, |worth| f64::from(*worth))
}

fn worths<'s>(seen: &[&'s Seen], settings: &VqaSettings, reply: impl Fn(&'s Seen) -> &'s Reply) -> Vec<f64> {
    seen.iter().map(|seen| worth(&seen.item, &reply(seen).answer(settings).text)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

pub(crate) fn by_kind(seen: &[Seen], settings: &VqaSettings, seed: u64) -> Result<BTreeMap<String, Score>> {
    let mut kinds: BTreeMap<String, Vec<&Seen>> = BTreeMap::new();
    for seen in seen {
        kinds.entry(seen.item.kind.clone()).or_default().push(seen);
    }
    kinds.into_iter().map(|(kind, seen)| Ok((kind, score(&seen, settings, seed)?))).collect()
}

fn score(seen: &[&Seen], settings: &VqaSettings, seed: u64) -> Result<Score> {
    let right = worths(seen, settings, |seen| &seen.reply);
    let blind = worths(seen, settings, |seen| &seen.blind);
    let mut photos: BTreeMap<&std::path::Path, usize> = BTreeMap::new();
    let mut photo_of = Vec::with_capacity(seen.len());
    for seen in seen {
        let next = photos.len();
        photo_of.push(*photos.entry(seen.item.image.as_path()).or_insert(next));
    }
    let bootstrap = Bootstrap { seed, ..Bootstrap::default() };
    let compared = paired_within(&right, &blind, &photo_of, &bootstrap)?;
    let mut constant: BTreeMap<&str, f64> = BTreeMap::new();
    for (answer, worth) in seen.iter().flat_map(|seen| &seen.item.answers) {
        *constant.entry(answer).or_default() += f64::from(*worth);
    }
    let (answer, sum) =
        constant.iter().max_by(|a, b| a.1.total_cmp(b.1)).map_or(("", 0.0), |(a, s)| (*a, *s));
    let n = seen.len();
    let (low, high) = wilson(mean(&right), n);
    let shares = Kind {
        n,
        right: rounded(mean(&right)),
        low: rounded(low),
        high: rounded(high),
        blind: rounded(mean(&blind)),
        majority: rounded(sum / n as f64),
        delta: rounded(compared.difference),
        delta_low: rounded(compared.interval.low),
        delta_high: rounded(compared.interval.high),
    };
    Ok(Score { shares, majority_answer: answer.to_owned() })
}

/// The score of every answer that was chosen, and what the answer was worth.
pub(crate) fn confidences(seen: &[Seen], settings: &VqaSettings) -> Vec<(f64, f64)> {
    let ranked = seen.iter().filter(|seen| matches!(seen.reply, Reply::Ranked(_)));
    let of = |seen: &Seen| {
        let answer = seen.reply.answer(settings);
        (f64::from(answer.score), worth(&seen.item, &answer.text))
    };
    ranked.map(of).collect()
}
