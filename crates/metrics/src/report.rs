//! All scores of one or several systems, and the table that shows them.

use std::collections::BTreeSet;
use std::fmt;

use crate::bleu::Tally;
use crate::bootstrap::{Bootstrap, Interval, mean_interval};
use crate::cider::image_cider_d;
use crate::corpus::Corpus;
use crate::rouge::image_rouge_l;
use crate::{DocumentFrequency, Example, MetricsError};

/// The corpus scores of one system, raw: 1.0 is what papers print as 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// BLEU-1 to BLEU-4, 0 to 1.
    pub bleu: [f64; 4],
    /// 0 to 1.
    pub rouge_l: f64,
    /// 0 to 10.
    pub cider_d: f64,
}

/// One system of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    pub scores: Scores,
    /// Of CIDEr-D.
    pub interval: Interval,
    /// CIDEr-D in the order of the examples.
    pub per_image: Vec<f64>,
    /// See [`distinct_share`].
    pub distinct: f64,
}

/// Systems scored on the same images in the same way. Its `Display` is a table of plain text.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub rows: Vec<Row>,
    pub n_images: usize,
    /// The fewest and the most references of an image.
    pub n_references: (usize, usize),
    /// Name and images of the frozen document frequency; none where it is that of the references scored.
    pub frozen: Option<(String, usize)>,
    pub bootstrap: Bootstrap,
}

/// The share of different sentences among the candidates, in (0, 1], compared by their tokens. A decoder that has
/// collapsed says the same of every image and gets 1 / n.
pub fn distinct_share(examples: &[Example]) -> Result<f64, MetricsError> {
    Ok(corpus_distinct(&Corpus::new(examples)?))
}

fn corpus_distinct(corpus: &Corpus) -> f64 {
    let candidates: BTreeSet<&[String]> =
        corpus.images.iter().map(|i| i.candidate.tokens.as_slice()).collect();
    candidates.len() as f64 / corpus.images.len() as f64
}

impl Report {
    /// Scores named systems, which must hold the same images in the same order (checked by their references).
    pub fn measure(
        systems: &[(&str, &[Example])],
        frozen: Option<&DocumentFrequency>,
        bootstrap: &Bootstrap,
    ) -> Result<Report, MetricsError> {
        let (_, first) = systems.first().ok_or(MetricsError::NoExamples)?;
        let mut rows = Vec::with_capacity(systems.len());
        for (name, examples) in systems {
            if examples.len() != first.len() {
                return Err(MetricsError::Unpaired { left: first.len(), right: examples.len() });
            }
            if let Some(index) = first.iter().zip(*examples).position(|(a, b)| a.references != b.references) {
                return Err(MetricsError::OtherReferences(index));
            }
            rows.push(Row::measure(name, examples, frozen, bootstrap)?);
        }
        let counts = || first.iter().map(|example| example.references.len());
        Ok(Report {
            rows,
            n_images: first.len(),
            n_references: (counts().min().unwrap_or(0), counts().max().unwrap_or(0)),
            frozen: frozen.map(|frequency| (frequency.name().to_owned(), frequency.n_images())),
            bootstrap: bootstrap.clone(),
        })
    }
}

impl Row {
    fn measure(
        name: &str,
        examples: &[Example],
        frozen: Option<&DocumentFrequency>,
        bootstrap: &Bootstrap,
    ) -> Result<Row, MetricsError> {
        let corpus = Corpus::new(examples)?;
        let per_image = image_cider_d(&corpus, frozen);
        let n = corpus.images.len() as f64;
        let scores = Scores {
            bleu: corpus.images.iter().map(Tally::of).sum::<Tally>().bleu(),
            rouge_l: corpus.images.iter().map(image_rouge_l).sum::<f64>() / n,
            cider_d: per_image.iter().sum::<f64>() / n,
        };
        Ok(Row {
            name: name.to_owned(),
            scores,
            interval: mean_interval(&per_image, bootstrap)?,
            per_image,
            distinct: corpus_distinct(&corpus),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fewest, most) = self.n_references;
        let references = if fewest == most { fewest.to_string() } else { format!("{fewest} to {most}") };
        let df = match &self.frozen {
            Some((name, n)) => format!("frozen from {name} ({n} images)"),
            None => "of the references scored".to_owned(),
        };
        writeln!(
            f,
            "n = {} images, {references} references each; document frequency {df}; 1.0 = 100",
            self.n_images
        )?;
        let width =
            self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max("system".len());
        let level = format!("{:.0} % interval", 100.0 * self.bootstrap.level);
        write!(f, "{:width$}  BLEU-1  BLEU-2  BLEU-3  BLEU-4  ROUGE-L  ", "system")?;
        writeln!(f, "CIDEr-D  {level:16}  distinct")?;
        for row in &self.rows {
            write!(f, "{:width$}", row.name)?;
            for bleu in row.scores.bleu {
                write!(f, "  {bleu:6.4}")?;
            }
            let interval = format!("{:.4} to {:.4}", row.interval.low, row.interval.high);
            write!(f, "  {:7.4}  {:7.4}  {interval:16}", row.scores.rouge_l, row.scores.cider_d)?;
            writeln!(f, "  {:6.1} %", 100.0 * row.distinct)?;
        }
        let Bootstrap { resamples, seed, .. } = self.bootstrap;
        writeln!(
            f,
            "interval: of CIDEr-D, percentiles of {resamples} bootstrap resamples over images (seed {seed}),"
        )?;
        writeln!(f, "with the document frequency held at that of all images")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(candidates: [&str; 3]) -> Vec<Example> {
        let references = [vec!["a dog runs"], vec!["two men sit", "men on a bench"], vec!["a red car"]];
        let example = |(candidate, references): (&str, Vec<&str>)| Example {
            candidate: candidate.to_owned(),
            references: references.into_iter().map(str::to_owned).collect(),
        };
        candidates.into_iter().zip(references).map(example).collect()
    }

    #[test]
    fn a_report_agrees_with_the_single_metrics() {
        let mine = examples(["a dog", "Two men sit.", "two men sit"]);
        let report = Report::measure(&[("mine", &mine)], None, &Bootstrap::default()).unwrap();
        let row = &report.rows[0];
        assert_eq!(row.scores.bleu, crate::bleu(&mine).unwrap());
        assert_eq!(row.scores.rouge_l, crate::rouge_l(&mine).unwrap());
        assert_eq!(row.scores.cider_d, crate::cider_d(&mine, None).unwrap().mean);
        assert_eq!(row.per_image, crate::cider_d(&mine, None).unwrap().per_image);
        assert!((row.distinct - 2.0 / 3.0).abs() < 1e-12, "case and full stops make no difference");
    }

    #[test]
    fn the_table_says_what_the_numbers_depend_on() {
        let (mine, blind) = (examples(["a dog", "two men", "a car"]), examples(["a man", "a man", "a man"]));
        let systems: [(&str, &[Example]); 2] = [("greedy", &mine), ("constant sentence", &blind)];
        let table = Report::measure(&systems, None, &Bootstrap::default()).unwrap().to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[0],
            "n = 3 images, 1 to 2 references each; document frequency of the references scored; 1.0 = 100"
        );
        assert!(lines[1].starts_with("system             BLEU-1"), "{table}");
        assert!(lines[3].starts_with("constant sentence  0."), "{table}");
        assert!(lines[3].ends_with(" 33.3 %"), "{table}");
        assert!(lines[4].contains("1000 bootstrap resamples over images (seed 1)"), "{table}");
        let columns = |line: &str| line.find("distinct").or(line.find('%')).map(|_| line.chars().count());
        assert_eq!(columns(lines[2]), columns(lines[1]), "{table}");
    }

    #[test]
    fn a_frozen_frequency_is_named_in_the_table() {
        let mine = examples(["a dog", "two men", "a car"]);
        let images = mine.iter().map(|e| e.references.as_slice());
        let frozen = DocumentFrequency::of_references("train", images).unwrap();
        let report = Report::measure(&[("mine", &mine)], Some(&frozen), &Bootstrap::default()).unwrap();
        assert!(report.to_string().contains("document frequency frozen from train (3 images)"), "{report}");
    }

    #[test]
    fn refuses_nothing_to_score_and_systems_on_other_images() {
        let bootstrap = Bootstrap::default();
        assert_eq!(Report::measure(&[], None, &bootstrap), Err(MetricsError::NoExamples));
        assert_eq!(Report::measure(&[("none", &[])], None, &bootstrap), Err(MetricsError::NoExamples));
        let mine = examples(["a", "b", "c"]);
        let short = &mine[..2];
        let unpaired = Report::measure(&[("all", &mine), ("two", short)], None, &bootstrap);
        assert_eq!(unpaired, Err(MetricsError::Unpaired { left: 3, right: 2 }));
        let mut bare = mine.clone();
        bare[1].references.clear();
        assert_eq!(Report::measure(&[("bare", &bare)], None, &bootstrap), Err(MetricsError::NoReference(1)));
        let mut long = mine;
        long[2].candidate = "x".repeat(crate::MAX_CHARS + 1);
        let chars = crate::MAX_CHARS + 1;
        assert_eq!(distinct_share(&long), Err(MetricsError::TooLong { index: 2, chars }));
    }
}
