//! A whole tiny bundle under the real engine: encode, caption, ask, label.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use caption::testing::write_tiny_bundle;
use caption::{Bundle, CaptionError, ImageView, Models, Question, Verdict};
use engine::EngineOptions;
use image::{Rgb, RgbImage};

fn models(seed: u64) -> Models {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_bundle(&dir.path().join("tiny"), seed).unwrap();
    let bundle = Bundle::open(&dir.path().join("tiny")).unwrap();
    Models::load(&bundle, &*engine::open("tract").unwrap(), &EngineOptions::default()).unwrap()
}

fn view(models: &mut Models, shade: u8) -> ImageView {
    let photo = RgbImage::from_fn(20, 10, |x, y| Rgb([shade, (x * 12) as u8, (y * 25) as u8]));
    let pixels = models.preprocess(&photo);
    models.encode(&pixels).unwrap()
}

fn question(text: &str, choices: &[&str]) -> Question {
    Question {
        text: text.to_owned(),
        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
        kind: None,
    }
}

#[test]
fn a_photo_becomes_a_sentence_and_the_same_one_again() {
    for seed in 0..5 {
        let mut models = models(seed);
        let view = view(&mut models, 200);
        assert_eq!((view.embedding.len(), view.patches.len(), view.weights.len()), (8, 32, 4));
        let caption = models.caption(&view).unwrap();
        assert!(caption.score > 0.0 && caption.score <= 1.0);
        assert!(!caption.text.is_empty() && !caption.text.contains('<') && !caption.text.contains("  "));
        for _ in 0..3 {
            assert_eq!(models.caption(&view).unwrap(), caption);
        }
    }
}

#[test]
fn labels_share_one_whole_and_come_best_first() {
    let mut models = models(1);
    let view = view(&mut models, 10);
    let labels = ["dog", "cat", "red ball"].map(str::to_owned);
    let scored = models.label(&view, &labels).unwrap();
    assert_eq!(scored.len(), 3);
    assert!((scored.iter().map(|label| label.score).sum::<f32>() - 1.0).abs() < 1e-5);
    assert!(scored.windows(2).all(|pair| pair[0].score >= pair[1].score && pair[0].cosine >= pair[1].cosine));
    assert!(scored.iter().all(|label| label.cosine.abs() <= 1.0 + 1e-5));
}

#[test]
fn every_kind_of_question_has_an_answer() {
    let mut models = models(2);
    let view = view(&mut models, 100);
    for (text, choices, n) in [
        ("Is there a dog?", &[][..], 2),
        ("The dog sits on the grass.", &[], 2),
        ("Is there a dog?", &["Yes", "No"], 2),
        ("What color is the ball?", &[], 11),
        ("How many dogs are there?", &[], 7),
        ("What is on the grass?", &["a dog", "a cat", "a man"], 3),
        ("What is on the grass?", &[], 1),
    ] {
        let answer = models.answer(&view, &question(text, choices)).unwrap();
        assert_eq!(answer.candidates.len(), n, "{text}");
        assert_eq!((answer.text.clone(), answer.score), answer.candidates[0], "{text}");
        assert!(answer.candidates.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{text}");
        assert_eq!(answer.verdict == Verdict::Unsure, answer.score < 0.6, "{text}");
        if n > 1 {
            assert!((answer.candidates.iter().map(|(_, share)| share).sum::<f32>() - 1.0).abs() < 1e-5);
        }
        for choice in choices {
            assert!(answer.candidates.iter().any(|(text, _)| text == choice), "{text}");
        }
    }
}

#[test]
fn the_order_of_the_choices_does_not_matter() {
    let mut models = models(3);
    let view = view(&mut models, 50);
    let one = models.answer(&view, &question("What is there?", &["a dog", "a cat", "two"])).unwrap();
    let other = models.answer(&view, &question("What is there?", &["two", "a cat", "a dog"])).unwrap();
    assert_eq!(one.text, other.text);
    assert!((one.score - other.score).abs() < 1e-5);
}

#[test]
fn requests_out_of_bounds_are_refused() {
    let mut models = models(1);
    let view = view(&mut models, 0);
    let long = "dog ".repeat(70);
    let long_choice = "dog ".repeat(50);
    let many = vec!["dog"; 33];
    for question in [
        question("", &[]),
        question("  ", &[]),
        question(&long, &[]),
        question(&"x".repeat(1000), &[]),
        question("what?", &[""]),
        question("what?", &[&long_choice]),
        question("what?", &many),
    ] {
        let error = models.answer(&view, &question).unwrap_err();
        assert!(matches!(error, CaptionError::Request(_)), "{error}");
    }
    for labels in [vec![], vec![" ".to_owned()], vec!["x".repeat(101)], vec!["dog".to_owned(); 1001]] {
        let error = models.label(&view, &labels).unwrap_err();
        assert!(matches!(error, CaptionError::Request(_)), "{error}");
    }
}

#[test]
fn a_tokenizer_of_another_size_does_not_load() {
    let (mut manifest, files) = caption::testing::tiny_bundle(1);
    manifest.tokenizer.eos = "<end>".to_owned();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let dir = tempfile::tempdir().unwrap();
    caption::bundle::write(&dir.path().join("tiny"), manifest, &files).unwrap();
    let bundle = Bundle::open(&dir.path().join("tiny")).unwrap();
    let loaded = Models::load(&bundle, &*engine::open("tract").unwrap(), &EngineOptions::default());
    let error = loaded.err().unwrap().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("<end>"), "{error}");
}

/// The tiny bundle with a changed manifest.
fn models_with(change: impl FnOnce(&mut caption::Manifest)) -> Models {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny");
    write_tiny_bundle(&path, 3).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    let mut manifest = bundle.manifest().clone();
    let labels = b"dog\nball\n".as_slice();
    change(&mut manifest);
    let names = ["image_encoder.onnx", "text_encoder.onnx", "adapter.onnx", "decoder.onnx", "tokenizer.json"];
    let mut files: Vec<(&str, &[u8])> =
        names.iter().filter_map(|name| Some((*name, bundle.file(name)?))).collect();
    if manifest.tags.is_some() {
        files.push(("labels.txt", labels));
    }
    let changed = dir.path().join("changed");
    caption::bundle::write(&changed, manifest, &files).unwrap();
    let bundle = Bundle::open(&changed).unwrap();
    Models::load(&bundle, &*engine::open("tract").unwrap(), &EngineOptions::default()).unwrap()
}

#[test]
fn a_choice_among_one_caption_is_no_choice() {
    let mut plain = models_with(|_| ());
    let mut reranked = models_with(|manifest| {
        manifest.decoder.as_mut().unwrap().rerank = Some(caption::bundle::RerankSettings {
            n_candidates: 1,
            fluency: 0.1,
            memory_weight: 0.0,
            unprojected: false,
            summed: false,
            agreement: 0.0,
            samples: None,
        });
    });
    for shade in [0, 90, 200] {
        let view = view(&mut plain, shade);
        assert_eq!(plain.caption(&view).unwrap(), reranked.caption(&view).unwrap());
    }
}

#[test]
fn a_bundle_with_tags_captions_after_its_prompt() {
    let tags = |share_min| caption::bundle::TagSettings {
        file: "labels.txt".to_owned(),
        bytes: 0,
        sha256: String::new(),
        n_max: 1,
        share_min,
        tau: 0.1,
    };
    let (mut named, mut unnamed) = (
        models_with(|manifest| manifest.tags = Some(tags(0.0))),
        models_with(|manifest| manifest.tags = Some(tags(1.0))),
    );
    let view = view(&mut named, 90);
    let (with, without) = (named.caption(&view).unwrap(), unnamed.caption(&view).unwrap());
    assert!(!with.text.is_empty() && !without.text.is_empty());
    assert_ne!(with.score, without.score, "another prompt, another likelihood");
}

#[test]
fn an_encoder_bundle_labels_but_refuses_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let (mut manifest, files) = caption::testing::tiny_bundle(1);
    manifest.decoder = None;
    (manifest.graphs.adapter, manifest.graphs.decoder) = (None, None);
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    caption::bundle::write(&dir.path().join("encoder"), manifest, &files).unwrap();
    let bundle = Bundle::open(&dir.path().join("encoder")).unwrap();
    let mut models =
        Models::load(&bundle, &*engine::open("tract").unwrap(), &EngineOptions::default()).unwrap();
    let view = view(&mut models, 90);
    let labels = ["dog".to_owned(), "cat".to_owned()];
    assert_eq!(models.label(&view, &labels).unwrap().len(), 2);
    let refused = |error: CaptionError| matches!(error, CaptionError::NoDecoder);
    assert!(refused(models.caption(&view).unwrap_err()));
    assert!(refused(models.caption_from(&view, "a").unwrap_err()));
    let question = Question { text: "is there a dog?".to_owned(), ..Question::default() };
    assert!(refused(models.answer(&view, &question).unwrap_err()));
}
