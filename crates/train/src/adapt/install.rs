//! The bundle that an adaptation leaves: everything of the one whose encoders stay, with the new adapter and decoder.

use std::path::Path;

use anyhow::{Context, Result};
use caption::bundle::{self, GraphFile, Manifest, MemorySettings};

use super::corpus::Corpus;
use super::{AdaptArgs, Bundles};
use crate::memory;
use crate::model::DecoderConfig;
use crate::recipe::{Preset, Recipe};

/// The file of the words that captions are written with, where they are not the text encoder's.
const WORDS: &str = "decoder_tokenizer.json";
/// What was changed and by how much, beside the files that the manifest names.
const REPORT: &str = "adaptation.md";

/// A bundle that is not on the disk yet.
pub(crate) struct Installed {
    manifest: Manifest,
    files: Vec<(String, Vec<u8>)>,
}

impl Installed {
    /// In the place of whatever bundle was there, in one step.
    pub(crate) fn write(&self, dir: &Path, report: &str) -> Result<()> {
        let mut files: Vec<(&str, &[u8])> =
            self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        if !report.is_empty() {
            files.push((REPORT, report.as_bytes()));
        }
        bundle::write(dir, self.manifest.clone(), &files)?;
        Ok(())
    }
}

/// Puts the bundle together.
pub(crate) fn bundle(
    args: &AdaptArgs,
    bundles: &Bundles,
    corpus: &Corpus,
    config: &DecoderConfig,
    [adapter, decoder]: [&[u8]; 2],
) -> Result<Installed> {
    let (target, base) = (bundles.target.manifest(), bundles.base.manifest());
    let mut manifest = target.clone();
    let mut settings = base.decoder.clone().context("the base has no decoder")?;
    let words = base.decoder_tokenizer();
    settings.tokenizer = (words.sha256 != target.tokenizer.sha256)
        .then(|| bundle::TokenizerSettings { file: WORDS.to_owned(), ..words.clone() });
    settings.prefix_length = config.prefix_length;

    let tau = base.memory.as_ref().map_or(Recipe::of(Preset::Captiond).memory_tau, |memory| memory.tau);
    manifest.memory =
        Some(MemorySettings { file: memory::FILE.to_owned(), bytes: 0, sha256: String::new(), tau });
    if !bundles.one_space {
        // Answers are weighed as they were fitted with other encoders, or not at all.
        manifest.vqa = caption::bundle::VqaSettings {
            unsure_below: target.vqa.unsure_below,
            decoder_weight: 1.0,
            similarity_weight: 1.0,
            ..caption::bundle::VqaSettings::default()
        };
    }
    manifest.graphs.adapter = Some(GraphFile::new("adapter.onnx"));
    manifest.graphs.decoder = Some(GraphFile::new("decoder.onnx"));
    manifest.license = match bundles.one_space {
        true => format!(
            "{}; the decoder also by the terms of the sentences that it was adapted to",
            target.license
        ),
        false => format!(
            "{}; decoder: {}, and the terms of the sentences that it was adapted to",
            target.license, base.license
        ),
    };
    manifest.provenance = format!(
        "{}; decoder of {} adapted to {} sentences in {} steps, {} general sentences, noise cosine {:.2}, seed {}",
        target.provenance,
        bundles.base.id(),
        corpus.own.len(),
        args.steps,
        corpus.general.len(),
        corpus.noise_cosine,
        args.seed
    );
    manifest.version = format!("{}+adapted", target.version);

    let mut files = vec![
        ("adapter.onnx".to_owned(), adapter.to_vec()),
        ("decoder.onnx".to_owned(), decoder.to_vec()),
        (memory::FILE.to_owned(), remembered(bundles, corpus, args.seed)?),
    ];
    if settings.tokenizer.is_some() {
        files.push((WORDS.to_owned(), bundles.base.file(&words.file).unwrap_or_default().to_vec()));
    }
    manifest.decoder = Some(settings);
    let kept = [&target.tokenizer.file, &target.graphs.image_encoder.file, &target.graphs.text_encoder.file];
    let bridge = target.bridge.as_ref().map(|bridge| &bridge.file);
    for name in kept.into_iter().chain(bridge) {
        files.push((name.clone(), bundles.target.file(name).unwrap_or_default().to_vec()));
    }
    Ok(Installed { manifest, files })
}

/// The memory is the bridge between what images and what texts look like: it must know the new sentences, too. The base's
/// own rows stay beside them where they mean the same; behind other encoders the general sentences take their place.
fn remembered(bundles: &Bundles, corpus: &Corpus, seed: u64) -> Result<Vec<u8>> {
    let n = Recipe::of(Preset::Captiond).n_memory;
    let texts = &corpus.examples.texts;
    let before = bundles.base.manifest().memory.as_ref().filter(|_| bundles.one_space);
    let Some(before) = before else {
        let known: Vec<usize> = corpus.own.iter().chain(&corpus.general).copied().collect();
        let chosen: Vec<usize> = memory::draw(known.len(), n, seed).into_iter().map(|at| known[at]).collect();
        return memory::file(texts, &chosen, None);
    };
    let mut kept = memory::rows(bundles.base.file(&before.file).unwrap_or_default())
        .with_context(|| format!("{}: {}", bundles.base.id(), before.file))?;
    let new = memory::draw(corpus.own.len(), n / 2, seed);
    let mut rows: Vec<Vec<f32>> = new.into_iter().map(|at| texts.row(corpus.own[at]).collect()).collect();
    let old = memory::draw(kept.len(), n - rows.len(), seed);
    rows.extend(old.into_iter().map(|at| std::mem::take(&mut kept[at])));
    memory::of_rows(&rows, texts.dim)
}
