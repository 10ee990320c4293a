//! Whether a score says how often the answer is right: a table, its error and a diagram (Guo et al. 2017).

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

    /// A picture of 360 by 360: a bar a bin, and the diagonal on which they would end.
    pub(crate) fn svg(&self) -> String {
        const SIDE: f64 = 300.0;
        const MARGIN: f64 = 40.0;
        let y = |share: f64| MARGIN / 2.0 + SIDE * (1.0 - share);
        let mut svg = String::from(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 360 360\" font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"360\" height=\"360\" fill=\"#fff\"/>\n",
        );
        let width = SIDE / N_BINS as f64;
        for (idx, bin) in self.bins.iter().enumerate().filter(|(_, bin)| bin.n > 0) {
            let (x, top) = (MARGIN + width * idx as f64, y(bin.right()));
            let height = SIDE * bin.right();
            svg += &format!(
                "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"#4a7ab5\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                width - 2.0,
                x + width / 2.0 - 1.0,
                top - 3.0,
                bin.n
            );
        }
        let (left, right, bottom, top) = (MARGIN, MARGIN + SIDE, y(0.0), y(1.0));
        svg += &format!(
            "<path d=\"M{left} {bottom}L{right} {top}\" stroke=\"#b33\" stroke-dasharray=\"4 3\" fill=\"none\"/>\n\
             <path d=\"M{left} {top}V{bottom}H{right}\" stroke=\"#333\" fill=\"none\"/>\n\
             <text x=\"{left}\" y=\"335\">0</text><text x=\"{right}\" y=\"335\" text-anchor=\"end\">1</text>\n\
             <text x=\"190\" y=\"350\" text-anchor=\"middle\">score</text>\n\
             <text x=\"14\" y=\"170\" transform=\"rotate(-90 14 170)\" text-anchor=\"middle\">right</text>\n</svg>\n"
        );
        svg
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
    fn the_diagram_has_a_bar_for_each_bin_with_answers() {
        let svg = Reliability::of(&[(0.05, 0.0), (0.95, 1.0)]).svg();
        assert_eq!(svg.matches("<text").count(), 2 + 4);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
