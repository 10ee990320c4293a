//! The switches of the one captioning pipeline, source -> bridge -> adapter -> tags -> decoder -> decode -> re-rank, and
//! the published methods as settings of it.
//!
//! A preset is only a set of defaults: every switch can be given beside it, and what a run was trained with stands in
//! its `recipe.json`, from which `captiond-train bundle` takes what belongs to inference.

mod switches;

use caption::Noise;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use self::switches::Switches;
use crate::model::AdapterConfig;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// No noise: the floor of text-only training
    Text,
    /// Noise on the text embedding (Nukrai et al. 2022)
    Capdec,
    /// Noisy copies in the place of an image's regions, and queries that look at them (Qiu et al. 2024)
    Maccap,
    /// Synthetic pairs, pseudo-features, a text memory, object tags (Liu et al. 2024)
    Syntic,
    /// No noise, and a text memory at test (Li et al. 2023)
    Decap,
    /// Noise, and object tags before the caption (Fei et al. 2023)
    Viecap,
    /// Real pairs: the supervised ceiling
    Oracle,
    /// What ships: noise, another caption of the same photo as target, a text memory, re-ranking
    Captiond,
}

/// What a decoder is shown in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Embeddings of sentences
    Text,
    /// Embeddings of the images in a folder of pairs, synthetic or real
    Pairs,
}

/// Which sentence the decoder shall write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The one that was embedded
    Own,
    /// Another caption of the same photo where there is one (CLOSE, Gu et al. 2023)
    Sibling,
    /// From the mean of all other captions of the same photo, where there are any
    Rest,
}

/// Where the noise of training points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NoiseFrom {
    /// Anywhere
    Gauss,
    /// From one caption of a random photo to another: as captions of one thing differ
    Captions,
}

/// What is done about the distance between the means of image and text embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Centre {
    Off,
    /// Take each side's mean away, in training and at test (C3, Zhang et al. 2024)
    C3,
    /// Move images by the difference of the means, at test alone
    Shift,
    /// Match mean and deviation of every coordinate, at test alone
    Moments,
}

/// What synthetic features are moved toward before training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Pseudo {
    Off,
    /// The captions' embeddings, by contrast within a batch (SynTIC)
    Contrastive,
    /// Mean and deviation of every coordinate over real photos
    Moments,
}

/// Whether embeddings are replaced by a mean of near rows of a text memory (DeCap).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MemoryUse {
    Off,
    /// At test alone (DeCap)
    Test,
    /// In training and at test (SynTIC)
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Adapter {
    Linear,
    /// ClipCap's mapping network
    Transformer,
    /// MacCap's queries
    Queries,
}

/// Every switch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub preset: Preset,
    pub source: Source,
    pub target: Target,
    pub centre: Centre,
    /// Cosine between a clean and a noisy embedding, drawn between the two for each.
    pub noise_cosine: [f32; 2],
    pub noise_from: NoiseFrom,
    /// Noisy copies of an embedding, and sub-regions of an image.
    pub n_regions: usize,
    pub pseudo: Pseudo,
    pub pseudo_steps: usize,
    pub pseudo_tau: f64,
    /// Weight of the distance to where a pseudo-feature started.
    pub pseudo_anchor: f64,
    pub memory: MemoryUse,
    /// Rows of the memory.
    pub n_memory: usize,
    pub memory_tau: f32,
    /// How often the memory lacks the very caption that is trained.
    pub exclude_own: f64,
    /// How often an embedding goes through the memory in training, where it does at all.
    pub memory_share: f64,
    pub adapter: Adapter,
    pub prefix_length: usize,
    pub tags: bool,
    /// How often a tag is left out in training, so that the decoder does not copy.
    pub tag_drop: f64,
    pub beam_width: usize,
    /// Captions of the beam among which the text encoder chooses; 1 leaves the beam's own.
    pub n_candidates: usize,
    /// Weight in that choice of the decoder's own mean log-probability.
    pub fluency: f32,
    /// Weight in that choice of the cosine with the projection on the memory.
    pub rerank_memory: f32,
    /// Whether captions of the embedding without the memory join the choice.
    pub unprojected: bool,
    /// Beams from noisy copies of the input that join the choice.
    pub n_samples: usize,
    pub sample_cosine: f32,
    /// Choose among the noisy copies' captions alone.
    pub noisy_only: bool,
}

/// Blocks of ClipCap's mapping network, which has eight on a decoder thirty times as large.
const MAPPER_LAYERS: usize = 2;
/// Rows that the adapters with several write, forty in CapDec and 32 in MacCap.
const PREFIX_LENGTH: usize = 8;
/// The noise of the faithful presets: the cosine that matched images and texts of the encoder have. CapDec's variance
/// of 0.016 leaves 0.30 at its 640 coordinates, which is what matched pairs of its encoder have.
const PAIRED_COSINE: f32 = 0.45;

impl Recipe {
    /// The defaults of a preset.
    pub fn of(preset: Preset) -> Recipe {
        let text = Recipe {
            preset,
            source: Source::Text,
            target: Target::Own,
            centre: Centre::Off,
            noise_cosine: [1.0; 2],
            noise_from: NoiseFrom::Gauss,
            n_regions: 1,
            pseudo: Pseudo::Off,
            pseudo_steps: 20,
            pseudo_tau: 0.05,
            pseudo_anchor: 1.0,
            memory: MemoryUse::Off,
            n_memory: 8000,
            memory_tau: 0.02,
            exclude_own: 1.0,
            memory_share: 1.0,
            adapter: Adapter::Transformer,
            prefix_length: PREFIX_LENGTH,
            tags: false,
            tag_drop: 0.4,
            beam_width: 5,
            n_candidates: 1,
            fluency: 0.1,
            rerank_memory: 0.0,
            unprojected: false,
            n_samples: 0,
            sample_cosine: PAIRED_COSINE,
            noisy_only: false,
        };
        let noise_cosine = [PAIRED_COSINE; 2];
        let linear = Recipe { adapter: Adapter::Linear, prefix_length: 1, ..text.clone() };
        let chosen = Recipe {
            adapter: Adapter::Linear,
            prefix_length: 4,
            memory: MemoryUse::Test,
            n_candidates: 14,
            fluency: 0.2,
            unprojected: true,
            beam_width: 3,
            ..text.clone()
        };
        match preset {
            Preset::Text => text,
            Preset::Capdec => Recipe { noise_cosine, ..text },
            Preset::Viecap => Recipe { noise_cosine, tags: true, ..text },
            Preset::Maccap => Recipe {
                noise_cosine,
                n_regions: 10,
                adapter: Adapter::Queries,
                beam_width: 4,
                n_samples: 4,
                noisy_only: true,
                ..text
            },
            Preset::Decap => Recipe { memory: MemoryUse::Test, beam_width: 1, ..linear },
            Preset::Syntic => Recipe {
                source: Source::Pairs,
                pseudo: Pseudo::Contrastive,
                memory: MemoryUse::Both,
                tags: true,
                beam_width: 3,
                ..linear
            },
            // The same memory, beam and choice as ours, or it would be a straw man.
            Preset::Oracle => Recipe { source: Source::Pairs, memory: MemoryUse::Both, ..chosen },
            Preset::Captiond => Recipe { target: Target::Sibling, noise_cosine: [0.7; 2], ..chosen },
        }
    }

    pub fn noise(&self) -> Noise {
        let [a, b] = self.noise_cosine;
        Noise { cosine_min: a.min(b), cosine_max: a.max(b) }
    }

    pub fn adapter(&self) -> AdapterConfig {
        match self.adapter {
            Adapter::Linear => AdapterConfig::Linear,
            Adapter::Transformer => AdapterConfig::Transformer { n_layer: MAPPER_LAYERS },
            Adapter::Queries => AdapterConfig::Queries { n_regions: self.n_regions },
        }
    }

    /// What is wrong with this combination of switches, in one sentence.
    pub fn check(&self) -> Result<(), String> {
        if !self.noise_cosine.iter().all(|cosine| *cosine > 0.0 && *cosine <= 1.0) {
            return Err(format!(
                "--noise-cosine {:?}: a cosine above 0 and at most 1 is needed",
                self.noise_cosine
            ));
        }
        if self.noise_from == NoiseFrom::Captions && self.source == Source::Pairs {
            return Err("--noise-from captions: for a source of text alone".to_owned());
        }
        if self.n_regions > 1 && self.adapter != Adapter::Queries {
            return Err(format!("--regions {}: only --adapter queries takes more than one", self.n_regions));
        }
        if self.n_regions == 0 || self.prefix_length == 0 {
            return Err("--regions and --prefix-length: at least 1 is needed".to_owned());
        }
        if self.pseudo != Pseudo::Off && self.source == Source::Text {
            return Err("--pseudo: embeddings of sentences have no pseudo-features".to_owned());
        }
        if self.memory == MemoryUse::Both && self.n_regions > 1 {
            return Err("--memory both: not with --regions, whose copies would all become one".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
