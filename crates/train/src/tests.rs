//! The trainer end to end on a corpus of a few sentences, and its graphs against its networks.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Int, Tensor};
use caption::normal;
use clap::Parser;
use engine::{Graph, TensorView};

use crate::decoder::{self, DecoderArgs};
use crate::export;
use crate::model::{
    AdapterConfig, Decoder, DecoderConfig, ImageHead, ImageHeadConfig, TextEncoder, TextEncoderConfig,
};
use crate::text::{self, TextArgs};
use crate::training::step_rng;

/// Largest difference between an f32 network and its graph, whose weights are stored as int8.
const INT8_TOLERANCE: f32 = 0.05;

/// The random numbers of a backend are one stream a process: a test that draws from it, if only to make a network,
/// does so alone, or the reproducible runs would not be.
fn alone() -> MutexGuard<'static, ()> {
    static RANDOM: Mutex<()> = Mutex::new(());
    RANDOM.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a test gives replaces what its helper gave.
#[derive(Parser)]
#[command(args_override_self = true)]
struct Args<T: clap::Args> {
    #[command(flatten)]
    args: T,
}

fn parse<T: clap::Args>(args: &[&str]) -> T {
    Args::<T>::parse_from(std::iter::once("test").chain(args.iter().copied())).args
}

fn load(onnx: &[u8]) -> Box<dyn Graph> {
    crate::graph::load("test", onnx).unwrap()
}

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = step_rng(seed, 0);
    (0..n).map(|_| normal(&mut rng)).collect()
}

fn assert_close(graph: &[f32], network: &[f32], tolerance: f32) {
    assert_eq!(graph.len(), network.len());
    let scale = network.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let worst = graph.iter().zip(network).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= tolerance * scale, "differ by {worst} where the largest value is {scale}");
}

#[test]
fn text_encoder_graph_equals_the_network() {
    let _alone = alone();
    let device = Device::flex();
    let config = TextEncoderConfig {
        vocab_size: 50,
        n_layer: 2,
        n_head: 2,
        d: 32,
        d_mlp: 64,
        embed_dim: 24,
        max_tokens: 12,
    };
    let model = TextEncoder::new(&config, &device);
    let ids: Vec<i64> = vec![1, 5, 9, 2, 1, 7, 8, 2];
    let tensor = Tensor::<1, Int>::from_data(ids.as_slice(), &device).reshape([2, 4]);
    let network = export::values(crate::model::normalize(model.forward(tensor))).unwrap();
    let mut graph = load(&export::text::text_encoder(&model, "0").unwrap());
    let mask: Vec<f32> = (0..16).map(|i| if i % 4 <= i / 4 { 0.0 } else { -1e9 }).collect();
    let outputs = graph
        .run(&[
            ("ids", TensorView::I64 { shape: &[2, 4], data: &ids }),
            ("mask", TensorView::F32 { shape: &[4, 4], data: &mask }),
        ])
        .unwrap();
    assert_close(outputs[0].as_f32().unwrap(), &network, INT8_TOLERANCE);
}

/// Prefill, then one step a token, against one pass of the network over the whole sequence.
fn assert_graphs_equal_the_network(adapter: AdapterConfig) {
    let device = Device::flex();
    let config = DecoderConfig {
        vocab_size: 50,
        n_layer: 2,
        n_head: 2,
        d: 64,
        d_mlp: 64,
        embed_dim: 24,
        prefix_length: 3,
        adapter,
        max_positions: 16,
        dropout: 0.0,
    };
    let model = Decoder::new(&config, &device);
    let n_rows = adapter.n_rows();
    let regions_shape = [1, n_rows, 24];
    let mut rows = random(n_rows * 24, 3);
    rows.chunks_exact_mut(24).for_each(|row| {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    });
    let ids: Vec<i64> = vec![1, 5, 9, 7];
    let network = export::values(model.forward(
        Tensor::<1>::from_data(rows.as_slice(), &device).reshape([1, n_rows, 24]),
        Tensor::<1, Int>::from_data(ids.as_slice(), &device).reshape([1, 4]),
    ))
    .unwrap();
    let mut adapter_graph = load(&export::adapter::adapter(&model, &config).unwrap());
    let mut decoder = load(&export::decoder::decoder(&model).unwrap());
    let prefix = adapter_graph
        .run(&[match adapter {
            AdapterConfig::Queries { .. } => {
                ("regions", TensorView::F32 { shape: &regions_shape, data: &rows })
            }
            _ => ("embedding", TensorView::F32 { shape: &[1, 24], data: &rows }),
        }])
        .unwrap()
        .remove(0);
    let mut cache: Vec<engine::Tensor> = (0..4).map(|_| engine::Tensor::f32([1, 2, 0, 32], vec![])).collect();
    let names: Vec<String> =
        (0..2).flat_map(|i| [format!("past_key_{i}"), format!("past_value_{i}")]).collect();
    let mut step = |ids: &[i64], first: usize, prefix: &[f32]| -> Vec<f32> {
        let s = ids.len();
        let positions: Vec<i64> = (first..first + s).map(|p| p as i64).collect();
        let (ids_shape, positions_shape, prefix_shape) = ([1, s], [s], [1, s, 64]);
        let mut inputs = vec![
            ("ids", TensorView::I64 { shape: &ids_shape, data: ids }),
            ("positions", TensorView::I64 { shape: &positions_shape, data: &positions }),
            ("prefix", TensorView::F32 { shape: &prefix_shape, data: prefix }),
        ];
        for (name, past) in names.iter().zip(&cache) {
            inputs.push((name, past.view()));
        }
        let mut outputs = decoder.run(&inputs).unwrap();
        let logits = outputs.remove(0).into_f32().unwrap();
        cache = outputs;
        logits
    };
    step(&[0, 0, 0], 0, prefix.as_f32().unwrap());
    for (i, id) in ids.iter().enumerate() {
        let logits = step(&[*id], 3 + i, &[0.0; 64]);
        // `pad` is never produced; its embedding is zeroed in the graph alone.
        assert_close(&logits[1..], &network[i * 50 + 1..(i + 1) * 50], INT8_TOLERANCE);
    }
}

#[test]
fn adapter_and_decoder_graph_with_cache_equal_the_network_without() {
    let _alone = alone();
    assert_graphs_equal_the_network(AdapterConfig::Linear);
}

#[test]
fn queries_over_regions_equal_the_network() {
    let _alone = alone();
    assert_graphs_equal_the_network(AdapterConfig::Queries { n_regions: 5 });
}

#[test]
fn the_mapping_network_equals_its_graph() {
    let _alone = alone();
    assert_graphs_equal_the_network(AdapterConfig::Transformer { n_layer: 2 });
}

/// A stand-in for the backbone with its names: one convolution from 224x224 to 7x7x192.
fn toy_backbone() -> Vec<u8> {
    use export::builder::{Attr, Builder, Dim, Storage};
    let mut b = Builder::new("toy");
    b.input(
        "image",
        engine::onnx::pb::tensor_proto::DataType::Float,
        &[Dim::N(1), Dim::N(3), Dim::N(224), Dim::N(224)],
    );
    let w = b.weight("w0", &[192, 3, 32, 32], &random(192 * 3 * 32 * 32, 5), Storage::F32);
    let attrs = vec![("strides", Attr::Ints(vec![32, 32])), ("kernel_shape", Attr::Ints(vec![32, 32]))];
    b.node_to("Conv", &["image", &w], &["t71"], attrs);
    b.finish()
}

#[test]
fn image_encoder_graph_equals_backbone_and_head() {
    let _alone = alone();
    let device = Device::flex();
    let config = ImageHeadConfig {
        d_expand: 64,
        d_hidden: 32,
        n_pool: 4,
        embed_dim: 24,
        dropout_in: 0.2,
        dropout: 0.2,
    };
    let head = ImageHead::new(&config, &device);
    let backbone = toy_backbone();
    let pixels = random(3 * 224 * 224, 6);
    let view = TensorView::F32 { shape: &[1, 3, 224, 224], data: &pixels };
    let grid = load(&export::image::backbone_grid(&backbone).unwrap()).run(&[("image", view)]).unwrap();
    let grid = grid[0].as_f32().unwrap();
    let cells: Vec<f32> = (0..49 * 192).map(|i| grid[i % 192 * 49 + i / 192]).collect();
    let network = head.forward_all(Tensor::<1>::from_data(cells.as_slice(), &device).reshape([1, 49, 192]));
    let mut graph = load(&export::image::image_encoder(&backbone, &head, 4).unwrap());
    let outputs = graph.run(&[("pixels", view)]).unwrap();
    let f32s = |i: usize| outputs[i].as_f32().unwrap();
    assert_close(f32s(0), &export::values(network.embedding).unwrap(), INT8_TOLERANCE);
    assert_close(f32s(1), &export::values(network.patches).unwrap(), INT8_TOLERANCE);
    assert_close(f32s(2), &export::values(network.weights).unwrap(), INT8_TOLERANCE);
    assert!((f32s(2).iter().sum::<f32>() - 1.0).abs() < 1e-4);
}

const SENTENCES: [&str; 8] = include!("../tests/faults/support/sentences.in");

/// A teacher, a corpus and a dev split, all invented.
fn toy_data(dir: &Path) {
    let teacher = dir.join("teacher");
    std::fs::create_dir_all(&teacher).unwrap();
    std::fs::create_dir_all(dir.join("text")).unwrap();
    for name in ["train", "dev"] {
        std::fs::write(teacher.join(format!("{name}.txt")), SENTENCES.join("\n") + "\n").unwrap();
        let rows: Vec<u8> = (0..SENTENCES.len())
            .flat_map(|i| {
                let row = random(text::EMBED_DIM, 10 + i as u64 / 2);
                let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                row.into_iter().flat_map(move |x| half::f16::from_f32(x / norm).to_le_bytes())
            })
            .collect();
        std::fs::write(teacher.join(format!("{name}.f16")), rows).unwrap();
    }
    let pair = |split: &str, caption: &str| {
        serde_json::json!({"image": "x.jpg", "source": "toy", "split": split, "captions": [caption]})
            .to_string()
    };
    let pairs = [pair("train", "a bird"), pair("dev", "a fish in a bowl")].join("\n");
    std::fs::write(dir.join("pairs.jsonl"), pairs).unwrap();
    let mut corpus = flate2::write::GzEncoder::new(
        std::fs::File::create(dir.join("text/corpus.jsonl.gz")).unwrap(),
        flate2::Compression::fast(),
    );
    for (i, sentence) in SENTENCES.iter().chain(&["A fish in a bowl."]).enumerate() {
        let row = serde_json::json!({"text": sentence, "source": "toy", "image_id": (i / 2).to_string()});
        std::io::Write::write_all(&mut corpus, format!("{row}\n").as_bytes()).unwrap();
    }
    corpus.finish().unwrap();
}

fn toy_text(dir: &Path, device: &Device) {
    let (teacher, out) = (dir.join("teacher"), dir.join("run-text"));
    let args: TextArgs = parse(&[
        "--teacher",
        teacher.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--vocab-size",
        "320",
        "--n-layer",
        "1",
        "--d",
        "64",
        "--steps",
        "4",
        "--batch",
        "4",
        "--warmup-steps",
        "1",
    ]);
    text::run(&args, device).unwrap();
}

fn decoder_args(dir: &Path, out: &str, more: &[&str]) -> DecoderArgs {
    let (data, text, out) = (dir.to_owned(), dir.join("run-text"), dir.join(out));
    let cache = dir.join("cache");
    let mut args = vec!["--data", data.to_str().unwrap(), "--text", text.to_str().unwrap()];
    args.extend(["--cache", cache.to_str().unwrap(), "--preset", "capdec"]);
    args.extend(["--out", out.to_str().unwrap(), "--sources", "toy", "--n-layer", "1", "--d", "64"]);
    args.extend(["--d-mlp", "64", "--steps", "6", "--batch", "4", "--warmup-steps", "2"]);
    args.extend(more);
    parse(&args)
}

#[test]
fn a_stopped_and_resumed_run_ends_where_an_uninterrupted_one_does() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let device = Device::flex().autodiff();
    toy_data(dir.path());
    toy_text(dir.path(), &device);
    decoder::run(&decoder_args(dir.path(), "whole", &[]), &device).unwrap();
    decoder::run(&decoder_args(dir.path(), "parts", &["--stop-at", "3"]), &device).unwrap();
    assert!(!dir.path().join("parts/decoder.onnx").exists(), "a stopped run exports nothing");
    decoder::run(&decoder_args(dir.path(), "parts", &[]), &device).unwrap();
    let read = |out: &str| std::fs::read(dir.path().join(out).join("decoder.onnx")).unwrap();
    assert!(read("whole") == read("parts"), "the exported decoders differ");
}

#[test]
fn a_corpus_without_usable_sentences_is_refused_by_name() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let device = Device::flex().autodiff();
    toy_data(dir.path());
    toy_text(dir.path(), &device);
    let mut args = decoder_args(dir.path(), "none", &[]);
    args.sources = vec!["absent".to_owned()];
    let error = decoder::run(&args, &device).unwrap_err();
    assert!(format!("{error:#}").contains("no usable sentence of the sources absent"), "{error:#}");
}

#[test]
fn a_checkpoint_of_other_arguments_is_refused() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let device = Device::flex().autodiff();
    toy_data(dir.path());
    toy_text(dir.path(), &device);
    decoder::run(&decoder_args(dir.path(), "run", &["--stop-at", "2"]), &device).unwrap();
    let error = decoder::run(&decoder_args(dir.path(), "run", &["--seed", "2"]), &device).unwrap_err();
    assert!(format!("{error:#}").contains("other arguments"), "{error:#}");
}

#[test]
fn dev_wording_never_enters_the_corpus() {
    let dir = tempfile::tempdir().unwrap();
    toy_data(dir.path());
    let filter =
        crate::data::CorpusFilter { sources: vec!["toy".to_owned()], exclude_pairs: false, words_max: 25 };
    let groups = crate::data::corpus_groups(dir.path(), &filter).unwrap();
    assert_eq!(groups.iter().flatten().count(), SENTENCES.len());
    assert_eq!(groups.len(), SENTENCES.len() / 2, "two captions share each photo");
}

#[test]
fn the_captions_of_the_encoders_photos_are_a_source_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    toy_data(dir.path());
    let pair = |split: &str, captions: &[&str]| {
        serde_json::json!({"image": "x.jpg", "source": "toy", "split": split, "captions": captions})
            .to_string()
    };
    let train = pair(
        "train",
        &["A bird on  a branch.", "a bird on a branch", "Birds in a tree.", "A fish in a bowl!"],
    );
    let pairs = [train, pair("dev", &["a fish in a bowl"])].join("\n");
    std::fs::write(dir.path().join("pairs.jsonl"), pairs).unwrap();
    let mut filter =
        crate::data::CorpusFilter { sources: vec!["pairs".to_owned()], exclude_pairs: false, words_max: 25 };
    let groups = crate::data::corpus_groups(dir.path(), &filter).unwrap();
    assert_eq!(
        groups,
        [["A bird on a branch.", "Birds in a tree."]],
        "each wording once, none of a dev photo"
    );
    filter.exclude_pairs = true;
    let error = crate::data::corpus_groups(dir.path(), &filter).unwrap_err();
    assert!(error.to_string().contains("no usable sentence of the sources pairs"), "{error}");
}

#[test]
fn a_decoder_comes_back_from_its_bundle_as_it_was_exported() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let device = Device::flex().autodiff();
    toy_data(dir.path());
    toy_text(dir.path(), &device);
    decoder::run(&decoder_args(dir.path(), "first", &["--adapter", "linear"]), &device).unwrap();
    let first = dir.path().join("first");
    std::fs::write(first.join("image_encoder.onnx"), toy_image_encoder()).unwrap();
    let (text, bundle) = (dir.path().join("run-text"), dir.path().join("bundle"));
    let args: crate::bundle::BundleArgs = parse(&[
        "--text",
        text.to_str().unwrap(),
        "--encoder",
        first.to_str().unwrap(),
        "--decoder",
        first.to_str().unwrap(),
        "--out",
        bundle.to_str().unwrap(),
    ]);
    crate::bundle::run(&args).unwrap();
    let init = ["--adapter", "linear", "--init", bundle.to_str().unwrap(), "--steps", "0"];
    decoder::run(&decoder_args(dir.path(), "again", &init), &device).unwrap();
    for graph in ["adapter.onnx", "decoder.onnx"] {
        let read = |run: &str| std::fs::read(dir.path().join(run).join(graph)).unwrap();
        assert!(read("first") == read("again"), "{graph} changed on the way");
    }
}

/// An image encoder with the ports of a bundle, around the stand-in for the backbone.
fn toy_image_encoder() -> Vec<u8> {
    let config = ImageHeadConfig {
        d_expand: 64,
        d_hidden: 32,
        n_pool: 4,
        embed_dim: text::EMBED_DIM,
        dropout_in: 0.2,
        dropout: 0.2,
    };
    export::image::image_encoder(&toy_backbone(), &ImageHead::new(&config, &Device::flex()), 4).unwrap()
}
