//! `captiond-train confidence`: where photos end and pictures that show nothing begin.
//!
//! Prints the limits that the training photos suggest, and how the limits of a bundle do on the dev photos and on
//! spoiled copies of them: black, covered, blurred, noise.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use caption::bundle::PreprocessSettings;
use caption::{Bundle, Quality, normal, preprocess};
use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};
use rand::Rng;
use rayon::prelude::*;

use crate::data::{self, Pair, read_photo};
use crate::report::saved::{self, FrameCount, Frames};
use crate::training::{Progress, step_rng};

#[derive(Clone, Debug, clap::Args)]
pub struct ConfidenceArgs {
    #[arg(long)]
    pub bundle: PathBuf,
    /// Folder with `pairs.jsonl` and `images`
    #[arg(long)]
    pub data: PathBuf,
    /// Spoiled copies of each kind
    #[arg(long, default_value_t = 50)]
    pub spoiled: usize,
    /// Write the counts as JSON, for `captiond-train report`
    #[arg(long)]
    pub out: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Photos of the training split that the limits come from.
const N_TRAIN: usize = 2000;
/// Photos between two progress lines.
const CHUNK: usize = 64;
/// Share of the training photos beyond each limit.
const TAIL: f64 = 0.01;

/// A way in which a frame shows nothing.
#[derive(Clone, Copy, Debug)]
enum Spoiled {
    /// Dark, with the noise of a sensor.
    Black,
    /// Something lies on the lens: what is left is a dim, smooth glow.
    Covered,
    Blurred,
    /// Noise with little or nothing of the photo behind it.
    Noise,
}

impl Spoiled {
    const ALL: [Spoiled; 4] = [Spoiled::Black, Spoiled::Covered, Spoiled::Blurred, Spoiled::Noise];

    fn apply(self, photo: &RgbImage, rng: &mut impl Rng) -> RgbImage {
        match self {
            Spoiled::Black => {
                let share = rng.random_range(0.0..0.03);
                map(photo, |level| level * share + 2.0 * normal(rng).abs())
            }
            Spoiled::Covered => {
                let share = rng.random_range(0.2..0.6);
                map(&blur(photo, 2), |level| level * share + 2.0 * normal(rng))
            }
            Spoiled::Blurred => {
                let cells = rng.random_range(10..24);
                map(&blur(photo, cells), |level| level)
            }
            Spoiled::Noise => {
                let share = rng.random_range(0.0..0.25);
                map(photo, |level| level * share + (1.0 - share) * rng.random_range(0.0..255.0))
            }
        }
    }
}

/// Down to a few cells and smoothly back: the blur of a lens far out of focus.
fn blur(photo: &RgbImage, cells: u32) -> RgbImage {
    let small = resize(photo, cells, cells, FilterType::Triangle);
    resize(&small, photo.width(), photo.height(), FilterType::Gaussian)
}

fn map(photo: &RgbImage, mut level: impl FnMut(f32) -> f32) -> RgbImage {
    RgbImage::from_fn(photo.width(), photo.height(), |x, y| {
        Rgb(photo.get_pixel(x, y).0.map(|value| level(f32::from(value)).round() as u8))
    })
}

pub fn run(args: &ConfidenceArgs) -> Result<()> {
    let bundle = Bundle::open(&args.bundle)?;
    let settings = &bundle.manifest().preprocess;
    let photos = |split: &str| -> Result<Vec<Pair>> {
        let mut pairs = data::pairs(&args.data, split)?;
        pairs.retain(|pair| pair.source == "flickr8k");
        Ok(pairs)
    };
    let mut train = photos("train")?;
    train.truncate(N_TRAIN);
    report_limits(&qualities(args, &train, settings, None)?)?;

    let limits = bundle.manifest().confidence.as_ref();
    let limits = limits.with_context(|| format!("{} sets no limits", bundle.id()))?;
    let dev = photos("dev")?;
    let mut frames = Vec::new();
    let mut share = |what: &str, qualities: &[Quality]| {
        let n = qualities.iter().filter(|quality| quality.is_doubtful(limits)).count();
        let percent = 100.0 * n as f64 / qualities.len().max(1) as f64;
        frames.push(FrameCount { what: what.to_owned(), n_doubtful: n, n: qualities.len() });
        crate::report(&format!("  {what:8} {n:4} of {:4} doubtful ({percent:.1} %)", qualities.len()))
    };
    crate::report(&format!("{}: {limits:?}", bundle.id()))?;
    share("ordinary", &qualities(args, &dev, settings, None)?)?;
    for (idx, spoiled) in Spoiled::ALL.into_iter().enumerate() {
        let some = dev.iter().skip(idx).step_by(Spoiled::ALL.len()).take(args.spoiled).cloned();
        let some: Vec<Pair> = some.collect();
        share(&format!("{spoiled:?}").to_lowercase(), &qualities(args, &some, settings, Some(spoiled))?)?;
    }
    let Some(path) = &args.out else { return Ok(()) };
    let command = crate::eval::saved::command(std::env::args());
    saved::write(path, &Frames { bundle: bundle.id().to_owned(), frames, command })
}

fn qualities(
    args: &ConfidenceArgs,
    pairs: &[Pair],
    settings: &PreprocessSettings,
    spoiled: Option<Spoiled>,
) -> Result<Vec<Quality>> {
    let of = |(idx, pair): (usize, &Pair)| -> Result<Quality> {
        let photo = read_photo(&args.data.join("images").join(&pair.image))?;
        let picture = match spoiled {
            None => photo,
            Some(spoiled) => spoiled.apply(&photo, &mut step_rng(args.seed, idx)),
        };
        Ok(Quality::of(&preprocess(&picture, settings), settings))
    };
    let mut progress = Progress::new("confidence", 0, pairs.len(), "photos");
    let mut all = Vec::with_capacity(pairs.len());
    let pairs: Vec<(usize, &Pair)> = pairs.iter().enumerate().collect();
    for chunk in pairs.chunks(CHUNK) {
        let some: Result<Vec<Quality>> = chunk.par_iter().copied().map(of).collect();
        all.extend(some?);
        progress.count(all.len(), chunk.len());
    }
    Ok(all)
}

fn report_limits(train: &[Quality]) -> Result<()> {
    ensure!(!train.is_empty(), "no photo to take limits from");
    let quantile = |value: fn(&Quality) -> f32, at: f64| {
        let mut values: Vec<f32> = train.iter().map(value).collect();
        values.sort_by(f32::total_cmp);
        values[((values.len() - 1) as f64 * at).round() as usize]
    };
    crate::report(&format!(
        "{} training photos: {:.0} % have a contrast below {:.1}, as many a roughness below {:.3} or above {:.3}",
        train.len(),
        100.0 * TAIL,
        quantile(|q| q.contrast, TAIL),
        quantile(|q| q.roughness, TAIL),
        quantile(|q| q.roughness, 1.0 - TAIL)
    ))
}
