//! The decode loop: an embedding to a sentence, by beam search (width 1 is greedy) or by sampling,
//! and the likelihood of given sentences. The daemon and the trainer's samples use this same loop.

use std::cmp::Ordering;
use std::sync::Arc;

use engine::Graph;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::bundle::DecoderSettings;
use crate::decode::{Decoder, Lines};
use crate::tokenizer::Tokenizer;
use crate::{CaptionError, text, vector};

/// A sentence and the geometric mean probability of its tokens, in (0, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct Caption {
    pub text: String,
    pub score: f32,
}

/// Turns one embedding into one sentence by stepping the decoder graph until `eos` or
/// `max_new_tokens`.
pub struct Captioner {
    decoder: Decoder,
    tokenizer: Arc<Tokenizer>,
}

/// Tokens that are not allowed at some step: beginning, padding, end.
const N_FORBIDDEN: usize = 3;

/// A caption in the making, or a finished one.
#[derive(Clone, Debug, Default)]
struct Hypothesis {
    tokens: Vec<u32>,
    /// Sum of the log-probabilities of the tokens, and of `eos` when finished.
    sum: f32,
    n_scored: usize,
}

impl Hypothesis {
    fn extended(&self, token: u32, log_prob: f32) -> Hypothesis {
        let mut longer = self.ended(log_prob);
        longer.tokens.push(token);
        longer
    }

    fn ended(&self, log_prob: f32) -> Hypothesis {
        Hypothesis { tokens: self.tokens.clone(), sum: self.sum + log_prob, n_scored: self.n_scored + 1 }
    }

    /// Mean log-probability: without the division a beam prefers short captions.
    fn mean(&self) -> f32 {
        self.sum / self.n_scored.max(1) as f32
    }

    fn better_first(a: &Hypothesis, b: &Hypothesis) -> Ordering {
        b.mean().total_cmp(&a.mean())
    }
}

impl Captioner {
    /// `adapter` and `decoder` have the signatures of `docs/bundle.md` for these settings; the
    /// decoder's logits are as wide as the tokenizer's vocabulary.
    ///
    /// # Errors
    /// When the vocabulary differs from the logits.
    pub fn new(
        adapter: Box<dyn Graph>,
        decoder: Box<dyn Graph>,
        tokenizer: Arc<Tokenizer>,
        settings: &DecoderSettings,
    ) -> Result<Captioner, CaptionError> {
        let logits = decoder.signature().outputs.first().and_then(|port| port.dims.last().cloned());
        if logits != Some(engine::Dim::Fixed(tokenizer.vocab_size())) {
            return Err(CaptionError::graph("decoder", "its logits are not as wide as the vocabulary"));
        }
        let decoder = Decoder::new(adapter, decoder, settings.clone(), tokenizer.pad());
        Ok(Captioner { decoder, tokenizer })
    }

    pub fn settings(&self) -> &DecoderSettings {
        self.decoder.settings()
    }

    /// The caption of `embedding` (embed_dim), after the tokens of `prompt`, by the search that the settings ask for.
    ///
    /// # Errors
    /// When a graph fails.
    pub fn caption(&mut self, embedding: &[f32], prompt: &[u32]) -> Result<Caption, CaptionError> {
        let width = self.settings().beam_width;
        Ok(self.candidates(embedding, prompt, width)?.swap_remove(0))
    }

    /// Up to `n` captions with different texts, best first, by a beam of at least `n`; always one.
    ///
    /// # Errors
    /// When a graph fails.
    pub fn candidates(
        &mut self,
        embedding: &[f32],
        prompt: &[u32],
        n: usize,
    ) -> Result<Vec<Caption>, CaptionError> {
        let lines = self.start(embedding, prompt)?;
        let (width, max_tokens) = (n.max(self.settings().beam_width), self.settings().max_new_tokens);
        let mut found = self.beam(lines, width, max_tokens)?;
        found.sort_by(Hypothesis::better_first);
        let mut captions: Vec<Caption> = Vec::new();
        for hypothesis in found {
            let caption = self.spell(&hypothesis);
            if captions.iter().all(|earlier| earlier.text != caption.text) {
                captions.push(caption);
            }
        }
        captions.truncate(n.max(1));
        Ok(captions)
    }

    /// `n` captions drawn token by token from the decoder's distribution at `temperature` (greater
    /// than 0); the scores are at temperature 1. One seed gives the same captions every time.
    ///
    /// # Errors
    /// When a graph fails.
    pub fn sample(
        &mut self,
        embedding: &[f32],
        n: usize,
        temperature: f32,
        seed: u64,
    ) -> Result<Vec<Caption>, CaptionError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let first = self.start(embedding, &[])?;
        let mut lines = self.decoder.select(&first, &vec![0; n])?;
        let mut live: Vec<(usize, Hypothesis)> = (0..n).map(|idx| (idx, Hypothesis::default())).collect();
        let mut done = Vec::with_capacity(n);
        for step in 0..self.settings().max_new_tokens {
            let (mut kept, mut tokens, mut running) = (Vec::new(), Vec::new(), Vec::new());
            for (line, (idx, hypothesis)) in live.into_iter().enumerate() {
                let log_probs = self.allowed(lines.next(line), step);
                let token = draw(&log_probs, temperature, &mut rng);
                let log_prob = log_probs[token as usize];
                if token == self.tokenizer.eos() {
                    done.push((idx, hypothesis.ended(log_prob)));
                } else {
                    running.push((idx, hypothesis.extended(token, log_prob)));
                    kept.push(line);
                    tokens.push(token);
                }
            }
            live = running;
            if live.is_empty() {
                break;
            }
            let branches = self.decoder.branch(&lines, &kept)?;
            lines = self.decoder.feed(branches, &tokens)?;
        }
        done.extend(live);
        done.sort_by_key(|(idx, _)| *idx);
        Ok(done.iter().map(|(_, hypothesis)| self.spell(hypothesis)).collect())
    }

    /// Continuations of `prompt` by at most `max_tokens` tokens, best first, by a beam of `width`; always one.
    pub(crate) fn continuations(
        &mut self,
        embedding: &[f32],
        prompt: &[u32],
        max_tokens: usize,
        width: usize,
    ) -> Result<Vec<Caption>, CaptionError> {
        let lines = self.start(embedding, prompt)?;
        let max_tokens = max_tokens.min(self.settings().max_new_tokens);
        let mut found = self.beam(lines, width, max_tokens)?;
        found.sort_by(Hypothesis::better_first);
        Ok(found.iter().map(|hypothesis| self.spell(hypothesis)).collect())
    }

    /// Mean log-probability of each sequence's tokens and of the `eos` after them, given the embedding
    /// and the prompt. Sequences longer than `max_new_tokens` are cut.
    pub(crate) fn log_likelihoods(
        &mut self,
        embedding: &[f32],
        prompt: &[u32],
        sequences: &[Vec<u32>],
    ) -> Result<Vec<f32>, CaptionError> {
        let eos = self.tokenizer.eos();
        let max_tokens = self.settings().max_new_tokens;
        let sequences: Vec<Vec<u32>> = sequences
            .iter()
            .map(|tokens| tokens.iter().copied().take(max_tokens).chain([eos]).collect())
            .collect();
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
        let mut sums = vec![0.0; sequences.len()];
        let first = self.start(embedding, prompt)?;
        let mut lines = self.decoder.select(&first, &vec![0; sequences.len()])?;
        for step in 0..longest {
            for (line, (sum, tokens)) in sums.iter_mut().zip(&sequences).enumerate() {
                *sum += tokens.get(step).map_or(0.0, |token| lines.next(line)[*token as usize]);
            }
            if step + 1 < longest {
                // Shorter sequences go on with eos; nobody reads what follows it.
                let tokens: Vec<u32> =
                    sequences.iter().map(|tokens| tokens.get(step).copied().unwrap_or(eos)).collect();
                lines = self.decoder.feed(lines, &tokens)?;
            }
        }
        Ok(std::iter::zip(sums, &sequences).map(|(sum, tokens)| sum / tokens.len() as f32).collect())
    }

    /// One line that has seen the embedding, `bos` and the prompt.
    fn start(&mut self, embedding: &[f32], prompt: &[u32]) -> Result<Lines, CaptionError> {
        let mut lines = self.decoder.prefill(embedding)?;
        for token in self.tokenizer.bos().into_iter().chain(prompt.iter().copied()) {
            lines = self.decoder.feed(lines, &[token])?;
        }
        Ok(lines)
    }

    /// Beam search from one line. Ends when `width` captions are finished; those that `max_tokens`
    /// cuts off count too, so there is always one.
    fn beam(
        &mut self,
        mut lines: Lines,
        width: usize,
        max_tokens: usize,
    ) -> Result<Vec<Hypothesis>, CaptionError> {
        let mut live = vec![Hypothesis::default()];
        let mut finished = Vec::new();
        for step in 0..max_tokens {
            // Each extension: what it would score, the line it comes from, its token.
            let mut extensions = Vec::new();
            for (line, hypothesis) in live.iter().enumerate() {
                let log_probs = lines.next(line);
                extensions.extend(
                    vector::top(log_probs, width + N_FORBIDDEN)
                        .into_iter()
                        .filter(|token| log_probs[*token].is_finite() && self.allows(*token as u32, step))
                        .take(width)
                        .map(|token| (hypothesis.sum + log_probs[token], line, token as u32)),
                );
            }
            extensions.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
            extensions.truncate(width - finished.len());
            let (mut kept, mut tokens, mut running) = (Vec::new(), Vec::new(), Vec::new());
            for (sum, line, token) in extensions {
                let hypothesis: &Hypothesis = &live[line];
                if token == self.tokenizer.eos() {
                    finished.push(hypothesis.ended(sum - hypothesis.sum));
                } else {
                    running.push(hypothesis.extended(token, sum - hypothesis.sum));
                    kept.push(line);
                    tokens.push(token);
                }
            }
            live = running;
            if live.is_empty() {
                break;
            }
            if step + 1 < max_tokens {
                let branches = self.decoder.branch(&lines, &kept)?;
                lines = self.decoder.feed(branches, &tokens)?;
            }
        }
        finished.append(&mut live);
        Ok(finished)
    }

    /// Whether a caption may have `token` at `step`: not one that no caption contains, nor `eos` as the first. At most
    /// [`N_FORBIDDEN`] are not allowed.
    fn allows(&self, token: u32, step: usize) -> bool {
        token != self.tokenizer.pad()
            && self.tokenizer.bos() != Some(token)
            && (step > 0 || token != self.tokenizer.eos())
    }

    /// The next token's log-probabilities, negative infinity for those that are not allowed.
    fn allowed(&self, log_probs: &[f32], step: usize) -> Vec<f32> {
        let mut allowed = log_probs.to_vec();
        let never = [self.tokenizer.pad(), self.tokenizer.eos()].into_iter().chain(self.tokenizer.bos());
        for token in never.filter(|token| !self.allows(*token, step)) {
            allowed[token as usize] = f32::NEG_INFINITY;
        }
        allowed
    }

    fn spell(&self, hypothesis: &Hypothesis) -> Caption {
        let text = text::tidy(&self.tokenizer.decode(&hypothesis.tokens));
        Caption { text, score: hypothesis.mean().exp() }
    }
}

/// Draws an index with probability proportional to `exp(log_prob / temperature)`.
fn draw(log_probs: &[f32], temperature: f32, rng: &mut ChaCha8Rng) -> u32 {
    let mut probs: Vec<f32> = log_probs.iter().map(|x| x / temperature).collect();
    vector::softmax(&mut probs);
    let mut left: f32 = rng.random();
    for (token, p) in probs.iter().enumerate() {
        left -= p;
        if left < 0.0 {
            return token as u32;
        }
    }
    // Rounding can leave a rest; the likeliest token takes it.
    vector::top(&probs, 1).first().map_or(0, |token| *token as u32)
}

#[cfg(test)]
mod tests;
