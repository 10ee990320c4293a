//! What does not fit together is refused with one sentence that names it, before anything is changed.

use super::support::toy::{Toy, corpus_lines, gzip};
use super::support::{assert_refused, run};

/// A toy with a text encoder in `text-run`.
fn toy() -> Toy {
    let toy = Toy::new();
    run(&toy.text("text-run", "--steps 4"));
    toy
}

/// As [`toy`], with another text encoder of the same vocabulary in `text-other`.
fn toy_with_another_encoder() -> Toy {
    let toy = toy();
    run(&toy.text("text-other", "--steps 4 --seed 2"));
    toy
}

#[test]
fn a_corpus_that_cannot_be_used_is_named_with_the_reason_and_the_line() {
    let toy = toy();
    let good = corpus_lines(&["a dog runs over the grass", "a cat sleeps on a sofa"]);
    let whole = gzip(&good);
    let no_json = gzip(&format!("{good}a dog, not quoted\n"));
    let no_field = gzip("{\"text\": \"a dog runs over the grass\"}\n");
    let lone = gzip(&corpus_lines(&["a dog runs over the grass", "a cat sleeps"]));
    let cases: [(&[u8], &[&str]); 8] = [
        (b"", &["corpus.jsonl.gz is empty"]),
        (&gzip(""), &["corpus.jsonl.gz: no usable sentence of the sources toy"]),
        (
            &gzip(&corpus_lines(&["a dog", "cat"])),
            &["corpus.jsonl.gz: no usable sentence of the sources toy"],
        ),
        (good.as_bytes(), &["read ", "corpus.jsonl.gz line 1: invalid gzip header"]),
        (&whole[..whole.len() / 2], &["read ", "corpus.jsonl.gz line "]),
        (&no_json, &["parse ", "corpus.jsonl.gz line 3 column 1: expected value"]),
        (&no_field, &["parse ", "corpus.jsonl.gz line 1 column ", "missing field `source`"]),
        (&lone, &["no two of 2 sentences have one length"]),
    ];
    for (bytes, words) in cases {
        toy.corpus(bytes);
        assert_refused(&toy.decoder("text-run", "run", "--steps 4"), words);
    }
    assert!(!toy.path("run/checkpoint").exists());
}

#[test]
fn a_missing_photo_is_named() {
    let toy = Toy::new();
    std::fs::remove_file(toy.path("images/2.png")).unwrap();
    assert_refused(&toy.encoder("run", "--steps 1"), &["read photo ", "images/2.png: ", "No such file"]);
}

#[test]
fn a_file_that_is_no_photo_is_named() {
    let toy = Toy::new();
    std::fs::write(toy.path("images/2.png"), "no photo").unwrap();
    assert_refused(&toy.encoder("run", "--steps 1"), &["read photo ", "images/2.png: "]);
}

#[test]
fn arguments_out_of_range_are_named() {
    let toy = toy();
    let cases = [
        ("--noise-cosine 0", "--noise-cosine"),
        ("--noise-cosine 1.5", "--noise-cosine"),
        ("--d 100", "--d 100"),
        ("--batch 0", "--batch 0"),
        ("--self-critical 3 --save-every 30", "--save-every"),
        ("--self-critical 3 --stop-at 2", "--stop-at"),
    ];
    for (given, named) in cases {
        assert_refused(&toy.decoder("text-run", "run", &format!("--steps 4 {given}")), &[named]);
    }
}

#[test]
fn a_text_encoder_with_the_tokenizer_of_another_is_refused() {
    let toy = toy();
    run(&toy.text("text-other", "--steps 4 --vocab-size 265"));
    std::fs::copy(toy.path("text-other/tokenizer.json"), toy.path("text-run/tokenizer.json")).unwrap();
    let words = ["text_encoder.onnx was trained with another tokenizer than ", "tokenizer.json"];
    assert_refused(&toy.decoder("text-run", "run", "--steps 4"), &words);
}

#[test]
fn a_decoder_run_goes_on_with_its_own_text_encoder_and_corpus_alone() {
    let toy = toy_with_another_encoder();
    let args = toy.decoder("text-run", "run", "--steps 4");
    run(&args);
    let config = toy.read("run/config.json");
    for name in ["text_encoder.onnx", "tokenizer.json"] {
        std::fs::copy(toy.path("text-run").join(name), toy.path(name)).unwrap();
        std::fs::copy(toy.path("text-other").join(name), toy.path("text-run").join(name)).unwrap();
    }
    let refused =
        ["run/checkpoint: it was trained with another text encoder: give another --out, or remove it"];
    assert_refused(&args, &refused);
    for name in ["text_encoder.onnx", "tokenizer.json"] {
        std::fs::copy(toy.path(name), toy.path("text-run").join(name)).unwrap();
    }
    run(&args);
    toy.corpus(&gzip(&corpus_lines(&["a dog runs over the grass", "a cat sleeps on the sofa"])));
    assert_refused(&args, &["run/checkpoint: it was trained with another corpus"]);
    assert_eq!(toy.read("run/config.json"), config);
}

#[test]
fn a_text_run_of_another_teacher_is_refused_before_its_tokenizer_is_replaced() {
    let toy = toy();
    let tokenizer = toy.read("text-run/tokenizer.json");
    let [mut sentences, mut rows] = ["teacher/train.txt", "teacher/train.f16"].map(|name| toy.read(name));
    sentences.extend(b"a horse on a hill\n");
    rows.extend_from_within(..768);
    std::fs::write(toy.path("teacher/train.txt"), sentences).unwrap();
    std::fs::write(toy.path("teacher/train.f16"), rows).unwrap();
    assert_refused(
        &toy.text("text-run", "--steps 4"),
        &["another teacher's embeddings and another teacher's sentences"],
    );
    assert_eq!(toy.read("text-run/tokenizer.json"), tokenizer);
}

#[test]
fn a_decoder_does_not_begin_from_one_of_another_text_encoder() {
    let toy = toy_with_another_encoder();
    run(&toy.decoder("text-other", "first", "--steps 2"));
    let init = format!("--steps 2 --init {}", toy.path("first").display());
    let words = ["first: made with another text encoder than the one in ", "text-run"];
    assert_refused(&toy.decoder("text-run", "second", &init), &words);
    run(&toy.decoder("text-other", "second", &init));
}

#[test]
fn only_runs_of_one_text_encoder_make_a_bundle() {
    let toy = toy_with_another_encoder();
    let aimed_at = |text: &str| format!("--steps 1 --text {}", toy.path(text).display());
    run(&toy.encoder("encoder", &aimed_at("text-run")));
    run(&toy.encoder("encoder-other", &aimed_at("text-other")));
    run(&toy.decoder("text-run", "decoder", "--steps 2"));
    let other = "made with another text encoder than the one in ";
    assert_refused(&toy.bundle("text-other", "encoder", "decoder"), &["/decoder: ", other, "text-other"]);
    assert_refused(
        &toy.bundle("text-run", "encoder-other", "decoder"),
        &["/encoder-other: ", other, "text-run"],
    );
    assert!(!toy.path("bundle").exists());
    run(&toy.bundle("text-run", "encoder", "decoder"));
    let init = format!("--steps 2 --init {}", toy.path("bundle").display());
    assert_refused(&toy.decoder("text-other", "next", &init), &["/bundle: ", other, "text-other"]);
    run(&toy.decoder("text-run", "next", &init));
}

#[test]
fn an_adaptation_without_sentences_or_a_decoder_to_start_from_is_refused() {
    let toy = Toy::new();
    toy.whole_bundle();
    let args = toy.adapt("few", "");
    std::fs::write(toy.path("own.txt"), "a man runs\na dog sits here\n").unwrap();
    assert_refused(&args, &["own.txt", "2 usable sentences", "at least 20"]);
    assert!(!toy.path("few-bundle").exists());

    let bundle = caption::Bundle::open(&toy.path("bundle")).unwrap();
    let mut manifest = bundle.manifest().clone();
    let files: Vec<(String, Vec<u8>)> = manifest
        .named_files()
        .into_iter()
        .map(|(name, ..)| (name.to_owned(), bundle.file(name).unwrap().to_vec()))
        .collect();
    manifest.decoder = None;
    manifest.memory = None;
    (manifest.graphs.adapter, manifest.graphs.decoder) = (None, None);
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    caption::bundle::write(&toy.path("encoders"), manifest, &files).unwrap();
    let mut args = toy.adapt("none", "");
    let at = args.iter().position(|arg| arg == "--bundle").unwrap() + 1;
    args[at] = toy.path("encoders").to_str().unwrap().to_owned();
    assert_refused(&args, &["has no decoder", "--base"]);
    // With one to start from, the encoders become a captioner.
    args.extend(["--base".to_owned(), toy.path("bundle").to_str().unwrap().to_owned()]);
    super::support::run(&args);
    assert!(caption::Bundle::open(&toy.path("none-bundle")).unwrap().manifest().decoder.is_some());
}
