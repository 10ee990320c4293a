//! One batch of training: which examples, what the decoder is shown of each, and what it shall write.

use anyhow::Result;
use burn::tensor::{Device, Int, Tensor};
use caption::tags::Tagger;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tokenizers::Tokenizer;

use super::examples::{Example, Examples};
use crate::recipe::{Centre, MemoryUse, NoiseFrom, Recipe};
use crate::tokenizer::{self, PAD};

/// Everything that turns an example into a row of a batch.
pub struct Shown<'a> {
    pub recipe: &'a Recipe,
    pub examples: &'a Examples,
    /// Mean of the inputs, taken away when the recipe centres (C3).
    pub mean: Vec<f32>,
    pub memory: Option<TrainingMemory>,
    /// Tokens of the prompt for a list of tags.
    pub prompt: Option<Prompt<'a>>,
}

pub struct Prompt<'a> {
    pub tagger: &'a Tagger,
    pub bpe: &'a Tokenizer,
}

impl Prompt<'_> {
    /// Tokens of the prompt for these tags.
    pub fn tokens(&self, tags: &[usize]) -> Result<Vec<u32>> {
        tokenizer::encode(self.bpe, &self.tagger.prompt(tags), PROMPT_TOKENS_MAX)
    }
}

/// Tokens of a prompt; three labels take about twenty.
const PROMPT_TOKENS_MAX: usize = 48;

/// Rows of a batch.
pub struct Batch {
    /// (B, R, D) unit rows.
    pub inputs: Tensor<3>,
    /// (B, S) from `bos`, padded at the end.
    pub ids: Tensor<2, Int>,
    /// (B, S - 1): what the next token counts, 1 unless it is the decoder's own; 0 in a prompt and in padding.
    pub learned: Tensor<2>,
    pub n_learned: usize,
}

impl Shown<'_> {
    /// Blocks for the projection on the memory, where there is one.
    pub fn batch(&self, chosen: &[usize], rng: &mut ChaCha8Rng, device: &Device) -> Result<Batch> {
        let mut inputs = Vec::with_capacity(chosen.len());
        for idx in chosen {
            let rows = self.examples.input_rows(*idx, self.recipe.target, rng);
            inputs.push(self.input(&rows, rng));
        }
        let inputs = self.stacked(&inputs, device);
        let inputs = match &self.memory {
            Some(memory) if self.recipe.memory == MemoryUse::Both => {
                let own: Vec<Option<usize>> = chosen
                    .iter()
                    .map(|idx| Some(self.examples.rows[*idx].own))
                    .map(|own| own.filter(|_| rng.random_bool(self.recipe.exclude_own)))
                    .collect();
                let projected = memory.project(inputs.clone(), &own);
                let share = || f32::from(u8::from(rng.random_bool(self.recipe.memory_share)));
                let shares: Vec<f32> = std::iter::repeat_with(share).take(chosen.len()).collect();
                let shares = Tensor::<1>::from_data(shares.as_slice(), device).reshape([chosen.len(), 1, 1]);
                projected * shares.clone() + inputs * shares.neg().add_scalar(1.0)
            }
            _ => inputs,
        };
        let (ids, learned, n_learned) = self.tokens(chosen, rng, device)?;
        Ok(Batch { inputs, ids, learned, n_learned })
    }

    /// What the decoder is shown of the mean of some rows of the inputs, (R, D): noisy copies of it.
    pub fn input(&self, rows: &[usize], rng: &mut ChaCha8Rng) -> Vec<f32> {
        let mut embedding = self.mean_of(rows);
        if self.recipe.centre == Centre::C3 {
            crate::embed::centre(&mut embedding, &self.mean);
        }
        let noise = self.recipe.noise();
        (0..self.recipe.n_regions)
            .flat_map(|_| {
                let mut copy = embedding.clone();
                match self.recipe.noise_from {
                    NoiseFrom::Gauss => noise.apply(&mut copy, rng),
                    NoiseFrom::Captions => {
                        let cosine =
                            noise.cosine_min + (noise.cosine_max - noise.cosine_min) * rng.random::<f32>();
                        crate::embed::turn(&mut copy, &self.examples.difference(rng), cosine);
                    }
                }
                copy
            })
            .collect()
    }

    fn mean_of(&self, rows: &[usize]) -> Vec<f32> {
        let inputs = self.examples.inputs();
        if let [row] = rows {
            return inputs.row(*row).collect();
        }
        let mut mean = vec![0.0; inputs.dim];
        for row in rows {
            mean.iter_mut().zip(inputs.row(*row)).for_each(|(mean, x)| *mean += x);
        }
        caption::normalize(&mut mean);
        mean
    }

    /// (B, R, D) of what [`Self::input`] gave.
    pub fn stacked(&self, inputs: &[Vec<f32>], device: &Device) -> Tensor<3> {
        let shape = [inputs.len(), self.recipe.n_regions, self.examples.inputs().dim];
        Tensor::<1>::from_data(inputs.concat().as_slice(), device).reshape(shape)
    }

    fn tokens(
        &self,
        chosen: &[usize],
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Result<(Tensor<2, Int>, Tensor<2>, usize)> {
        let rows: Vec<Row> =
            chosen.iter().map(|idx| self.row(&self.examples.rows[*idx], rng)).collect::<Result<_>>()?;
        Ok(padded(&rows, device))
    }

    /// `bos`, the prompt, the sentence, `eos`; and how many of these are given.
    fn row(&self, example: &Example, rng: &mut ChaCha8Rng) -> Result<Row> {
        let Some(prompt) = self.prompt.as_ref().filter(|_| example.n_given == 1) else {
            return Ok(Row { tokens: example.tokens.clone(), n_given: example.n_given, weight: 1.0 });
        };
        let mut tags = example.tags.clone();
        tags.retain(|_| !rng.random_bool(self.recipe.tag_drop));
        tags.truncate(crate::tagging::settings().n_max);
        let mut tokens = vec![example.tokens[0]];
        tokens.extend(prompt.tokens(&tags)?);
        let n_given = tokens.len();
        tokens.extend(&example.tokens[1..]);
        Ok(Row { tokens, n_given, weight: 1.0 })
    }
}

/// A sequence to learn.
pub struct Row {
    /// From `bos` to `eos`.
    pub tokens: Vec<u32>,
    /// Tokens at its beginning that are not learned.
    pub n_given: usize,
    /// What each of the others counts; below 0 to unlearn them.
    pub weight: f32,
}

/// Ids (B, S), the weight (B, S - 1) of each next token, and how many have one.
pub fn padded(rows: &[Row], device: &Device) -> (Tensor<2, Int>, Tensor<2>, usize) {
    let s = rows.iter().map(|row| row.tokens.len()).max().unwrap_or(0).max(2);
    let (mut ids, mut learned, mut n_learned) = (Vec::new(), Vec::new(), 0);
    for Row { tokens, n_given, weight } in rows {
        ids.extend(tokens.iter().map(|id| i64::from(*id)));
        ids.extend(std::iter::repeat_n(i64::from(PAD), s - tokens.len()));
        // Position i predicts token i + 1.
        let is_learned = |at: usize| at >= *n_given && at < tokens.len();
        learned.extend((1..s).map(|at| if is_learned(at) { *weight } else { 0.0 }));
        n_learned += (1..s).filter(|at| is_learned(*at)).count();
    }
    let ids = Tensor::<1, Int>::from_data(ids.as_slice(), device).reshape([rows.len(), s]);
    (ids, Tensor::<1>::from_data(learned.as_slice(), device).reshape([rows.len(), s - 1]), n_learned)
}

/// The text memory of training: rows of the texts that the example's own caption can be kept out of.
pub struct TrainingMemory {
    /// (M, D), outside any gradient.
    rows: Tensor<2>,
    /// Which text each row is, sorted.
    owners: Vec<usize>,
    tau: f32,
}

impl TrainingMemory {
    /// `owners` are the texts whose embeddings `rows` (M, D) holds, in any order.
    pub fn new(
        texts: &crate::embed::Embeddings,
        mut owners: Vec<usize>,
        tau: f32,
        device: &Device,
    ) -> TrainingMemory {
        owners.sort_unstable();
        let flat: Vec<f32> = owners.iter().flat_map(|row| texts.row(*row).collect::<Vec<f32>>()).collect();
        let rows = Tensor::<1>::from_data(flat.as_slice(), device).reshape([owners.len(), texts.dim]);
        TrainingMemory { rows, owners, tau }
    }

    /// As `caption::Memory::apply` for every row of `inputs` (B, 1, D), without the memory's row of `own`, which would
    /// otherwise answer alone.
    pub fn project(&self, inputs: Tensor<3>, own: &[Option<usize>]) -> Tensor<3> {
        let [b, n, d] = inputs.dims();
        let device = inputs.device();
        let m = self.owners.len();
        let cosines = inputs.reshape([b * n, d]).matmul(self.rows.clone().transpose());
        let mut hidden = vec![0.0f32; b * m];
        for (row, own) in own.iter().enumerate() {
            if let Some(at) = own.and_then(|own| self.owners.binary_search(&own).ok()) {
                hidden[row * m + at] = -1e9;
            }
        }
        let hidden = Tensor::<1>::from_data(hidden.as_slice(), &device).reshape([b, m]);
        let shares = burn::tensor::activation::softmax(cosines.div_scalar(self.tau) + hidden, 1);
        crate::model::normalize(shares.matmul(self.rows.clone())).reshape([b, n, d])
    }
}
