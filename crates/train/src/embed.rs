//! Text embeddings of a corpus by the bundle's own text encoder, cached beside the run.
//!
//! The cache is keyed by the text encoder, the tokenizer and the sentences: a decoder trained on embeddings of
//! another encoder would caption nonsense without any error. That a run does not go on with other embeddings than it
//! began with is up to its checkpoint.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use caption::dot;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use crate::data::halves;
use crate::export::text::tokenizer_of;
use crate::graph;
use crate::text::EMBED_DIM;
use crate::training::{Checkpoint, Inputs, Progress, sha256_hex, write_atomically};
use crate::workers::Workers;

/// Sentences that one thread takes at a time.
const BATCH: usize = 256;
/// Such batches between two progress lines.
const GROUP: usize = 8;

/// The text encoder and its tokenizer in the folder of `captiond-train text`.
pub struct TextTower {
    pub bpe: Tokenizer,
    onnx: Vec<u8>,
    inputs: Inputs,
}

impl TextTower {
    /// Reads `text_encoder.onnx` and `tokenizer.json`: of a run, or of a bundle.
    ///
    /// # Errors
    /// When a file cannot be read, or the encoder was trained with another tokenizer.
    pub fn open(dir: &Path) -> Result<TextTower> {
        let (onnx_path, json_path) = (dir.join("text_encoder.onnx"), dir.join("tokenizer.json"));
        let onnx = std::fs::read(&onnx_path).with_context(|| format!("read {}", onnx_path.display()))?;
        let json = std::fs::read(&json_path).with_context(|| format!("read {}", json_path.display()))?;
        let own = tokenizer_of(&onnx).with_context(|| format!("parse {}", onnx_path.display()))?;
        ensure!(
            own.is_none_or(|own| own == sha256_hex(&json)),
            "{} was trained with another tokenizer than {}",
            onnx_path.display(),
            json_path.display()
        );
        let bpe = Tokenizer::from_bytes(&json)
            .map_err(|e| anyhow::anyhow!("parse {}: {e}", json_path.display()))?;
        let [encoder, tokenizer] = Inputs::TEXT;
        let inputs = Inputs::default().with(encoder, &onnx).with(tokenizer, &json);
        Ok(TextTower { bpe, onnx, inputs })
    }

    /// The two files, for what is trained on the embeddings to record.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Embeddings of `sequences` (`bos` .. `eos`), from the folder `cache` when it has them, else computed and kept
    /// there. The key is the text encoder and the tokens, so that any number of runs may share a folder.
    pub fn embed(&self, cache: &Path, sequences: &[Vec<u32>]) -> Result<Embeddings> {
        kept(cache, &self.key(sequences), || compute(self, sequences))
    }

    fn key(&self, sequences: &[Vec<u32>]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(Sha256::digest(&self.onnx));
        for sequence in sequences {
            sequence.iter().for_each(|id| hasher.update(id.to_le_bytes()));
        }
        hasher.finalize().into()
    }

    /// The daemon's text encoder, loaded anew.
    pub fn encoder(&self) -> Result<caption::TextEncoder> {
        let graph = graph::load("text_encoder", &self.onnx)?;
        Ok(caption::TextEncoder::new(graph, Arc::new(crate::bundle::tokenizer(&self.bpe)?))?)
    }
}

/// What the run or bundle in `dir` was made from: of a bundle, what gives sentences their embeddings.
///
/// # Errors
/// When there is neither.
pub fn inputs_of(dir: &Path) -> Result<Inputs> {
    if dir.join(caption::bundle::MANIFEST_FILE).exists() {
        return Ok(TextTower::open(dir)?.inputs);
    }
    Ok(Checkpoint::state(dir)?.inputs)
}

/// Unit rows (n, dim).
pub struct Embeddings {
    pub dim: usize,
    data: Vec<half::f16>,
}

impl Embeddings {
    pub fn row(&self, idx: usize) -> impl Iterator<Item = f32> + '_ {
        self.data[idx * self.dim..(idx + 1) * self.dim].iter().map(|x| x.to_f32())
    }

    pub fn len(&self) -> usize {
        self.data.len() / self.dim
    }

    pub fn from_rows(rows: &[Vec<f32>]) -> Result<Embeddings> {
        let dim = rows.first().map_or(0, Vec::len);
        ensure!(dim > 0, "there is nothing to embed");
        let data = rows.iter().flatten().map(|x| half::f16::from_f32(*x)).collect();
        Ok(Embeddings { dim, data })
    }

    /// Mean of all rows.
    pub fn mean(&self) -> Vec<f32> {
        let mut mean = vec![0.0f64; self.dim];
        for idx in 0..self.len() {
            mean.iter_mut().zip(self.row(idx)).for_each(|(m, x)| *m += f64::from(x));
        }
        mean.iter().map(|m| (m / self.len().max(1) as f64) as f32).collect()
    }

    /// Mean and standard deviation of every coordinate.
    pub fn moments(&self) -> Moments {
        let mean = self.mean();
        let mut squares = vec![0.0f64; self.dim];
        for idx in 0..self.len() {
            let centred = self.row(idx).zip(&mean).map(|(x, mean)| f64::from(x - mean));
            squares.iter_mut().zip(centred).for_each(|(sum, x)| *sum += x * x);
        }
        let deviation = squares.iter().map(|sum| (sum / self.len().max(1) as f64).sqrt() as f32).collect();
        Moments { mean, deviation }
    }
}

/// Of every coordinate of a set of embeddings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Moments {
    pub mean: Vec<f32>,
    pub deviation: Vec<f32>,
}

impl Moments {
    /// # Errors
    /// When the file is absent or malformed.
    pub fn read(path: &Path) -> Result<Moments> {
        let json = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&json).with_context(|| format!("parse {}", path.display()))
    }
}

/// Takes the mean away from a row and scales it back to unit length (C3, Zhang et al. 2024).
pub fn centre(row: &mut [f32], mean: &[f32]) {
    row.iter_mut().zip(mean).for_each(|(x, mean)| *x -= mean);
    caption::normalize(row);
}

/// Turns a unit row toward `direction`, of any length, until just this cosine with itself is left. A direction that
/// leads nowhere else leaves it as it is.
pub fn turn(row: &mut [f32], direction: &[f32], cosine: f32) {
    let shared = dot(row, direction);
    let across: Vec<f32> = row.iter().zip(direction).map(|(a, b)| b - shared * a).collect();
    let norm = across.iter().map(|x| x * x).sum::<f32>().sqrt();
    if norm < 1e-6 {
        return;
    }
    let sine = (1.0 - cosine * cosine).max(0.0).sqrt() / norm;
    row.iter_mut().zip(&across).for_each(|(x, across)| *x = cosine * *x + sine * across);
}

/// The embeddings that the folder `cache` holds under `key`, a hash of all that they depend on; else those that
/// `compute` gives, which are then kept there.
///
/// # Errors
/// One of `compute`, or when the file cannot be written.
pub fn kept(
    cache: &Path,
    key: &[u8; 32],
    compute: impl FnOnce() -> Result<Embeddings>,
) -> Result<Embeddings> {
    let hex: String = key.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let path = cache.join(format!("{hex}.f16"));
    if let Ok(bytes) = std::fs::read(&path)
        && bytes.starts_with(key)
        && let Some(embeddings) = parse(&bytes)
    {
        return Ok(embeddings);
    }
    let embeddings = compute()?;
    let mut bytes = key.to_vec();
    bytes.extend((embeddings.dim as u32).to_le_bytes());
    embeddings.data.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    write_atomically(&path, &bytes)?;
    Ok(embeddings)
}

/// Key (32 bytes), width (u32), rows of f16; all little-endian.
fn parse(bytes: &[u8]) -> Option<Embeddings> {
    let (head, rows) = bytes.split_at_checked(36)?;
    let dim = u32::from_le_bytes(head[32..].try_into().ok()?) as usize;
    let data = halves(rows).collect();
    (dim > 0 && rows.len() % (2 * dim) == 0).then_some(Embeddings { dim, data })
}

/// Embeds every sequence, without a cache.
fn compute(tower: &TextTower, sequences: &[Vec<u32>]) -> Result<Embeddings> {
    let encoders = Workers::new(|| tower.encoder())?;
    // Neighbours of one length share a run.
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|idx| sequences[*idx].len());
    let batches: Vec<&[usize]> = order.chunks(BATCH).collect();
    let mut progress = Progress::new("embed", 0, batches.len(), "sentences");
    let mut data = vec![half::f16::ZERO; sequences.len() * EMBED_DIM];
    for (group_idx, group) in batches.chunks(GROUP).enumerate() {
        let embedded = encoders.map(group, |encoder, batch| {
            let rows: Vec<&[u32]> = batch.iter().map(|idx| sequences[*idx].as_slice()).collect();
            Ok(encoder.encode_rows(&rows)?)
        })?;
        for (idx, row) in group.iter().copied().flatten().zip(embedded.iter().flatten()) {
            let place = &mut data[idx * EMBED_DIM..(idx + 1) * EMBED_DIM];
            place.iter_mut().zip(row).for_each(|(to, x)| *to = half::f16::from_f32(*x));
        }
        let n = group.iter().map(|batch| batch.len()).sum();
        progress.count(group_idx * GROUP + group.len(), n);
    }
    Ok(Embeddings { dim: EMBED_DIM, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_turned_keeps_its_length_and_the_cosine() {
        let start = [0.6, 0.0, 0.8, 0.0];
        let direction = [3.0, -2.0, 1.0, 5.0];
        let mut turned = start;
        turn(&mut turned, &direction, 0.7);
        assert!((dot(&turned, &turned) - 1.0).abs() < 1e-6 && (dot(&turned, &start) - 0.7).abs() < 1e-6);
        assert!(dot(&turned, &direction) > dot(&start, &direction));
        let mut alone = start;
        turn(&mut alone, &[1.2, 0.0, 1.6, 0.0], 0.7);
        assert_eq!(alone, start, "there is nowhere to turn to");
    }
}
