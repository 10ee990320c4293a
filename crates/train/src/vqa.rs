//! `captiond-train vqa`: how often a bundle's answers are right, beside a constant answer and beside the same bundle
//! that sees the question but not the photo; and weights that make its scores the chance of being right.

mod fit;
mod items;
mod reliability;
mod score;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use caption::bundle::VqaSettings;
use caption::{Bundle, Models, Reply};

use crate::data::read_photo;
use crate::graph;
use crate::questions::{self, QuestionsArgs};
use crate::report::saved::{self, Answers};
use crate::training::{Progress, write_atomically};
use crate::workers::Workers;
use items::Item;
use reliability::Reliability;

#[derive(Clone, Debug, clap::Args)]
pub struct VqaArgs {
    #[arg(long)]
    pub bundle: PathBuf,
    /// Folder with `vqa` and `images`
    #[arg(long)]
    pub data: PathBuf,
    /// File under `vqa`, without `.jsonl`
    #[arg(long, default_value = "vsr_dev", conflicts_with = "questions")]
    pub set: String,
    /// Answer the questions of this file, as `captiond-train questions` writes it
    #[arg(long)]
    pub questions: Option<PathBuf>,
    /// Write the accuracies as JSON
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// First fit weights and temperatures on questions about training photos, and measure with them
    #[arg(long)]
    pub calibrate: bool,
    /// Write what was fitted, for `captiond-train bundle --answers`
    #[arg(long, requires = "calibrate")]
    pub fitted: Option<PathBuf>,
    /// Training photos to fit on
    #[arg(long, default_value_t = 400, requires = "calibrate")]
    pub photos: usize,
    /// Write the reliability diagram as SVG
    #[arg(long)]
    pub diagram: Option<PathBuf>,
    /// Seed of the bootstrap and of the questions to fit on
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Photos between two progress lines.
const CHUNK: usize = 40;
/// Most questions of one kind to fit on.
const N_FIT: usize = 400;

/// A question, and what the bundle makes of it with the photo and without.
struct Seen {
    item: Item,
    reply: Reply,
    blind: Reply,
}

pub fn run(args: &VqaArgs) -> Result<()> {
    let bundle = Bundle::open(&args.bundle)?;
    let models = Workers::new(|| graph::models(&bundle))?;
    let shipped = bundle.manifest().vqa.clone();
    let (name, items) = match &args.questions {
        Some(path) => {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (name, items::of_questions(path)?)
        }
        None => (args.set.clone(), items::of_set(&args.data, &args.set)?),
    };
    let settings = if args.calibrate { calibrated(args, &models, &shipped)? } else { shipped.clone() };
    let seen = look(args, &models, items)?;
    let kinds = score::by_kind(&seen, &settings, args.seed)?;
    crate::report(&format!("{name}: answers of {}", bundle.id()))?;
    kinds.iter().try_for_each(|(kind, score)| crate::report(&format!("  {kind:8} {score}")))?;
    let reliability = report_reliability(args, &seen, &shipped, &settings)?;
    if let Some(path) = &args.diagram {
        let title = format!("{} on {name}: are confident answers right?", bundle.id());
        write_atomically(path, reliability.svg(&title).as_bytes())?;
    }
    let Some(path) = &args.out else { return Ok(()) };
    saved::write(
        path,
        &Answers {
            bundle: bundle.id().to_owned(),
            set: name,
            kinds: kinds.into_iter().map(|(kind, score)| (kind, score.shares)).collect(),
            reliability: reliability.bins(),
            command: crate::eval::saved::command(std::env::args()),
        },
    )
}

/// Fits on questions about training photos, and says what a manifest has to hold.
fn calibrated(args: &VqaArgs, models: &Workers<Models>, shipped: &VqaSettings) -> Result<VqaSettings> {
    let rows = questions::rows(&QuestionsArgs {
        data: args.data.clone(),
        split: "train".to_owned(),
        source: "flickr8k".to_owned(),
        out: PathBuf::new(),
        seed: args.seed,
        n_per_kind: N_FIT,
        limit: Some(args.photos),
    })?;
    let seen = look(args, models, rows.into_iter().map(Item::from).collect())?;
    let fitted = fit::fit(&seen, shipped);
    crate::report(&format!("fitted on {} questions about training photos:\n", seen.len()))?;
    let table = toml::to_string(&fitted).context("write the fitted settings")?;
    if let Some(path) = &args.fitted {
        write_atomically(path, table.as_bytes())?;
    }
    crate::report(&format!("[vqa]\n{}", table.replace("\n[", "\n[vqa.")))?;
    Ok(fitted)
}

/// Answers every question twice, photo by photo.
fn look(args: &VqaArgs, models: &Workers<Models>, items: Vec<Item>) -> Result<Vec<Seen>> {
    ensure!(!items.is_empty(), "no question has a photo");
    let mut photos: Vec<Vec<Item>> = Vec::new();
    for item in items {
        match photos.last_mut().filter(|photo| photo.iter().all(|other| other.image == item.image)) {
            Some(photo) => photo.push(item),
            None => photos.push(vec![item]),
        }
    }
    let mut progress = Progress::new("vqa", 0, photos.len(), "photos");
    let (mut seen, mut n_done) = (Vec::new(), 0);
    for chunk in photos.chunks(CHUNK) {
        let replies = models.map(chunk, |models, items| {
            let Some(first) = items.first() else { return Ok(Vec::new()) };
            let photo = read_photo(&args.data.join("images").join(&first.image))?;
            let view = models.encode(&models.preprocess(&photo))?;
            let both = |item: &Item| -> Result<Seen> {
                let reply = models.reply(Some(&view), &item.question)?;
                let blind = models.reply(None, &item.question)?;
                Ok(Seen { item: item.clone(), reply, blind })
            };
            items.iter().map(both).collect()
        })?;
        seen.extend(replies.into_iter().flatten());
        n_done += chunk.len();
        progress.count(n_done, chunk.len());
    }
    Ok(seen)
}

fn report_reliability(
    args: &VqaArgs,
    seen: &[Seen],
    shipped: &VqaSettings,
    settings: &VqaSettings,
) -> Result<Reliability> {
    let before = Reliability::of(&score::confidences(seen, shipped));
    let after = Reliability::of(&score::confidences(seen, settings));
    crate::report(&after.to_string())?;
    let change = if args.calibrate { format!("; {:.3} as shipped", before.error()) } else { String::new() };
    crate::report(&format!("  expected calibration error {:.3}{change}", after.error()))?;
    let unsure = seen.iter().filter(|seen| seen.reply.answer(settings).score < settings.unsure_below).count();
    crate::report(&format!("  unsure {unsure} of {} (below {})", seen.len(), settings.unsure_below))?;
    Ok(after)
}
