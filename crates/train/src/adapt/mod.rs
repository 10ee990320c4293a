//! `captiond-train adapt`: a decoder for a bundle's own encoders and a user's own sentences, from the decoder of a
//! bundle that can already write. No photo is read but for the report.

mod corpus;
mod install;
mod report;

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::tensor::Device;
use caption::Bundle;
use rand::Rng;
use serde::Serialize;

use self::corpus::Corpus;
use self::report::Perplexity;
use crate::decoder::batch::Shown;
use crate::model::{Decoder, DecoderConfig};
use crate::recipe::{Preset, Recipe, Target};
use crate::training::{
    Checkpoint, Inputs, Optimizer, OptimizerConfig, Progress, learning_rate, step_rng, write_atomically,
};
use crate::{decoder, import};

/// Arguments that shape the result.
#[derive(Clone, Debug, Serialize, clap::Args)]
pub struct AdaptArgs {
    /// The bundle whose encoders are kept; an encoder bundle needs --base, too
    #[arg(long)]
    #[serde(skip)]
    pub bundle: PathBuf,
    /// Sentences to learn, one a line; where empty lines stand, those between two of them describe one scene
    #[arg(long)]
    #[serde(skip)]
    pub text: PathBuf,
    /// The bundle whose decoder is the start [default: --bundle]
    #[arg(long)]
    #[serde(skip)]
    pub base: Option<PathBuf>,
    /// General sentences to be kept, one a line [default: what the base writes from its own text memory]
    #[arg(long)]
    #[serde(skip)]
    pub general: Option<PathBuf>,
    /// The folder of the new bundle
    #[arg(long)]
    #[serde(skip)]
    pub out: PathBuf,
    /// Folder for the checkpoint and the embeddings [default: OUT with the ending .run]
    #[arg(long)]
    #[serde(skip)]
    pub run: Option<PathBuf>,
    /// Folder with `pairs.jsonl` and `images`, to report what is lost on general photos
    #[arg(long)]
    #[serde(skip)]
    pub data: Option<PathBuf>,
    /// Photos of that report
    #[arg(long, default_value_t = 200)]
    #[serde(skip)]
    pub photos: usize,
    #[arg(long, default_value_t = 600)]
    pub steps: usize,
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Share of general sentences in a batch, 0 to 1
    #[arg(long, default_value_t = 0.5)]
    pub mix: f64,
    /// General sentences that the base writes when none are given
    #[arg(long, default_value_t = 2000)]
    pub n_general: usize,
    /// Cosine between clean and noisy embedding [default: from the sentences]
    #[arg(long)]
    pub noise_cosine: Option<f32>,
    /// Share of the sentences that are held out for the report
    #[arg(long, default_value_t = 0.1)]
    pub hold_out: f64,
    #[arg(long, default_value_t = 5e-4)]
    pub lr: f64,
    #[arg(long, default_value_t = 30)]
    pub warmup_steps: usize,
    #[arg(long, default_value_t = 0.1)]
    pub dropout: f64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Steps between two checkpoints
    #[arg(long, default_value = "50")]
    #[serde(skip)]
    pub save_every: NonZeroUsize,
}

/// Steps between sample captions.
const SAMPLE_STEPS: usize = 150;
/// Weight of the mean over all words beside the right one.
const LABEL_SMOOTHING: f64 = 0.1;

impl AdaptArgs {
    fn run_dir(&self) -> PathBuf {
        self.run.clone().unwrap_or_else(|| {
            let mut name = self.out.clone().into_os_string();
            name.push(".run");
            name.into()
        })
    }

    fn check(&self) -> Result<()> {
        ensure!((0.0..1.0).contains(&self.mix), "--mix {}: at least 0 and below 1 is needed", self.mix);
        ensure!(
            self.hold_out > 0.0 && self.hold_out <= 0.5,
            "--hold-out {}: above 0 and at most 0.5 is needed",
            self.hold_out
        );
        ensure!(
            self.noise_cosine.is_none_or(|cosine| cosine > 0.0 && cosine <= 1.0),
            "--noise-cosine: a cosine above 0 and at most 1 is needed"
        );
        ensure!(self.batch > 1 && self.steps > 0, "--batch and --steps: at least 2 and 1 are needed");
        Ok(())
    }
}

/// The bundle whose encoders stay, and the one whose decoder is the start.
pub(crate) struct Bundles {
    pub(crate) target: Bundle,
    pub(crate) base: Bundle,
    /// Whether both have one text encoder, so that the base's adapter means something.
    pub(crate) one_space: bool,
}

impl Bundles {
    fn open(args: &AdaptArgs) -> Result<Bundles> {
        let target = Bundle::open(&args.bundle)?;
        let base = match &args.base {
            Some(dir) => Bundle::open(dir)?,
            None => target.clone(),
        };
        ensure!(
            base.manifest().decoder.is_some(),
            "{} has no decoder: give --base, a bundle with one to start from",
            base.id()
        );
        ensure!(
            base.manifest().regions.is_none() && base.manifest().tags.is_none(),
            "{}: its decoder takes sub-regions or tags, which adapt does not",
            base.id()
        );
        let text = |bundle: &Bundle| {
            let manifest = bundle.manifest();
            (manifest.graphs.text_encoder.sha256.clone(), manifest.tokenizer.sha256.clone())
        };
        let one_space = text(&target) == text(&base);
        Ok(Bundles { target, base, one_space })
    }
}

pub fn run(args: &AdaptArgs, device: &Device) -> Result<()> {
    args.check()?;
    let bundles = Bundles::open(args)?;
    let dir = args.run_dir();
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let mut inputs = Inputs::default()
        .with("list of sentences", &read(&args.text)?)
        .with("bundle", bundles.target.id().as_bytes())
        .with("base", bundles.base.id().as_bytes());
    if let Some(general) = &args.general {
        inputs = inputs.with("list of general sentences", &read(general)?);
    }
    let checkpoint = Checkpoint::open(&dir, serde_json::json!({ "adapt": args }), inputs)?;
    let corpus = Corpus::gather(args, &bundles, &dir)?;
    let (config, first) = start(args, &bundles, device)?;
    let mut report = report::Report::begin(args, &bundles, &corpus);
    if bundles.one_space {
        report.before = Some(Perplexity::measure(&first.valid(), &corpus, device)?);
    }
    let model = train(args, &corpus, &bundles, &checkpoint, first, &config, device)?;
    report.after = Some(Perplexity::measure(&model.valid(), &corpus, device)?);
    let adapter = crate::export::adapter::adapter(&model, &config)?;
    let decoder = crate::export::decoder::decoder(&model)?;
    write_atomically(&dir.join("adapter.onnx"), &adapter)?;
    write_atomically(&dir.join("decoder.onnx"), &decoder)?;
    let installed = install::bundle(args, &bundles, &corpus, &config, [&adapter, &decoder])?;
    report.captions(args, &bundles, &installed)?;
    let text = report.to_string();
    write_atomically(&dir.join("report.md"), text.as_bytes())?;
    installed.write(&args.out, &text)?;
    crate::report(text.trim_end())?;
    crate::report(&format!("wrote {}", args.out.display()))
}

/// The base's decoder; with an adapter of its own where the base's is one for other embeddings.
fn start(args: &AdaptArgs, bundles: &Bundles, device: &Device) -> Result<(DecoderConfig, Decoder)> {
    device.seed(args.seed);
    let (config, base) = import::decoder(&bundles.base, args.dropout, device)?;
    if bundles.one_space {
        return Ok((config, base));
    }
    let config = DecoderConfig { embed_dim: bundles.target.manifest().embedding.dim, ..config };
    let fresh = Decoder::new(&config, device).with_language_model(base);
    Ok((config, fresh))
}

fn recipe(corpus: &Corpus) -> Recipe {
    Recipe { noise_cosine: [corpus.noise_cosine; 2], target: Target::Sibling, ..Recipe::of(Preset::Captiond) }
}

/// All steps that are left.
fn train(
    args: &AdaptArgs,
    corpus: &Corpus,
    bundles: &Bundles,
    checkpoint: &Checkpoint,
    model: Decoder,
    config: &DecoderConfig,
    device: &Device,
) -> Result<Decoder> {
    let recipe = recipe(corpus);
    let shown =
        Shown { recipe: &recipe, examples: &corpus.examples, mean: vec![], memory: None, prompt: None };
    let (first_step, mut model, mut optimizer) =
        checkpoint.load(model, Optimizer::new(&OptimizerConfig::default()))?;
    let mut progress = Progress::new("adapt", first_step, args.steps, "tokens");
    for step in first_step..args.steps {
        if step > first_step && step.is_multiple_of(args.save_every.get()) {
            checkpoint.save(step, &model, &optimizer)?;
        }
        if step > first_step && step.is_multiple_of(SAMPLE_STEPS) {
            sample(&model, config, bundles, corpus, &progress)?;
        }
        device.seed(args.seed.wrapping_add(step as u64));
        let mut rng = step_rng(args.seed, step);
        let chosen: Vec<usize> = (0..args.batch)
            .map(|_| {
                let general = !corpus.general.is_empty() && rng.random_bool(args.mix);
                let from = if general { &corpus.general } else { &corpus.own };
                from[rng.random_range(0..from.len())]
            })
            .collect();
        let batch = shown.batch(&chosen, &mut rng, device)?;
        let n_learned = batch.n_learned;
        let loss = decoder::loss(&model, batch, LABEL_SMOOTHING)?;
        let value = f64::from(loss.clone().into_scalar::<f32>());
        ensure!(value.is_finite(), "the loss is not finite at step {step}: lower --lr");
        let lr = learning_rate(step, args.steps, args.warmup_steps, args.lr);
        model = optimizer.step(model, loss, lr);
        progress.step(step, value, n_learned, lr);
    }
    checkpoint.save(args.steps, &model, &optimizer)?;
    Ok(model)
}

/// Writes what it makes of a few held-out sentences' embeddings, with the daemon's own decode loop.
fn sample(
    model: &Decoder,
    config: &DecoderConfig,
    bundles: &Bundles,
    corpus: &Corpus,
    progress: &Progress,
) -> Result<()> {
    let adapter = crate::export::adapter::adapter(model, config)?;
    let decoder = crate::export::decoder::decoder(model)?;
    let mut captioner = corpus::captioner(&bundles.base, &adapter, &decoder)?;
    for (row, sentence) in corpus.held_out.iter().zip(&corpus.held_out_texts).take(2) {
        let embedding: Vec<f32> = corpus.examples.texts.row(corpus.examples.rows[*row].own).collect();
        let caption = captioner.caption(&embedding, &[])?;
        progress.say(&format!("sample {:?} for {sentence:?}", caption.text));
    }
    Ok(())
}
