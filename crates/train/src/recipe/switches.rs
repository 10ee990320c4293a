//! The switches on the command line.

use super::{Adapter, Centre, MemoryUse, NoiseFrom, Preset, Pseudo, Recipe, Source, Target};

/// The switches as arguments; what is not given is the preset's.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Switches {
    /// What the decoder is shown in training
    #[arg(long, value_enum)]
    pub source: Option<Source>,
    /// Which sentence it shall write
    #[arg(long, value_enum)]
    pub target: Option<Target>,
    /// What is done about the distance between the modalities' means
    #[arg(long, value_enum)]
    pub centre: Option<Centre>,
    /// Cosine between clean and noisy embedding; drawn between two if two are given
    #[arg(long, num_args = 1..=2)]
    pub noise_cosine: Vec<f32>,
    /// Where the noise points
    #[arg(long, value_enum)]
    pub noise_from: Option<NoiseFrom>,
    /// Noisy copies of each embedding, and sub-regions of each image
    #[arg(long)]
    pub regions: Option<usize>,
    /// What the features of pairs are moved toward before training
    #[arg(long, value_enum)]
    pub pseudo: Option<Pseudo>,
    #[arg(long)]
    pub pseudo_steps: Option<usize>,
    /// Temperature of the contrast
    #[arg(long)]
    pub pseudo_tau: Option<f64>,
    /// Weight of the distance to where a feature started
    #[arg(long)]
    pub pseudo_anchor: Option<f64>,
    /// Where the text memory is used
    #[arg(long, value_enum)]
    pub memory: Option<MemoryUse>,
    /// Sentences of the text memory
    #[arg(long)]
    pub n_memory: Option<usize>,
    /// Temperature of the text memory
    #[arg(long)]
    pub memory_tau: Option<f32>,
    /// How often the memory lacks the very caption that is trained, 0 to 1
    #[arg(long)]
    pub exclude_own: Option<f64>,
    /// How often an embedding goes through the memory in training, 0 to 1
    #[arg(long)]
    pub memory_share: Option<f64>,
    #[arg(long, value_enum)]
    pub adapter: Option<Adapter>,
    /// Rows that the adapter writes
    #[arg(long)]
    pub prefix_length: Option<usize>,
    /// Whether the names of things stand before each caption
    #[arg(long, action = clap::ArgAction::Set)]
    pub tags: Option<bool>,
    /// How often such a name is left out in training, 0 to 1
    #[arg(long)]
    pub tag_drop: Option<f64>,
}

impl Switches {
    /// The preset with what was given beside it.
    pub fn recipe(&self, preset: Preset) -> Recipe {
        let base = Recipe::of(preset);
        let noise_cosine = match self.noise_cosine[..] {
            [] => base.noise_cosine,
            [one] => [one; 2],
            [a, b, ..] => [a, b],
        };
        Recipe {
            preset,
            noise_cosine,
            source: self.source.unwrap_or(base.source),
            target: self.target.unwrap_or(base.target),
            centre: self.centre.unwrap_or(base.centre),
            noise_from: self.noise_from.unwrap_or(base.noise_from),
            n_regions: self.regions.unwrap_or(base.n_regions),
            pseudo: self.pseudo.unwrap_or(base.pseudo),
            pseudo_steps: self.pseudo_steps.unwrap_or(base.pseudo_steps),
            pseudo_tau: self.pseudo_tau.unwrap_or(base.pseudo_tau),
            pseudo_anchor: self.pseudo_anchor.unwrap_or(base.pseudo_anchor),
            memory: self.memory.unwrap_or(base.memory),
            n_memory: self.n_memory.unwrap_or(base.n_memory),
            memory_tau: self.memory_tau.unwrap_or(base.memory_tau),
            exclude_own: self.exclude_own.unwrap_or(base.exclude_own),
            memory_share: self.memory_share.unwrap_or(base.memory_share),
            adapter: self.adapter.unwrap_or(base.adapter),
            prefix_length: self.prefix_length.unwrap_or(base.prefix_length),
            tags: self.tags.unwrap_or(base.tags),
            tag_drop: self.tag_drop.unwrap_or(base.tag_drop),
            ..base
        }
    }
}
