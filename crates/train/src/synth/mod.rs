//! `captiond-train synth`: synthetic image-text pairs from captions, in the place of a text-to-image model.
//!
//! A pair is a caption and a collage of what its nouns name, cut by a detector from photos that have no captions.
//! The folder that it writes is laid out like any folder of pairs, so that one made by a text-to-image model can
//! take its place.

mod bank;
mod collage;
mod layout;
mod nouns;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use self::bank::Bank;
use self::nouns::Wanted;
use crate::data::{self, CorpusFilter, Pair};
use crate::decoder::WORDS_MAX;
use crate::training::{Progress, step_rng, write_atomically};

/// Pairs between two writes: what a kill costs at most.
const CHUNK: usize = 64;

/// Arguments that shape the result.
#[derive(Clone, Debug, clap::Args)]
pub struct SynthArgs {
    /// Folder with `unpaired.jsonl`, `images`, `tags`, `text/corpus.jsonl.gz` and, for what must stay out,
    /// `pairs.jsonl`
    #[arg(long)]
    pub data: PathBuf,
    /// Folder for the detections, the images and `pairs.jsonl`
    #[arg(long)]
    pub out: PathBuf,
    /// Pairs to have in the end
    #[arg(long, default_value_t = 10_000)]
    pub n: usize,
    #[arg(long, num_args = 1.., default_values_t = ["flickr30k".to_owned(), "flickr8k".to_owned()])]
    pub sources: Vec<String>,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A caption to make an image for.
struct Order {
    caption: String,
    wanted: Vec<Wanted>,
    scene: &'static [&'static str],
}

pub fn run(args: &SynthArgs) -> Result<()> {
    ensure!(args.n > 0, "--n 0: at least one pair is needed");
    let bank = Bank::open(&args.out.join("detections.json"), &args.data)?;
    let (n_there, n_made) = fill(args, &bank)?;
    crate::report(&format!("{}: {n_made} pairs made, {n_there} were there", args.out.display()))
}

/// Makes the pairs that are missing; returns how many were there and how many were made.
fn fill(args: &SynthArgs, bank: &Bank) -> Result<(usize, usize)> {
    let images = args.out.join("images");
    std::fs::create_dir_all(&images).with_context(|| format!("create {}", images.display()))?;
    let orders = orders(args, bank)?;
    let path = args.out.join("pairs.jsonl");
    let (n_there, n_bytes) = there(args, &orders)?;
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    // A line that a kill has cut off must not stand before the next one.
    file.set_len(n_bytes).with_context(|| format!("shorten {}", path.display()))?;
    file.seek(SeekFrom::End(0)).with_context(|| format!("go to the end of {}", path.display()))?;

    let mut progress = Progress::new("synth", n_there, orders.len(), "pairs");
    let missing: Vec<(usize, &Order)> = orders.iter().enumerate().skip(n_there).collect();
    for chunk in missing.chunks(CHUNK) {
        let make = |(idx, order): &(usize, &Order)| {
            let layout = layout::draw(bank, &order.wanted, order.scene, &mut step_rng(args.seed, *idx));
            let jpeg = collage::jpeg(&layout, &args.data.join("images"))?;
            write_atomically(&images.join(image_name(*idx)), &jpeg)
        };
        chunk.par_iter().try_for_each(make)?;
        // A line stands for an image that is complete.
        let mut lines = String::new();
        for (idx, order) in chunk {
            lines += &serde_json::to_string(&pair(*idx, order))?;
            lines.push('\n');
        }
        file.write_all(lines.as_bytes()).with_context(|| format!("write {}", path.display()))?;
        let n_done = chunk.last().map_or(0, |(idx, _)| idx + 1);
        progress.count(n_done, chunk.len());
    }
    Ok((n_there, missing.len()))
}

/// The captions to make images for, at most `n`, in an order that depends on the seed and the corpus alone: a
/// larger `n` adds to the end.
///
/// # Errors
/// When the corpus has no caption that names a thing of the bank.
fn orders(args: &SynthArgs, bank: &Bank) -> Result<Vec<Order>> {
    let filter = CorpusFilter { sources: args.sources.clone(), exclude_pairs: false, words_max: WORDS_MAX };
    let mut captions: Vec<String> = data::corpus_groups(&args.data, &filter)?.into_iter().flatten().collect();
    let n_captions = captions.len();
    // Its stream is 0; those of the pairs begin at 1.
    captions.shuffle(&mut ChaCha8Rng::seed_from_u64(args.seed));
    let orders: Vec<Order> =
        captions.into_iter().filter_map(|caption| order(caption, bank)).take(args.n).collect();
    ensure!(!orders.is_empty(), "none of {n_captions} captions names a thing that the detector has found");
    Ok(orders)
}

/// The order for a caption; `None` when it names nothing that can be cut out.
fn order(caption: String, bank: &Bank) -> Option<Order> {
    let words = nouns::words(&caption);
    let mut wanted = nouns::objects(&words);
    wanted.retain(|wanted| bank.has_cut_outs(wanted.label));
    let scene = nouns::scene(&words);
    (!wanted.is_empty()).then_some(Order { caption, wanted, scene })
}

/// How many pairs `pairs.jsonl` holds whose images are there too, and the bytes of their lines.
///
/// # Errors
/// When a line is another than these arguments give: a folder of two seeds would be neither's.
fn there(args: &SynthArgs, orders: &[Order]) -> Result<(usize, u64)> {
    let path = args.out.join("pairs.jsonl");
    if !path.exists() {
        return Ok((0, 0));
    }
    let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let (mut n, mut n_bytes) = (0, 0);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Ok(found) = serde_json::from_slice::<Pair>(line) else { break };
        if !line.ends_with(b"\n") || !is_there(&args.out.join("images").join(&found.image)) {
            break;
        }
        if let Some(order) = orders.get(n) {
            let expected = pair(n, order);
            ensure!(
                found.image == expected.image && found.captions == expected.captions,
                "{} line {}: the pair of other arguments or another corpus: give another --out, or remove it",
                path.display(),
                n + 1
            );
        }
        n += 1;
        n_bytes += line.len() as u64;
    }
    Ok((n, n_bytes))
}

fn is_there(image: &Path) -> bool {
    image.metadata().is_ok_and(|file| file.len() > 0)
}

fn pair(idx: usize, order: &Order) -> Pair {
    Pair {
        image: image_name(idx).into(),
        source: "synth".to_owned(),
        split: "train".to_owned(),
        captions: vec![order.caption.clone()],
    }
}

fn image_name(idx: usize) -> String {
    format!("{idx:06}.jpg")
}
