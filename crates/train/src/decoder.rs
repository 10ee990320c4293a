//! `captiond-train decoder`: trains a caption decoder from sentences alone. No image enters this file.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use caption::Noise;
use clap::ValueEnum;
use rand::Rng;
use serde::Serialize;
use tokenizers::Tokenizer;

use crate::data::{self, CorpusFilter};
use crate::embed::{Embeddings, TextTower, embeddings};
use crate::model::{Decoder, DecoderConfig};
use crate::text::{self, Batches, ids_tensor};
use crate::training::{
    Checkpoint, Optimizer, OptimizerConfig, Progress, learning_rate, step_rng, write_atomically,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
pub enum Preset {
    /// No noise: the floor of text-only training
    Text,
    /// Noise on the text embedding (Nukrai et al. 2022)
    Capdec,
    /// Noisy copies in the place of an image's regions, and queries that look at them (Qiu et al. 2024)
    Maccap,
}

/// Which sentence the decoder shall write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
pub enum Target {
    /// The one that was embedded
    Own,
    /// Another caption of the same photo where there is one (CLOSE, Gu et al. 2023)
    Sibling,
}

/// Arguments that shape the result.
#[derive(Clone, Debug, Serialize, clap::Args)]
pub struct DecoderArgs {
    /// Folder with `text/corpus.jsonl.gz` and, for what must stay out, `pairs.jsonl`
    #[arg(long)]
    pub data: PathBuf,
    /// Folder that `captiond-train text` wrote
    #[arg(long)]
    pub text: PathBuf,
    /// Folder for the embedding cache, the checkpoint and the graphs
    #[arg(long)]
    pub out: PathBuf,
    #[arg(long, value_enum, default_value_t = Preset::Capdec)]
    pub preset: Preset,
    #[arg(long, value_enum, default_value_t = Target::Own)]
    pub target: Target,
    /// Cosine between clean and noisy text embedding; drawn between the two for each sentence
    #[arg(long, num_args = 1..=2, default_values_t = [0.45])]
    pub noise_cosine: Vec<f32>,
    #[arg(long, num_args = 1.., default_values_t = ["flickr30k".to_owned(), "flickr8k".to_owned()])]
    pub sources: Vec<String>,
    /// Leave out every sentence that the encoder saw beside a photo
    #[arg(long)]
    pub exclude_pairs: bool,
    /// Noisy copies of each embedding with the preset maccap
    #[arg(long, default_value_t = 10)]
    pub regions: usize,
    /// Start from the decoder of this run, of the same shape, instead of from random weights
    #[arg(long)]
    pub init: Option<PathBuf>,
    #[arg(long, default_value_t = 3)]
    pub n_layer: usize,
    #[arg(long, default_value_t = 256)]
    pub d: usize,
    #[arg(long, default_value_t = 768)]
    pub d_mlp: usize,
    #[arg(long, default_value_t = 4)]
    pub prefix_length: usize,
    #[arg(long, default_value_t = 0.1)]
    pub dropout: f64,
    #[arg(long, default_value_t = 0.1)]
    pub label_smoothing: f64,
    #[arg(long, default_value_t = 6000)]
    pub steps: usize,
    #[arg(long, default_value_t = 128)]
    pub batch: usize,
    #[arg(long, default_value_t = 1.5e-3)]
    pub lr: f64,
    #[arg(long, default_value_t = 300)]
    pub warmup_steps: usize,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write a checkpoint at this step and end; the same command goes on from there
    #[arg(long)]
    #[serde(skip)]
    pub stop_at: Option<usize>,
}

/// Longest sentence in words that a decoder learns to write.
pub const WORDS_MAX: usize = 25;
/// Room for prefix, `bos`, a question and its answer.
const MAX_POSITIONS: usize = 96;
/// Steps between checkpoints, and between sample captions.
const SAVE_STEPS: usize = 500;
const SAMPLE_STEPS: usize = 1000;

impl DecoderArgs {
    /// Rows of the adapter with queries; none for a linear one.
    fn n_regions(&self) -> Option<usize> {
        (self.preset == Preset::Maccap).then_some(self.regions)
    }

    fn noise(&self) -> Noise {
        match self.preset {
            Preset::Text => Noise::NONE,
            Preset::Capdec | Preset::Maccap => {
                let first = self.noise_cosine.first().copied().unwrap_or(1.0);
                let last = self.noise_cosine.last().copied().unwrap_or(first);
                Noise { cosine_min: first.min(last), cosine_max: first.max(last) }
            }
        }
    }
}

/// Sentences with their embeddings, and the groups that share a photo.
struct Corpus {
    sequences: Vec<Vec<u32>>,
    /// First and last row of each sentence's group.
    group: Vec<(usize, usize)>,
    embeddings: Embeddings,
}

fn corpus(args: &DecoderArgs, tower: &TextTower) -> Result<Corpus> {
    let filter = CorpusFilter {
        sources: args.sources.clone(),
        exclude_pairs: args.exclude_pairs,
        words_max: WORDS_MAX,
    };
    let groups = data::corpus_groups(&args.data, &filter)?;
    let mut group = Vec::new();
    for members in &groups {
        let first = group.len();
        group.extend(members.iter().map(|_| (first, first + members.len())));
    }
    let texts: Vec<String> = groups.into_iter().flatten().collect();
    let sequences = text::sequences(&tower.bpe, &texts)?;
    let embeddings = embeddings(&args.out.join("embeddings.f16"), tower, &sequences)?;
    ensure!(embeddings.len() == sequences.len(), "the embedding cache misses sentences: remove it");
    Ok(Corpus { sequences, group, embeddings })
}

pub fn run(args: &DecoderArgs, device: &Device) -> Result<()> {
    ensure!(
        args.noise_cosine.iter().all(|c| *c > 0.0 && *c <= 1.0),
        "--noise-cosine {:?}: a cosine between 0 and 1 is needed",
        args.noise_cosine
    );
    std::fs::create_dir_all(&args.out).with_context(|| format!("create {}", args.out.display()))?;
    let tower = TextTower::open(&args.text)?;
    let corpus = corpus(args, &tower)?;
    let bpe = &tower.bpe;
    let config = config(args, bpe.get_vocab_size(true), corpus.embeddings.dim);
    write_atomically(&args.out.join("config.json"), &serde_json::to_vec_pretty(&config)?)?;
    write_atomically(&args.out.join("text_mean.json"), &serde_json::to_vec(&corpus.embeddings.mean())?)?;

    device.seed(args.seed);
    let mut model = Decoder::new(&config, device);
    if let Some(init) = &args.init {
        model = Checkpoint::load_model(init, model)?;
    }
    let checkpoint = Checkpoint::new(&args.out, serde_json::to_value(args)?);
    let optimizer = Optimizer::new(&OptimizerConfig::default());
    let (first_step, mut model, mut optimizer) = checkpoint.load(model, optimizer)?;
    let batches = Batches::new(&corpus.sequences, args.batch);
    let mut progress = Progress::new("decoder", first_step, args.steps, "tokens");
    progress.say(&format!("{} sentences in {} steps of {}", corpus.sequences.len(), args.steps, args.batch));
    for step in first_step..args.steps {
        let stop = args.stop_at == Some(step);
        if stop || (step > first_step && step.is_multiple_of(SAVE_STEPS)) {
            checkpoint.save(step, &model, &optimizer)?;
        }
        if stop {
            progress.say(&format!("stopped at step {step} as asked"));
            return Ok(());
        }
        if step > first_step && step.is_multiple_of(SAMPLE_STEPS) {
            sample(&model, &config, bpe, &corpus, &progress)?;
        }
        device.seed(args.seed.wrapping_add(step as u64));
        let batch = draw(args, &corpus, &batches, step);
        let n_tokens = batch.rows.len() * (corpus.sequences[batch.rows[0]].len() - 1);
        let loss = loss(&model, &batch, &corpus, args.label_smoothing, device);
        let value = f64::from(loss.clone().into_scalar::<f32>());
        ensure!(value.is_finite(), "the loss is not finite at step {step}: lower --lr");
        let lr = learning_rate(step, args.steps, args.warmup_steps, args.lr);
        model = optimizer.step(model, loss, lr);
        progress.step(step, value, n_tokens, lr);
    }
    checkpoint.save(args.steps, &model, &optimizer)?;
    let (adapter, decoder) = graphs(&model, &config)?;
    write_atomically(&args.out.join("adapter.onnx"), &adapter)?;
    write_atomically(&args.out.join("decoder.onnx"), &decoder)?;
    sample(&model, &config, bpe, &corpus, &progress)
}

fn config(args: &DecoderArgs, vocab_size: usize, embed_dim: usize) -> DecoderConfig {
    DecoderConfig {
        vocab_size,
        n_layer: args.n_layer,
        n_head: args.d / 64,
        d: args.d,
        d_mlp: args.d_mlp,
        embed_dim,
        prefix_length: args.prefix_length,
        n_regions: args.n_regions(),
        max_positions: MAX_POSITIONS,
        dropout: args.dropout,
    }
}

/// The adapter's and the decoder's graph.
fn graphs(model: &Decoder, config: &DecoderConfig) -> Result<(Vec<u8>, Vec<u8>)> {
    Ok((crate::export::adapter::adapter(model, config)?, crate::export::decoder::decoder(model)?))
}

struct Batch {
    /// Sentences to write, all of one length.
    rows: Vec<usize>,
    /// (B, R, D) noisy embeddings.
    inputs: Vec<f32>,
}

fn draw(args: &DecoderArgs, corpus: &Corpus, batches: &Batches, step: usize) -> Batch {
    let mut rng = step_rng(args.seed, step);
    let noise = args.noise();
    let rows = batches.sample(&mut rng);
    let n_copies = args.n_regions().unwrap_or(1);
    let mut inputs = Vec::with_capacity(rows.len() * n_copies * corpus.embeddings.dim);
    for row in &rows {
        let (first, last) = corpus.group[*row];
        let source = match args.target {
            Target::Sibling if last - first > 1 => {
                let other = rng.random_range(first..last - 1);
                if other >= *row { other + 1 } else { other }
            }
            _ => *row,
        };
        let embedding: Vec<f32> = corpus.embeddings.row(source).collect();
        for _ in 0..n_copies {
            let mut copy = embedding.clone();
            noise.apply(&mut copy, &mut rng);
            inputs.extend(copy);
        }
    }
    Batch { rows, inputs }
}

/// Cross-entropy of every token after `bos`, up to and with `eos`, with label smoothing.
fn loss(model: &Decoder, batch: &Batch, corpus: &Corpus, smoothing: f64, device: &Device) -> Tensor<1> {
    let b = batch.rows.len();
    let ids = ids_tensor(batch.rows.iter().map(|row| corpus.sequences[*row].as_slice()), device);
    let s = ids.dims()[1] - 1;
    let inputs = ids.clone().narrow(1, 0, s);
    let targets = ids.narrow(1, 1, s).reshape([b * s, 1]);
    let dim = corpus.embeddings.dim;
    let n_copies = batch.inputs.len() / (b * dim);
    let regions = Tensor::<1>::from_data(batch.inputs.as_slice(), device).reshape([b, n_copies, dim]);
    let logits = model.forward(regions, inputs);
    let v = logits.dims()[2];
    let log_p = log_softmax(logits.reshape([b * s, v]), 1);
    let hit = log_p.clone().gather(1, targets).mean();
    let spread = log_p.mean();
    (hit.mul_scalar(1.0 - smoothing) + spread.mul_scalar(smoothing)).neg()
}

/// Captions a few clean text embeddings of the corpus with the daemon's own decode loop.
fn sample(
    model: &Decoder,
    config: &DecoderConfig,
    bpe: &Tokenizer,
    corpus: &Corpus,
    progress: &Progress,
) -> Result<()> {
    let (adapter, decoder) = graphs(model, config)?;
    let mut captioner = crate::bundle::captioner(&adapter, &decoder, bpe, config)?;
    for i in 0..3 {
        let row = i * corpus.sequences.len() / 3;
        let embedding: Vec<f32> = corpus.embeddings.row(row).collect();
        let caption = captioner.caption(&embedding.repeat(config.n_regions.unwrap_or(1)))?;
        let own = bpe
            .decode(&corpus.sequences[row], true)
            .map_err(|e| anyhow::anyhow!("decode sentence {row}: {e}"))?;
        progress.say(&format!("sample {:?} for {:?}", caption.text, own.trim()));
    }
    Ok(())
}
