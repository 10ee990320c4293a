//! The sentences of an adaptation: the user's, and general ones so that the decoder does not forget; their tokens by the
//! base's tokenizer and their embeddings by the bundle's own text encoder.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use caption::bundle::Role;
use caption::{Bundle, Captioner, TextEncoder, Tokenizer};
use rand::seq::SliceRandom;
use sha2::{Digest, Sha256};

use super::{AdaptArgs, Bundles};
use crate::data::{tidy, wording};
use crate::decoder::WORDS_MAX;
use crate::decoder::examples::{Example, Examples};
use crate::embed::{self, Embeddings};
use crate::text::MAX_TOKENS;
use crate::tokenizer::{BOS, EOS, SPECIALS};
use crate::training::{Progress, say, step_rng, write_atomically};
use crate::workers::Workers;
use crate::{graph, memory};

/// Most bytes of a list of sentences.
const BYTES_MAX: u64 = 64 << 20;
/// Fewest sentences from which anything can be learned and something held out.
const SENTENCES_MIN: usize = 20;
/// Sentences of which the noise is read off.
const NOISE_SENTENCES: usize = 1000;
/// Limits of that noise, as a cosine: beyond them a list of near-copies would leave none, and one of nothing but
/// unrelated sentences would drown everything.
const NOISE_COSINE: [f32; 2] = [0.45, 0.9];
/// Sentences that one thread takes at a time.
const BATCH: usize = 64;

pub(crate) struct Corpus {
    pub(crate) examples: Examples,
    /// Examples of the user's sentences, of general ones, and of the user's that are held out, as rows of `examples`.
    pub(crate) own: Vec<usize>,
    pub(crate) general: Vec<usize>,
    pub(crate) held_out: Vec<usize>,
    pub(crate) held_out_texts: Vec<String>,
    /// General ones that are held out.
    pub(crate) general_held_out: Vec<usize>,
    pub(crate) noise_cosine: f32,
    /// How that cosine was found, in words.
    pub(crate) noise_from: &'static str,
    /// How the general sentences were found, in words.
    pub(crate) general_from: &'static str,
    /// Lines of the list that were passed over: too short, too long, or there before.
    pub(crate) n_passed: usize,
}

impl Corpus {
    /// Blocks for minutes where embeddings are not in `dir` yet.
    pub(crate) fn gather(args: &AdaptArgs, bundles: &Bundles, dir: &Path) -> Result<Corpus> {
        let (groups, n_passed) = groups(&args.text)?;
        let n_own: usize = groups.iter().map(Vec::len).sum();
        ensure!(
            n_own >= SENTENCES_MIN,
            "{}: {n_own} usable sentences, at least {SENTENCES_MIN} of 3 to {WORDS_MAX} words are needed",
            args.text.display()
        );
        let (general, general_from) = general(args, bundles, dir)?;
        let own: HashSet<String> = groups.iter().flatten().map(|text| wording(text)).collect();
        let general: Vec<Vec<String>> = general
            .into_iter()
            .map(|group| group.into_iter().filter(|text| !own.contains(&wording(text))).collect::<Vec<_>>())
            .filter(|group| !group.is_empty())
            .collect();
        let all: Vec<&Vec<String>> = groups.iter().chain(&general).collect();
        let texts: Vec<&str> = all.iter().flat_map(|group| group.iter().map(String::as_str)).collect();
        let embeddings = embed(&bundles.target, &texts, dir)?;
        let examples = Examples { rows: rows(&bundles.base, &all)?, texts: embeddings, images: None };
        let (own, held_out) = split(&groups, 0, args.hold_out, args.seed);
        let (general, general_held_out) = split(&general, n_own, args.hold_out, args.seed.wrapping_add(1));
        let held_out_texts = held_out.iter().map(|row| texts[*row].to_owned()).collect();
        let (noise_cosine, noise_from) = noise(args, &examples, &own);
        Ok(Corpus {
            examples,
            own,
            general,
            held_out,
            held_out_texts,
            general_held_out,
            noise_cosine,
            noise_from,
            general_from,
            n_passed,
        })
    }
}

/// The usable sentences of a file, by scene, no wording twice, and how many lines were passed over.
pub(super) fn groups(path: &Path) -> Result<(Vec<Vec<String>>, usize)> {
    let found = std::fs::metadata(path).with_context(|| format!("read {}", path.display()))?;
    ensure!(found.len() <= BYTES_MAX, "{}: {} bytes are more than {BYTES_MAX}", path.display(), found.len());
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let text = String::from_utf8(bytes)
        .map_err(|e| anyhow!("{}: no UTF-8 after byte {}", path.display(), e.utf8_error().valid_up_to()))?;
    let by_scene = text.trim().lines().any(|line| line.trim().is_empty());
    let (mut groups, mut seen, mut n_passed) = (vec![Vec::new()], HashSet::new(), 0);
    for line in text.lines().map(tidy) {
        if line.is_empty() || !by_scene {
            groups.push(Vec::new());
        }
        if line.is_empty() {
            continue;
        }
        let usable = (3..=WORDS_MAX).contains(&line.split(' ').count()) && seen.insert(wording(&line));
        match groups.last_mut() {
            Some(group) if usable => group.push(line),
            _ => n_passed += 1,
        }
    }
    groups.retain(|group| !group.is_empty());
    Ok((groups, n_passed))
}

/// The general sentences: as given, or what the base writes from the rows of its own text memory, of which a bundle
/// holds the embeddings and no words (self-distillation).
fn general(args: &AdaptArgs, bundles: &Bundles, dir: &Path) -> Result<(Vec<Vec<String>>, &'static str)> {
    if args.mix == 0.0 {
        return Ok((Vec::new(), "none"));
    }
    if let Some(path) = &args.general {
        let (groups, _) = groups(path)?;
        ensure!(!groups.is_empty(), "{}: no usable sentence", path.display());
        return Ok((groups, "as given"));
    }
    let from = "written by the base from its text memory";
    let key = Sha256::digest(format!("{} {} {}", bundles.base.id(), args.n_general, args.seed));
    let name: String = key.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let kept = dir.join(format!("general-{name}.txt"));
    if !kept.exists() {
        let sentences = written(args, &bundles.base)?;
        write_atomically(&kept, (sentences.join("\n") + "\n").as_bytes())?;
    }
    Ok((groups(&kept)?.0, from))
}

fn written(args: &AdaptArgs, base: &Bundle) -> Result<Vec<String>> {
    let at = base.manifest().memory.as_ref();
    let at = at.with_context(|| format!("{} has no text memory: give --general, or --mix 0", base.id()))?;
    let rows = memory::rows(base.file(&at.file).unwrap_or_default())
        .with_context(|| format!("read {} of {}", at.file, base.id()))?;
    let chosen = memory::draw(rows.len(), args.n_general, args.seed);
    let graph = |role: Role| {
        base.manifest().graphs.get(role).and_then(|graph| base.file(&graph.file)).unwrap_or_default()
    };
    let workers = Workers::new(|| captioner(base, graph(Role::Adapter), graph(Role::Decoder)))?;
    let mut progress = Progress::new("general", 0, chosen.len(), "sentences");
    let mut sentences = Vec::with_capacity(chosen.len());
    for chunk in chosen.chunks(BATCH) {
        sentences.extend(workers.map(chunk, |captioner, row| Ok(captioner.caption(&rows[*row], &[])?.text))?);
        progress.count(sentences.len(), chunk.len());
    }
    Ok(sentences)
}

/// The daemon's captioner over an adapter and a decoder with the base's words, greedy.
pub(crate) fn captioner(base: &Bundle, adapter: &[u8], decoder: &[u8]) -> Result<Captioner> {
    let manifest = base.manifest();
    let settings = manifest.decoder.as_ref().context("the base has no decoder")?;
    let greedy = caption::bundle::DecoderSettings { beam_width: 1, rerank: None, ..settings.clone() };
    let (adapter, decoder) = (graph::load("adapter", adapter)?, graph::load("decoder", decoder)?);
    Ok(Captioner::new(adapter, decoder, Arc::new(tokenizer(base)?), &greedy)?)
}

/// The tokenizer that the base writes with.
fn tokenizer(base: &Bundle) -> Result<Tokenizer> {
    let settings = base.manifest().decoder_tokenizer();
    Tokenizer::parse(base.file(&settings.file).unwrap_or_default(), settings)
        .map_err(|why| anyhow!("{} of {}: {why}", settings.file, base.id()))
}

/// An example for each sentence; those of one scene share their inputs.
fn rows(base: &Bundle, groups: &[&Vec<String>]) -> Result<Vec<Example>> {
    let words = tokenizer(base)?;
    ensure!(
        (words.pad(), words.bos(), words.eos()) == (0, Some(BOS), EOS),
        "{}: its special tokens are not {}",
        base.id(),
        SPECIALS.join(", ")
    );
    let mut rows = Vec::new();
    for group in groups {
        let first = rows.len();
        for text in group.iter() {
            let mut tokens = vec![BOS];
            tokens.extend(words.encode(text).into_iter().take(MAX_TOKENS - 2));
            tokens.push(EOS);
            let own = rows.len();
            rows.push(Example { tokens, n_given: 1, own, rows: first..first + group.len(), tags: vec![] });
        }
    }
    Ok(rows)
}

/// Embeddings by the bundle's own text encoder, kept in `dir`.
fn embed(bundle: &Bundle, texts: &[&str], dir: &Path) -> Result<Embeddings> {
    let mut hasher = Sha256::new();
    hasher.update(&bundle.manifest().graphs.text_encoder.sha256);
    hasher.update(&bundle.manifest().tokenizer.sha256);
    texts.iter().for_each(|text| hasher.update(Sha256::digest(text)));
    embed::kept(dir, &hasher.finalize().into(), || {
        let encoders = Workers::new(|| encoder(bundle))?;
        let mut progress = Progress::new("embed", 0, texts.len(), "sentences");
        let mut embedded: Vec<Vec<f32>> = Vec::with_capacity(texts.len());
        let batches: Vec<&[&str]> = texts.chunks(BATCH).collect();
        for group in batches.chunks(8) {
            let rows = encoders.map(group, |encoder, batch| Ok(encoder.encode(batch)?))?;
            embedded.extend(rows.into_iter().flatten());
            progress.count(embedded.len(), group.iter().map(|batch| batch.len()).sum());
        }
        Embeddings::from_rows(&embedded)
    })
}

fn encoder(bundle: &Bundle) -> Result<TextEncoder> {
    let manifest = bundle.manifest();
    let file = |name: &str| bundle.file(name).unwrap_or_default();
    let tokenizer = Tokenizer::parse(file(&manifest.tokenizer.file), &manifest.tokenizer)
        .map_err(|why| anyhow!("{} of {}: {why}", manifest.tokenizer.file, bundle.id()))?;
    let graph = graph::load("text_encoder", file(&manifest.graphs.text_encoder.file))?;
    Ok(TextEncoder::new(graph, Arc::new(tokenizer))?)
}

/// The rows of `groups`, the first of which is row `first`, to train on and to hold out: whole scenes.
pub(super) fn split(groups: &[Vec<String>], first: usize, share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut starts = Vec::with_capacity(groups.len());
    let mut at = first;
    for group in groups {
        starts.push(at..at + group.len());
        at += group.len();
    }
    starts.shuffle(&mut step_rng(seed, 0));
    let n_held_out = ((groups.len() as f64 * share).ceil() as usize).min(groups.len().saturating_sub(1));
    let (held_out, own) = starts.split_at(n_held_out);
    let flat = |ranges: &[std::ops::Range<usize>]| {
        let mut rows: Vec<usize> = ranges.iter().flat_map(Clone::clone).collect();
        rows.sort_unstable();
        rows
    };
    (flat(own), flat(held_out))
}

/// CapDec's rule from text alone: noise as large as what lies between two captions of one scene (Nukrai et al. 2022,
/// section 3.2), here as a cosine. A list without scenes has no such captions: the nearest other sentence stands for one.
pub(super) fn noise(args: &AdaptArgs, examples: &Examples, own: &[usize]) -> (f32, &'static str) {
    if let Some(cosine) = args.noise_cosine {
        return (cosine, "as given");
    }
    let sampled: Vec<usize> = own.iter().copied().take(NOISE_SENTENCES).collect();
    let vectors: Vec<Vec<f32>> = sampled.iter().map(|row| examples.texts.row(*row).collect()).collect();
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let scene = |row: usize| examples.rows[row].rows.clone();
    let by_scene = sampled.iter().any(|row| scene(*row).len() > 1);
    let mut found = Vec::new();
    for (i, row) in sampled.iter().enumerate() {
        let others = sampled.iter().enumerate().filter(|(j, _)| *j != i);
        if by_scene {
            let siblings = others.filter(|(_, other)| scene(*row).contains(*other));
            found.extend(siblings.map(|(j, _)| cosine(&vectors[i], &vectors[j])));
        } else {
            found.extend(others.map(|(j, _)| cosine(&vectors[i], &vectors[j])).reduce(f32::max));
        }
    }
    let mean = found.iter().sum::<f32>() / found.len().max(1) as f32;
    let from = if by_scene { "between captions of one scene" } else { "between nearest sentences" };
    say("adapt", &format!("the mean cosine {from} is {mean:.3}"));
    (mean.clamp(NOISE_COSINE[0], NOISE_COSINE[1]), from)
}
