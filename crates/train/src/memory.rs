//! The text memory: embeddings of random sentences, and nothing of their words (DeCap, Li et al. 2023).

use anyhow::{Context, Result, ensure};
use rand::seq::index;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::embed::{self, Embeddings};
use crate::training::step_rng;

/// Its file in a run and in a bundle.
pub const FILE: &str = "memory.safetensors";

/// Which of `n_texts` sentences make a memory of `n`, or of as many as there are.
pub fn draw(n_texts: usize, n: usize, seed: u64) -> Vec<usize> {
    index::sample(&mut step_rng(seed, 0), n_texts, n.min(n_texts)).into_vec()
}

/// These rows of `texts` as int8 with a scale each, centred first where a mean is given.
pub fn file(texts: &Embeddings, rows: &[usize], mean: Option<&[f32]>) -> Result<Vec<u8>> {
    let row = |idx: &usize| {
        let mut row: Vec<f32> = texts.row(*idx).collect();
        if let Some(mean) = mean {
            embed::centre(&mut row, mean);
        }
        row
    };
    of_rows(&rows.iter().map(row).collect::<Vec<_>>(), texts.dim)
}

/// Rows of `dim` as int8 with a scale each.
pub fn of_rows(rows: &[Vec<f32>], dim: usize) -> Result<Vec<u8>> {
    let mut codes = Vec::with_capacity(rows.len() * dim);
    let mut scales = Vec::with_capacity(rows.len() * 4);
    for row in rows {
        let peak = row.iter().fold(f32::MIN_POSITIVE, |peak, x| peak.max(x.abs()));
        codes.extend(row.iter().map(|x| (x / peak * 127.0).round() as i8 as u8));
        scales.extend((peak / 127.0).to_le_bytes());
    }
    let tensors = [
        ("embeddings", TensorView::new(Dtype::I8, vec![rows.len(), dim], &codes)?),
        ("scales", TensorView::new(Dtype::F32, vec![rows.len()], &scales)?),
    ];
    Ok(safetensors::serialize(tensors, None)?)
}

/// The rows of such a file, of unit length as far as int8 holds it.
///
/// # Errors
/// When it is no memory.
pub fn rows(file: &[u8]) -> Result<Vec<Vec<f32>>> {
    let tensors = SafeTensors::deserialize(file).context("parse")?;
    let (codes, scales) = (tensors.tensor("embeddings")?, tensors.tensor("scales")?);
    ensure!(
        codes.dtype() == Dtype::I8 && scales.dtype() == Dtype::F32 && codes.shape().len() == 2,
        "no int8 rows with f32 scales"
    );
    let dim = codes.shape()[1].max(1);
    let scales = scales.data().as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word));
    let rows = codes.data().chunks_exact(dim).zip(scales);
    Ok(rows
        .map(|(row, scale)| {
            let mut row: Vec<f32> = row.iter().map(|code| scale * f32::from(code.cast_signed())).collect();
            caption::normalize(&mut row);
            row
        })
        .collect())
}
