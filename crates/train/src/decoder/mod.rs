//! `captiond-train decoder`: trains a caption decoder, from sentences alone unless the recipe asks for pairs.

pub(crate) mod batch;
pub(crate) mod examples;
mod loss;
mod reward;

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use caption::Bundle;
use caption::tags::Tagger;
use serde::Serialize;

use self::batch::{Prompt, Shown, TrainingMemory};
pub use self::examples::WORDS_MAX;
use self::examples::{Example, Examples};
pub(crate) use self::loss::loss;
use self::reward::Critic;
use crate::embed::{Moments, TextTower, inputs_of};
use crate::model::{Decoder, DecoderConfig};
use crate::recipe::{Centre, MemoryUse, Preset, Pseudo, Recipe, Source, Switches};
use crate::text::{Batches, ensure_heads};
use crate::training::{
    Checkpoint, Inputs, Optimizer, OptimizerConfig, Progress, learning_rate, step_rng, write_atomically,
};
use crate::{import, memory, pseudo, tagging};

/// Arguments that shape the result.
#[derive(Clone, Debug, Serialize, clap::Args)]
pub struct DecoderArgs {
    /// Folder with `text/corpus.jsonl.gz` and, for what must stay out, `pairs.jsonl`
    #[arg(long)]
    pub data: PathBuf,
    /// Folder that `captiond-train text` wrote, or a bundle
    #[arg(long)]
    pub text: PathBuf,
    /// Folder for the checkpoint and the graphs
    #[arg(long)]
    pub out: PathBuf,
    /// Folder for text embeddings, which any number of runs may share
    #[arg(long, default_value = "runs/cache")]
    #[serde(skip)]
    pub cache: PathBuf,
    #[arg(long, value_enum, default_value_t = Preset::Captiond)]
    pub preset: Preset,
    #[command(flatten)]
    #[serde(skip)]
    pub switches: Switches,
    /// Sources of the corpus; `pairs` are the captions of the encoder's photos
    #[arg(long, num_args = 1.., default_values_t = ["flickr30k".to_owned(), "flickr8k".to_owned()])]
    pub sources: Vec<String>,
    /// Leave out every sentence that the encoder saw beside a photo
    #[arg(long)]
    pub exclude_pairs: bool,
    /// Questions of each kind to learn beside the captions, made from them by rules; for a source of text
    #[arg(long, default_value_t = 0)]
    pub questions: usize,
    /// Folder of image-text pairs, for a source of pairs
    #[arg(long)]
    pub pairs: Option<PathBuf>,
    /// Folders with the image encoder of such pairs: one, or one a fold (`captiond-train encoder --folds`)
    #[arg(long, num_args = 1..)]
    pub encoder: Vec<PathBuf>,
    /// File of labels, one a line, for a recipe with tags
    #[arg(long)]
    pub labels: Option<PathBuf>,
    /// Start from the decoder of this run or bundle instead of from random weights; where its adapter has another
    /// shape, from its language model alone
    #[arg(long)]
    pub init: Option<PathBuf>,
    /// Learn as many rows again from the decoder's own captions, this many for each embedding: the better one agrees with
    /// what people wrote of the photo (CIDEr-D), the likelier it becomes; for a source of text
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=32))]
    pub self_critical: u8,
    #[arg(long, default_value_t = 3)]
    pub n_layer: usize,
    #[arg(long, default_value_t = 256)]
    pub d: usize,
    #[arg(long, default_value_t = 768)]
    pub d_mlp: usize,
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
    /// Steps between two checkpoints
    #[arg(long, default_value = "500")]
    #[serde(skip)]
    pub save_every: NonZeroUsize,
    /// Write a checkpoint at this step and end; the same command goes on from there
    #[arg(long)]
    #[serde(skip)]
    pub stop_at: Option<usize>,
}

/// Room for prefix, `bos`, tags or a question, and what is written.
const MAX_POSITIONS: usize = 96;
/// Steps between sample captions.
const SAMPLE_STEPS: usize = 1000;
/// What a run leaves for `captiond-train bundle`.
pub const RECIPE_FILE: &str = "recipe.json";
pub const INPUT_MOMENTS_FILE: &str = "input_moments.json";

impl DecoderArgs {
    pub fn recipe(&self) -> Recipe {
        self.switches.recipe(self.preset)
    }

    /// What the paths among the arguments hold.
    fn inputs(&self, tower: &TextTower) -> Result<Inputs> {
        let mut inputs = tower.inputs().clone().with_file("dev captions", &self.data.join("pairs.jsonl"))?;
        if self.recipe().source == Source::Text {
            inputs = inputs.with_file("corpus", &self.data.join("text/corpus.jsonl.gz"))?;
        }
        if let Some(pairs) = &self.pairs {
            inputs = inputs.with_file("list of pairs", &pairs.join("pairs.jsonl"))?;
        }
        if let Some(labels) = &self.labels {
            inputs = inputs.with_file("list of labels", labels)?;
        }
        for (idx, encoder) in self.encoder.iter().enumerate() {
            let name = format!("image encoder {}", idx + 1);
            inputs = inputs.with_file(&name, &encoder.join("image_encoder.onnx"))?;
        }
        Ok(inputs)
    }
}

pub fn run(args: &DecoderArgs, device: &Device) -> Result<()> {
    let recipe = args.recipe();
    recipe.check().map_err(anyhow::Error::msg)?;
    ensure_heads(args.d)?;
    let tower = TextTower::open(&args.text)?;
    let described = serde_json::json!({"args": args, "recipe": recipe});
    let checkpoint = Checkpoint::open(&args.out, described, args.inputs(&tower)?)?;
    if let Some(init) = &args.init {
        inputs_of(init)?.ensure_text(init, tower.inputs(), &args.text)?;
    }
    let tagger = tagger(args, &recipe, &tower)?;
    let mut examples = Examples::gather(args, &tower, tagger.as_ref())?;
    if recipe.pseudo != Pseudo::Off {
        refine(args, &recipe, &mut examples, device)?;
    }
    let vocab_size = tower.bpe.get_vocab_size(true);
    let config = config(args, &recipe, vocab_size, examples.texts.dim);
    let moments = examples.inputs().moments();
    leave(args, &recipe, &config, &moments)?;
    let owners = memory::draw(examples.texts.len(), recipe.n_memory, args.seed);
    let centre = (recipe.centre == Centre::C3).then_some(moments.mean.as_slice());
    write_atomically(&args.out.join(memory::FILE), &memory::file(&examples.texts, &owners, centre)?)?;
    let shown = Shown {
        recipe: &recipe,
        examples: &examples,
        mean: moments.mean,
        memory: (recipe.memory == MemoryUse::Both)
            .then(|| TrainingMemory::new(&examples.texts, owners, recipe.memory_tau, device)),
        prompt: tagger.as_ref().map(|tagger| Prompt { tagger, bpe: &tower.bpe }),
    };

    device.seed(args.seed);
    let model = start(args, &config, device)?;
    let Some(model) = train(args, &shown, &tower, &checkpoint, model, &config, device)? else {
        return Ok(());
    };
    let (adapter, decoder) = graphs(&model, &config)?;
    write_atomically(&args.out.join("adapter.onnx"), &adapter)?;
    write_atomically(&args.out.join("decoder.onnx"), &decoder)
}

/// All steps that are left; nothing when it was asked to stop before the last.
fn train(
    args: &DecoderArgs,
    shown: &Shown<'_>,
    tower: &TextTower,
    checkpoint: &Checkpoint,
    model: Decoder,
    config: &DecoderConfig,
    device: &Device,
) -> Result<Option<Decoder>> {
    let rows = &shown.examples.rows;
    let batches = Batches::new(rows.iter().map(|example| example.tokens.len()), args.batch)?;
    let optimizer = Optimizer::new(&OptimizerConfig::default());
    let (first_step, mut model, mut optimizer) = checkpoint.load(model, optimizer)?;
    let mut critic = (args.self_critical > 0).then(|| Critic::new(args, shown, tower, config)).transpose()?;
    let mut progress = Progress::new("decoder", first_step, args.steps, "tokens");
    progress.say(&format!("{} sentences in {} steps of {}", rows.len(), args.steps, args.batch));
    for step in first_step..args.steps {
        let stop = args.stop_at == Some(step);
        if stop || (step > first_step && step.is_multiple_of(args.save_every.get())) {
            checkpoint.save(step, &model, &optimizer)?;
        }
        if stop {
            progress.say(&format!("stopped at step {step} as asked"));
            return Ok(None);
        }
        if step > first_step && step.is_multiple_of(SAMPLE_STEPS) {
            sample(&model, config, tower, shown, &progress)?;
        }
        device.seed(args.seed.wrapping_add(step as u64));
        let mut rng = step_rng(args.seed, step);
        let batch = shown.batch(&batches.sample(&mut rng), &mut rng, device)?;
        let n_learned = batch.n_learned;
        let mut loss = loss(&model, batch, args.label_smoothing)?;
        if let Some(critic) = &mut critic {
            loss = loss + critic.loss(&model, step, &mut rng, device)?;
        }
        let value = f64::from(loss.clone().into_scalar::<f32>());
        ensure!(value.is_finite(), "the loss is not finite at step {step}: lower --lr");
        let lr = learning_rate(step, args.steps, args.warmup_steps, args.lr);
        model = optimizer.step(model, loss, lr);
        progress.step(step, value, n_learned, lr);
    }
    checkpoint.save(args.steps, &model, &optimizer)?;
    sample(&model, config, tower, shown, &progress)?;
    Ok(Some(model))
}

fn tagger(args: &DecoderArgs, recipe: &Recipe, tower: &TextTower) -> Result<Option<Tagger>> {
    if !recipe.tags {
        return Ok(None);
    }
    let path =
        args.labels.as_ref().context("a recipe with tags needs --labels, a file with a label a line")?;
    let labels = tagging::read_labels(path)?;
    write_atomically(&args.out.join(tagging::LABELS_FILE), (labels.join("\n") + "\n").as_bytes())?;
    Ok(Some(Tagger::new(labels, &tagging::settings(), &mut tower.encoder()?)?))
}

/// Moves the features of pairs toward real ones, as the recipe asks.
fn refine(args: &DecoderArgs, recipe: &Recipe, examples: &mut Examples, device: &Device) -> Result<()> {
    let Some(images) = &examples.images else { return Ok(()) };
    let texts: Vec<usize> = {
        // The first caption of each image is what its feature is contrasted with.
        let mut first = vec![0; images.len()];
        for example in examples.rows.iter().rev() {
            first[example.rows.start] = example.own;
        }
        first
    };
    let refined = match recipe.pseudo {
        Pseudo::Off => return Ok(()),
        Pseudo::Contrastive => {
            let settings = pseudo::Settings {
                steps: recipe.pseudo_steps,
                tau: recipe.pseudo_tau,
                anchor: recipe.pseudo_anchor,
            };
            pseudo::contrast(images, &examples.texts, &texts, &settings, device)?
        }
        Pseudo::Moments => {
            let dir = args.encoder.first().context("--pseudo moments needs --encoder")?;
            pseudo::match_moments(images, &Moments::read(&dir.join(crate::encoder::MOMENTS_FILE))?)?
        }
    };
    let report = pseudo::Change::measure(images, &refined, &examples.texts, &texts);
    crate::report(&report.to_string())?;
    write_atomically(&args.out.join("pseudo.json"), &serde_json::to_vec_pretty(&report)?)?;
    examples.images = Some(refined);
    Ok(())
}

/// What `captiond-train bundle` needs to know.
fn leave(args: &DecoderArgs, recipe: &Recipe, config: &DecoderConfig, moments: &Moments) -> Result<()> {
    write_atomically(&args.out.join("config.json"), &serde_json::to_vec_pretty(config)?)?;
    write_atomically(&args.out.join(RECIPE_FILE), &serde_json::to_vec_pretty(recipe)?)?;
    write_atomically(&args.out.join(INPUT_MOMENTS_FILE), &serde_json::to_vec(moments)?)
}

fn config(args: &DecoderArgs, recipe: &Recipe, vocab_size: usize, embed_dim: usize) -> DecoderConfig {
    DecoderConfig {
        vocab_size,
        n_layer: args.n_layer,
        n_head: args.d / 64,
        d: args.d,
        d_mlp: args.d_mlp,
        embed_dim,
        prefix_length: recipe.prefix_length,
        adapter: recipe.adapter(),
        max_positions: MAX_POSITIONS,
        dropout: args.dropout,
    }
}

/// The network before the first step.
fn start(args: &DecoderArgs, config: &DecoderConfig, device: &Device) -> Result<Decoder> {
    let model = Decoder::new(config, device);
    let Some(init) = &args.init else { return Ok(model) };
    let (from, other) = if init.join(caption::bundle::MANIFEST_FILE).exists() {
        import::decoder(&Bundle::open(init)?, args.dropout, device)?
    } else {
        let path = init.join("config.json");
        let json = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let from: DecoderConfig =
            serde_json::from_slice(&json).with_context(|| format!("parse {}", path.display()))?;
        let other = Checkpoint::load_model(init, Decoder::new(&from, device))?;
        (from, other)
    };
    let same_adapter = |a: &DecoderConfig, b: &DecoderConfig| {
        (a.adapter, a.prefix_length, a.embed_dim) == (b.adapter, b.prefix_length, b.embed_dim)
    };
    let DecoderConfig { vocab_size, n_layer, n_head, d, d_mlp, max_positions, .. } = *config;
    ensure!(
        (from.vocab_size, from.n_layer, from.n_head, from.d, from.d_mlp, from.max_positions)
            == (vocab_size, n_layer, n_head, d, d_mlp, max_positions),
        "--init {}: its language model has another shape than the one that is asked for",
        init.display()
    );
    Ok(if same_adapter(&from, config) { other } else { model.with_language_model(other) })
}

/// The adapter's and the decoder's graph.
fn graphs(model: &Decoder, config: &DecoderConfig) -> Result<(Vec<u8>, Vec<u8>)> {
    Ok((crate::export::adapter::adapter(model, config)?, crate::export::decoder::decoder(model)?))
}

/// Captions a few clean embeddings with the daemon's own decode loop.
fn sample(
    model: &Decoder,
    config: &DecoderConfig,
    tower: &TextTower,
    shown: &Shown<'_>,
    progress: &Progress,
) -> Result<()> {
    let (adapter, decoder) = graphs(model, config)?;
    let mut captioner = crate::bundle::captioner(&adapter, &decoder, &tower.bpe, config)?;
    let rows = &shown.examples.rows;
    for i in 0..3 {
        let Example { tokens, n_given, own, rows, tags } = &rows[i * rows.len() / 3];
        let input = if shown.examples.images.is_some() { rows.start } else { *own };
        let embedding: Vec<f32> = shown.examples.inputs().row(input).collect();
        let tags = shown.prompt.as_ref().map(|prompt| prompt.tokens(tags)).transpose()?;
        let prompt = if *n_given > 1 { tokens[1..*n_given].to_vec() } else { tags.unwrap_or_default() };
        let caption = captioner.caption(&embedding.repeat(config.adapter.n_rows()), &prompt)?;
        let own = tower.bpe.decode(tokens, true).map_err(|e| anyhow::anyhow!("decode a sentence: {e}"))?;
        progress.say(&format!("sample {:?} for {:?}", caption.text, own.trim()));
    }
    Ok(())
}
