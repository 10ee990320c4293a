//! How much noise a decoder needs that is trained on text embeddings and shown image embeddings, and whether the
//! encoders alone could have told.

use anyhow::{Context, Result, ensure};

use super::presets::verdict;
use super::series::{Series, estimate, series, setting};
use super::tables::{score, signed_with_span, span, table, with_span};
use super::{Plots, Results};
use crate::eval::Input;
use crate::plot::{Axis, Line, Mark, Point, lines};

const GROUP: &str = "noise";

/// The runs of one strength of noise.
struct Level<'a> {
    /// Between the clean and the noisy embedding: 1 is no noise.
    cosine: f64,
    series: Series<'a>,
}

/// By cosine, ascending.
fn levels(results: &Results, input: Input) -> Result<Vec<Level<'_>>> {
    let mut levels = Vec::new();
    for series in series(&results.evaluations, GROUP, input, &[])? {
        let cosine: f64 = series.label.parse().with_context(|| format!("{:?} is no cosine", series.label))?;
        ensure!(cosine > 0.0 && cosine <= 1.0, "{cosine} is no cosine of noise: above 0, at most 1");
        levels.push(Level { cosine, series });
    }
    levels.sort_by(|a, b| a.cosine.total_cmp(&b.cosine));
    Ok(levels)
}

pub(super) fn noise(results: &Results, plots: &mut Plots) -> Result<Option<String>> {
    let image = levels(results, Input::Image)?;
    let text = levels(results, Input::Text)?;
    if image.is_empty() {
        return Ok(None);
    }
    let paired = paired_cosine(&image);
    let drawing = plot(&image, &text, paired)?;
    let all: Vec<Series<'_>> = image.iter().map(|level| level.series.clone()).collect();
    let mut body = vec![
        setting(&all) + "\n",
        plots.add("noise", "CIDEr-D against the cosine that the noise leaves", drawing),
        scores_table(&image, &text)?,
    ];
    body.extend(optimum(&image, paired)?);
    body.extend(trade(&text)?);
    Ok(Some(body.join("\n")))
}

/// Mean cosine of a photo and its captions: where the noise is as far from a text as an image is.
fn paired_cosine(image: &[Level<'_>]) -> Option<f64> {
    let runs = image.iter().flat_map(|level| level.series.by_seed.values());
    let all: Vec<f64> = runs.filter_map(|run| Some(run.retrieval?.paired_cosine)).collect();
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}

fn scores_table(image: &[Level<'_>], text: &[Level<'_>]) -> Result<String> {
    let mut rows = Vec::new();
    for level in image {
        let of_image = level.series.cider_d()?;
        let mut row = vec![
            level.cosine.to_string(),
            score(of_image.value),
            span(of_image.interval),
            level.series.each(),
        ];
        match text.iter().find(|other| (other.cosine - level.cosine).abs() < 1e-9) {
            Some(other) => {
                let of_text = other.series.cider_d()?;
                row.extend([score(of_text.value), span(of_text.interval)]);
            }
            None => row.extend([String::new(), String::new()]),
        }
        rows.push(row);
    }
    let head = ["cosine", "CIDEr-D, image", "interval", "by seed", "CIDEr-D, clean text", "interval"];
    Ok(table(&head, &rows))
}

/// Where the curve of the images is highest, whether that is inside, and how far from the prediction.
fn optimum(image: &[Level<'_>], paired: Option<f64>) -> Result<Option<String>> {
    let ([first, .., last], true) = (image, image.len() > 2) else { return Ok(None) };
    let cosines: Vec<f64> = image.iter().map(|level| level.cosine).collect();
    let series: Vec<&Series<'_>> = image.iter().map(|level| &level.series).collect();
    let top = estimate(&series, |mean| peak(&cosines, mean))?;
    let means: Vec<f64> = series.iter().map(|series| series.mean(|scores| scores.cider_d)).collect();
    let best = &image[highest(&means)];
    let mut text = format!(
        "Images are captioned best at the cosine {} (the vertex of a parabola through the best level and its \
         neighbours); of the levels measured {} is best.\n",
        with_span(&top),
        best.cosine
    );
    let above = |other: &Level<'_>| estimate(&[&other.series, &best.series], |mean| mean[1] - mean[0]);
    if best.cosine > first.cosine && best.cosine < last.cosine {
        let (over_noisy, over_clean) = (above(first)?, above(last)?);
        text += &format!(
            "It is better than the least noise ({}) by {}: {}, and better than the most ({}) by {}: {}.\n",
            last.cosine,
            signed_with_span(&over_clean),
            verdict(&over_clean),
            first.cosine,
            signed_with_span(&over_noisy),
            verdict(&over_noisy)
        );
    } else {
        text += "That is an end of the range, so that no optimum inside it was found.\n";
    }
    if let Some(paired) = paired {
        let off = estimate(&series, |mean| peak(&cosines, mean) - paired)?;
        text += &format!(
            "The encoders predict {} (the mean cosine of a photo and its captions); the optimum stands {} from that.\n",
            score(paired),
            signed_with_span(&off)
        );
        let distance = |level: &&Level<'_>| (level.cosine - paired).abs();
        if let Some(near) = image.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))) {
            text += &format!(
                "Taking the level nearest to the prediction, {}, instead of the best costs {}.\n",
                near.cosine,
                signed_with_span(&above(near)?)
            );
        }
    }
    Ok(Some(text))
}

fn highest(values: &[f64]) -> usize {
    let indices = 0..values.len();
    indices.max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap_or(0)
}

/// The place of the vertex of the parabola through the highest of the points and its neighbours; the highest itself
/// where it has none on one side.
fn peak(x: &[f64], y: &[f64]) -> f64 {
    let at = highest(y);
    if at == 0 || at + 1 >= x.len() {
        return x[at];
    }
    let (left, right) = (x[at] - x[at - 1], x[at + 1] - x[at]);
    let (fall_left, fall_right) = (y[at] - y[at - 1], y[at] - y[at + 1]);
    let curvature = fall_left * right + fall_right * left;
    if curvature <= 0.0 {
        return x[at];
    }
    x[at] + 0.5 * (fall_left * right * right - fall_right * left * left) / curvature
}

/// What noise costs on the input that the decoder was trained with: the curve should rise with the cosine.
fn trade(text: &[Level<'_>]) -> Result<Option<String>> {
    let [first, .., last] = text else { return Ok(None) };
    let gain =
        |from: &Level<'_>, to: &Level<'_>| estimate(&[&from.series, &to.series], |mean| mean[1] - mean[0]);
    let whole = gain(first, last)?;
    let mut falls = Vec::new();
    for pair in text.windows(2) {
        if gain(&pair[0], &pair[1])?.interval.high < 0.0 {
            falls.push(format!("from {} to {}", pair[0].cosine, pair[1].cosine));
        }
    }
    let (steps, verdict) = if falls.is_empty() {
        ("no single step is a loss beyond its interval".to_owned(), verdict(&whole))
    } else {
        (format!("it loses {}", falls.join(" and ")), "refuted")
    };
    Ok(Some(format!(
        "Clean text gains {} from the most noise ({}) to the least ({}), and {steps}; that it is captioned the better \
         the less noise there was is {verdict}.\n",
        signed_with_span(&whole),
        first.cosine,
        last.cosine
    )))
}

fn plot(image: &[Level<'_>], text: &[Level<'_>], paired: Option<f64>) -> Result<String> {
    let line = |name: &str, levels: &[Level<'_>]| -> Result<Line> {
        let mut points = Vec::new();
        for level in levels {
            let metrics::Estimate { value, interval } = level.series.cider_d()?;
            points.push(Point { x: level.cosine, y: value, low: interval.low, high: interval.high });
        }
        Ok(Line { name: name.to_owned(), points })
    };
    let mut both = vec![line("image input", image)?];
    if !text.is_empty() {
        both.push(line("clean text input", text)?);
    }
    let highest = both.iter().flat_map(|line| &line.points).map(|point| point.high).fold(0.1, f64::max);
    let x = Axis {
        label: "cosine of clean and noisy text embedding (1 = no noise)".to_owned(),
        min: 0.0,
        max: 1.0,
    };
    let y = Axis { label: "CIDEr-D (1.0 = 100)".to_owned(), min: 0.0, max: 1.1 * highest };
    let mark = paired.map(|at| Mark { name: "cosine of photo and caption".to_owned(), at });
    let marks: Vec<Mark> = mark.into_iter().collect();
    Ok(lines(
        "Noise in training: mean over seeds, 95 % interval over photos and seeds",
        &x,
        &y,
        &both,
        &marks,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_a_parabola_is_found_between_uneven_levels() {
        let x = [0.2, 0.3, 0.5, 0.8, 1.0];
        let y = x.map(|x: f64| 0.4 - (x - 0.47) * (x - 0.47));
        assert!((peak(&x, &y) - 0.47).abs() < 1e-9);
    }

    #[test]
    fn a_curve_that_only_rises_or_is_flat_peaks_at_a_level() {
        assert_eq!(peak(&[0.2, 0.5, 1.0], &[0.1, 0.2, 0.3]), 1.0);
        assert_eq!(peak(&[0.2, 0.5, 1.0], &[0.3, 0.2, 0.1]), 0.2);
        let flat = peak(&[0.2, 0.5, 1.0], &[0.2, 0.2, 0.2]);
        assert!((0.2..=1.0).contains(&flat));
    }
}
