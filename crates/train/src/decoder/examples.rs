//! What a decoder is trained on: sentences to write, and the embeddings to write them from.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use caption::ImageEncoder;
use caption::bundle::PreprocessSettings;
use caption::tags::Tagger;
use rand::Rng;
use sha2::{Digest, Sha256};

use super::DecoderArgs;
use crate::bundle::preprocess_settings;
use crate::data::{self, CorpusFilter, Pair, read_photo, tidy};
use crate::embed::{self, Embeddings, TextTower};
use crate::export::image::Geometry;
use crate::graph;
use crate::recipe::{Source, Target};
use crate::tokenizer::{self, BOS, EOS};
use crate::training::{Progress, say};
use crate::workers::Workers;
use crate::{questions, tagging, text};

/// Longest sentence in words that a decoder learns to write.
pub const WORDS_MAX: usize = 25;
/// Tokens of a question and of an answer; together they fit the sentences' lengths.
const QUESTION_TOKENS_MAX: usize = 32;
const ANSWER_TOKENS_MAX: usize = 8;
/// Photos that are tried for one with two captions.
const DRAWS: usize = 100;
/// Photos between two progress lines.
const CHUNK: usize = 64;

/// One sentence to write.
pub struct Example {
    /// Its tokens from `bos` to `eos`; a question and its answer are one sequence, too.
    pub tokens: Vec<u32>,
    /// Tokens that are given and not written: `bos`, or `bos` and a question.
    pub n_given: usize,
    /// Row of the embedding of the sentence itself, among the texts.
    pub own: usize,
    /// Rows of the inputs that belong to its photo.
    pub rows: Range<usize>,
    /// Tags of what it is written from, as indices of labels.
    pub tags: Vec<usize>,
}

pub struct Examples {
    pub rows: Vec<Example>,
    /// Embeddings of every sentence: the text memory is drawn from them.
    pub texts: Embeddings,
    /// Embeddings of images, where they and not the texts are what the decoder is shown.
    pub images: Option<Embeddings>,
}

impl Examples {
    /// Reads the sentences, and embeds what the recipe's source asks for. Blocks for minutes without a cache.
    pub fn gather(args: &DecoderArgs, tower: &TextTower, tagger: Option<&Tagger>) -> Result<Examples> {
        match args.recipe().source {
            Source::Text => of_sentences(args, tower, tagger),
            Source::Pairs => of_pairs(args, tower, tagger),
        }
    }

    /// What the decoder is shown.
    pub fn inputs(&self) -> &Embeddings {
        self.images.as_ref().unwrap_or(&self.texts)
    }

    /// The rows of the inputs whose mean stands for an example.
    pub fn input_rows(&self, idx: usize, target: Target, rng: &mut impl Rng) -> Vec<usize> {
        let Example { own, rows, n_given, .. } = &self.rows[idx];
        if self.images.is_some() {
            return vec![rows.start];
        }
        if *n_given > 1 {
            // All captions of the photo together led to the question.
            return vec![rng.random_range(rows.clone())];
        }
        if target == Target::Own || rows.len() < 2 {
            return vec![*own];
        }
        if target == Target::Rest {
            return rows.clone().filter(|row| row != own).collect();
        }
        let other = rng.random_range(rows.start..rows.end - 1);
        vec![if other >= *own { other + 1 } else { other }]
    }

    /// From one caption of a random photo to another of it, (D): how captions of one thing differ. Zero where no photo
    /// that is tried has two.
    pub fn difference(&self, rng: &mut impl Rng) -> Vec<f32> {
        for _ in 0..DRAWS {
            let Example { own, rows, n_given, .. } = &self.rows[rng.random_range(0..self.rows.len())];
            if *n_given > 1 || rows.len() < 2 {
                continue;
            }
            let other = rng.random_range(rows.start..rows.end - 1);
            let other = if other >= *own { other + 1 } else { other };
            return self.texts.row(*own).zip(self.texts.row(other)).map(|(a, b)| a - b).collect();
        }
        vec![0.0; self.texts.dim]
    }
}

fn of_sentences(args: &DecoderArgs, tower: &TextTower, tagger: Option<&Tagger>) -> Result<Examples> {
    let filter = CorpusFilter {
        sources: args.sources.clone(),
        exclude_pairs: args.exclude_pairs,
        words_max: WORDS_MAX,
    };
    let groups = data::corpus_groups(&args.data, &filter)?;
    let texts: Vec<String> = groups.iter().flatten().cloned().collect();
    say("decoder", &format!("tokenizes {} sentences", texts.len()));
    let sequences = text::sequences(&tower.bpe, &texts)?;
    let embeddings = tower.embed(&args.cache, &sequences)?;
    let finder = tagger.map(|tagger| tagging::Finder::new(tagger.labels()));
    let mut sequences = sequences.into_iter();
    let mut rows = Vec::with_capacity(texts.len());
    for group in &groups {
        let first = rows.len();
        for (sentence, tokens) in group.iter().zip(&mut sequences) {
            let tags = finder.as_ref().map_or_else(Vec::new, |finder| finder.find(sentence));
            let own = rows.len();
            rows.push(Example { tokens, n_given: 1, own, rows: first..first + group.len(), tags });
        }
    }
    let groups: Vec<&[String]> = groups.iter().map(Vec::as_slice).collect();
    rows.extend(of_questions(args, tower, &groups)?);
    Ok(Examples { rows, texts: embeddings, images: None })
}

/// Questions that the captions of a photo answer, with their answers, to be learned beside the captions themselves.
fn of_questions(args: &DecoderArgs, tower: &TextTower, groups: &[&[String]]) -> Result<Vec<Example>> {
    if args.questions == 0 {
        return Ok(Vec::new());
    }
    let mut first_of = Vec::with_capacity(groups.len());
    let mut n_texts = 0;
    for group in groups {
        first_of.push(n_texts);
        n_texts += group.len();
    }
    questions::of_groups(groups, args.questions, args.seed)
        .into_iter()
        .map(|(photo, question)| {
            let mut tokens = vec![BOS];
            tokens.extend(tokenizer::encode(&tower.bpe, &question.question, QUESTION_TOKENS_MAX)?);
            let n_given = tokens.len();
            tokens.extend(tokenizer::encode(&tower.bpe, &question.answer, ANSWER_TOKENS_MAX)?);
            tokens.push(EOS);
            let first = first_of[photo];
            let rows = first..first + groups[photo].len();
            Ok(Example { tokens, n_given, own: first, rows, tags: Vec::new() })
        })
        .collect()
}

fn of_pairs(args: &DecoderArgs, tower: &TextTower, tagger: Option<&Tagger>) -> Result<Examples> {
    let dir = args
        .pairs
        .as_ref()
        .context("a source of pairs needs --pairs, a folder with pairs.jsonl and images")?;
    ensure!(
        !args.encoder.is_empty(),
        "a source of pairs needs --encoder, whose image_encoder.onnx embeds them"
    );
    // Each with its place among all: folds are counted by it.
    let mut pairs: Vec<(usize, Pair)> = data::pairs(dir, "train")?.into_iter().enumerate().collect();
    let held_out = data::held_out(&args.data)?;
    for (_, pair) in &mut pairs {
        pair.captions = pair.captions.iter().map(|caption| tidy(caption)).collect();
        pair.captions.retain(|caption| {
            (3..=WORDS_MAX).contains(&caption.split(' ').count())
                && !held_out.contains(&data::wording(caption))
        });
    }
    pairs.retain(|(_, pair)| !pair.captions.is_empty());
    ensure!(!pairs.is_empty(), "{}: no pair has a usable caption", dir.display());
    let texts: Vec<String> = pairs.iter().flat_map(|(_, pair)| pair.captions.iter().cloned()).collect();
    let sequences = text::sequences(&tower.bpe, &texts)?;
    let embeddings = tower.embed(&args.cache, &sequences)?;
    let images = embed_images(&args.cache, dir, &pairs, &args.encoder)?;
    let mut rows = Vec::with_capacity(texts.len());
    let owners =
        pairs.iter().enumerate().flat_map(|(photo, (_, pair))| pair.captions.iter().map(move |_| photo));
    let mut tags_of: HashMap<usize, Vec<usize>> = HashMap::new();
    for (own, (photo, tokens)) in owners.zip(sequences).enumerate() {
        let tag = |tagger: &Tagger| tagger.tag(&images.row(photo).collect::<Vec<f32>>());
        let tags = tags_of.entry(photo).or_insert_with(|| tagger.map_or_else(Vec::new, tag)).clone();
        rows.push(Example { tokens, n_given: 1, own, rows: photo..photo + 1, tags });
    }
    Ok(Examples { rows, texts: embeddings, images: Some(images) })
}

/// Embeddings of the pairs' images. Of several encoders the (i modulo n)th embeds image i: those of folds, each of
/// which was trained without the images that it embeds here.
fn embed_images(
    cache: &Path,
    dir: &Path,
    pairs: &[(usize, Pair)],
    encoders: &[PathBuf],
) -> Result<Embeddings> {
    let graphs = encoders
        .iter()
        .map(|dir| {
            let path = dir.join("image_encoder.onnx");
            std::fs::read(&path).with_context(|| format!("read {}", path.display()))
        })
        .collect::<Result<Vec<Vec<u8>>>>()?;
    embed::kept(cache, &key(dir, pairs, &graphs)?, || compute(dir, pairs, &graphs))
}

/// Sha256 over all that the embeddings depend on: the graphs, the preprocessing, every image and its place.
fn key(dir: &Path, pairs: &[(usize, Pair)], graphs: &[Vec<u8>]) -> Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    for onnx in graphs {
        hasher.update(serde_json::to_vec(&settings_of(onnx)?)?);
    }
    graphs.iter().for_each(|onnx| hasher.update(Sha256::digest(onnx)));
    for (idx, pair) in pairs {
        let path = dir.join("images").join(&pair.image);
        let image = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        hasher.update(idx.to_le_bytes());
        hasher.update(Sha256::digest(image));
    }
    Ok(hasher.finalize().into())
}

fn settings_of(onnx: &[u8]) -> Result<PreprocessSettings> {
    Ok(preprocess_settings(Geometry::of(onnx)?.side))
}

fn compute(dir: &Path, pairs: &[(usize, Pair)], graphs: &[Vec<u8>]) -> Result<Embeddings> {
    let workers = Workers::new(|| {
        graphs
            .iter()
            .map(|onnx| Ok((ImageEncoder::new(graph::load("image_encoder", onnx)?), settings_of(onnx)?)))
            .collect::<Result<Vec<(ImageEncoder, PreprocessSettings)>>>()
    })?;
    let mut progress = Progress::new("images", 0, pairs.len(), "images");
    let mut rows = Vec::with_capacity(pairs.len());
    for chunk in pairs.chunks(CHUNK) {
        rows.extend(workers.map(chunk, |encoders, (idx, pair)| {
            let photo = read_photo(&dir.join("images").join(&pair.image))?;
            let n_encoders = encoders.len();
            let (encoder, settings) = &mut encoders[idx % n_encoders];
            Ok(encoder.encode(&caption::preprocess(&photo, settings))?.embedding)
        })?);
        progress.count(rows.len(), chunk.len());
    }
    Embeddings::from_rows(&rows)
}
