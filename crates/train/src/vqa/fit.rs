//! Weights and temperatures that minimise the log-loss of the right answers (Guo et al. 2017 for the temperature).

use caption::bundle::{KindSettings, VqaSettings};
use caption::{AnswerKind, Ranking, Reply};

use super::Seen;
use super::score::worth;

/// First and last step of the search along each weight.
const STEP_FIRST: f32 = 1.0;
const STEP_LAST: f32 = 0.01;
/// Questions without which a kind keeps its settings.
const N_MIN: usize = 40;
/// Keeps the loss finite where a share rounds to 0.
const SHARE_MIN: f64 = 1e-6;

/// A ranking and the place of the right answer in it.
type Case<'s> = (&'s Ranking, usize);

/// Fits every kind that has enough questions: the weights on the photos of one half, the temperature on those of the
/// other, which the weights do not flatter.
pub(crate) fn fit(seen: &[Seen], shipped: &VqaSettings) -> VqaSettings {
    let mut settings = shipped.clone();
    for kind in AnswerKind::ALL {
        let halves = [0, 1].map(|half| cases(seen, kind, half));
        if halves.iter().any(|half| half.len() < N_MIN / 2) {
            continue;
        }
        weights(kind, &halves[0], &mut settings);
        temperature(kind, &halves[1], &mut settings);
    }
    settings
}

/// The questions of a kind about the photos of one half, whose right answer is among the candidates.
fn cases(seen: &[Seen], kind: AnswerKind, half: usize) -> Vec<Case<'_>> {
    let mut photo = 0;
    let mut last = None;
    let mut cases = Vec::new();
    for seen in seen {
        if last != Some(&seen.item.image) {
            (photo, last) = (photo + 1, Some(&seen.item.image));
        }
        let Reply::Ranked(ranking) = &seen.reply else { continue };
        let right = ranking.candidates.iter().position(|evidence| worth(&seen.item, &evidence.text) > 0.5);
        if let (true, Some(right)) = (ranking.kind == kind && photo % 2 == half, right) {
            cases.push((ranking, right));
        }
    }
    cases
}

/// Mean negative log-probability of the right answers.
fn loss(cases: &[Case<'_>], settings: &VqaSettings) -> f64 {
    let of = |(ranking, right): &Case<'_>| -f64::from(ranking.shares(settings)[*right]).max(SHARE_MIN).ln();
    cases.iter().map(of).sum::<f64>() / cases.len() as f64
}

/// The table of a kind, made from the common weights when it is not there.
fn table(settings: &mut VqaSettings, kind: AnswerKind) -> &mut KindSettings {
    let common = settings.of_kind(kind);
    let table = match kind {
        AnswerKind::YesNo => &mut settings.yes_no,
        AnswerKind::Color => &mut settings.color,
        AnswerKind::Number => &mut settings.number,
        AnswerKind::Choice => &mut settings.choice,
    };
    table.get_or_insert(common)
}

/// Adds to the weight at `axis`; the two that stand for evidence never fall below 0.
fn moved(settings: &VqaSettings, kind: AnswerKind, axis: usize, by: f32) -> VqaSettings {
    let mut moved = settings.clone();
    if axis == 3 {
        moved.yes_bias += by;
        return moved;
    }
    let table = table(&mut moved, kind);
    match axis {
        0 => table.decoder_weight = (table.decoder_weight + by).max(0.0),
        1 => table.similarity_weight = (table.similarity_weight + by).max(0.0),
        _ => table.prior_weight += by,
    }
    moved
}

/// Coordinate descent with halving steps; the loss is convex in the weights.
fn weights(kind: AnswerKind, cases: &[Case<'_>], settings: &mut VqaSettings) {
    table(settings, kind).temperature = 1.0;
    let n_axes = if kind == AnswerKind::YesNo { 4 } else { 3 };
    let (mut best, mut step) = (loss(cases, settings), STEP_FIRST);
    while step >= STEP_LAST {
        let mut better = false;
        for (axis, by) in (0..n_axes).flat_map(|axis| [(axis, step), (axis, -step)]) {
            let candidate = moved(settings, kind, axis, by);
            let reached = loss(cases, &candidate);
            if reached < best - 1e-7 {
                (*settings, best, better) = (candidate, reached, true);
            }
        }
        if !better {
            step /= 2.0;
        }
    }
}

fn temperature(kind: AnswerKind, cases: &[Case<'_>], settings: &mut VqaSettings) {
    let tried = (-20..=20).map(|power| 2.0f32.powf(power as f32 / 10.0));
    let with = |temperature: f32| {
        let mut settings = settings.clone();
        table(&mut settings, kind).temperature = temperature;
        loss(cases, &settings)
    };
    let best = tried.min_by(|a, b| with(*a).total_cmp(&with(*b)));
    table(settings, kind).temperature = best.unwrap_or(1.0);
}

#[cfg(test)]
mod tests {
    use caption::{Evidence, Question};

    use super::super::items::Item;
    use super::*;

    /// Two answers of which the decoder knows the right one in four of five cases, and the cosine knows nothing.
    fn seen(n: usize) -> Vec<Seen> {
        let case = |idx: usize| {
            let told = if idx.is_multiple_of(5) { -1.0 } else { 1.0 };
            let evidence = |text: &str, lift: f32, nearness: f32| Evidence {
                text: text.to_owned(),
                lift,
                prior: 0.0,
                nearness,
                biased: false,
            };
            let noise = if idx.is_multiple_of(2) { 3.0 } else { -3.0 };
            let candidates = vec![evidence("red", told, noise), evidence("blue", 0.0, 0.0)];
            let reply = Reply::Ranked(Ranking { kind: AnswerKind::Color, candidates });
            let item = Item {
                kind: "color".to_owned(),
                question: Question::default(),
                answers: [("red".to_owned(), 1.0)].into(),
                image: format!("{}.jpg", idx / 2).into(),
            };
            Seen { item, blind: reply.clone(), reply }
        };
        (0..n).map(case).collect()
    }

    #[test]
    fn what_knows_nothing_loses_its_weight_and_the_score_becomes_the_chance() {
        let shipped = VqaSettings { decoder_weight: 1.0, similarity_weight: 1.0, ..VqaSettings::default() };
        let seen = seen(400);
        let fitted = fit(&seen, &shipped);
        let color = fitted.of_kind(AnswerKind::Color);
        assert!(color.similarity_weight < 0.1 * color.decoder_weight, "{color:?}");
        let Reply::Ranked(ranking) = &seen[1].reply else { unreachable!("they are ranked") };
        assert!((ranking.shares(&fitted)[0] - 0.8).abs() < 0.05, "{:?}", ranking.shares(&fitted));
        assert_eq!(fitted.number, None, "no question of that kind");
        assert!(fit(&seen[..20], &shipped) == shipped, "too few questions");
    }
}
