//! Whether a score says how often the answer is right: a table, its error and a diagram (Guo et al. 2017).

use crate::plot::{self, Dot};
use crate::report::saved::{self, rounded};

const N_BINS: usize = 10;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bin {
    n: usize,
    score_sum: f64,
    right_sum: f64,
}

impl Bin {
    fn score(&self) -> f64 {
        self.score_sum / self.n.max(1) as f64
    }

    fn right(&self) -> f64 {
        self.right_sum / self.n.max(1) as f64
    }
}

/// Answers in ten bins of equal width by their score.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reliability {
    bins: [Bin; N_BINS],
}

impl Reliability {
    /// Of scores and worths, both 0 to 1.
    pub(crate) fn of(answers: &[(f64, f64)]) -> Reliability {
        let mut bins = [Bin::default(); N_BINS];
        for (score, right) in answers {
            let bin = &mut bins[((score * N_BINS as f64) as usize).min(N_BINS - 1)];
            bin.n += 1;
            bin.score_sum += score;
            bin.right_sum += right;
        }
        Reliability { bins }
    }

    /// Expected calibration error: the mean distance between score and share of right answers over the bins, weighted
    /// by their answers; 0 to 1, 0 without an answer.
    pub(crate) fn error(&self) -> f64 {
        let n: usize = self.bins.iter().map(|bin| bin.n).sum();
        let apart = |bin: &Bin| (bin.score() - bin.right()).abs() * bin.n as f64;
        self.bins.iter().map(apart).sum::<f64>() / n.max(1) as f64
    }

    /// The bins that have answers.
    pub(crate) fn bins(&self) -> Vec<saved::Bin> {
        let bin = |bin: &Bin| saved::Bin {
            confidence: rounded(bin.score()),
            accuracy: rounded(bin.right()),
            n: bin.n,
        };
        self.bins.iter().filter(|bin| bin.n > 0).map(bin).collect()
    }

    /// The reliability diagram, SVG.
    pub(crate) fn svg(&self, title: &str) -> String {
        let dot = |bin: saved::Bin| Dot { confidence: bin.confidence, accuracy: bin.accuracy, n: bin.n };
        plot::reliability(title, &self.bins().into_iter().map(dot).collect::<Vec<_>>())
    }
}

impl std::fmt::Display for Reliability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "  score        mean   right  answers")?;
        for (idx, bin) in self.bins.iter().enumerate().filter(|(_, bin)| bin.n > 0) {
            let from = idx as f64 / N_BINS as f64;
            let to = (idx + 1) as f64 / N_BINS as f64;
            write!(f, "\n  {from:.1} to {to:.1}   {:.3}  {:.3}  {}", bin.score(), bin.right(), bin.n)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_distance_between_score_and_share() {
        let honest = Reliability::of(&[(0.75, 1.0), (0.75, 1.0), (0.75, 1.0), (0.75, 0.0)]);
        assert!(honest.error() < 1e-12);
        let boastful = Reliability::of(&[(1.0, 0.0), (1.0, 1.0), (0.25, 0.0), (0.25, 0.0)]);
        assert!((boastful.error() - 0.375).abs() < 1e-12);
        assert_eq!(Reliability::of(&[]).error(), 0.0);
    }

    #[test]
    fn only_bins_with_answers_are_kept() {
        let bins = Reliability::of(&[(0.05, 0.0), (0.95, 1.0), (0.97, 0.0), (1.0, 1.0)]).bins();
        assert_eq!(bins.iter().map(|bin| bin.n).collect::<Vec<_>>(), [1, 3]);
    }
}
