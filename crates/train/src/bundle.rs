//! `captiond-train bundle`: from the folders of the runs to a bundle.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use caption::bundle::{
    self, Affinity, BridgeSettings, ConfidenceSettings, DecoderSettings, EmbeddingSettings, FORMAT, Filter,
    GraphFile, Graphs, Manifest, MemorySettings, PreprocessSettings, RegionSettings, RerankSettings, Resize,
    SampleSettings, TokenizerSettings, VqaSettings,
};
use caption::{Captioner, Tokenizer};

use rand::seq::index;
use safetensors::tensor::{Dtype, TensorView};

use crate::export::image::INPUT_SIDE;
use crate::graph;
use crate::model::{DecoderConfig, GRID_SIDE};
use crate::text::MAX_TOKENS;
use crate::tokenizer::SPECIALS;
use crate::training::{Checkpoint, State, step_rng};

const BRIDGE: &str = "bridge.safetensors";
const MEMORY: &str = "memory.safetensors";

/// Longest caption in tokens.
const MAX_NEW_TOKENS: usize = 24;

#[derive(Clone, Debug, clap::Args)]
pub struct BundleArgs {
    /// Folder of `captiond-train text`
    #[arg(long)]
    pub text: PathBuf,
    /// Folder of `captiond-train encoder`
    #[arg(long)]
    pub encoder: PathBuf,
    /// Folder of `captiond-train decoder`
    #[arg(long)]
    pub decoder: PathBuf,
    #[arg(long)]
    pub out: PathBuf,
    #[arg(long, default_value = "lite")]
    pub name: String,
    #[arg(long, default_value = "0.1.0")]
    pub version: String,
    /// Hypotheses of the beam; 1 is greedy
    #[arg(long, default_value_t = 3)]
    pub beam_width: usize,
    /// Captions among which the text encoder chooses; 1 leaves the beam's own
    #[arg(long, default_value_t = 1)]
    pub candidates: usize,
    /// Weight of the decoder's own probability in that choice
    #[arg(long, default_value_t = 0.1)]
    pub fluency: f32,
    /// Beams from noisy copies of the image embedding that join the choice
    #[arg(long, default_value_t = 0)]
    pub samples: usize,
    /// Cosine of such a copy with the embedding
    #[arg(long, default_value_t = 0.6)]
    pub sample_cosine: f32,
    /// Choose among the noisy copies' captions alone, as MacCap does
    #[arg(long)]
    pub noisy_only: bool,
    /// How the patches of a region are weighted (preset maccap)
    #[arg(long, value_enum, default_value_t = AffinityArg::Once)]
    pub affinity: AffinityArg,
    /// What the cosine of two patches is multiplied by before that weighting
    #[arg(long, default_value_t = 20.0)]
    pub sharpness: f32,
    /// Weight of a region's patches beside the image embedding
    #[arg(long, default_value_t = 1.0)]
    pub patch_weight: f32,
    /// Move image embeddings by the difference of the modalities' means (C3, Zhang et al. 2024)
    #[arg(long)]
    pub centre: bool,
    /// Sentences of the text memory (DeCap, Li et al. 2023); 0 leaves it out
    #[arg(long, default_value_t = 0)]
    pub memory: usize,
    /// Take these sentences from the corpus of another decoder run
    #[arg(long)]
    pub memory_from: Option<PathBuf>,
    /// Temperature of the text memory
    #[arg(long, default_value_t = 0.02)]
    pub memory_tau: f32,
    /// Answers with a lower score are called unsure
    #[arg(long, default_value_t = 0.55)]
    pub unsure_below: f32,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AffinityArg {
    /// The one patch
    Patch,
    /// One softmax over the patches
    Once,
    /// Two, as in the released code
    Twice,
}

impl From<AffinityArg> for Affinity {
    fn from(arg: AffinityArg) -> Affinity {
        match arg {
            AffinityArg::Patch => Affinity::Patch,
            AffinityArg::Once => Affinity::Once,
            AffinityArg::Twice => Affinity::Twice,
        }
    }
}

/// What `captiond-train confidence` says of the training photos: one in a hundred lies beyond each limit.
const CONFIDENCE: ConfidenceSettings =
    ConfidenceSettings { contrast_min: 24.0, roughness_min: 0.11, roughness_max: 1.3 };

/// The terms under which the data allow the weights to be used.
const LICENSE: &str = "non-commercial research and education: trained on photos and captions of Flickr8k and \
                       Flickr30k (Flickr terms, research use), captions of COCO (CC BY 4.0), and a backbone under \
                       Apache-2.0; see NOTICE";

/// How a frame becomes the backbone's input.
pub fn preprocess_settings() -> PreprocessSettings {
    PreprocessSettings {
        width: INPUT_SIDE,
        height: INPUT_SIDE,
        resize: Resize::Squash,
        filter: Filter::Bicubic,
        mean: [128.0; 3],
        std: [1.0 / 0.007_874; 3],
    }
}

fn tokenizer_settings(vocab_size: usize) -> TokenizerSettings {
    let [pad, bos, eos] = SPECIALS.map(str::to_owned);
    TokenizerSettings {
        file: "tokenizer.json".to_owned(),
        bytes: 0,
        sha256: String::new(),
        bos,
        eos,
        pad,
        vocab_size,
        max_tokens: MAX_TOKENS,
    }
}

fn decoder_settings(config: &DecoderConfig) -> DecoderSettings {
    DecoderSettings {
        prefix_length: config.prefix_length,
        n_layer: config.n_layer,
        n_head: config.n_head,
        head_dim: config.d / config.n_head,
        n_positions: config.max_positions,
        max_new_tokens: MAX_NEW_TOKENS,
        beam_width: 1,
        rerank: None,
    }
}

/// The daemon's form of a tokenizer.
pub fn tokenizer(bpe: &tokenizers::Tokenizer) -> Result<Tokenizer> {
    Tokenizer::parse(&serde_json::to_vec(bpe)?, &tokenizer_settings(bpe.get_vocab_size(true)))
        .map_err(|why| anyhow::anyhow!("tokenizer: {why}"))
}

/// The daemon's captioner over graphs in memory, greedy.
pub fn captioner(
    adapter: &[u8],
    decoder: &[u8],
    bpe: &tokenizers::Tokenizer,
    config: &DecoderConfig,
) -> Result<Captioner> {
    Ok(Captioner::new(
        graph::load("adapter", adapter)?,
        graph::load("decoder", decoder)?,
        Arc::new(tokenizer(bpe)?),
        &decoder_settings(config),
    )?)
}

pub fn run(args: &BundleArgs) -> Result<()> {
    let config: DecoderConfig = serde_json::from_slice(&read(&args.decoder, "config.json")?)?;
    let runs = lineage(&args.decoder)?;
    let files = files(args)?;
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    bundle::write(&args.out, manifest(args, &config, &runs), &files)?;
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    for (name, bytes) in &files {
        crate::report(&format!("{:>10} {name}", bytes.len()))?;
    }
    crate::report(&format!("{total:>10} bytes in {}", args.out.display()))
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>> {
    std::fs::read(dir.join(name)).with_context(|| format!("read {}", dir.join(name).display()))
}

/// Every file of the bundle but its manifest.
fn files(args: &BundleArgs) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut files = vec![
        ("image_encoder.onnx", read(&args.encoder, "image_encoder.onnx")?),
        ("text_encoder.onnx", read(&args.text, "text_encoder.onnx")?),
        ("adapter.onnx", read(&args.decoder, "adapter.onnx")?),
        ("decoder.onnx", read(&args.decoder, "decoder.onnx")?),
        ("tokenizer.json", read(&args.text, "tokenizer.json")?),
    ];
    if args.centre {
        let image: Vec<f32> = serde_json::from_slice(&read(&args.encoder, "image_mean.json")?)?;
        let text: Vec<f32> = serde_json::from_slice(&read(&args.decoder, "text_mean.json")?)?;
        files.push((BRIDGE, means_file(&image, &text)?));
    }
    if args.memory > 0 {
        files.push((MEMORY, memory_file(args)?));
    }
    Ok(files)
}

/// Sizes and hashes are filled in when it is written.
fn manifest(args: &BundleArgs, config: &DecoderConfig, runs: &[State]) -> Manifest {
    let mut decoder = decoder_settings(config);
    decoder.beam_width = args.beam_width;
    if args.candidates > 1 || args.samples > 0 {
        let samples = (args.samples > 0).then_some(SampleSettings {
            n: args.samples,
            noise_cosine: args.sample_cosine,
            clean: !args.noisy_only,
        });
        decoder.rerank =
            Some(RerankSettings { n_candidates: args.candidates, fluency: args.fluency, samples });
    }
    Manifest {
        format: FORMAT,
        name: args.name.clone(),
        version: args.version.clone(),
        license: LICENSE.to_owned(),
        provenance: provenance(runs),
        preprocess: preprocess_settings(),
        embedding: EmbeddingSettings {
            dim: config.embed_dim,
            logit_scale: 20.0,
            patches: [GRID_SIDE, GRID_SIDE],
        },
        tokenizer: tokenizer_settings(config.vocab_size),
        decoder,
        vqa: VqaSettings {
            unsure_below: args.unsure_below,
            decoder_weight: 1.0,
            similarity_weight: 1.0,
            yes_bias: 0.0,
        },
        regions: config.n_regions.map(|n_regions| RegionSettings {
            n_regions,
            affinity: args.affinity.into(),
            sharpness: args.sharpness,
            patch_weight: args.patch_weight,
        }),
        bridge: args.centre.then(|| BridgeSettings {
            file: BRIDGE.to_owned(),
            bytes: 0,
            sha256: String::new(),
        }),
        memory: (args.memory > 0).then(|| MemorySettings {
            file: MEMORY.to_owned(),
            bytes: 0,
            sha256: String::new(),
            tau: args.memory_tau,
        }),
        confidence: Some(CONFIDENCE),
        graphs: Graphs {
            image_encoder: GraphFile::new("image_encoder.onnx"),
            text_encoder: GraphFile::new("text_encoder.onnx"),
            adapter: GraphFile::new("adapter.onnx"),
            decoder: GraphFile::new("decoder.onnx"),
        },
    }
}

/// What the decoder saw, run after run, without the paths of the machine that it ran on.
fn provenance(runs: &[State]) -> String {
    let described: Vec<String> = runs
        .iter()
        .map(|State { step, run }| {
            let of = |key: &str| run[key].to_string().replace('"', "").to_lowercase();
            let noise: Vec<String> = (run["noise_cosine"].as_array().into_iter().flatten())
                .map(|cosine| format!("{:.2}", cosine.as_f64().unwrap_or(1.0)))
                .collect();
            let apart =
                if run["exclude_pairs"] == true { ", no sentence of the encoder's photos" } else { "" };
            format!(
                "{step} steps of {} (preset {}, target {}, noise cosine {}, sources {}{apart}, seed {})",
                of("batch"),
                of("preset"),
                of("target"),
                noise.join(" to "),
                of("sources"),
                of("seed")
            )
        })
        .collect();
    format!(
        "image encoder: MobileNetEdgeTPU (frozen) and an attention-pooling head trained on Flickr8k, COCO and \
         Flickr30k photos toward all-MiniLM-L6-v2; text encoder: distilled from the same; decoder: text only, {}",
        described.join(", then ")
    )
}

/// Longest chain of runs that go on from one another.
const RUNS_MAX: usize = 16;

/// The run in `dir` and those that it went on from, the first one first.
fn lineage(dir: &Path) -> Result<Vec<State>> {
    let mut runs = Vec::new();
    let mut next = Some(dir.to_owned());
    while let Some(dir) = next {
        ensure!(runs.len() < RUNS_MAX, "{}: more than {RUNS_MAX} runs go on from one another", dir.display());
        let state = Checkpoint::state(&dir)?;
        next = state.run["init"].as_str().map(PathBuf::from);
        runs.push(state);
    }
    runs.reverse();
    Ok(runs)
}

fn means_file(image: &[f32], text: &[f32]) -> Result<Vec<u8>> {
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (image_bytes, text_bytes) = (bytes(image), bytes(text));
    let tensors = [
        ("image_mean", TensorView::new(Dtype::F32, vec![image.len()], &image_bytes)?),
        ("text_mean", TensorView::new(Dtype::F32, vec![text.len()], &text_bytes)?),
    ];
    Ok(safetensors::serialize(tensors, None)?)
}

/// Random sentences of the decoder's corpus: their embeddings as int8 rows, and nothing of their words.
fn memory_file(args: &BundleArgs) -> Result<Vec<u8>> {
    let rows =
        crate::embed::read_cache(&args.memory_from.as_ref().unwrap_or(&args.decoder).join("embeddings.f16"))?;
    ensure!(args.memory <= rows.len(), "--memory {}: the corpus has {} sentences", args.memory, rows.len());
    let mut codes = Vec::with_capacity(args.memory * rows.dim);
    let mut scales = Vec::with_capacity(args.memory * 4);
    for idx in index::sample(&mut step_rng(args.seed, 0), rows.len(), args.memory) {
        let row: Vec<f32> = rows.row(idx).collect();
        let peak = row.iter().fold(f32::MIN_POSITIVE, |peak, x| peak.max(x.abs()));
        codes.extend(row.iter().map(|x| (x / peak * 127.0).round() as i8 as u8));
        scales.extend((peak / 127.0).to_le_bytes());
    }
    let tensors = [
        ("embeddings", TensorView::new(Dtype::I8, vec![args.memory, rows.dim], &codes)?),
        ("scales", TensorView::new(Dtype::F32, vec![args.memory], &scales)?),
    ];
    Ok(safetensors::serialize(tensors, None)?)
}
