//! `captiond-train eval`: how true a bundle's captions are, on photos that no training has seen, beside the two
//! floors that any number needs: one constant sentence, and a random training caption for each photo.

mod gallery;
pub mod saved;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use caption::{Bundle, Caption, ImageView, Manifest, Models};
use clap::ValueEnum;
use metrics::{Bootstrap, Example, Report};
use serde::{Deserialize, Serialize};

use crate::data::{self, Pair, tidy};
use crate::graph;
use crate::retrieval::Retrieval;
use crate::training::Progress;
use crate::views::views;
use crate::workers::Workers;

/// Photos between two progress lines.
const CHUNK: usize = 50;
/// Captions that one thread takes at a time.
const TEXTS: usize = 256;

/// What the decoder is given for each photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// The photo
    Image,
    /// The text embedding of its first caption, scored against its other captions: what noise costs the decoder on
    /// the input that it was trained with
    Text,
}

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
    #[arg(long, value_enum, default_value_t = Input::Image)]
    pub input: Input,
    /// Folder that keeps what the image encoder made of the photos, for other bundles with the same encoder
    #[arg(long)]
    pub views: Option<PathBuf>,
    /// Write the scores as JSON, for `captiond-train report`
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Tables of the report that the scores are for: bundle, presets, noise, regions, rerank, synthetic, cross-domain
    #[arg(long, num_args = 1.., requires = "out")]
    pub group: Vec<String>,
    /// Name of the row in each table of --group, in the same order; a cosine in the table noise
    #[arg(long, num_args = 1.., requires = "group")]
    pub label: Vec<String>,
    /// Seed of the training run, where the bundle's provenance does not name it
    #[arg(long)]
    pub seed_of_run: Option<u64>,
    /// Write the captions as JSON lines
    #[arg(long)]
    pub captions: Option<PathBuf>,
    /// Write the captions of 40 random photos as a page
    #[arg(long)]
    pub gallery: Option<PathBuf>,
    /// Seed of the random floor, of the bootstrap and of the gallery
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What is measured on: a photo, its view or what stands for it, and the references.
struct Photos {
    /// The captions are the references alone.
    pairs: Vec<Pair>,
    views: Vec<ImageView>,
}

/// One evaluation, to be saved.
struct Measured<'a> {
    bundle: &'a Bundle,
    photos: &'a Photos,
    /// Of the bundle and the two floors, in the order of the systems saved with it.
    report: &'a Report,
    retrieval: Option<Retrieval>,
    started_at: Instant,
}

pub fn run(args: &EvalArgs) -> Result<()> {
    let started_at = Instant::now();
    ensure!(
        args.group.len() == args.label.len(),
        "--group names {} tables, --label {} rows: one each is needed",
        args.group.len(),
        args.label.len()
    );
    let pairs = pairs(args)?;
    let bundle = Bundle::open(&args.bundle)?;
    let models = Workers::new(|| graph::models(&bundle))?;
    let photos = match args.input {
        Input::Image => seen(args, &models, bundle.manifest(), pairs)?,
        Input::Text => read(&models, bundle.manifest(), pairs)?,
    };
    let captions = captions(&models, &photos.views)?;
    if let Some(path) = &args.captions {
        gallery::write_captions(path, &photos.pairs, &captions)?;
    }
    let n = photos.pairs.len();
    crate::report(&format!("{} on {} {} ({n} photos)", bundle.id(), args.source, args.split))?;
    let retrieval = match args.input {
        Input::Image => Some(retrieval(&models, bundle.manifest().embedding.dim, &photos)?),
        Input::Text => None,
    };
    if let Some(retrieval) = &retrieval {
        crate::report(&retrieval.to_string())?;
    }
    let examples = examples(&photos.pairs, &captions);
    if let Some(path) = &args.gallery {
        let cider = metrics::cider_d(&examples, None)?;
        gallery::gallery(path, args, bundle.id(), &photos.pairs, &captions, &cider)?;
    }
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
    if let Some(path) = &args.out {
        let measured = Measured { bundle: &bundle, photos: &photos, report: &report, retrieval, started_at };
        saved::write(path, args, &measured, &systems)?;
    }
    crate::report(&report.to_string())
}

/// Captions of photos and what they score.
pub(crate) struct Scored {
    pub(crate) photos: Vec<PathBuf>,
    pub(crate) captions: Vec<String>,
    /// CIDEr-D, the mean over the photos.
    pub(crate) cider: f64,
}

/// The first `n` dev photos of Flickr8k under `data`, captioned by a bundle.
pub(crate) fn scored(bundle: &Bundle, data: &Path, n: usize) -> Result<Scored> {
    let mut pairs = data::pairs(data, "dev")?;
    pairs.retain(|pair| pair.source == "flickr8k");
    pairs.truncate(n);
    ensure!(!pairs.is_empty(), "{}: no dev photo of flickr8k", data.display());
    let models = Workers::new(|| graph::models(bundle))?;
    let photos: Vec<PathBuf> = pairs.iter().map(|pair| pair.image.clone()).collect();
    let views = views(None, &models, bundle.manifest(), &data.join("images"), &photos)?;
    let captions = captions(&models, &views)?;
    let cider = metrics::cider_d(&examples(&pairs, &captions), None)?.mean;
    Ok(Scored { photos, captions: captions.into_iter().map(|caption| caption.text).collect(), cider })
}

/// The photos to score. A text input takes the first caption of each, so that there must be a second.
fn pairs(args: &EvalArgs) -> Result<Vec<Pair>> {
    let mut pairs = data::pairs(&args.data, &args.split)?;
    pairs.retain(|pair| pair.source == args.source);
    pairs.retain(|pair| args.input == Input::Image || pair.captions.len() > 1);
    pairs.truncate(args.limit.unwrap_or(usize::MAX));
    ensure!(!pairs.is_empty(), "no photo of the split {} comes from {}", args.split, args.source);
    Ok(pairs)
}

fn seen(args: &EvalArgs, models: &Workers<Models>, manifest: &Manifest, pairs: Vec<Pair>) -> Result<Photos> {
    let files: Vec<PathBuf> = pairs.iter().map(|pair| pair.image.clone()).collect();
    let views = views(args.views.as_deref(), models, manifest, &args.data.join("images"), &files)?;
    Ok(Photos { pairs, views })
}

/// Text embeddings in the place of views, every patch the same.
fn read(models: &Workers<Models>, manifest: &Manifest, mut pairs: Vec<Pair>) -> Result<Photos> {
    ensure!(
        manifest.bridge.is_none(),
        "--input text: the bundle moves embeddings from images to texts, and these are texts already"
    );
    let texts: Vec<String> = pairs.iter_mut().map(|pair| tidy(&pair.captions.remove(0))).collect();
    let n_patches = manifest.embedding.patches.iter().product();
    let view = |embedding: Vec<f32>| ImageView {
        patches: embedding.repeat(n_patches),
        weights: vec![1.0 / n_patches as f32; n_patches],
        embedding,
    };
    Ok(Photos { pairs, views: embeddings(models, &texts)?.into_iter().map(view).collect() })
}

/// The daemon's own captions.
fn captions(models: &Workers<Models>, views: &[ImageView]) -> Result<Vec<Caption>> {
    let mut progress = Progress::new("caption", 0, views.len(), "photos");
    let mut captions = Vec::with_capacity(views.len());
    for chunk in views.chunks(CHUNK) {
        captions.extend(models.map(chunk, |models, view| Ok(models.caption(view)?))?);
        progress.count(captions.len(), chunk.len());
    }
    Ok(captions)
}

fn examples(pairs: &[Pair], captions: &[Caption]) -> Vec<Example> {
    let example = |(pair, caption): (&Pair, &Caption)| Example {
        candidate: caption.text.clone(),
        references: pair.captions.clone(),
    };
    pairs.iter().zip(captions).map(example).collect()
}

fn embeddings(models: &Workers<Models>, texts: &[String]) -> Result<Vec<Vec<f32>>> {
    let chunks: Vec<&[String]> = texts.chunks(TEXTS).collect();
    Ok(models.map(&chunks, |models, texts| Ok(models.encode_texts(texts)?))?.concat())
}

/// Unit rows of all captions, each with the index of its photo, in the photos' order.
pub(crate) fn captions_of(models: &Workers<Models>, pairs: &[Pair]) -> Result<Vec<(usize, Vec<f32>)>> {
    let captions = |(idx, pair): (usize, &Pair)| -> Vec<(usize, String)> {
        pair.captions.iter().map(|caption| (idx, tidy(caption))).collect()
    };
    let (owners, texts): (Vec<usize>, Vec<String>) = pairs.iter().enumerate().flat_map(captions).unzip();
    Ok(owners.into_iter().zip(embeddings(models, &texts)?).collect())
}

/// Retrieval with the bundle's own two encoders, every caption a query.
fn retrieval(models: &Workers<Models>, dim: usize, photos: &Photos) -> Result<Retrieval> {
    let rows = captions_of(models, &photos.pairs)?;
    let texts: Vec<(usize, &[f32])> = rows.iter().map(|(owner, row)| (*owner, row.as_slice())).collect();
    let images: Vec<f32> = photos.views.iter().flat_map(|view| view.embedding.iter().copied()).collect();
    Ok(Retrieval::measure(&images, &texts, dim))
}

#[cfg(test)]
mod tests;
