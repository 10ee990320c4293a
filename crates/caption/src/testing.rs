//! A bundle for tests: every part is there, small and random, so that it is made in memory within
//! milliseconds. Its captions are sentences in form only.

use engine::testing::OnnxFile;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::bundle::{
    DecoderSettings, EmbeddingSettings, FORMAT, Filter, GraphFile, Graphs, Manifest, PreprocessSettings,
    Resize, Role, TokenizerSettings, VqaSettings,
};

const WORDS: [&str; 24] = [
    "<pad>", "<bos>", "<eos>", "<unk>", "a", "dog", "cat", "ball", "man", "runs", "sits", "red", "blue",
    "on", "grass", "two", "yes", "no", "is", "there", "the", ".", "photo", "of",
];
const DIM: usize = 8;
const N_PATCHES: usize = 4;
const SIDE: usize = 8;

/// Name and bytes of each file of [`tiny_bundle`].
pub type Files = Vec<(String, Vec<u8>)>;

/// The manifest and the files of a bundle, ready for [`write`](crate::bundle::write). One seed gives
/// the same bundle every time.
pub fn tiny_bundle(seed: u64) -> (Manifest, Files) {
    let manifest = manifest();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect() };
    let graphs = [
        ("image_encoder.onnx", image_encoder(&manifest, &mut random)),
        ("text_encoder.onnx", text_encoder(&manifest, &mut random)),
        ("adapter.onnx", adapter(&manifest, &mut random)),
        ("decoder.onnx", decoder(&manifest, &mut random)),
    ];
    let mut files: Files = graphs.into_iter().map(|(name, file)| (name.to_owned(), file.bytes())).collect();
    files.push(("tokenizer.json".to_owned(), tokenizer_json().into_bytes()));
    (manifest, files)
}

/// Writes [`tiny_bundle`] to a folder.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_tiny_bundle(dir: &std::path::Path, seed: u64) -> Result<Manifest, crate::BundleError> {
    let (manifest, files) = tiny_bundle(seed);
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    crate::bundle::write(dir, manifest, &files)
}

/// A word-level tokenizer of a few words, lower-casing, with `<pad>` 0, `<bos>` 1, `<eos>` 2.
pub fn tokenizer_json() -> String {
    let vocab: Vec<String> = WORDS.iter().enumerate().map(|(id, word)| format!("{word:?}: {id}")).collect();
    let special = |id: usize| {
        format!(
            r#"{{"id": {id}, "content": {:?}, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}}"#,
            WORDS[id]
        )
    };
    format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [{}, {}, {}], "normalizer": {{"type": "Lowercase"}},
            "pre_tokenizer": {{"type": "Whitespace"}}, "post_processor": null, "decoder": null,
            "model": {{"type": "WordLevel", "vocab": {{{}}}, "unk_token": "<unk>"}}}}"#,
        special(0),
        special(1),
        special(2),
        vocab.join(", ")
    )
}

/// The settings that go with [`tokenizer_json`].
pub fn tokenizer_settings() -> TokenizerSettings {
    TokenizerSettings {
        file: "tokenizer.json".to_owned(),
        bytes: 0,
        sha256: String::new(),
        bos: Some("<bos>".to_owned()),
        eos: "<eos>".to_owned(),
        pad: "<pad>".to_owned(),
        vocab_size: WORDS.len(),
        max_tokens: 12,
        padded: false,
    }
}

fn decoder_settings() -> DecoderSettings {
    DecoderSettings {
        prefix_length: 2,
        n_layer: 1,
        n_head: 1,
        head_dim: DIM,
        n_positions: 32,
        max_new_tokens: 8,
        beam_width: 2,
        tokenizer: None,
        rerank: None,
    }
}

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        name: "tiny".to_owned(),
        version: "0.0.0".to_owned(),
        license: "MIT OR Apache-2.0: the weights are random".to_owned(),
        provenance: "made by a test".to_owned(),
        preprocess: PreprocessSettings {
            width: SIDE,
            height: SIDE,
            resize: Resize::Squash,
            shortest: None,
            filter: Filter::Bicubic,
            mean: [127.5; 3],
            std: [127.5; 3],
        },
        embedding: EmbeddingSettings { dim: DIM, logit_scale: 10.0, patches: [2, N_PATCHES / 2] },
        tokenizer: tokenizer_settings(),
        decoder: Some(decoder_settings()),
        vqa: VqaSettings {
            unsure_below: 0.6,
            decoder_weight: 1.0,
            similarity_weight: 1.0,
            ..VqaSettings::default()
        },
        regions: None,
        bridge: None,
        memory: None,
        tags: None,
        confidence: None,
        graphs: Graphs {
            image_encoder: GraphFile::new("image_encoder.onnx"),
            text_encoder: GraphFile::new("text_encoder.onnx"),
            adapter: Some(GraphFile::new("adapter.onnx")),
            decoder: Some(GraphFile::new("decoder.onnx")),
        },
    }
}

/// A file with the ports of a graph of this role around what `nodes` adds.
fn with_ports(manifest: &Manifest, role: Role, nodes: impl FnOnce(OnnxFile) -> OnnxFile) -> OnnxFile {
    let signature = manifest.signature(role).unwrap_or_default();
    let file = signature.inputs.into_iter().fold(OnnxFile::new(), OnnxFile::input);
    signature.outputs.into_iter().fold(nodes(file), OnnxFile::output)
}

/// `to = from / |from|` over the last axis.
fn normalized(file: OnnxFile, from: &str, to: &str) -> OnnxFile {
    let [square, sum, norm] = ["square", "sum", "norm"].map(|step| format!("{to}_{step}"));
    file.node("Mul", &[from, from], &[&square], &[])
        .node("ReduceSum", &[&square, "last"], &[&sum], &[("keepdims", 1)])
        .node("Sqrt", &[&sum], &[&norm], &[])
        .node("Div", &[from, &norm], &[to], &[])
}

fn image_encoder(manifest: &Manifest, random: &mut impl FnMut(usize) -> Vec<f32>) -> OnnxFile {
    let patch = 3 * SIDE * SIDE / N_PATCHES;
    let file = with_ports(manifest, Role::ImageEncoder, |file| {
        file.stored_i64("last", &[1], &[-1])
            .stored_i64("grid", &[3], &[1, N_PATCHES as i64, patch as i64])
            .stored_i64("row", &[2], &[1, N_PATCHES as i64])
            .stored_i64("one", &[1], &[1])
            .stored_f32("project", &[patch, DIM], &random(patch * DIM))
            .stored_f32("bias", &[DIM], &random(DIM))
            .stored_f32("query", &[DIM, 1], &random(DIM))
            .node("Reshape", &["pixels", "grid"], &["flat"], &[])
            .node("MatMul", &["flat", "project"], &["projected"], &[])
            .node("Add", &["projected", "bias"], &["features"], &[])
            .node("MatMul", &["features", "query"], &["scores"], &[])
            .node("Reshape", &["scores", "row"], &["score_row"], &[])
            .node("Softmax", &["score_row"], &["weights"], &[("axis", -1)])
            .node("Unsqueeze", &["weights", "one"], &["pooling"], &[])
    });
    let file = normalized(file, "features", "patches");
    let file = file.node("MatMul", &["pooling", "patches"], &["pooled_row"], &[]).node(
        "Squeeze",
        &["pooled_row", "one"],
        &["pooled"],
        &[],
    );
    normalized(file, "pooled", "embedding")
}

fn text_encoder(manifest: &Manifest, random: &mut impl FnMut(usize) -> Vec<f32>) -> OnnxFile {
    let file = with_ports(manifest, Role::TextEncoder, |file| {
        file.stored_i64("last", &[1], &[-1])
            .stored_i64("end", &[1], &[i64::from(i32::MAX)])
            .stored_i64("one", &[1], &[1])
            .stored_f32("table", &[WORDS.len(), DIM], &random(WORDS.len() * DIM))
            .node("Gather", &["table", "ids"], &["tokens"], &[])
            .node("Softmax", &["mask"], &["attention"], &[("axis", -1)])
            .node("MatMul", &["attention", "tokens"], &["mixed"], &[])
            .node("Slice", &["mixed", "last", "end", "one"], &["last_row"], &[])
            .node("Squeeze", &["last_row", "one"], &["features"], &[])
    });
    normalized(file, "features", "embedding")
}

fn adapter(manifest: &Manifest, random: &mut impl FnMut(usize) -> Vec<f32>) -> OnnxFile {
    let settings = decoder_settings();
    let (length, width) = (settings.prefix_length, settings.n_embd());
    with_ports(manifest, Role::Adapter, |file| {
        file.stored_f32("project", &[DIM, length * width], &random(DIM * length * width))
            .stored_i64("shape", &[3], &[0, length as i64, width as i64])
            .node("MatMul", &["embedding", "project"], &["flat"], &[])
            .node("Reshape", &["flat", "shape"], &["prefix"], &[])
    })
}

/// One layer whose attention is the plain mean over all positions.
fn decoder(manifest: &Manifest, random: &mut impl FnMut(usize) -> Vec<f32>) -> OnnxFile {
    let settings = decoder_settings();
    let (width, n_positions) = (settings.n_embd(), settings.n_positions);
    let mut table = random(WORDS.len() * width);
    table[..width].fill(0.0);
    let logits: Vec<f32> = random(width * WORDS.len()).iter().map(|x| 3.0 * x).collect();
    with_ports(manifest, Role::Decoder, |file| {
        file.stored_f32("table", &[WORDS.len(), width], &table)
            .stored_f32("places", &[n_positions, width], &random(n_positions * width))
            .stored_f32("to_key", &[width, width], &random(width * width))
            .stored_f32("to_value", &[width, width], &random(width * width))
            .stored_f32("to_logits", &[width, WORDS.len()], &logits)
            .stored_i64("one", &[1], &[1])
            .stored_i64("two", &[1], &[2])
            .stored_i64("last", &[1], &[-1])
            .stored_i64("end", &[1], &[i64::from(i32::MAX)])
            .node("Gather", &["table", "ids"], &["tokens"], &[])
            .node("Gather", &["places", "positions"], &["place"], &[])
            .node("Add", &["tokens", "prefix"], &["meant"], &[])
            .node("Add", &["meant", "place"], &["x"], &[])
            .node("MatMul", &["x", "to_key"], &["new_key"], &[])
            .node("MatMul", &["x", "to_value"], &["new_value"], &[])
            .node("Unsqueeze", &["new_key", "one"], &["new_key_head"], &[])
            .node("Unsqueeze", &["new_value", "one"], &["new_value_head"], &[])
            .node("Concat", &["past_key_0", "new_key_head"], &["key_0"], &[("axis", 2)])
            .node("Concat", &["past_value_0", "new_value_head"], &["value_0"], &[("axis", 2)])
            .node("Mul", &["key_0", "value_0"], &["both"], &[])
            .node("ReduceSum", &["both", "two"], &["summed"], &[("keepdims", 0)])
            .node("Slice", &["x", "last", "end", "one"], &["newest"], &[])
            .node("Add", &["summed", "newest"], &["mixed"], &[])
            .node("Tanh", &["mixed"], &["bounded"], &[])
            .node("Squeeze", &["bounded", "one"], &["features"], &[])
            .node("MatMul", &["features", "to_logits"], &["logits"], &[])
    })
}
