//! `captiond-train eval`: how true a bundle's captions are, on photos that no training has seen, beside the two
//! floors that any number needs: one constant sentence, and a random training caption for each photo.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use caption::{Bundle, Models};
use engine::{Engine, EngineOptions};
use metrics::{Bootstrap, Example, Report};
use rayon::prelude::*;

use crate::data::{self, Pair, tidy};
use crate::retrieval::Retrieval;
use crate::training::{Progress, write_atomically};

#[derive(Clone, Debug, clap::Args)]
pub struct EvalArgs {
    #[arg(long)]
    pub bundle: PathBuf,
    /// Folder with `pairs.jsonl` and `images`
    #[arg(long)]
    pub data: PathBuf,
    /// Split of `pairs.jsonl`
    #[arg(long, default_value = "dev")]
    pub split: String,
    /// Score the photos of this source alone
    #[arg(long, default_value = "flickr8k")]
    pub source: String,
    /// Score the first N photos alone: quicker, and not comparable
    #[arg(long)]
    pub limit: Option<usize>,
    /// Write the captions as JSON lines
    #[arg(long)]
    pub captions: Option<PathBuf>,
    /// Seed of the random floor and of the bootstrap
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What a bundle makes of one photo.
struct Seen {
    embedding: Vec<f32>,
    caption: String,
    score: f32,
}

pub fn run(args: &EvalArgs) -> Result<()> {
    let mut pairs = data::pairs(&args.data, &args.split)?;
    pairs.retain(|pair| pair.source == args.source);
    pairs.truncate(args.limit.unwrap_or(usize::MAX));
    ensure!(!pairs.is_empty(), "no photo of the split {} comes from {}", args.split, args.source);
    let bundle = Bundle::open(&args.bundle)?;
    let engine = engine::open("tract")?;
    let seen = look(&bundle, &*engine, &args.data.join("images"), &pairs)?;
    if let Some(path) = &args.captions {
        write_captions(path, &pairs, &seen)?;
    }
    let retrieval = retrieval(&bundle, &pairs, &seen)?;
    crate::report(&format!("{} on {} {} ({} photos)", bundle.id(), args.source, args.split, pairs.len()))?;
    crate::report(&retrieval.to_string())?;

    let with = |captions: &dyn Fn(usize) -> String| -> Vec<Example> {
        let example = |(idx, pair): (usize, &Pair)| Example {
            candidate: captions(idx),
            references: pair.captions.clone(),
        };
        pairs.iter().enumerate().map(example).collect()
    };
    let examples = with(&|idx| seen[idx].caption.clone());
    let train: Vec<String> =
        data::pairs(&args.data, "train")?.into_iter().flat_map(|pair| pair.captions).collect();
    let floors = metrics::floors(&examples, &train, args.seed)?;
    let bootstrap = Bootstrap { seed: args.seed, ..Bootstrap::default() };
    let systems = [
        ("bundle", examples.as_slice()),
        ("constant sentence", floors.constant.as_slice()),
        ("random caption", floors.random.as_slice()),
    ];
    let report = Report::measure(&systems, None, &bootstrap)?;
    crate::report(&report.to_string())
}

/// Runs every photo through the daemon's own path, one set of graphs a thread.
fn look(bundle: &Bundle, engine: &dyn Engine, images: &Path, pairs: &[Pair]) -> Result<Vec<Seen>> {
    let models: Vec<Mutex<Models>> = (0..rayon::current_num_threads())
        .map(|_| Ok(Mutex::new(Models::load(bundle, engine, &EngineOptions::default())?)))
        .collect::<Result<_>>()?;
    let mut progress = Progress::new("eval", 0, pairs.len(), "photos");
    let mut seen = Vec::with_capacity(pairs.len());
    for chunk in pairs.chunks(50) {
        let looked: Vec<Seen> = chunk
            .par_iter()
            .map(|pair| -> Result<Seen> {
                let worker = rayon::current_thread_index().unwrap_or(0);
                let mut models =
                    models[worker].lock().map_err(|_poisoned| anyhow::anyhow!("another worker panicked"))?;
                let path = images.join(&pair.image);
                let photo =
                    image::open(&path).with_context(|| format!("read {}", path.display()))?.into_rgb8();
                let pixels = models.preprocess(&photo);
                let view = models.encode(&pixels)?;
                let caption = models.caption(&view)?;
                Ok(Seen { embedding: view.embedding, caption: caption.text, score: caption.score })
            })
            .collect::<Result<_>>()?;
        seen.extend(looked);
        progress.step(seen.len() - 1, 0.0, chunk.len(), 0.0);
    }
    Ok(seen)
}

/// Retrieval with the bundle's own two encoders, every caption a query.
fn retrieval(bundle: &Bundle, pairs: &[Pair], seen: &[Seen]) -> Result<Retrieval> {
    let manifest = bundle.manifest();
    let file = |name: &str| bundle.file(name).with_context(|| format!("the bundle has no {name}"));
    let bpe = tokenizers::Tokenizer::from_bytes(file(&manifest.tokenizer.file)?)
        .map_err(|e| anyhow::anyhow!("load tokenizer: {e}"))?;
    let texts: Vec<(usize, String)> = pairs
        .iter()
        .enumerate()
        .flat_map(|(idx, pair)| pair.captions.iter().map(move |caption| (idx, tidy(caption))))
        .collect();
    let only: Vec<String> = texts.iter().map(|(_, text)| text.clone()).collect();
    let sequences = crate::text::sequences(&bpe, &only)?;
    let rows = crate::embed::compute(file(&manifest.graphs.text_encoder.file)?, &sequences)?;
    let flat: Vec<Vec<f32>> = (0..rows.len()).map(|idx| rows.row(idx).collect()).collect();
    let texts: Vec<(usize, &[f32])> =
        texts.iter().zip(&flat).map(|((idx, _), row)| (*idx, row.as_slice())).collect();
    let images: Vec<f32> = seen.iter().flat_map(|seen| seen.embedding.iter().copied()).collect();
    Ok(Retrieval::measure(&images, &texts, manifest.embedding.dim))
}

fn write_captions(path: &Path, pairs: &[Pair], seen: &[Seen]) -> Result<()> {
    let lines: Vec<String> = pairs
        .iter()
        .zip(seen)
        .map(|(pair, seen)| {
            serde_json::json!({"image": pair.image, "caption": seen.caption, "score": seen.score}).to_string()
        })
        .collect();
    write_atomically(path, (lines.join("\n") + "\n").as_bytes())
}
