//! `captiond-train eval`: how true a bundle's captions are, on photos that no training has seen, beside the two
//! floors that any number needs: one constant sentence, and a random training caption for each photo.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use caption::{Bundle, Models};
use metrics::{Bootstrap, CiderD, Example, Report};

use crate::data::{self, Pair, read_photo, tidy};
use crate::graph;
use crate::retrieval::Retrieval;
use crate::training::{Progress, step_rng, write_atomically};
use crate::workers::Workers;

/// Photos between two progress lines.
const CHUNK: usize = 50;
/// Captions that one thread takes at a time.
const TEXTS: usize = 256;

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
    /// Write the captions of 40 random photos as a page
    #[arg(long)]
    pub gallery: Option<PathBuf>,
    /// Seed of the random floor, of the bootstrap and of the gallery
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
    let models = Workers::new(|| graph::models(&bundle))?;
    let seen = look(&models, &args.data.join("images"), &pairs)?;
    if let Some(path) = &args.captions {
        write_captions(path, &pairs, &seen)?;
    }
    let retrieval = retrieval(&models, bundle.manifest().embedding.dim, &pairs, &seen)?;
    crate::report(&format!("{} on {} {} ({} photos)", bundle.id(), args.source, args.split, pairs.len()))?;
    crate::report(&retrieval.to_string())?;

    let example = |(pair, seen): (&Pair, &Seen)| Example {
        candidate: seen.caption.clone(),
        references: pair.captions.clone(),
    };
    let examples: Vec<Example> = pairs.iter().zip(&seen).map(example).collect();
    let train: Vec<String> =
        data::pairs(&args.data, "train")?.into_iter().flat_map(|pair| pair.captions).collect();
    let floors = metrics::floors(&examples, &train, args.seed)?;
    let bootstrap = Bootstrap { seed: args.seed, ..Bootstrap::default() };
    let systems = [
        ("bundle", examples.as_slice()),
        ("constant sentence", floors.constant.as_slice()),
        ("random caption", floors.random.as_slice()),
    ];
    if let Some(path) = &args.gallery {
        gallery(path, args, &bundle, &pairs, &seen, &metrics::cider_d(&examples, None)?)?;
    }
    let report = Report::measure(&systems, None, &bootstrap)?;
    crate::report(&report.to_string())
}

/// Runs every photo through the daemon's own path.
fn look(models: &Workers<Models>, images: &Path, pairs: &[Pair]) -> Result<Vec<Seen>> {
    let mut progress = Progress::new("eval", 0, pairs.len(), "photos");
    let mut seen = Vec::with_capacity(pairs.len());
    for chunk in pairs.chunks(CHUNK) {
        seen.extend(models.map(chunk, |models, pair| {
            let photo = read_photo(&images.join(&pair.image))?;
            let view = models.encode(&models.preprocess(&photo))?;
            let caption = models.caption(&view)?;
            Ok(Seen { embedding: view.embedding, caption: caption.text, score: caption.score })
        })?);
        progress.step(seen.len() - 1, 0.0, chunk.len(), 0.0);
    }
    Ok(seen)
}

/// Retrieval with the bundle's own two encoders, every caption a query.
fn retrieval(models: &Workers<Models>, dim: usize, pairs: &[Pair], seen: &[Seen]) -> Result<Retrieval> {
    let (owners, texts): (Vec<usize>, Vec<String>) = pairs
        .iter()
        .enumerate()
        .flat_map(|(idx, pair)| pair.captions.iter().map(move |caption| (idx, tidy(caption))))
        .unzip();
    let chunks: Vec<&[String]> = texts.chunks(TEXTS).collect();
    let rows = models.map(&chunks, |models, texts| Ok(models.encode_texts(texts)?))?;
    let texts: Vec<(usize, &[f32])> =
        owners.into_iter().zip(rows.iter().flatten().map(Vec::as_slice)).collect();
    let images: Vec<f32> = seen.iter().flat_map(|seen| seen.embedding.iter().copied()).collect();
    Ok(Retrieval::measure(&images, &texts, dim))
}

/// Photos of the gallery.
const N_GALLERY: usize = 40;

/// Random photos by name, with their captions and scores: to be read by people, good ones and bad ones.
fn gallery(
    path: &Path,
    args: &EvalArgs,
    bundle: &Bundle,
    pairs: &[Pair],
    seen: &[Seen],
    cider: &CiderD,
) -> Result<()> {
    let n = N_GALLERY.min(pairs.len());
    let mut chosen = rand::seq::index::sample(&mut step_rng(args.seed, 0), pairs.len(), n).into_vec();
    chosen.sort_unstable();
    let mut page = format!(
        "# Gallery\n\n{n} random photos of {} {} and what {} says of them, drawn with seed {} by `captiond-train \
         eval --gallery`; none was chosen.\nThe photos themselves may not be shown here. The score is the geometric \
         mean probability of the tokens, CIDEr-D that of the one photo against its references (their mean is {:.3}).\n\n\
         | photo | caption | score | CIDEr-D |\n|---|---|---:|---:|\n",
        args.source,
        args.split,
        bundle.id(),
        args.seed,
        cider.mean
    );
    for idx in chosen {
        let name = pairs[idx].image.file_name().unwrap_or_default().to_string_lossy();
        let Seen { caption, score, .. } = &seen[idx];
        page += &format!("| {name} | {caption} | {score:.2} | {:.2} |\n", cider.per_image[idx]);
    }
    write_atomically(path, page.as_bytes())
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
