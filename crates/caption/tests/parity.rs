//! The bundled model under each engine against onnxruntime by another way, whose figures `scripts/parity.py` wrote.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use caption::bundle::Role;
use caption::{Bridge, Bundle, Captioner, ImageEncoder, Memory, TextEncoder, Tokenizer, preprocess};
use engine::{EngineOptions, Graph};
use image::{Rgb, RgbImage};
use serde::Deserialize;

/// Largest difference of one coordinate of a unit embedding between the engines.
const CROSS_ENGINE: f32 = 2e-3;
/// Smallest cosine of embeddings by a quantized encoder: a sum that ends on the other side of a half is a step apart, and
/// so are others after it. That of the graph with its own f32 form is 0.995.
const QUANTIZED_COSINE: f32 = 0.995;
/// As above where JPEG decoding and resizing differ by a grey level too.
const CROSS_DECODER_COSINE: f32 = 0.99;
/// A greedy caption must be equal up to the first token whose logit leads the next best one by less.
const MARGIN: f32 = 0.05;
/// The same where rows are quantized to int8 on the way, which moves logits.
const INT8_MARGIN: f32 = 0.5;
/// Smallest cosine of a sentence's embedding with rows in int8 and the one in f32.
const INT8_COSINE: f32 = 0.999;

#[derive(Deserialize)]
struct Fixture {
    bundle: Identity,
    images: Vec<Seen>,
    patterns: Vec<Seen>,
    texts: Vec<Text>,
}

#[derive(Deserialize)]
struct Identity {
    id: String,
}

#[derive(Deserialize)]
struct Seen {
    image: Option<String>,
    pattern: Option<u32>,
    embedding: Vec<f32>,
    margins: Vec<f32>,
    text: String,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    embedding: Vec<f32>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn fixture() -> Fixture {
    let path = root().join("tests/golden/lite.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn bundle() -> Bundle {
    Bundle::open(&root().join("models/lite")).unwrap()
}

/// The engines of the build, but for ONNX Runtime without its library.
fn engines() -> impl Iterator<Item = &'static str> {
    let has_library = |name: &&&str| **name != "ort" || library().is_some();
    engine::ENGINES.iter().filter(has_library).copied()
}

/// Looked for once: a process has one.
fn library() -> Option<&'static PathBuf> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    LIBRARY.get_or_init(engine::testing::onnxruntime_library).as_ref()
}

/// In f32 wherever the graph leaves the choice, as onnxruntime computes it.
fn graph(engine: &str, bundle: &Bundle, role: Role) -> Box<dyn Graph> {
    loaded(engine, bundle, role, false)
}

fn loaded(engine: &str, bundle: &Bundle, role: Role, int8_rows: bool) -> Box<dyn Graph> {
    let manifest = bundle.manifest();
    let onnx = bundle.file(&manifest.graphs.get(role).unwrap().file).unwrap();
    let engine = engine::open(engine).unwrap();
    let options = EngineOptions { int8_rows, library: library().cloned(), ..EngineOptions::default() };
    engine.load(role.name(), onnx, &manifest.signature(role).unwrap(), &options).unwrap()
}

fn tokenizer(bundle: &Bundle) -> Arc<Tokenizer> {
    let settings = &bundle.manifest().tokenizer;
    Arc::new(Tokenizer::parse(bundle.file(&settings.file).unwrap(), settings).unwrap())
}

/// The greedy captioner with the bundle's bridge and memory before it.
struct Greedy {
    captioner: Captioner,
    bridge: Option<Bridge>,
    memory: Option<Memory>,
}

impl Greedy {
    fn new(engine: &str, bundle: &Bundle) -> Greedy {
        Greedy::with(engine, bundle, false)
    }

    fn with(engine: &str, bundle: &Bundle, int8_rows: bool) -> Greedy {
        let manifest = bundle.manifest();
        let mut settings = manifest.decoder.clone().unwrap();
        settings.beam_width = 1;
        settings.rerank = None;
        let [adapter, decoder] =
            [Role::Adapter, Role::Decoder].map(|role| loaded(engine, bundle, role, int8_rows));
        let dim = manifest.embedding.dim;
        Greedy {
            captioner: Captioner::new(adapter, decoder, tokenizer(bundle), &settings).unwrap(),
            bridge: manifest
                .bridge
                .as_ref()
                .map(|bridge| Bridge::parse(bundle.file(&bridge.file).unwrap(), dim).unwrap()),
            memory: manifest
                .memory
                .as_ref()
                .map(|memory| Memory::parse(bundle.file(&memory.file).unwrap(), dim, memory.tau).unwrap()),
        }
    }

    fn caption(&mut self, embedding: &[f32]) -> String {
        let mut input = embedding.to_vec();
        if let Some(bridge) = &self.bridge {
            input = bridge.apply(&input);
        }
        if let Some(memory) = &self.memory {
            input = memory.apply(&input);
        }
        self.captioner.caption(&input, &[]).unwrap().text
    }
}

/// Pixel (y, x) of channel c of pattern k is (x div 16 (23 + 18 k) + y div 16 (41 + 10 k) + 67 c) mod 256.
fn pattern(k: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([0, 1, 2].map(|c| ((x / 16 * (23 + 18 * k) + y / 16 * (41 + 10 * k) + 67 * c) % 256) as u8))
    })
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn is_decided(seen: &Seen) -> bool {
    seen.margins.iter().all(|margin| *margin > MARGIN)
}

/// Words before the first token that leads by `margin` or less are sure to be the same; a token is a word or less.
fn n_sure_words(seen: &Seen, margin: f32) -> usize {
    let n_tokens = seen.margins.iter().take_while(|found| **found > margin).count();
    if n_tokens == seen.margins.len() { usize::MAX } else { n_tokens / 2 }
}

#[test]
fn the_fixture_belongs_to_the_bundle() {
    assert_eq!(fixture().bundle.id, bundle().id(), "run scripts/parity.py");
}

#[test]
fn patterns_have_onnxruntimes_embeddings_and_captions() {
    let bundle = bundle();
    let settings = bundle.manifest().preprocess.clone();
    for engine in engines() {
        let mut encoder = ImageEncoder::new(graph(engine, &bundle, Role::ImageEncoder));
        let mut greedy = Greedy::new(engine, &bundle);
        let mut n_compared = 0;
        for seen in fixture().patterns {
            let image = pattern(seen.pattern.unwrap(), settings.width as u32, settings.height as u32);
            let view = encoder.encode(&preprocess(&image, &settings)).unwrap();
            let cosine = cosine(&view.embedding, &seen.embedding);
            assert!(cosine >= QUANTIZED_COSINE, "pattern {:?}: cosine {cosine}", seen.pattern);
            if is_decided(&seen) {
                assert_eq!(greedy.caption(&seen.embedding), seen.text.trim(), "pattern {:?}", seen.pattern);
                n_compared += 1;
            }
        }
        assert!(n_compared > 0, "every pattern's caption hangs on a margin below {MARGIN}");
    }
}

#[test]
fn photos_have_onnxruntimes_embeddings_and_captions() {
    let bundle = bundle();
    let settings = bundle.manifest().preprocess.clone();
    for engine in engines() {
        let mut encoder = ImageEncoder::new(graph(engine, &bundle, Role::ImageEncoder));
        let mut greedy = Greedy::new(engine, &bundle);
        let (mut n_decided, mut n_equal) = (0, 0);
        for seen in fixture().images {
            let name = seen.image.clone().unwrap();
            let photo = image::open(root().join(&name)).unwrap().into_rgb8();
            let view = encoder.encode(&preprocess(&photo, &settings)).unwrap();
            let cosine = cosine(&view.embedding, &seen.embedding);
            assert!(cosine >= CROSS_DECODER_COSINE, "{engine}: {name}: cosine {cosine}");
            // From onnxruntime's own embedding, so that the decoders are compared and not the JPEG libraries.
            if is_decided(&seen) {
                n_decided += 1;
                n_equal += usize::from(greedy.caption(&seen.embedding) == seen.text.trim());
            }
        }
        assert!(n_decided > 0, "every photo's caption hangs on a margin below {MARGIN}");
        assert_eq!(n_equal, n_decided, "captions differ");
    }
}

#[test]
fn sentences_have_onnxruntimes_embeddings() {
    let bundle = bundle();
    for engine in engines() {
        let mut encoder =
            TextEncoder::new(graph(engine, &bundle, Role::TextEncoder), tokenizer(&bundle)).unwrap();
        for text in fixture().texts {
            let embedding = encoder.encode(&[&text.text]).unwrap().remove(0);
            let worst =
                embedding.iter().zip(&text.embedding).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
            assert!(worst <= CROSS_ENGINE, "{:?} differs by {worst}", text.text);
        }
    }
}

#[test]
fn rows_in_int8_say_the_same_wherever_the_margin_is_wide() {
    let bundle = bundle();
    for engine in engines() {
        let mut greedy = Greedy::with(engine, &bundle, true);
        let (mut n_words, mut n_whole) = (0, 0);
        for seen in fixture().images.iter().chain(&fixture().patterns) {
            let caption = greedy.caption(&seen.embedding);
            let sure = n_sure_words(seen, INT8_MARGIN);
            let [found, expected] =
                [&*caption, seen.text.trim()].map(|text| text.split(' ').take(sure).collect::<Vec<_>>());
            assert_eq!(found, expected, "{:?} {:?}", seen.image, seen.pattern);
            n_words += expected.len();
            n_whole += usize::from(caption == seen.text.trim());
        }
        assert!(n_words > 0 && n_whole > 0, "{n_words} words and {n_whole} whole captions were compared");
    }
}

#[test]
fn sentences_keep_their_embeddings_with_rows_in_int8() {
    let bundle = bundle();
    for engine in engines() {
        let graph = loaded(engine, &bundle, Role::TextEncoder, true);
        let mut encoder = TextEncoder::new(graph, tokenizer(&bundle)).unwrap();
        for text in fixture().texts {
            let cosine = cosine(&encoder.encode(&[&text.text]).unwrap().remove(0), &text.embedding);
            assert!(cosine >= INT8_COSINE, "{:?}: cosine {cosine}", text.text);
        }
    }
}
