//! `manifest.toml`: what a bundle says about itself.
//!
//! `docs/bundle.md` is the normative text; a change here is a change there. Reading and hashing the
//! files that a manifest names does not belong here.

use serde::{Deserialize, Serialize};

use super::answers::VqaSettings;
use super::search::RerankSettings;

/// The version of the format that this program reads and writes.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Lower-case letters, digits, `.`, `-`, `_`; at most 64.
    pub name: String,
    pub version: String,
    /// The terms of the weights, which follow from the data that they were trained on.
    pub license: String,
    /// Where the weights come from: data, seed, commit.
    pub provenance: String,
    pub preprocess: PreprocessSettings,
    pub embedding: EmbeddingSettings,
    pub tokenizer: TokenizerSettings,
    /// Left out in an encoder bundle, which compares images and texts but writes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder: Option<DecoderSettings>,
    pub vqa: VqaSettings,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions: Option<RegionSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<BridgeSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<TagSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<ConfidenceSettings>,
    pub graphs: Graphs,
}

/// How a frame becomes the image encoder's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreprocessSettings {
    /// Pixels of the encoder's input.
    pub width: usize,
    pub height: usize,
    pub resize: Resize,
    /// Pixels of the shortest side before the crop of [`Resize::Shortest`]; the input's shortest side if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortest: Option<usize>,
    pub filter: Filter,
    /// The input is `(pixel - mean) / std` for red, green and blue, pixels being 0 to 255.
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// The whole frame, its aspect changed to that of the input.
    Squash,
    /// The largest centred box of the input's aspect.
    Crop,
    /// As CLIP's own preprocessing: the shortest side to a length in pixels, aspect kept, and of that the centre.
    Shortest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Antialiased, a = -0.5: the `BICUBIC` of Pillow, with which the encoders are trained.
    Bicubic,
    /// Antialiased: the `BILINEAR` of Pillow.
    Bilinear,
}

/// The space that images and texts share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingSettings {
    pub dim: usize,
    /// What a cosine is multiplied by before a softmax.
    pub logit_scale: f32,
    /// Rows and columns of the patch grid.
    pub patches: [usize; 2],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSettings {
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
    /// Left out where rows begin with their first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos: Option<String>,
    pub eos: String,
    /// May be `eos` where no decoder writes with this tokenizer.
    pub pad: String,
    /// Tokens that the file knows, special ones included; also the width of the decoder's logits.
    pub vocab_size: usize,
    /// Longest row of the text encoder, `bos` and `eos` included.
    pub max_tokens: usize,
    /// Whether every row is filled up with `pad` to `max_tokens`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub padded: bool,
}

/// The decoder and how captions are searched with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderSettings {
    /// Positions that the adapter fills.
    pub prefix_length: usize,
    pub n_layer: usize,
    pub n_head: usize,
    pub head_dim: usize,
    /// Positions that the decoder knows: prefix, `bos`, question and caption together.
    pub n_positions: usize,
    /// Longest caption in tokens, `eos` not counted.
    pub max_new_tokens: usize,
    /// Hypotheses kept at each step; 1 is greedy.
    pub beam_width: usize,
    /// The tokenizer that captions are written with, where it is not that of the text encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerank: Option<RerankSettings>,
}

/// Sub-regions of the image in the place of its one embedding; see `regions.rs` for the sums.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionSettings {
    /// Rows that the adapter takes.
    pub n_regions: usize,
    pub affinity: Affinity,
    /// What the cosine of two patches is multiplied by before the softmax over patches.
    pub sharpness: f32,
    /// Weight of a region's patches beside the image embedding.
    pub patch_weight: f32,
}

/// How the patches of a region are weighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// The one patch alone, as in the paper's figure.
    Patch,
    /// By one softmax over the affinities.
    Once,
    /// By a softmax over that softmax, as in the code that MacCap released: nearly the mean patch.
    Twice,
}

/// Tensors `image_mean` and `text_mean`, and perhaps `scale`, f32 (dim), in a safetensors file: the image embedding
/// is moved by the means' difference before it reaches the adapter, its coordinates scaled in between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeSettings {
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
}

/// Tensors `embeddings`, i8 (n, dim), and `scales`, f32 (n), in a safetensors file: the embedding is
/// replaced by a softmax-weighted mean of these text embeddings before it reaches the adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySettings {
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
    /// Temperature of the softmax over cosines.
    pub tau: f32,
}

/// Labels, one a line of a text file, the likeliest of which stand before each caption; see `tags.rs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagSettings {
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
    /// Most tags of a picture.
    pub n_max: usize,
    /// Least share of a tag in the softmax over all labels, 0 to 1.
    pub share_min: f32,
    /// Temperature of that softmax over cosines.
    pub tau: f32,
}

/// Outside these limits a picture shows too little for its caption to be believed; see
/// [`Quality`](crate::Quality).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfidenceSettings {
    pub contrast_min: f32,
    pub roughness_min: f32,
    pub roughness_max: f32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graphs {
    pub image_encoder: GraphFile,
    pub text_encoder: GraphFile,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<GraphFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder: Option<GraphFile>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphFile {
    pub file: String,
    pub bytes: u64,
    pub sha256: String,
    /// Ports as `name: f32[B, 3]`.
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
}

/// What a graph is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    ImageEncoder,
    TextEncoder,
    Adapter,
    Decoder,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::ImageEncoder, Role::TextEncoder, Role::Adapter, Role::Decoder];

    /// As the manifest spells it.
    pub fn name(self) -> &'static str {
        match self {
            Role::ImageEncoder => "image_encoder",
            Role::TextEncoder => "text_encoder",
            Role::Adapter => "adapter",
            Role::Decoder => "decoder",
        }
    }
}

impl Graphs {
    /// Nothing for what an encoder bundle lacks.
    pub fn get(&self, role: Role) -> Option<&GraphFile> {
        match role {
            Role::ImageEncoder => Some(&self.image_encoder),
            Role::TextEncoder => Some(&self.text_encoder),
            Role::Adapter => self.adapter.as_ref(),
            Role::Decoder => self.decoder.as_ref(),
        }
    }

    pub(super) fn get_mut(&mut self, role: Role) -> Option<&mut GraphFile> {
        match role {
            Role::ImageEncoder => Some(&mut self.image_encoder),
            Role::TextEncoder => Some(&mut self.text_encoder),
            Role::Adapter => self.adapter.as_mut(),
            Role::Decoder => self.decoder.as_mut(),
        }
    }
}

impl GraphFile {
    /// An entry for [`write`](super::write), which fills in everything but the file's name.
    pub fn new(file: impl Into<String>) -> GraphFile {
        GraphFile { file: file.into(), ..GraphFile::default() }
    }
}

impl DecoderSettings {
    /// Width of the token and prefix embeddings.
    pub fn n_embd(&self) -> usize {
        self.n_head * self.head_dim
    }

    /// Tokens of a question that leave room for an answer of `max_new_tokens`.
    pub fn max_prompt_tokens(&self) -> usize {
        self.n_positions.saturating_sub(self.prefix_length + 1 + self.max_new_tokens)
    }
}

impl Manifest {
    /// The graphs of this bundle.
    pub fn roles(&self) -> impl Iterator<Item = Role> + '_ {
        Role::ALL.into_iter().filter(|role| self.graphs.get(*role).is_some())
    }

    /// The tokenizer that captions are written with.
    pub fn decoder_tokenizer(&self) -> &TokenizerSettings {
        self.decoder.as_ref().and_then(|decoder| decoder.tokenizer.as_ref()).unwrap_or(&self.tokenizer)
    }

    /// Every file that the manifest names: its name, size in bytes, and sha256 in hexadecimal digits.
    pub fn named_files(&self) -> Vec<(&str, u64, &str)> {
        self.files().into_iter().map(|FileEntry(name, bytes, sha256)| (name, bytes, sha256)).collect()
    }

    /// Every file that the manifest names, with its declared size and hash.
    pub(super) fn files(&self) -> Vec<FileEntry<'_>> {
        let Manifest { tokenizer, decoder, bridge, memory, tags, .. } = self;
        let own = decoder.iter().filter_map(|decoder| decoder.tokenizer.as_ref());
        let mut files: Vec<FileEntry<'_>> = std::iter::once(tokenizer)
            .chain(own)
            .map(|entry| FileEntry(&entry.file, entry.bytes, &entry.sha256))
            .collect();
        files.extend(bridge.iter().map(|entry| FileEntry(&entry.file, entry.bytes, &entry.sha256)));
        files.extend(memory.iter().map(|entry| FileEntry(&entry.file, entry.bytes, &entry.sha256)));
        files.extend(tags.iter().map(|entry| FileEntry(&entry.file, entry.bytes, &entry.sha256)));
        files.extend(
            Role::ALL
                .into_iter()
                .filter_map(|role| self.graphs.get(role))
                .map(|graph| FileEntry(&graph.file, graph.bytes, &graph.sha256)),
        );
        files
    }

    /// The same files, to fill in size and hash.
    pub(super) fn files_mut(&mut self) -> Vec<(&str, &mut u64, &mut String)> {
        let Graphs { image_encoder, text_encoder, adapter, decoder } = &mut self.graphs;
        let tokenizer = &mut self.tokenizer;
        let mut files = vec![(tokenizer.file.as_str(), &mut tokenizer.bytes, &mut tokenizer.sha256)];
        if let Some(entry) = self.decoder.as_mut().and_then(|decoder| decoder.tokenizer.as_mut()) {
            files.push((&entry.file, &mut entry.bytes, &mut entry.sha256));
        }
        if let Some(entry) = &mut self.bridge {
            files.push((&entry.file, &mut entry.bytes, &mut entry.sha256));
        }
        if let Some(entry) = &mut self.memory {
            files.push((&entry.file, &mut entry.bytes, &mut entry.sha256));
        }
        if let Some(entry) = &mut self.tags {
            files.push((&entry.file, &mut entry.bytes, &mut entry.sha256));
        }
        for graph in [Some(image_encoder), Some(text_encoder), adapter.as_mut(), decoder.as_mut()] {
            files.extend(graph.map(|graph| (graph.file.as_str(), &mut graph.bytes, &mut graph.sha256)));
        }
        files
    }
}

/// Name, size in bytes, sha256 in hexadecimal.
pub(super) struct FileEntry<'m>(pub(super) &'m str, pub(super) u64, pub(super) &'m str);
