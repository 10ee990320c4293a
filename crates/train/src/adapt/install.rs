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

    // The memory is the bridge between what images and what texts look like: it must know the new sentences, too.
    let mut rows: Vec<usize> = corpus.own.clone();
    rows.extend(&corpus.general);
    let chosen = memory::draw(rows.len(), Recipe::of(Preset::Captiond).n_memory, args.seed);
    let chosen: Vec<usize> = chosen.into_iter().map(|at| rows[at]).collect();
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
        (memory::FILE.to_owned(), memory::file(&corpus.examples.texts, &chosen, None)?),
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
