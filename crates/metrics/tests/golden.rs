//! pycocoevalcap's figures and tokens, here and, where the shared data lie beside the repository, on photo captions.

use std::io::Write as _;
use std::path::Path;

use metrics::{Bootstrap, Example, Report, cider_d, ptb};
use serde::Deserialize;

/// The project promises three decimals; the same sums in another order differ far less.
const EXACT: f64 = 1e-9;
const THREE_DECIMALS: f64 = 5e-4;

#[derive(Deserialize)]
struct Sentences {
    image: String,
    candidate: String,
    references: Vec<String>,
}

#[derive(Deserialize)]
struct Figures {
    scores: Scores,
    images: Vec<Image>,
}

#[derive(Deserialize)]
struct Scores {
    n: usize,
    bleu1: f64,
    bleu2: f64,
    bleu3: f64,
    bleu4: f64,
    rouge_l: f64,
    cider_d: f64,
}

#[derive(Deserialize)]
struct Image {
    image: String,
    candidate: String,
    references: Vec<String>,
    cider_d: f64,
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn golden() -> (Vec<Sentences>, Figures) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    (read(&folder.join("sentences.json")), read(&folder.join("figures.json")))
}

fn examples(sentences: &[Sentences]) -> Vec<Example> {
    let example =
        |s: &Sentences| Example { candidate: s.candidate.clone(), references: s.references.clone() };
    sentences.iter().map(example).collect()
}

fn assert_scores(report: &Report, expected: &Scores, tolerance: f64) {
    let (name, scores) = (&report.rows[0].name, report.rows[0].scores);
    assert_eq!(report.n_images, expected.n, "{name}");
    let [b1, b2, b3, b4] = scores.bleu;
    for (metric, found, expected) in [
        ("BLEU-1", b1, expected.bleu1),
        ("BLEU-2", b2, expected.bleu2),
        ("BLEU-3", b3, expected.bleu3),
        ("BLEU-4", b4, expected.bleu4),
        ("ROUGE-L", scores.rouge_l, expected.rouge_l),
        ("CIDEr-D", scores.cider_d, expected.cider_d),
    ] {
        assert!(
            (found - expected).abs() < tolerance,
            "{name}: {metric} is {found}, pycocoevalcap's {expected}"
        );
    }
}

#[test]
fn golden_sentences_have_the_tokens_of_the_original() {
    let (sentences, figures) = golden();
    assert_eq!(sentences.len(), figures.images.len());
    for (raw, expected) in sentences.iter().zip(&figures.images) {
        assert_eq!(raw.image, expected.image);
        assert_eq!(ptb::tokenize(&raw.candidate).join(" "), expected.candidate, "{}", raw.candidate);
        assert_eq!(raw.references.len(), expected.references.len(), "{}", raw.image);
        for (reference, expected) in raw.references.iter().zip(&expected.references) {
            assert_eq!(ptb::tokenize(reference).join(" "), *expected, "{reference}");
        }
    }
}

#[test]
fn golden_sentences_have_the_scores_of_the_original() {
    let (sentences, figures) = golden();
    let examples = examples(&sentences);
    assert!(examples.len() >= 60 && examples.iter().all(|e| e.references.len() == 5));
    let report = Report::measure(&[("golden", &examples)], None, &Bootstrap::default()).unwrap();
    assert_scores(&report, &figures.scores, EXACT);
    for (found, expected) in cider_d(&examples, None).unwrap().per_image.iter().zip(&figures.images) {
        assert!(
            (found - expected.cider_d).abs() < EXACT,
            "{}: {found} is not {}",
            expected.image,
            expected.cider_d
        );
    }
}

#[derive(Deserialize)]
struct Line {
    hypothesis: String,
    references: Vec<String>,
    hypothesis_ptb: String,
    references_ptb: Vec<String>,
}

#[derive(Deserialize)]
struct SharedGolden {
    scores: std::collections::BTreeMap<String, Scores>,
}

#[test]
fn photo_captions_of_the_shared_data_have_the_scores_of_the_original() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/metrics");
    if !folder.join("golden.json").exists() {
        // Straight to the descriptor: the test harness keeps what goes through `println!`.
        drop(writeln!(std::io::stderr(), "skipped: {} is not here", folder.display()));
        return;
    }
    let golden: SharedGolden = read(&folder.join("golden.json"));
    for (name, expected) in &golden.scores {
        let text = std::fs::read_to_string(folder.join(format!("{name}.jsonl"))).unwrap();
        let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut sentences = 0;
        let mut differing = Vec::new();
        for line in &lines {
            let raw = std::iter::once(&line.hypothesis).chain(&line.references);
            let tokens = std::iter::once(&line.hypothesis_ptb).chain(&line.references_ptb);
            for (raw, tokens) in raw.zip(tokens) {
                sentences += 1;
                if ptb::tokenize(raw).join(" ") != *tokens {
                    differing.push(raw.as_str());
                }
            }
        }
        println!("{name}: {} of {sentences} sentences have other tokens {differing:?}", differing.len());
        // A caption that ends in an initial depends on the next one in the original, so a few may differ.
        assert!(differing.len() * 1000 <= sentences, "{name}: {differing:?}");
        let example = |line: Line| Example { candidate: line.hypothesis, references: line.references };
        let examples: Vec<Example> = lines.into_iter().map(example).collect();
        let report = Report::measure(&[(name, &examples)], None, &Bootstrap::default()).unwrap();
        println!("{report}");
        assert_scores(&report, expected, THREE_DECIMALS);
    }
}
