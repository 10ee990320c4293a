//! Pages from invented results, and the page that is committed.

use super::saved::{Bin, Difference, Floors, FrameCount, Gap, Kind, Nearness, Place, Scores};
use super::*;
use crate::eval::Input;
use crate::retrieval::Retrieval;

fn scores(cider_d: f64) -> Scores {
    Scores {
        bleu_1: 0.5,
        bleu_4: 0.1,
        rouge_l: 0.4,
        cider_d,
        cider_d_low: cider_d - 0.05,
        cider_d_high: cider_d + 0.05,
        distinct: 0.8,
        length_words: 9.5,
    }
}

/// Photos are the same hard or easy ones for every run; `mean` is the run's CIDEr-D.
fn evaluation(group: &str, label: &str, seed: u64, mean: f64) -> Evaluation {
    let n = 200;
    let hard = |idx: usize| ((idx * 37 % 100) as f64 - 49.5) / 250.0;
    let noise =
        |idx: usize| ((idx as u64 * 7919 + seed * 31 + label.len() as u64) % 11) as f64 / 1000.0 - 0.005;
    Evaluation {
        bundle: format!("{label}@00000000"),
        provenance: "invented".to_owned(),
        places: vec![Place { group: group.to_owned(), label: label.to_owned() }],
        seed,
        source: "flickr8k".to_owned(),
        split: "dev".to_owned(),
        input: Input::Image,
        n_photos: n,
        photos_sha256: "one".to_owned(),
        document_frequency: "of the references scored".to_owned(),
        scores: scores(mean),
        floors: Floors { constant: scores(0.12), random: scores(0.03) },
        retrieval: Some(Retrieval {
            n_images: n,
            n_texts: 5 * n,
            text_to_image: [20.0, 50.0, 60.0],
            image_to_text: [21.0, 51.0, 61.0],
            paired_cosine: 0.45,
        }),
        command: "captiond-train eval".to_owned(),
        wall_s: 60.0,
        cider_d_per_photo: (0..n).map(|idx| mean + hard(idx) + noise(idx)).collect(),
    }
}

/// Three seeds of every label.
fn seeds(group: &str, rows: &[(&str, f64)]) -> Vec<Evaluation> {
    let of = |(label, mean): &(&str, f64)| {
        [1, 2, 3].map(|seed| evaluation(group, label, seed, mean + 0.004 * (seed as f64 - 2.0)))
    };
    rows.iter().flat_map(of).collect()
}

fn page(results: &Results) -> Report {
    results.report("plots").unwrap()
}

/// The part of the page under a heading.
fn section<'a>(report: &'a Report, heading: &str) -> &'a str {
    let (_, rest) = report.text.split_once(&format!("## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

#[test]
fn what_was_not_measured_says_so() {
    let report = page(&Results::default());
    for heading in ["Captions", "Presets", "Noise", "Regions", "Re-ranking", "Synthetic pairs", "Answers"] {
        assert!(section(&report, heading).contains("Not measured yet."), "{heading}");
    }
    assert!(!report.text.contains("{body}"));
    assert!(report.plots.is_empty());
    assert!(report.text.contains("| CapDec | RN50x4, GPT-2 | 26.4 | 91.8 |"));
}

#[test]
fn presets_are_ordered_and_their_orders_judged() {
    let rows = [("oracle", 0.5), ("capdec", 0.4), ("text", 0.2), ("maccap", 0.35), ("syntic", 0.4)];
    let report = page(&Results { evaluations: seeds("presets", &rows), ..Results::default() });
    let text = section(&report, "Presets");
    let at = |label: &str| text.find(&format!("\n| {label} |")).unwrap();
    assert!(
        at("text") < at("capdec") && at("maccap") < at("syntic") && at("syntic") < at("oracle"),
        "{text}"
    );
    assert!(
        text.contains(
            "Flickr8k dev, 200 photos; document frequency of the references scored; 3 training seeds"
        )
    );
    assert!(text.contains("| text < capdec | +0.200 |") && text.contains("| confirmed |"), "{text}");
    assert!(text.contains("| capdec < maccap | -0.050 |") && text.contains("| refuted |"), "{text}");
    assert!(text.contains("| capdec < syntic | +0.000 |") && text.contains("| undecided |"), "{text}");
    assert!(text.contains("| 0.396, 0.400, 0.404 |"), "per-seed values: {text}");
    assert!(text.contains("| 67 % ("), "gap closed: {text}");
    assert!(text.contains("capdec, reaches 0.8") || text.contains("syntic, reaches 0.8"), "{text}");
    assert!(report.plots["presets.svg"].contains(">maccap</text>"));
}

#[test]
fn the_best_preset_is_held_against_the_better_of_two_oracles() {
    let rows = [("oracle", 0.5), ("oracle with noise", 0.6), ("capdec", 0.3), ("syntic", 0.2)];
    let report = page(&Results { evaluations: seeds("presets", &rows), ..Results::default() });
    let text = section(&report, "Presets");
    assert!(text.contains("capdec, reaches 0.500 ["), "{text}");
    assert!(text.contains("of the best with them, oracle with noise"), "{text}");
}

#[test]
fn the_optimum_of_the_noise_stands_beside_its_prediction() {
    let curve = |c: f64| 0.45 - 0.5 * (c - 0.5) * (c - 0.5);
    let labels = ["1", "0.8", "0.6", "0.5", "0.4", "0.2"];
    let rows: Vec<(&str, f64)> = labels.iter().map(|l| (*l, curve(l.parse().unwrap()))).collect();
    let mut evaluations = seeds("noise", &rows);
    let rising: Vec<(&str, f64)> = labels.iter().map(|l| (*l, l.parse::<f64>().unwrap())).collect();
    let of_text =
        |run| Evaluation { input: Input::Text, retrieval: None, photos_sha256: "two".to_owned(), ..run };
    evaluations.extend(seeds("noise", &rising).into_iter().map(of_text));
    let report = page(&Results { evaluations, ..Results::default() });
    let text = section(&report, "Noise");
    assert!(text.contains("best at the cosine 0.50") || text.contains("best at the cosine 0.49"), "{text}");
    assert!(text.contains("of the levels measured 0.5 is best"), "{text}");
    assert!(text.contains("The encoders predict 0.450"), "{text}");
    assert_eq!(text.matches(": confirmed").count(), 2, "{text}");
    assert!(text.contains("the less noise there was is confirmed."), "{text}");
    assert!(text.find("\n| 0.2 |").unwrap() < text.find("\n| 1 |").unwrap());
    assert!(report.plots["noise.svg"].contains("clean text input"));
}

#[test]
fn an_optimum_at_the_end_of_the_range_is_called_none() {
    let evaluations = seeds("noise", &[("1", 0.2), ("0.5", 0.3), ("0.2", 0.4)]);
    let report = page(&Results { evaluations, ..Results::default() });
    assert!(section(&report, "Noise").contains("no optimum inside it was found"));
}

#[test]
fn ablations_compare_each_row_with_the_first() {
    let mut evaluations = seeds("regions", &[("R = 10", 0.42), ("R = 1", 0.4), ("R = 5", 0.41)]);
    evaluations
        .extend(seeds("synthetic", &[("oracle", 0.5), ("+ tags", 0.4), ("text", 0.2), ("synthetic", 0.3)]));
    let report = page(&Results { evaluations, ..Results::default() });
    let regions = section(&report, "Regions");
    let at = |label: &str| regions.find(&format!("\n| {label} |")).unwrap();
    assert!(at("R = 1") < at("R = 5") && at("R = 5") < at("R = 10"), "{regions}");
    assert!(regions.contains("+0.020 [+0.0"), "{regions}");
    let ladder = section(&report, "Synthetic pairs");
    let at = |label: &str| ladder.find(&format!("\n| {label} |")).unwrap();
    assert!(at("text") < at("synthetic") && at("synthetic") < at("+ tags") && at("+ tags") < at("oracle"));
    assert!(ladder.contains("| 33 % ("), "{ladder}");
}

#[test]
fn runs_on_other_photos_are_refused_by_name() {
    let other = Evaluation { photos_sha256: "two".to_owned(), ..evaluation("presets", "capdec", 1, 0.4) };
    let evaluations = vec![evaluation("presets", "text", 1, 0.3), other];
    let error = Results { evaluations, ..Results::default() }.report("plots").unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("report presets: group presets: capdec (seed 1) was not measured"), "{error}");
    let twice = vec![evaluation("presets", "text", 1, 0.3), evaluation("presets", "text", 1, 0.3)];
    let error = Results { evaluations: twice, ..Results::default() }.report("plots").unwrap_err();
    assert!(format!("{error:#}").contains("two runs of text have the seed 1"));
}

#[test]
fn answers_frames_and_fragments_stand_in_their_sections() {
    let kind = Kind {
        n: 1200,
        right: 0.6,
        low: 0.57,
        high: 0.63,
        blind: 0.5,
        majority: 0.5,
        delta: 0.1,
        delta_low: 0.06,
        delta_high: 0.14,
    };
    let answers = Answers {
        bundle: "lite@1".to_owned(),
        set: "toy dev".to_owned(),
        kinds: BTreeMap::from([("count".to_owned(), kind)]),
        reliability: vec![Bin { confidence: 0.7, accuracy: 0.6, n: 10 }],
        command: String::new(),
    };
    let black = FrameCount { what: "black".to_owned(), n_doubtful: 49, n: 50 };
    let frames =
        Frames { bundle: "lite@1".to_owned(), frames: vec![black], command: "captiond-train".to_owned() };
    let fragment = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let fragments = BTreeMap::from([
        fragment("question-set", "500 of each kind.\n"),
        fragment("zebra", "## Of its own\n\nText."),
    ]);
    let report =
        page(&Results { answers: vec![answers], frames: vec![frames], fragments, ..Results::default() });
    let row = "| count | 1,200 | 60.0 % | 57.0 to 63.0 | 50.0 % | 50.0 % | +0.100 | +0.060 to +0.140 |";
    assert!(section(&report, "Answers").contains(row), "{}", section(&report, "Answers"));
    assert!(report.plots.contains_key("reliability-toy-dev.svg"));
    assert!(section(&report, "Frames that show nothing").contains("| black | 49 of 50 |"));
    assert!(section(&report, "Question set").contains("500 of each kind."));
    assert!(report.text.ends_with("## Of its own\n\nText.\n"));
}

#[test]
fn the_gap_tells_its_mean_from_its_length_and_which_rows_lie_nearer() {
    let nearness = |what: &str, nearer| Nearness {
        what: what.to_owned(),
        own: 0.5,
        other: 0.1,
        best_own: 0.6,
        best_other: 0.2,
        nearer,
        text_to_image: [30.0, 60.0, 70.0],
    };
    let directions = [("image less caption", 60.0), ("Gaussian noise", 300.0)];
    let difference = Difference {
        paired_cosine: 0.5,
        sibling_cosine: 0.6,
        mean_image: 0.2,
        mean_text: 0.3,
        mean_norm: 0.1,
        rms_norm: 1.0,
        pooled_mean: 0.0,
        pooled_deviation: 0.05,
        skewness: 0.01,
        excess_kurtosis: 0.2,
        histogram: vec![[-1.0, 0.24], [0.0, 0.4], [1.0, 0.24]],
        deviation_ratios: [0.8, 1.0, 1.2],
        directions: directions.map(|(what, n)| (what.to_owned(), n)).to_vec(),
    };
    let gap = |nearer| Gap {
        bundle: "lite@1".to_owned(),
        n_photos: 1000,
        n_captions: 4991,
        difference: difference.clone(),
        nearness: vec![nearness("the embedding", None), nearness("regions", Some(nearer))],
        command: "captiond-train gap".to_owned(),
    };
    let shown = |nearer| {
        let report = page(&Results { gaps: vec![gap(nearer)], ..Results::default() });
        assert!(report.plots.contains_key("gap-lite.svg"));
        section(&report, "What lies between images and captions").to_owned()
    };
    let farther = shown([-0.1, -0.12, -0.08]);
    assert!(farther.contains("The mean is 1.0 % of the gap's squared length"), "{farther}");
    assert!(
        farther.contains("60 directions, Gaussian noise over 300, so that it is not isotropic"),
        "{farther}"
    );
    assert!(farther.contains("None of them is nearer"), "{farther}");
    assert!(shown([0.1, 0.02, 0.18]).contains("beyond what it is nearer to all: regions."));
}

#[test]
fn results_survive_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/one.json");
    let evaluation = evaluation("presets", "text", 1, 0.25);
    let evaluation = Evaluation {
        cider_d_per_photo: evaluation.cider_d_per_photo.iter().map(|value| saved::rounded(*value)).collect(),
        ..evaluation
    };
    saved::write(&path, &evaluation).unwrap();
    assert_eq!(Results::read(dir.path()).unwrap().evaluations, [evaluation]);
    let kind =
        r#"{"n":9,"right":6,"low":0,"high":1,"blind":0,"majority":0,"delta":0,"delta_low":0,"delta_high":0}"#;
    let counts = format!(r#"{{"bundle":"b","set":"s","kinds":{{"count":{kind}}}}}"#);
    std::fs::write(dir.path().join("counts.json"), counts).unwrap();
    let error = format!("{:#}", Results::read(dir.path()).unwrap_err());
    assert!(error.contains("counts.json: count: shares are 0 to 1, not 6"), "{error}");
    std::fs::write(dir.path().join("counts.json"), "{}").unwrap();
    let error = format!("{:#}", Results::read(dir.path()).unwrap_err());
    assert!(error.contains("counts.json") && error.contains("none of the keys"), "{error}");
}

#[test]
fn docs_results_md_is_the_report_of_the_saved_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let args = ReportArgs {
        runs: root.join("runs/results"),
        out: root.join("docs/results.md"),
        plots: root.join("docs/plots"),
    };
    if std::env::var_os("UPDATE_DOCS").is_some() {
        run(&args).unwrap();
    }
    let report = Results::read(&args.runs).unwrap().report("plots").unwrap();
    let stale = "is stale: UPDATE_DOCS=1 writes it anew";
    let found = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    assert!(found(&args.out) == report.text, "docs/results.md {stale}");
    for (name, svg) in &report.plots {
        assert!(found(&args.plots.join(name)) == *svg, "docs/plots/{name} {stale}");
    }
}
