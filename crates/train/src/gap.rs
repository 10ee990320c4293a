//! `captiond-train gap`: what lies between a bundle's images and their captions.
//!
//! Two premises of the methods are measured, each beside what it would look like if it did not hold: that the gap
//! between the modalities is Gaussian noise of mean zero (CapDec, MacCap), and that sub-regions of an image are nearer
//! to its captions than the image's one embedding (MacCap).

mod difference;
mod nearness;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use caption::{Bundle, ImageView};

use crate::data;
use crate::report::saved::{self, Gap};
use crate::views::views;
use crate::workers::Workers;
use crate::{eval, graph};

#[derive(Clone, Debug, clap::Args)]
pub struct GapArgs {
    #[arg(long)]
    pub bundle: PathBuf,
    /// Folder with `pairs.jsonl` and `images`
    #[arg(long)]
    pub data: PathBuf,
    /// Measure the first N photos alone
    #[arg(long)]
    pub limit: Option<usize>,
    /// Folder that keeps what the image encoder made of the photos, as of `eval`
    #[arg(long)]
    pub views: Option<PathBuf>,
    /// Write the figures as JSON, for `captiond-train report`
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Of the random patches, of the noise that is compared with, and of the bootstrap
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Photos and their captions, embedded.
struct Paired {
    views: Vec<ImageView>,
    /// Unit rows with the index of their photo, in the photos' order.
    texts: Vec<(usize, Vec<f32>)>,
}

pub fn run(args: &GapArgs) -> Result<()> {
    let bundle = Bundle::open(&args.bundle)?;
    let paired = embed(args, &bundle)?;
    let gap = Gap {
        bundle: bundle.id().to_owned(),
        n_photos: paired.views.len(),
        n_captions: paired.texts.len(),
        difference: difference::measure(&paired, args.seed),
        nearness: nearness::measure(&paired, args.seed)?,
        command: eval::saved::command(std::env::args()),
    };
    crate::report(&gap.to_string())?;
    match &args.out {
        Some(path) => saved::write(path, &gap),
        None => Ok(()),
    }
}

fn embed(args: &GapArgs, bundle: &Bundle) -> Result<Paired> {
    let mut pairs = data::pairs(&args.data, "dev")?;
    pairs.retain(|pair| pair.source == "flickr8k" && pair.captions.len() > 1);
    pairs.truncate(args.limit.unwrap_or(usize::MAX));
    ensure!(
        pairs.len() > 1,
        "{}: two dev photos of flickr8k with captions are needed",
        args.data.join("pairs.jsonl").display()
    );
    let models = Workers::new(|| graph::models(bundle))?;
    let photos: Vec<PathBuf> = pairs.iter().map(|pair| pair.image.clone()).collect();
    let views = views(args.views.as_deref(), &models, bundle.manifest(), &args.data.join("images"), &photos)?;
    Ok(Paired { texts: eval::captions_of(&models, &pairs)?, views })
}
