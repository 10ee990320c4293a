//! Bundles on disk: what is verified, and that every fault is named.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use std::fs;
use std::path::Path;

use caption::bundle::{self, MANIFEST_FILE, Role};
use caption::testing::{tiny_bundle, write_tiny_bundle};
use caption::{Bundle, BundleError};

fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_bundle(&dir.path().join("tiny"), 1).unwrap();
    dir
}

fn error(dir: &Path) -> BundleError {
    Bundle::open(dir).unwrap_err()
}

fn edit_manifest(dir: &Path, from: &str, to: &str) {
    let file = dir.join(MANIFEST_FILE);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_written_bundle_opens_with_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = write_tiny_bundle(&dir.path().join("tiny"), 1).unwrap();
    let bundle = Bundle::open(&dir.path().join("tiny")).unwrap();
    assert_eq!(*bundle.manifest(), manifest);
    let (_, files) = tiny_bundle(1);
    for (name, bytes) in &files {
        assert_eq!(bundle.file(name), Some(bytes.as_slice()), "{name}");
    }
    for role in Role::ALL {
        let graph = manifest.graphs.get(role).unwrap();
        let signature = manifest.signature(role).unwrap();
        assert_eq!(graph.inputs, signature.inputs.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(graph.sha256.len(), 64);
    }
}

#[test]
fn the_identity_follows_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for seed in [1, 1, 2] {
        write_tiny_bundle(&dir.path().join("tiny"), seed).unwrap();
        ids.push(Bundle::open(&dir.path().join("tiny")).unwrap().id().to_owned());
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    let (name, digits) = ids[0].split_once('@').unwrap();
    assert_eq!((name, digits.len()), ("tiny", 8));
}

#[test]
fn a_folder_without_a_manifest_is_no_bundle() {
    let dir = tempfile::tempdir().unwrap();
    for absent in [dir.path().to_owned(), dir.path().join("nowhere")] {
        let error = error(&absent);
        assert!(matches!(error, BundleError::Absent { .. }));
        assert!(error.to_string().contains(&absent.display().to_string()), "{error}");
    }
}

#[test]
fn a_missing_cut_grown_altered_or_linked_file_is_named() {
    for name in ["image_encoder.onnx", "text_encoder.onnx", "adapter.onnx", "decoder.onnx", "tokenizer.json"]
    {
        for fault in ["missing", "cut", "grown", "altered", "folder", "link"] {
            let dir = written();
            let dir = dir.path().join("tiny");
            let file = dir.join(name);
            let mut bytes = fs::read(&file).unwrap();
            fs::remove_file(&file).unwrap();
            match fault {
                "missing" => {}
                "folder" => fs::create_dir(&file).unwrap(),
                "link" => {
                    fs::write(dir.join("elsewhere"), &bytes).unwrap();
                    std::os::unix::fs::symlink("elsewhere", &file).unwrap();
                }
                _ => {
                    match fault {
                        "cut" => bytes.truncate(bytes.len() / 2),
                        "grown" => bytes.push(0),
                        _ => bytes[10] ^= 1,
                    }
                    fs::write(&file, bytes).unwrap();
                }
            }
            let error = error(&dir);
            assert!(matches!(error, BundleError::File { .. }), "{fault}: {error}");
            assert!(error.to_string().contains(&file.display().to_string()), "{fault}: {error}");
        }
    }
}

#[test]
fn a_name_that_leaves_the_folder_is_refused() {
    for name in ["../adapter.onnx", "/etc/passwd", "a/b", "..", ".", "", ".hidden", "a\\\\b", "manifest.toml"]
    {
        let dir = written();
        let dir = dir.path().join("tiny");
        edit_manifest(&dir, "\"adapter.onnx\"", &format!("\"{name}\""));
        let error = error(&dir);
        assert!(matches!(error, BundleError::Manifest { .. }), "{name}: {error}");
    }
}

#[test]
fn a_manifest_that_is_malformed_or_contradicts_itself_names_the_key() {
    for (from, to, named) in [
        ("format = 1", "format = 2", "format"),
        ("format = 1", "format = \"1\"", "format"),
        ("format = 1", "format = 1\nsurprise = 1", "surprise"),
        ("format = 1\n", "", "format"),
        ("name = \"tiny\"", "name = \"a b\"", "name"),
        ("name = \"tiny\"", "name = \"\"", "name"),
        ("version = \"0.0.0\"", "version = \" \"", "version"),
        ("width = 8", "width = 0", "preprocess.width"),
        ("width = 8", "width = 100000", "preprocess.width"),
        ("width = 8", "width = 16", "graphs.image_encoder"),
        ("\"squash\"", "\"stretch\"", "stretch"),
        ("dim = 8", "dim = 16", "graphs.image_encoder"),
        ("logit_scale = 10.0", "logit_scale = 0.0", "embedding.logit_scale"),
        ("logit_scale = 10.0", "logit_scale = nan", "embedding.logit_scale"),
        ("max_tokens = 12", "max_tokens = 2", "tokenizer.max_tokens"),
        ("vocab_size = 24", "vocab_size = 25", "graphs.decoder"),
        ("n_positions = 32", "n_positions = 4", "decoder.n_positions"),
        ("beam_width = 2", "beam_width = 0", "decoder.beam_width"),
        ("n_layer = 1", "n_layer = 2", "graphs.decoder"),
        ("unsure_below = ", "unsure_below = 1", "vqa.unsure_below"),
        ("\"adapter.onnx\"", "\"decoder.onnx\"", "decoder.onnx"),
        ("embedding: f32[B, 8]", "embedding: f32[B, 8", "graphs."),
        ("sha256 = \"", "sha256 = \"X", "sha256"),
    ] {
        let dir = written();
        let dir = dir.path().join("tiny");
        edit_manifest(&dir, from, to);
        let error = error(&dir);
        assert!(matches!(error, BundleError::Manifest { .. }), "{to}: {error}");
        assert!(error.to_string().contains(named), "{to}: {error}");
    }
}

#[test]
fn weights_of_one_kind_of_question_are_optional_whole_and_in_range() {
    let (manifest, _) = tiny_bundle(1);
    let plain = manifest.vqa.of_kind(caption::AnswerKind::Color);
    assert_eq!((plain.decoder_weight, plain.prior_weight, plain.temperature), (1.0, 0.0, 1.0));
    let dir = written();
    let dir = dir.path().join("tiny");
    let table = |temperature: &str| {
        format!(
            "[vqa.color]\ndecoder_weight = 0.5\nsimilarity_weight = 0.2\nprior_weight = 0.1\n\
             temperature = {temperature}\n\n[graphs.image_encoder]"
        )
    };
    edit_manifest(&dir, "[graphs.image_encoder]", &table("2.0"));
    let fitted = Bundle::open(&dir).unwrap().manifest().vqa.of_kind(caption::AnswerKind::Color);
    assert_eq!((fitted.decoder_weight, fitted.temperature), (0.5, 2.0));
    edit_manifest(&dir, "temperature = 2.0", "temperature = 0.0");
    assert!(error(&dir).to_string().contains("vqa.color.temperature"));
    edit_manifest(&dir, "temperature = 0.0\n", "");
    assert!(matches!(error(&dir), BundleError::Manifest { .. }));
}

#[test]
fn half_a_decoder_is_refused_by_the_missing_half() {
    let write = |change: fn(&mut caption::Manifest)| {
        let (mut manifest, files) = tiny_bundle(1);
        change(&mut manifest);
        let given: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let dir = tempfile::tempdir().unwrap();
        bundle::write(&dir.path().join("half"), manifest, &given).unwrap_err().to_string()
    };
    assert!(write(|manifest| manifest.graphs.adapter = None).contains("graphs.adapter: is missing"));
    assert!(write(|manifest| manifest.decoder = None).contains("graphs.adapter: is there, but no [decoder]"));
    let error = write(|manifest| manifest.tokenizer.pad = manifest.tokenizer.eos.clone());
    assert!(error.contains("pad: the tokenizer of a decoder"), "{error}");
    assert!(write(|manifest| manifest.tokenizer.bos = None).contains("bos: the tokenizer of a decoder"));
}

#[test]
fn captions_may_be_written_with_a_tokenizer_of_their_own() {
    let (mut manifest, mut files) = tiny_bundle(1);
    let own = caption::bundle::TokenizerSettings {
        file: "words.json".to_owned(),
        ..caption::testing::tokenizer_settings()
    };
    manifest.decoder.as_mut().unwrap().tokenizer = Some(own);
    // That of the text encoder writes nothing, and may be as CLIP's.
    manifest.tokenizer.pad = manifest.tokenizer.eos.clone();
    files.push(("words.json".to_owned(), caption::testing::tokenizer_json().into_bytes()));
    let given: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let dir = tempfile::tempdir().unwrap();
    bundle::write(&dir.path().join("own"), manifest, &given).unwrap();
    let opened = Bundle::open(&dir.path().join("own")).unwrap();
    assert_eq!(opened.manifest().decoder_tokenizer().file, "words.json");
    let engine = engine::open("tract").unwrap();
    caption::Models::load(&opened, &*engine, &engine::EngineOptions::default()).unwrap();
}

#[test]
fn an_oversized_manifest_is_not_read_to_its_end() {
    let dir = written();
    let dir = dir.path().join("tiny");
    fs::write(dir.join(MANIFEST_FILE), vec![b'#'; 300 * 1024]).unwrap();
    assert!(matches!(error(&dir), BundleError::Manifest { .. }));
}

#[test]
fn no_cut_of_a_manifest_panics() {
    let dir = written();
    let text = fs::read_to_string(dir.path().join("tiny").join(MANIFEST_FILE)).unwrap();
    for (idx, _) in text.char_indices() {
        let cut: String = text.chars().take(idx).collect();
        assert!(bundle::parse(&cut).is_err() || cut.trim_end() == text.trim_end());
    }
}

#[test]
fn writing_refuses_what_could_not_be_opened_and_leaves_the_folder_alone() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("tiny");
    write_tiny_bundle(&at, 1).unwrap();
    let before = Bundle::open(&at).unwrap().id().to_owned();

    let (manifest, files) = tiny_bundle(2);
    let given: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let without_decoder: Vec<_> = given.iter().copied().filter(|(name, _)| *name != "decoder.onnx").collect();
    let mut deeper = manifest.clone();
    deeper.decoder.as_mut().unwrap().n_layer = 3;
    let escaping = [given.clone(), vec![("../escaped", &b"x"[..])]].concat();
    for (manifest, files) in [(&manifest, &without_decoder), (&deeper, &given), (&manifest, &escaping)] {
        assert!(bundle::write(&at, manifest.clone(), files).is_err());
        assert_eq!(Bundle::open(&at).unwrap().id(), before);
    }
    let notice = [given, vec![("NOTICE", &b"thanks"[..])]].concat();
    bundle::write(&at, manifest, &notice).unwrap();
    assert_ne!(Bundle::open(&at).unwrap().id(), before);
    assert_eq!(fs::read(at.join("NOTICE")).unwrap(), b"thanks");
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tiny"]);
}

#[test]
fn the_example_of_the_documentation_is_a_manifest() {
    let doc = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/bundle.md")).unwrap();
    let example = doc.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let manifest = bundle::parse(example).unwrap();
    // Every key is in the example, so it documents all of them.
    assert!(manifest.bridge.is_some() && manifest.memory.is_some());
    assert!(manifest.decoder.as_ref().is_some_and(|decoder| decoder.rerank.is_some()));
    let again = bundle::parse(&toml::to_string(&manifest).unwrap()).unwrap();
    assert_eq!(again, manifest);
}
