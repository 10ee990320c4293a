//! Self-critical training (Rennie et al. 2017): what the decoder writes itself is made likelier the better it agrees with
//! what people wrote. Captions are those of a beam and the baseline is their mean (Cornia et al. 2020), without a single
//! image: a caption of noisy text is judged by the other captions of the same photo.

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor};
use caption::Captioner;
use metrics::DocumentFrequency;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::batch::{Batch, Row, Shown, padded};
use super::loss::loss;
use super::{DecoderArgs, graphs};
use crate::bundle::MAX_NEW_TOKENS;
use crate::embed::TextTower;
use crate::model::{Decoder, DecoderConfig};
use crate::recipe::Source;
use crate::tokenizer::{self, BOS, EOS};
use crate::workers::Workers;

/// Steps for which one copy of the weights writes captions. A checkpoint at another step would go on otherwise than
/// the run that it was cut from.
pub const REFRESH_STEPS: usize = 20;
/// Stands behind a finished sentence where it is judged, so that it pays to finish it; else captions end in "with a".
const END: &str = " endofsentence";
/// Most tokens of a caption that is learned from.
const TOKENS_MAX: usize = 40;

/// Judges captions of the decoder that is being trained.
pub struct Critic<'a> {
    args: &'a DecoderArgs,
    shown: &'a Shown<'a>,
    tower: &'a TextTower,
    config: &'a DecoderConfig,
    /// What people wrote, row by row of the texts, with [`END`].
    texts: Vec<String>,
    frequency: DocumentFrequency,
    /// Texts that have another caption of their photo beside them.
    judged: Vec<usize>,
    writers: Option<Workers<Captioner>>,
}

impl<'a> Critic<'a> {
    /// # Errors
    /// When the recipe shows images, or no photo has two captions.
    pub fn new(
        args: &'a DecoderArgs,
        shown: &'a Shown<'a>,
        tower: &'a TextTower,
        config: &'a DecoderConfig,
    ) -> Result<Critic<'a>> {
        ensure!(shown.recipe.source == Source::Text, "--self-critical: for a source of text alone");
        ensure!(shown.prompt.is_none(), "--self-critical: not with tags");
        let ends = [("--save-every", Some(args.save_every.get())), ("--stop-at", args.stop_at)];
        for (option, steps) in ends {
            ensure!(
                steps.is_none_or(|steps| steps.is_multiple_of(REFRESH_STEPS)),
                "{option}: with --self-critical a multiple of {REFRESH_STEPS} is needed"
            );
        }
        let captions = || shown.examples.rows.iter().filter(|example| example.n_given == 1);
        let mut texts = Vec::new();
        for example in captions() {
            let text = tower.bpe.decode(&example.tokens, true);
            texts.push(text.map_err(|e| anyhow::anyhow!("decode a sentence: {e}"))?.trim().to_owned() + END);
        }
        let photos = captions().filter(|example| example.own == example.rows.start);
        let frequency = DocumentFrequency::of_references(
            "the sentences of the run",
            photos.map(|example| &texts[example.rows.clone()]),
        )?;
        let judged: Vec<usize> =
            captions().filter(|example| example.rows.len() > 1).map(|example| example.own).collect();
        ensure!(!judged.is_empty(), "--self-critical: no photo has two captions in this corpus");
        Ok(Critic { args, shown, tower, config, texts, frequency, judged, writers: None })
    }

    /// The loss of one step, whose gradient is that of the expected CIDEr-D. Blocks while captions are written.
    pub fn loss(
        &mut self,
        model: &Decoder,
        step: usize,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Result<Tensor<1>> {
        let n_captions = usize::from(self.args.self_critical);
        let n_inputs = (self.args.batch / n_captions).max(1);
        let rows: Vec<usize> =
            (0..n_inputs).map(|_| self.judged[rng.random_range(0..self.judged.len())]).collect();
        let inputs: Vec<Vec<f32>> = rows.iter().map(|row| self.shown.input(&[*row], rng)).collect();
        let written = self
            .writers(model, step)?
            .map(&inputs, |captioner, input| Ok(captioner.candidates(input, &[], n_captions)?))?;
        let written: Vec<Vec<String>> =
            written.into_iter().map(|captions| captions.into_iter().map(|c| c.text).collect()).collect();
        let worth = self.advantages(&rows, &written)?;
        let (mut shown, mut learned) = (Vec::new(), Vec::new());
        for ((input, captions), worth) in inputs.into_iter().zip(&written).zip(worth) {
            for (caption, weight) in captions.iter().zip(worth) {
                let mut tokens = vec![BOS];
                tokens.extend(tokenizer::encode(&self.tower.bpe, caption, TOKENS_MAX)?);
                tokens.push(EOS);
                learned.push(Row { tokens, n_given: 1, weight });
                shown.push(input.clone());
            }
        }
        let (ids, learned, n_learned) = padded(&learned, device);
        let inputs = self.shown.stacked(&shown, device);
        // No smoothing: what is unlearned would else make every other token likelier.
        loss(model, Batch { inputs, ids, learned, n_learned }, 0.0)
    }

    /// How much better each caption is than the others of its embedding, in standard deviations of the step.
    fn advantages(&self, rows: &[usize], written: &[Vec<String>]) -> Result<Vec<Vec<f32>>> {
        let mut examples = Vec::new();
        for (row, captions) in rows.iter().zip(written) {
            let photo = self.shown.examples.rows[*row].rows.clone();
            // The sentence that was embedded is no witness.
            let references: Vec<String> =
                photo.filter(|other| other != row).map(|other| self.texts[other].clone()).collect();
            for caption in captions {
                let n_tokens = tokenizer::encode(&self.tower.bpe, caption, TOKENS_MAX)?.len();
                let is_cut = n_tokens >= MAX_NEW_TOKENS;
                let candidate = if is_cut { caption.clone() } else { format!("{caption}{END}") };
                examples.push(metrics::Example { candidate, references: references.clone() });
            }
        }
        let mut scores = metrics::cider_d(&examples, Some(&self.frequency))?.per_image.into_iter();
        Ok(standardised(written.iter().map(|captions| scores.by_ref().take(captions.len()).collect())))
    }

    /// Decoders with the weights of the last multiple of [`REFRESH_STEPS`].
    fn writers(&mut self, model: &Decoder, step: usize) -> Result<&Workers<Captioner>> {
        if step.is_multiple_of(REFRESH_STEPS) || self.writers.is_none() {
            let (adapter, decoder) = graphs(model, self.config)?;
            self.writers = Some(Workers::new(|| {
                crate::bundle::captioner(&adapter, &decoder, &self.tower.bpe, self.config)
            })?);
        }
        self.writers.as_ref().ok_or_else(|| anyhow::anyhow!("nobody writes captions"))
    }
}

/// Scores less the mean of their group, by the deviation of all: a step is as long whatever the scores are like.
fn standardised(groups: impl Iterator<Item = Vec<f64>>) -> Vec<Vec<f32>> {
    let mut all: Vec<Vec<f32>> = groups
        .map(|scores| {
            let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
            scores.into_iter().map(|score| (score - mean) as f32).collect()
        })
        .collect();
    let n = all.iter().map(Vec::len).sum::<usize>().max(1) as f32;
    let deviation = (all.iter().flatten().map(|x| x * x).sum::<f32>() / n).sqrt().max(1e-3);
    all.iter_mut().flatten().for_each(|x| *x /= deviation);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caption_is_judged_beside_the_others_of_its_embedding() {
        let worth = standardised([vec![1.0, 2.0, 3.0], vec![9.0, 9.0], vec![5.0]].into_iter());
        assert_eq!(worth[0][1], 0.0);
        assert!(worth[0][0] < 0.0 && worth[0][2] == -worth[0][0]);
        assert_eq!((&worth[1][..], &worth[2][..]), (&[0.0, 0.0][..], &[0.0][..]), "nothing to choose among");
        let n: f32 = worth.iter().flatten().map(|x| x * x).sum();
        assert!((n - 6.0).abs() < 1e-4, "the deviation of all six is one: {n}");
    }

    #[test]
    fn scores_that_are_all_alike_teach_nothing() {
        let worth = standardised([vec![0.25; 4], vec![]].into_iter());
        assert!(worth.iter().flatten().all(|x| *x == 0.0));
        assert_eq!(standardised(std::iter::empty()), Vec::<Vec<f32>>::new());
    }
}
