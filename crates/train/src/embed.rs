//! Text embeddings of a corpus by the bundle's own text encoder, cached beside the run.
//!
//! The cache is keyed by the text encoder, the tokenizer and the sentences: a decoder trained on embeddings of
//! another encoder would caption nonsense without any error.

use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use engine::{EngineOptions, Graph, TensorView};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::training::{Progress, write_atomically};

/// Sentences of one length in one run of the encoder.
const BATCH: usize = 64;

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

    /// Mean of all rows.
    pub fn mean(&self) -> Vec<f32> {
        let mut mean = vec![0.0f64; self.dim];
        for idx in 0..self.len() {
            mean.iter_mut().zip(self.row(idx)).for_each(|(m, x)| *m += f64::from(x));
        }
        mean.iter().map(|m| (m / self.len().max(1) as f64) as f32).collect()
    }
}

/// Reads the cache when it fits, else embeds `sequences` (`bos` .. `eos`) and writes it.
pub fn embeddings(cache: &Path, text_encoder: &[u8], sequences: &[Vec<u32>]) -> Result<Embeddings> {
    let mut hasher = Sha256::new();
    hasher.update(Sha256::digest(text_encoder));
    for sequence in sequences {
        sequence.iter().for_each(|id| hasher.update(id.to_le_bytes()));
    }
    let key: [u8; 32] = hasher.finalize().into();
    if let Ok(bytes) = std::fs::read(cache)
        && bytes.starts_with(&key)
        && let Some(embeddings) = parse(&bytes)
    {
        return Ok(embeddings);
    }
    let embeddings = compute(text_encoder, sequences)?;
    let mut bytes = key.to_vec();
    bytes.extend((embeddings.dim as u32).to_le_bytes());
    embeddings.data.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    write_atomically(cache, &bytes)?;
    Ok(embeddings)
}

/// Reads a cache whatever it was computed from.
pub fn read_cache(cache: &Path) -> Result<Embeddings> {
    let bytes = std::fs::read(cache).with_context(|| format!("read {}", cache.display()))?;
    parse(&bytes).with_context(|| format!("{} is no embedding cache", cache.display()))
}

/// Key (32 bytes), width (u32), rows of f16; all little-endian.
fn parse(bytes: &[u8]) -> Option<Embeddings> {
    let (head, rows) = bytes.split_at_checked(36)?;
    let dim = u32::from_le_bytes(head[32..].try_into().ok()?) as usize;
    let data = rows.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]])).collect();
    (dim > 0 && rows.len() % (2 * dim) == 0).then_some(Embeddings { dim, data })
}

/// Embeds every sequence, without a cache.
pub fn compute(text_encoder: &[u8], sequences: &[Vec<u32>]) -> Result<Embeddings> {
    let signature = engine::onnx::signature_of(text_encoder)?;
    let engine = engine::open("tract")?;
    let graphs: Vec<Mutex<Box<dyn Graph>>> = (0..rayon::current_num_threads())
        .map(|_| {
            Ok(Mutex::new(engine.load("text_encoder", text_encoder, &signature, &EngineOptions::default())?))
        })
        .collect::<Result<_>>()?;
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|idx| sequences[*idx].len());
    let batches: Vec<&[usize]> = order
        .chunk_by(|a, b| sequences[*a].len() == sequences[*b].len())
        .flat_map(|run| run.chunks(BATCH))
        .collect();
    let mut progress = Progress::new("embed", 0, batches.len(), "sentences");
    let mut rows: Vec<Option<Vec<half::f16>>> = vec![None; sequences.len()];
    for (group_idx, group) in batches.chunks(32).enumerate() {
        let embedded: Vec<Vec<half::f16>> = group
            .par_iter()
            .map(|batch| {
                let worker = rayon::current_thread_index().unwrap_or(0);
                let mut graph = graphs[worker]
                    .lock()
                    .map_err(|_poisoned| anyhow::anyhow!("another worker panicked"))?;
                embed_batch(&mut **graph, batch, sequences)
            })
            .collect::<Result<_>>()?;
        for (batch, flat) in group.iter().zip(embedded) {
            let dim = flat.len() / batch.len();
            for (idx, row) in batch.iter().zip(flat.chunks_exact(dim)) {
                rows[*idx] = Some(row.to_vec());
            }
        }
        let n = group.iter().map(|batch| batch.len()).sum();
        progress.step(group_idx * 32 + group.len() - 1, 0.0, n, 0.0);
    }
    let data: Vec<half::f16> = rows.into_iter().flatten().flatten().collect();
    Ok(Embeddings { dim: data.len() / sequences.len().max(1), data })
}

fn embed_batch(graph: &mut dyn Graph, batch: &[usize], sequences: &[Vec<u32>]) -> Result<Vec<half::f16>> {
    let s = sequences[batch[0]].len();
    let ids: Vec<i64> = batch.iter().flat_map(|idx| sequences[*idx].iter().map(|id| i64::from(*id))).collect();
    let mask: Vec<f32> = (0..s * s).map(|i| if i % s <= i / s { 0.0 } else { -1e9 }).collect();
    let outputs = graph.run(&[
        ("ids", TensorView::I64 { shape: &[batch.len(), s], data: &ids }),
        ("mask", TensorView::F32 { shape: &[s, s], data: &mask }),
    ])?;
    let embedding = outputs[0].as_f32().context("the text embedding is not f32")?;
    Ok(embedding.iter().map(|x| half::f16::from_f32(*x)).collect())
}
