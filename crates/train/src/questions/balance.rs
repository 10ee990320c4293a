//! Choosing among questions so that no answer can be guessed from its frequency alone.

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::SliceRandom;

use super::{Asked, Kind};

/// The largest share that one answer of a kind may have.
pub fn share_max(kind: Kind) -> f64 {
    match kind {
        Kind::YesNo => 0.5,
        Kind::Count => 0.5,
        Kind::Color => 0.2,
        Kind::Object | Kind::Place | Kind::Activity => 0.15,
    }
}

/// The largest share of the yes-or-no questions that ask about one thing.
const ABOUT_MAX: f64 = 0.03;

/// Questions that stay although only one answer to them is known.
const N_FOREGONE: usize = 3;

/// At most `n_max` questions of each kind, in the order of the photos.
///
/// Yes and no are equally frequent for every thing, colour and deed that is asked about, so that the question
/// alone says nothing. Of the other kinds no answer has more than [`share_max`].
pub fn balanced(mut asked: Vec<Asked>, n_max: usize, rng: &mut impl Rng) -> Vec<Asked> {
    for (idx, asked) in asked.iter_mut().enumerate() {
        asked.order = idx;
    }
    asked.shuffle(rng);
    let mut kept: Vec<Asked> = Vec::new();
    for kind in Kind::ALL {
        let of_kind: Vec<Asked> = asked.iter().filter(|asked| asked.question.kind == kind).cloned().collect();
        kept.extend(match kind {
            Kind::YesNo => pairs(of_kind, n_max, rng),
            Kind::Count => capped(of_kind, n_max, share_max(kind)),
            _ => capped(open_ended(of_kind), n_max, share_max(kind)),
        });
    }
    kept.sort_by_key(|asked| asked.order);
    kept
}

/// As many no as yes about each thing, none of which takes more than [`ABOUT_MAX`] of all.
fn pairs(asked: Vec<Asked>, n_max: usize, rng: &mut impl Rng) -> Vec<Asked> {
    let mut sides: BTreeMap<String, [Vec<Asked>; 2]> = BTreeMap::new();
    for asked in asked {
        let side = usize::from(asked.question.answer == "yes");
        sides.entry(asked.question.about.clone()).or_default()[side].push(asked);
    }
    let most = ((n_max / 2) as f64 * ABOUT_MAX).ceil() as usize;
    let paired = sides.into_values().flat_map(|[no, yes]| no.into_iter().zip(yes).take(most));
    let mut pairs: Vec<(Asked, Asked)> = paired.collect();
    pairs.shuffle(rng);
    pairs.into_iter().take(n_max / 2).flat_map(|(no, yes)| [no, yes]).collect()
}

/// Without the questions that have one answer nearly always ("What animal is there?" of photos of dogs): the commonest
/// answer to a question stays as often as all others together, and at least [`N_FOREGONE`] times.
fn open_ended(asked: Vec<Asked>) -> Vec<Asked> {
    let mut counts: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for Asked { question, .. } in &asked {
        let answers = counts.entry(question.question.clone()).or_default();
        *answers.entry(question.answer.clone()).or_default() += 1;
    }
    let mut taken: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut kept = asked;
    kept.retain(|Asked { question, .. }| {
        let answers = &counts[&question.question];
        let others = answers.values().sum::<usize>() - answers[&question.answer];
        let n_taken = taken.entry((question.question.clone(), question.answer.clone())).or_default();
        *n_taken += 1;
        *n_taken <= others.max(N_FOREGONE)
    });
    kept
}

/// The first of each answer, so many that none exceeds the share.
fn capped(asked: Vec<Asked>, n_max: usize, share: f64) -> Vec<Asked> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    asked.iter().for_each(|asked| *counts.entry(&asked.question.answer).or_default() += 1);
    let most_of = |n: usize| (share * n as f64).floor() as usize;
    let reached = |n: &usize| counts.values().map(|count| (*count).min(most_of(*n))).sum::<usize>() >= *n;
    let n = (1..=n_max.min(asked.len())).rev().find(reached).unwrap_or(0);
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept = Vec::new();
    for asked in asked {
        let n_taken = taken.entry(asked.question.answer.clone()).or_default();
        if *n_taken < most_of(n) && kept.len() < n {
            *n_taken += 1;
            kept.push(asked);
        }
    }
    kept
}
