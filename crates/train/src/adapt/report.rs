//! What an adaptation has changed: the likelihood of held-out sentences, captions of photos, and what they score.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use burn::tensor::Device;
use caption::Bundle;

use super::corpus::Corpus;
use super::install::Installed;
use super::{AdaptArgs, Bundles};
use crate::decoder::{self, batch::Shown};
use crate::eval::{self, Scored};
use crate::model::Decoder;
use crate::recipe::{Preset, Recipe};
use crate::training::step_rng;

/// Sentences of one run of the network.
const BATCH: usize = 64;
/// Photos whose captions are shown.
const EXAMPLES: usize = 8;

/// `exp` of the mean cross-entropy of a word, given the embedding of its own sentence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Perplexity {
    pub(crate) own: f64,
    pub(crate) general: Option<f64>,
}

impl Perplexity {
    /// Of the held-out sentences, without noise. `model` is outside any gradient.
    pub(crate) fn measure(model: &Decoder, corpus: &Corpus, device: &Device) -> Result<Perplexity> {
        let device = device.clone().inner();
        let of = |rows: &[usize]| -> Result<Option<f64>> {
            let recipe = Recipe { target: crate::recipe::Target::Own, ..Recipe::of(Preset::Text) };
            let shown = Shown {
                recipe: &recipe,
                examples: &corpus.examples,
                mean: vec![],
                memory: None,
                prompt: None,
            };
            let (mut sum, mut n) = (0.0, 0);
            for chunk in rows.chunks(BATCH) {
                let batch = shown.batch(chunk, &mut step_rng(0, 0), &device)?;
                let n_learned = batch.n_learned;
                sum += f64::from(decoder::loss(model, batch, 0.0)?.into_scalar::<f32>()) * n_learned as f64;
                n += n_learned;
            }
            Ok((n > 0).then(|| (sum / n as f64).exp()))
        };
        let own = of(&corpus.held_out)?.unwrap_or(f64::NAN);
        Ok(Perplexity { own, general: of(&corpus.general_held_out)? })
    }
}

/// A photo and what the two bundles say of it; the first is missing where the bundle could not write.
struct Shot {
    photo: PathBuf,
    before: Option<String>,
    after: String,
}

pub(crate) struct Report {
    head: Vec<(&'static str, String)>,
    pub(crate) before: Option<Perplexity>,
    pub(crate) after: Option<Perplexity>,
    /// CIDEr-D before and after.
    cider: Option<(Option<f64>, f64, usize)>,
    shots: Vec<Shot>,
}

impl Report {
    pub(crate) fn begin(args: &AdaptArgs, bundles: &Bundles, corpus: &Corpus) -> Report {
        let n = |rows: &[usize]| rows.len().to_string();
        let head = vec![
            ("encoders of", bundles.target.id().to_owned()),
            ("decoder from", bundles.base.id().to_owned()),
            ("sentences learned", n(&corpus.own)),
            ("sentences held out", n(&corpus.held_out)),
            ("lines passed over", corpus.n_passed.to_string()),
            ("general sentences", format!("{} ({})", corpus.general.len(), corpus.general_from)),
            ("noise cosine", format!("{:.3} ({})", corpus.noise_cosine, corpus.noise_from)),
            ("steps", format!("{} of {}, {} of each general", args.steps, args.batch, args.mix)),
        ];
        Report { head, before: None, after: None, cider: None, shots: Vec::new() }
    }

    /// Captions of general photos before and after, where there are any.
    pub(crate) fn captions(&mut self, args: &AdaptArgs, bundles: &Bundles, after: &Installed) -> Result<()> {
        let Some(data) = &args.data else { return Ok(()) };
        let scratch = tempfile::tempdir()?;
        after.write(&scratch.path().join("bundle"), "")?;
        let after = Bundle::open(&scratch.path().join("bundle"))?;
        let can_write = bundles.target.manifest().decoder.is_some();
        let before = if can_write { Some(eval::scored(&bundles.target, data, args.photos)?) } else { None };
        let after: Scored = eval::scored(&after, data, args.photos)?;
        let cider = before.as_ref().map(|before| before.cider);
        self.cider = Some((cider, after.cider, after.captions.len()));
        let every = (after.captions.len() / EXAMPLES).max(1);
        self.shots = (0..after.captions.len())
            .step_by(every)
            .take(EXAMPLES)
            .map(|at| Shot {
                photo: after.photos[at].clone(),
                before: before.as_ref().map(|before| before.captions[at].clone()),
                after: after.captions[at].clone(),
            })
            .collect();
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Adaptation\n\n| | |\n|---|---|")?;
        for (key, value) in &self.head {
            writeln!(f, "| {key} | {value} |")?;
        }
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        writeln!(f, "\n| | before | after |\n|---|---|---|")?;
        let own = |perplexity: &Option<Perplexity>| perplexity.map(|p| p.own);
        let general = |perplexity: &Option<Perplexity>| perplexity.and_then(|p| p.general);
        let (before, after) = (&self.before, &self.after);
        let row = "perplexity of held-out sentences";
        writeln!(f, "| {row} | {} | {} |", number(own(before)), number(own(after)))?;
        let row = "perplexity of general sentences";
        writeln!(f, "| {row} | {} | {} |", number(general(before)), number(general(after)))?;
        if let Some((before, after, n)) = self.cider {
            let before = before.map_or_else(|| "-".to_owned(), |before| format!("{before:.3}"));
            writeln!(f, "| CIDEr-D on {n} general photos | {before} | {after:.3} |")?;
        }
        if !self.shots.is_empty() {
            writeln!(f, "\n| photo | before | after |\n|---|---|---|")?;
            for Shot { photo, before, after } in &self.shots {
                let before = before.as_deref().unwrap_or("-");
                writeln!(f, "| {} | {before} | {after} |", photo.display())?;
            }
        }
        Ok(())
    }
}
