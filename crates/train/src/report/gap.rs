//! What lies between images and captions: whether it is noise of mean zero, and whether sub-regions are nearer.

use std::fmt;

use anyhow::Result;

use super::saved::{Difference, Gap, Nearness};
use super::tables::{count, score, signed, table};
use super::{Plots, Results};
use crate::plot::{Axis, Line, Point, lines};

pub(super) fn gap(results: &Results, plots: &mut Plots) -> Result<Option<String>> {
    let parts: Vec<String> = results.gaps.iter().map(|gap| of_bundle(gap, plots)).collect();
    Ok((!parts.is_empty()).then(|| parts.join("\n")))
}

/// The tables, as the page shows them.
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\n{}\n{}",
            distances(&self.difference),
            verdict(&self.difference),
            regions(&self.nearness)
        )
    }
}

fn of_bundle(gap: &Gap, plots: &mut Plots) -> String {
    let Gap { bundle, n_photos, n_captions, difference, nearness, command } = gap;
    let name = bundle.split('@').next().unwrap_or(bundle);
    let plot = plots.add(
        &format!("gap-{name}"),
        &format!("coordinates of image less caption of {bundle}, beside a Gaussian"),
        plot(bundle, difference),
    );
    let head =
        format!("`{bundle}`, {} photos, {} captions, `{command}`:\n", count(*n_photos), count(*n_captions));
    [head, distances(difference), plot, verdict(difference), regions(nearness), nearest(nearness)].join("\n")
}

fn distances(of: &Difference) -> String {
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let mut rows = vec![
        row("cosine of a photo and its captions", score(of.paired_cosine)),
        row("cosine of two captions of one photo", score(of.sibling_cosine)),
        row("length of the images' mean", score(of.mean_image)),
        row("length of the captions' mean", score(of.mean_text)),
        row("length of the mean of image less caption", score(of.mean_norm)),
        row("root mean square length of image less caption", score(of.rms_norm)),
        row("its coordinates together: mean", format!("{:+.4}", of.pooled_mean)),
        row("deviation", format!("{:.4}", of.pooled_deviation)),
        row("skewness (Gaussian: 0)", signed(of.skewness)),
        row("excess kurtosis (Gaussian: 0)", signed(of.excess_kurtosis)),
        row(
            "a coordinate's deviation over images by that over captions (5th, 50th, 95th percentile)",
            of.deviation_ratios.map(score).join(", "),
        ),
    ];
    rows.extend(of.directions.iter().map(|(what, n)| {
        row(&format!("directions over which the variance spreads: {what}"), format!("{n:.0}"))
    }));
    table(&["", "value"], &rows)
}

/// Whether the gap is noise of mean zero, and isotropic, in words.
fn verdict(of: &Difference) -> String {
    let share = 100.0 * (of.mean_norm / of.rms_norm).powi(2);
    let directions = |what: &str| of.directions.iter().find(|(name, _)| name == what).map(|(_, n)| *n);
    let isotropy = match (directions("image less caption"), of.directions.last()) {
        (Some(gap), Some((_, gauss))) => format!(
            "; it spreads over {gap:.0} directions, Gaussian noise over {gauss:.0}, so that it is {}isotropic",
            if gap > 0.8 * gauss { "" } else { "not " }
        ),
        _ => String::new(),
    };
    format!("The mean is {share:.1} % of the gap's squared length{isotropy}.\n")
}

fn regions(nearness: &[Nearness]) -> String {
    let row = |of: &Nearness| {
        let nearer = of.nearer.map_or_else(String::new, |[by, low, high]| {
            format!("{} [{}, {}]", signed(by), signed(low), signed(high))
        });
        let [one, five, ten] = of.text_to_image;
        vec![
            of.what.clone(),
            score(of.own),
            score(of.other),
            nearer,
            score(of.best_own),
            score(of.best_other),
            format!("{one:.1} / {five:.1} / {ten:.1} %"),
        ]
    };
    let head = [
        "what stands for the image",
        "cosine, own captions",
        "another photo's",
        "own less another's, beyond the embedding's",
        "nearest row, own",
        "another's",
        "R@1/5/10 of the rows' mean",
    ];
    table(&head, &nearness.iter().map(row).collect::<Vec<_>>())
}

/// Whether any of them lies nearer to its captions than the one embedding, in words.
fn nearest(nearness: &[Nearness]) -> String {
    let by = |of: &&Nearness| of.nearer.map_or(f64::MIN, |[_, low, _]| low);
    match nearness.iter().max_by(|a, b| by(a).total_cmp(&by(b))) {
        Some(best) if by(&best) > 0.0 => {
            format!("Nearer to its own captions than the one embedding, beyond what it is nearer to all: {}.\n", best.what)
        }
        _ => "None of them is nearer to its own captions than the one embedding, beyond what it is nearer to all.\n"
            .to_owned(),
    }
}

fn plot(bundle: &str, of: &Difference) -> String {
    let point = |x: f64, y: f64| Point { x, y, low: y, high: y };
    let gauss = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let found = of.histogram.iter().map(|[x, y]| point(*x, *y)).collect();
    let expected = of.histogram.iter().map(|[x, _]| point(*x, gauss(*x))).collect();
    let highest = of.histogram.iter().map(|[_, y]| *y).fold(0.4, f64::max);
    let line = |name: &str, points| Line { name: name.to_owned(), points };
    lines(
        &format!("{bundle}: coordinates of image less caption, all together"),
        &Axis { label: "standard deviations from the mean".to_owned(), min: -4.0, max: 4.0 },
        &Axis { label: "density".to_owned(), min: 0.0, max: 1.1 * highest },
        &[line("image less caption", found), line("Gaussian", expected)],
        &[],
    )
}
