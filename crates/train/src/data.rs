//! Reading captions, sentences and teacher embeddings. The files' layout is described in `docs/training.md`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use image::RgbImage;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::training::Inputs;

/// A photo with its captions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pair {
    /// Path under the folder `images`.
    pub image: PathBuf,
    pub source: String,
    pub split: String,
    pub captions: Vec<String>,
}

/// One sentence of the text corpus.
#[derive(Clone, Debug, Deserialize)]
pub struct Sentence {
    pub text: String,
    pub source: String,
    /// Sentences of one photo share it; may be empty.
    #[serde(default)]
    pub image_id: String,
}

/// Reads JSON lines, gzip-compressed when the name ends in `.gz`.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let n_bytes = file.metadata().with_context(|| format!("look at {}", path.display()))?.len();
    ensure!(n_bytes > 0, "{} is empty", path.display());
    let reader: Box<dyn Read> = if path.extension().is_some_and(|e| e == "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut rows = Vec::new();
    for (idx, line) in BufReader::new(reader).lines().enumerate() {
        let line = line.with_context(|| format!("read {} line {}", path.display(), idx + 1))?;
        if !line.trim().is_empty() {
            rows.push(serde_json::from_str(&line).map_err(|e| {
                let (why, column) = (e.to_string(), e.column());
                // The parser has seen one line and calls it the first.
                let why = why.split(" at line ").next().unwrap_or_default();
                anyhow!("parse {} line {} column {column}: {why}", path.display(), idx + 1)
            })?);
        }
    }
    Ok(rows)
}

/// Reads a photo file.
///
/// # Errors
/// When it is absent or no photo.
pub fn read_photo(path: &Path) -> Result<RgbImage> {
    Ok(image::open(path).with_context(|| format!("read photo {}", path.display()))?.into_rgb8())
}

/// The numbers of little-endian f16 bytes.
pub fn halves(bytes: &[u8]) -> impl Iterator<Item = half::f16> {
    bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]))
}

/// The pairs of one split (`train` or `dev`).
pub fn pairs(data: &Path, split: &str) -> Result<Vec<Pair>> {
    let mut pairs: Vec<Pair> = read_jsonl(&data.join("pairs.jsonl"))?;
    pairs.retain(|pair| pair.split == split);
    ensure!(!pairs.is_empty(), "{}: no pair of the split {split}", data.join("pairs.jsonl").display());
    Ok(pairs)
}

/// One spacing for every sentence, so that equal sentences compare equal.
pub fn tidy(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The key under which two captions count as the same wording.
pub fn wording(text: &str) -> String {
    let kept: String =
        text.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { ' ' }).collect();
    tidy(&kept)
}

/// The wording of every dev caption, which never enters training, wherever it comes from.
pub fn held_out(data: &Path) -> Result<HashSet<String>> {
    Ok(pairs(data, "dev")?.iter().flat_map(|pair| &pair.captions).map(|c| wording(c)).collect())
}

/// The name under which the captions of the encoder's photos are a source.
pub const PAIRS: &str = "pairs";

/// What of the corpus a decoder is trained on.
#[derive(Clone, Debug)]
pub struct CorpusFilter {
    /// Names of the corpus' sources, e.g. `flickr30k`, or [`PAIRS`].
    pub sources: Vec<String>,
    /// Drop sentences with the wording of any caption of the encoder's photos.
    pub exclude_pairs: bool,
    /// Longest sentence in words.
    pub words_max: usize,
}

/// Sentences grouped by photo (a sentence without photo is a group of its own), wording never repeated.
pub fn corpus_groups(data: &Path, filter: &CorpusFilter) -> Result<Vec<Vec<String>>> {
    let path = data.join("text/corpus.jsonl.gz");
    let rows: Vec<Sentence> = read_jsonl(&path)?;
    let mut seen = held_out(data)?;
    if filter.exclude_pairs {
        seen.extend(pairs(data, "train")?.iter().flat_map(|pair| &pair.captions).map(|c| wording(c)));
    }
    let mut usable =
        |text: &str| (3..=filter.words_max).contains(&text.split(' ').count()) && seen.insert(wording(text));
    let mut groups: Vec<Vec<String>> = Vec::new();
    if filter.sources.iter().any(|source| source == PAIRS) {
        for pair in pairs(data, "train")? {
            groups.push(pair.captions.iter().map(|text| tidy(text)).filter(|text| usable(text)).collect());
        }
        groups.retain(|group| !group.is_empty());
    }
    let mut group_of = std::collections::HashMap::new();
    for row in rows.iter().filter(|row| filter.sources.contains(&row.source)) {
        let text = tidy(&row.text);
        if !usable(&text) {
            continue;
        }
        if row.image_id.is_empty() {
            groups.push(vec![text]);
            continue;
        }
        let idx = *group_of.entry((&row.source, &row.image_id)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[idx].push(text);
    }
    ensure!(
        !groups.is_empty(),
        "{}: no usable sentence of the sources {}",
        path.display(),
        filter.sources.join(", ")
    );
    Ok(groups)
}

/// Embeddings of a sentence teacher, as `scripts/teacher.py` writes them.
pub struct Teacher {
    pub texts: Vec<String>,
    /// Row-major (texts, dim), unit rows.
    pub embeddings: Vec<f32>,
    pub dim: usize,
}

impl Teacher {
    pub fn read(dir: &Path, name: &str, dim: usize) -> Result<Teacher> {
        let text_path = dir.join(format!("{name}.txt"));
        let texts: Vec<String> = std::fs::read_to_string(&text_path)
            .with_context(|| format!("read {}", text_path.display()))?
            .lines()
            .map(str::to_owned)
            .collect();
        let path = dir.join(format!("{name}.f16"));
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        ensure!(
            bytes.len() == texts.len() * dim * 2,
            "{}: {} bytes are not {} rows of {dim} f16",
            path.display(),
            bytes.len(),
            texts.len()
        );
        ensure!(!texts.is_empty(), "{} is empty", text_path.display());
        let embeddings = halves(&bytes).map(half::f16::to_f32).collect();
        Ok(Teacher { texts, embeddings, dim })
    }

    /// The files of one split, for what is trained on them to record.
    pub fn inputs(dir: &Path, name: &str) -> Result<Inputs> {
        Inputs::default()
            .with_file("teacher's sentences", &dir.join(format!("{name}.txt")))?
            .with_file("teacher's embeddings", &dir.join(format!("{name}.f16")))
    }

    pub fn row(&self, idx: usize) -> &[f32] {
        &self.embeddings[idx * self.dim..(idx + 1) * self.dim]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wording_ignores_case_punctuation_and_spacing() {
        assert_eq!(wording("A dog,  running ."), wording("a dog running"));
        assert_ne!(wording("a dog"), wording("a dog runs"));
    }
}
