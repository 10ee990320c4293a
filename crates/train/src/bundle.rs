//! `captiond-train bundle`: from the folders of the runs to a bundle.

mod fit;
mod lineage;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use caption::bundle::{
    self, Affinity, BridgeSettings, ConfidenceSettings, DecoderSettings, EmbeddingSettings, FORMAT, Filter,
    GraphFile, Graphs, Manifest, MemorySettings, PreprocessSettings, RegionSettings, RerankSettings, Resize,
    SampleSettings, TokenizerSettings, VqaSettings,
};
use caption::{Captioner, Tokenizer};

use safetensors::tensor::{Dtype, TensorView};

use self::lineage::Lineage;
use crate::decoder::{INPUT_MOMENTS_FILE, RECIPE_FILE};
use crate::embed::Moments;
use crate::export::image::Geometry;
use crate::model::DecoderConfig;
use crate::recipe::{Adapter, Centre, MemoryUse, Recipe};
use crate::text::MAX_TOKENS;
use crate::tokenizer::SPECIALS;
use crate::{encoder, graph, memory, tagging};

/// What a script that made an image encoder says of it.
const PROVENANCE_FILE: &str = "provenance.txt";
/// Of one without that file, which comes from `captiond-train encoder`.
const PROVENANCE: &str = "MobileNetEdgeTPU (frozen) and an attention-pooling head trained on Flickr8k, COCO and \
                          Flickr30k photos toward all-MiniLM-L6-v2";
const BRIDGE: &str = "bridge.safetensors";

/// Longest caption in tokens.
pub const MAX_NEW_TOKENS: usize = 24;

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
    #[arg(long)]
    pub beam_width: Option<usize>,
    /// Captions among which the text encoder chooses; 1 leaves the beam's own
    #[arg(long)]
    pub candidates: Option<usize>,
    /// Weight of the decoder's own probability in that choice
    #[arg(long)]
    pub fluency: Option<f32>,
    /// Weight in that choice of the cosine with the projection on the text memory
    #[arg(long)]
    pub memory_weight: Option<f32>,
    /// Search the image embedding without the text memory, too
    #[arg(long, action = clap::ArgAction::Set)]
    pub unprojected: Option<bool>,
    /// Search the normed sum of the image embedding with and without the text memory, too
    #[arg(long)]
    pub summed: bool,
    /// Weight in that choice of a caption's mean likeness to the others
    #[arg(long, default_value_t = 0.0)]
    pub agreement: f32,
    /// Beams from noisy copies of the image embedding that join the choice
    #[arg(long)]
    pub samples: Option<usize>,
    /// Cosine of such a copy with the embedding
    #[arg(long)]
    pub sample_cosine: Option<f32>,
    /// Choose among the noisy copies' captions alone, as MacCap does
    #[arg(long, action = clap::ArgAction::Set)]
    pub noisy_only: Option<bool>,
    /// How the patches of a region are weighted
    #[arg(long, value_enum, default_value_t = AffinityArg::Once)]
    pub affinity: AffinityArg,
    /// What the cosine of two patches is multiplied by before that weighting
    #[arg(long, default_value_t = 20.0)]
    pub sharpness: f32,
    /// Weight of a region's patches beside the image embedding
    #[arg(long, default_value_t = 1.0)]
    pub patch_weight: f32,
    /// What is done about the distance between the modalities' means
    #[arg(long, value_enum)]
    pub centre: Option<Centre>,
    /// Whether image embeddings go through the text memory (DeCap, Li et al. 2023)
    #[arg(long, action = clap::ArgAction::Set)]
    pub memory: Option<bool>,
    /// Take the memory of another decoder run
    #[arg(long)]
    pub memory_from: Option<PathBuf>,
    /// Temperature of the text memory
    #[arg(long)]
    pub memory_tau: Option<f32>,
    /// How answers are weighed, a file that `captiond-train vqa --calibrate --fitted` wrote
    #[arg(long)]
    pub answers: Option<PathBuf>,
    /// Answers with a lower score are called unsure
    #[arg(long)]
    pub unsure_below: Option<f32>,
}

/// The recipe that the decoder was trained with, with what was given for inference in its place.
fn recipe(args: &BundleArgs) -> Result<Recipe> {
    let trained: Recipe = serde_json::from_slice(&read(&args.decoder, RECIPE_FILE)?)?;
    let centre = args.centre.unwrap_or(trained.centre);
    ensure!(
        (centre == Centre::C3) == (trained.centre == Centre::C3),
        "--centre: what a decoder was trained with and what it is used with must both be c3, or neither"
    );
    let memory = match args.memory {
        None => trained.memory,
        Some(true) => MemoryUse::Test,
        Some(false) => MemoryUse::Off,
    };
    Ok(Recipe {
        centre,
        memory,
        memory_tau: args.memory_tau.unwrap_or(trained.memory_tau),
        beam_width: args.beam_width.unwrap_or(trained.beam_width),
        n_candidates: args.candidates.unwrap_or(trained.n_candidates),
        fluency: args.fluency.unwrap_or(trained.fluency),
        rerank_memory: args.memory_weight.unwrap_or(trained.rerank_memory),
        unprojected: args.unprojected.unwrap_or(trained.unprojected),
        n_samples: args.samples.unwrap_or(trained.n_samples),
        sample_cosine: args.sample_cosine.unwrap_or(trained.sample_cosine),
        noisy_only: args.noisy_only.unwrap_or(trained.noisy_only),
        ..trained
    })
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

/// Limits by `captiond-train confidence`: all spoiled frames lie beyond them, and some ordinary dev photos in a hundred.
const CONFIDENCE: ConfidenceSettings =
    ConfidenceSettings { contrast_min: 24.0, roughness_min: 0.095, roughness_max: 1.3 };

/// The terms under which the data allow the weights to be used.
const LICENSE: &str = "non-commercial research and education: trained on photos and captions of Flickr8k and \
                       Flickr30k (Flickr terms, research use), captions of COCO (CC BY 4.0), and two backbones under \
                       Apache-2.0; see NOTICE";

/// How a frame becomes the input of an encoder of photos of `side` x `side` pixels.
pub fn preprocess_settings(side: usize) -> PreprocessSettings {
    PreprocessSettings {
        width: side,
        height: side,
        resize: Resize::Squash,
        shortest: None,
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
        bos: Some(bos),
        eos,
        pad,
        vocab_size,
        max_tokens: MAX_TOKENS,
        padded: false,
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
        tokenizer: None,
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
    let recipe = recipe(args)?;
    let provenance = Lineage::of(&args.decoder)?.provenance(&provenance(&args.encoder)?);
    fit::ensure_one_text(args)?;
    let files = files(args, &recipe)?;
    let geometry = Geometry::of(&files[0].1)?;
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    bundle::write(&args.out, manifest(args, geometry, answers(args)?, &recipe, &config, provenance), &files)?;
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
fn files(args: &BundleArgs, recipe: &Recipe) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut files = vec![
        ("image_encoder.onnx", read(&args.encoder, "image_encoder.onnx")?),
        ("text_encoder.onnx", read(&args.text, "text_encoder.onnx")?),
        ("adapter.onnx", read(&args.decoder, "adapter.onnx")?),
        ("decoder.onnx", read(&args.decoder, "decoder.onnx")?),
        ("tokenizer.json", read(&args.text, "tokenizer.json")?),
    ];
    if recipe.centre != Centre::Off {
        let image = Moments::read(&args.encoder.join(encoder::MOMENTS_FILE))?;
        let text = Moments::read(&args.decoder.join(INPUT_MOMENTS_FILE))?;
        files.push((BRIDGE, bridge_file(recipe.centre, &image, &text)?));
    }
    if recipe.memory != MemoryUse::Off {
        files.push((memory::FILE, read(args.memory_from.as_ref().unwrap_or(&args.decoder), memory::FILE)?));
    }
    if recipe.tags {
        files.push((tagging::LABELS_FILE, read(&args.decoder, tagging::LABELS_FILE)?));
    }
    Ok(files)
}

/// The choice among captions that a recipe asks for, with what only bundles know.
fn rerank(args: &BundleArgs, recipe: &Recipe) -> Option<RerankSettings> {
    let samples =
        SampleSettings { n: recipe.n_samples, noise_cosine: recipe.sample_cosine, clean: !recipe.noisy_only };
    let samples = (recipe.n_samples > 0).then_some(samples);
    (recipe.n_candidates > 1 || samples.is_some()).then_some(RerankSettings {
        n_candidates: recipe.n_candidates,
        fluency: recipe.fluency,
        memory_weight: recipe.rerank_memory,
        unprojected: recipe.unprojected,
        summed: args.summed,
        agreement: args.agreement,
        samples,
    })
}

/// How answers are weighed: as it was fitted, or as before any fit.
fn answers(args: &BundleArgs) -> Result<VqaSettings> {
    let mut settings = match &args.answers {
        None => VqaSettings {
            unsure_below: 0.55,
            decoder_weight: 1.0,
            similarity_weight: 1.0,
            ..VqaSettings::default()
        },
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?
        }
    };
    settings.unsure_below = args.unsure_below.unwrap_or(settings.unsure_below);
    Ok(settings)
}

/// Where the image encoder in `dir` comes from.
fn provenance(dir: &Path) -> Result<String> {
    let path = dir.join(PROVENANCE_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(PROVENANCE.to_owned()),
        Err(why) => Err(why).with_context(|| format!("read {}", path.display())),
    }
}

/// Sizes and hashes are filled in when it is written.
fn manifest(
    args: &BundleArgs,
    geometry: Geometry,
    vqa: VqaSettings,
    recipe: &Recipe,
    config: &DecoderConfig,
    provenance: String,
) -> Manifest {
    let mut decoder = decoder_settings(config);
    decoder.beam_width = recipe.beam_width;
    decoder.rerank = rerank(args, recipe);
    Manifest {
        format: FORMAT,
        name: args.name.clone(),
        version: args.version.clone(),
        license: LICENSE.to_owned(),
        provenance,
        preprocess: preprocess_settings(geometry.side),
        embedding: EmbeddingSettings {
            dim: config.embed_dim,
            logit_scale: 20.0,
            patches: [geometry.patches; 2],
        },
        tokenizer: tokenizer_settings(config.vocab_size),
        decoder: Some(decoder),
        vqa,
        regions: (recipe.adapter == Adapter::Queries).then(|| RegionSettings {
            n_regions: recipe.n_regions,
            affinity: args.affinity.into(),
            sharpness: args.sharpness,
            patch_weight: args.patch_weight,
        }),
        bridge: (recipe.centre != Centre::Off).then(|| BridgeSettings {
            file: BRIDGE.to_owned(),
            bytes: 0,
            sha256: String::new(),
        }),
        memory: (recipe.memory != MemoryUse::Off).then(|| MemorySettings {
            file: memory::FILE.to_owned(),
            bytes: 0,
            sha256: String::new(),
            tau: recipe.memory_tau,
        }),
        tags: recipe.tags.then(tagging::settings),
        confidence: Some(CONFIDENCE),
        graphs: Graphs {
            image_encoder: GraphFile::new("image_encoder.onnx"),
            text_encoder: GraphFile::new("text_encoder.onnx"),
            adapter: Some(GraphFile::new("adapter.onnx")),
            decoder: Some(GraphFile::new("decoder.onnx")),
        },
    }
}

fn bridge_file(centre: Centre, image: &Moments, text: &Moments) -> Result<Vec<u8>> {
    let dim = image.mean.len();
    ensure!(dim == text.mean.len(), "the encoder has {dim} coordinates, the decoder {}", text.mean.len());
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let target = if centre == Centre::C3 { vec![0.0; dim] } else { text.mean.clone() };
    let ratio = std::iter::zip(&text.deviation, &image.deviation).map(|(text, image)| text / image.max(1e-6));
    let (image_mean, text_mean, scale) =
        (bytes(&image.mean), bytes(&target), bytes(&ratio.collect::<Vec<f32>>()));
    let mut tensors = vec![
        ("image_mean", TensorView::new(Dtype::F32, vec![dim], &image_mean)?),
        ("text_mean", TensorView::new(Dtype::F32, vec![dim], &text_mean)?),
    ];
    if centre == Centre::Moments {
        tensors.push(("scale", TensorView::new(Dtype::F32, vec![dim], &scale)?));
    }
    Ok(safetensors::serialize(tensors, None)?)
}
