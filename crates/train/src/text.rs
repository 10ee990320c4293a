//! `captiond-train text`: distils the sentence teacher into the small text encoder that ships.
//!
//! Loss: 1 - cosine to the teacher, plus contrast within the batch against the teacher's embeddings
//! (InfoNCE), so that the student keeps the neighbourhoods and not only the directions.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use burn::tensor::{Device, Int, Tensor};
use rand::Rng;
use serde::Serialize;
use tokenizers::Tokenizer;

use crate::data::Teacher;
use crate::model::{TextEncoder, TextEncoderConfig, normalize};
use crate::tokenizer::{self, BOS, EOS};
use crate::training::{
    Checkpoint, Optimizer, OptimizerConfig, Progress, learning_rate, own_column_loss, say, sha256_hex,
    step_rng, write_atomically,
};

/// Arguments that shape the result.
#[derive(Clone, Debug, Serialize, clap::Args)]
pub struct TextArgs {
    /// Folder that `scripts/teacher.py` wrote
    #[arg(long)]
    pub teacher: PathBuf,
    /// Folder for the tokenizer, the checkpoint and the encoder
    #[arg(long)]
    pub out: PathBuf,
    #[arg(long, default_value_t = 8000)]
    pub vocab_size: usize,
    #[arg(long, default_value_t = 4)]
    pub n_layer: usize,
    #[arg(long, default_value_t = 256)]
    pub d: usize,
    #[arg(long, default_value_t = 10_000)]
    pub steps: usize,
    /// Sentences in a batch
    #[arg(long, default_value_t = 128)]
    pub batch: usize,
    #[arg(long, default_value_t = 1.5e-3)]
    pub lr: f64,
    #[arg(long, default_value_t = 300)]
    pub warmup_steps: usize,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Steps between two checkpoints, and between two looks at the dev sentences
    #[arg(long, default_value = "1000")]
    #[serde(skip)]
    pub save_every: NonZeroUsize,
}

/// Longest sentence of the text encoder, with `bos` and `eos`.
pub const MAX_TOKENS: usize = 48;
/// Temperature of the contrastive part; the teacher's own training used 0.05.
const TAU: f64 = 0.05;
/// Width of the teacher's embeddings.
pub const EMBED_DIM: usize = 384;

/// Width of an attention head.
const D_HEAD: usize = 64;

/// Checks that a width splits into heads.
pub fn ensure_heads(d: usize) -> Result<()> {
    ensure!(
        d > 0 && d.is_multiple_of(D_HEAD),
        "--d {d}: a multiple of {D_HEAD} is needed, the width of a head"
    );
    Ok(())
}

pub fn config(args: &TextArgs, vocab_size: usize) -> TextEncoderConfig {
    TextEncoderConfig {
        vocab_size,
        n_layer: args.n_layer,
        n_head: args.d / D_HEAD,
        d: args.d,
        d_mlp: 4 * args.d,
        embed_dim: EMBED_DIM,
        max_tokens: MAX_TOKENS,
    }
}

pub fn run(args: &TextArgs, device: &Device) -> Result<()> {
    ensure_heads(args.d)?;
    let teacher = Teacher::read(&args.teacher, "train", EMBED_DIM)?;
    let dev = Teacher::read(&args.teacher, "dev", EMBED_DIM)?;
    let inputs = Teacher::inputs(&args.teacher, "train")?;
    let checkpoint = Checkpoint::open(&args.out, serde_json::to_value(args)?, inputs)?;
    say("text", &format!("learns {} tokens from {} sentences", args.vocab_size, teacher.texts.len()));
    let bpe = tokenizer::train(teacher.texts.iter().map(String::as_str), args.vocab_size)?;
    let bpe_json = serde_json::to_vec(&bpe)?;
    write_atomically(&args.out.join("tokenizer.json"), &bpe_json)?;
    let config = config(args, bpe.get_vocab_size(true));
    write_atomically(&args.out.join("config.json"), &serde_json::to_vec_pretty(&config)?)?;
    let sequences = sequences(&bpe, &teacher.texts)?;
    let batches = Batches::new(sequences.iter().map(Vec::len), args.batch)?;

    device.seed(args.seed);
    let model = TextEncoder::new(&config, device);
    let optimizer = Optimizer::new(&OptimizerConfig::default());
    let (first_step, mut model, mut optimizer) = checkpoint.load(model, optimizer)?;
    let mut progress = Progress::new("text", first_step, args.steps, "tokens");
    for step in first_step..args.steps {
        if step > first_step && step.is_multiple_of(args.save_every.get()) {
            checkpoint.save(step, &model, &optimizer)?;
            progress.say(&format!("dev cosine to teacher {:.4}", dev_cosine(&model, &bpe, &dev, device)?));
        }
        let rows = batches.sample(&mut step_rng(args.seed, step));
        let ids = ids_tensor(rows.iter().map(|row| sequences[*row].as_slice()), device);
        let targets: Vec<f32> = rows.iter().flat_map(|row| teacher.row(*row)).copied().collect();
        let targets = Tensor::<1>::from_data(targets.as_slice(), device).reshape([rows.len(), EMBED_DIM]);
        let n_tokens = ids.dims()[0] * ids.dims()[1];
        let loss = loss(normalize(model.forward(ids)), targets);
        let value = f64::from(loss.clone().into_scalar::<f32>());
        let lr = learning_rate(step, args.steps, args.warmup_steps, args.lr);
        model = optimizer.step(model, loss, lr);
        progress.step(step, value, n_tokens, lr);
    }
    checkpoint.save(args.steps, &model, &optimizer)?;
    progress.say(&format!("dev cosine to teacher {:.4}", dev_cosine(&model, &bpe, &dev, device)?));
    let onnx = crate::export::text::text_encoder(&model, &sha256_hex(&bpe_json))?;
    write_atomically(&args.out.join("text_encoder.onnx"), &onnx)
}

/// Student rows against all teacher rows of the batch.
fn loss(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let cosine = (student.clone() * teacher.clone()).sum_dim(1).mean();
    let logits = student.matmul(teacher.transpose()).mul_scalar(1.0 / TAU);
    cosine.neg().add_scalar(1.0).mul_scalar(4.0) + own_column_loss(logits).mul_scalar(0.25)
}

/// `bos`, tokens, `eos` of every sentence.
pub fn sequences(bpe: &Tokenizer, texts: &[String]) -> Result<Vec<Vec<u32>>> {
    texts
        .iter()
        .map(|text| {
            let tokens = tokenizer::encode(bpe, text, MAX_TOKENS - 2)?;
            Ok(std::iter::once(BOS).chain(tokens).chain([EOS]).collect())
        })
        .collect()
}

/// Rows of one length to a tensor (B, S).
pub fn ids_tensor<'a>(rows: impl Iterator<Item = &'a [u32]>, device: &Device) -> Tensor<2, Int> {
    let rows: Vec<&[u32]> = rows.collect();
    let s = rows.first().map_or(0, |row| row.len());
    let flat: Vec<i64> = rows.iter().flat_map(|row| row.iter().map(|id| i64::from(*id))).collect();
    Tensor::<1, Int>::from_data(flat.as_slice(), device).reshape([rows.len(), s])
}

/// Batches of sentences of one length, drawn in proportion to how many sentences have it: no padding.
pub struct Batches {
    by_length: Vec<Vec<usize>>,
    n_rows: usize,
    batch: usize,
}

impl Batches {
    /// `lengths` are those of the sentences, at most [`MAX_TOKENS`] each.
    ///
    /// # Errors
    /// When no two of them are equal: a batch of one teaches nothing about the others.
    pub fn new(lengths: impl Iterator<Item = usize>, batch: usize) -> Result<Batches> {
        ensure!(batch > 0, "--batch 0: at least one sentence is needed");
        let mut by_length = vec![Vec::new(); MAX_TOKENS + 1];
        let mut n_sentences = 0;
        for (row, length) in lengths.enumerate() {
            by_length[length].push(row);
            n_sentences += 1;
        }
        by_length.retain(|rows| rows.len() > 1);
        let n_rows = by_length.iter().map(Vec::len).sum();
        ensure!(n_rows > 0, "draw batches: no two of {n_sentences} sentences have one length in tokens");
        Ok(Batches { by_length, n_rows, batch })
    }

    pub fn sample(&self, rng: &mut impl Rng) -> Vec<usize> {
        let mut at = rng.random_range(0..self.n_rows);
        for rows in &self.by_length {
            if at < rows.len() {
                let n = self.batch.min(rows.len());
                return rand::seq::index::sample(rng, rows.len(), n).into_iter().map(|i| rows[i]).collect();
            }
            at -= rows.len();
        }
        Vec::new()
    }
}

fn dev_cosine(model: &TextEncoder, bpe: &Tokenizer, dev: &Teacher, device: &Device) -> Result<f64> {
    let inner = device.clone().inner();
    let model = burn::module::Module::valid(model);
    let sequences = sequences(bpe, &dev.texts)?;
    let mut total = 0.0;
    let rows: Vec<usize> = (0..sequences.len()).step_by(10).collect();
    for row in &rows {
        let ids = ids_tensor(std::iter::once(sequences[*row].as_slice()), &inner);
        let embedding: Vec<f32> = crate::export::values(normalize(model.forward(ids)))?;
        total += embedding.iter().zip(dev.row(*row)).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    }
    Ok(total / rows.len() as f64)
}
