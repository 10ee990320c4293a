//! The two CLIP-style towers: image to embedding, text to embedding.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{Dim, Graph, Tensor, TensorView};

use crate::tokenizer::Tokenizer;
use crate::{CaptionError, vector};

/// Rows of one run of the text encoder.
const MAX_BATCH: usize = 64;
/// What is added to the attention score of a later token: `exp` of it is 0 in f32.
const MASKED: f32 = -1e9;

/// What the image encoder saw.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageView {
    /// Unit norm, (embed_dim).
    pub embedding: Vec<f32>,
    /// Unit norm each, (n_patches, embed_dim), row by row of the patch grid.
    pub patches: Vec<f32>,
    /// The share of each patch in the embedding, (n_patches), sum 1.
    pub weights: Vec<f32>,
}

/// Pixels to an [`ImageView`].
pub struct ImageEncoder {
    graph: Box<dyn Graph>,
}

impl ImageEncoder {
    /// Wraps a graph with the image encoder's signature; see `docs/bundle.md`.
    pub fn new(graph: Box<dyn Graph>) -> ImageEncoder {
        ImageEncoder { graph }
    }

    /// Encodes preprocessed pixels, f32 (1, 3, height, width).
    ///
    /// # Errors
    /// When the run fails, or an embedding has no unit norm.
    pub fn encode(&mut self, pixels: &Tensor) -> Result<ImageView, CaptionError> {
        let outputs = self.graph.run(&[("pixels", pixels.view())])?;
        let [embedding, patches, weights] = take_f32(outputs, "image_encoder")?;
        let dim = embedding.len();
        if dim == 0 || patches.len() != dim * weights.len() {
            return Err(CaptionError::graph("image_encoder", "its outputs do not fit each other"));
        }
        require_unit(&embedding, dim, "image_encoder")?;
        require_unit(&patches, dim, "image_encoder")?;
        Ok(ImageView { embedding, patches, weights })
    }
}

/// Text to unit-norm embeddings.
pub struct TextEncoder {
    graph: Box<dyn Graph>,
    tokenizer: Arc<Tokenizer>,
    dim: usize,
}

impl TextEncoder {
    /// Wraps a graph with the text encoder's signature; see `docs/bundle.md`.
    ///
    /// # Errors
    /// When the graph does not say how wide its embedding is.
    pub fn new(graph: Box<dyn Graph>, tokenizer: Arc<Tokenizer>) -> Result<TextEncoder, CaptionError> {
        match graph.signature().outputs.first().and_then(|port| port.dims.last()) {
            Some(Dim::Fixed(dim)) => Ok(TextEncoder { dim: *dim, graph, tokenizer }),
            _ => Err(CaptionError::graph("text_encoder", "it has no embedding of fixed width")),
        }
    }

    pub fn embed_dim(&self) -> usize {
        self.dim
    }

    /// The embeddings of `texts`, in their order.
    ///
    /// # Errors
    /// When a run fails, or an embedding has no unit norm.
    pub fn encode<T: AsRef<str>>(&mut self, texts: &[T]) -> Result<Vec<Vec<f32>>, CaptionError> {
        let rows: Vec<Vec<u32>> = texts.iter().map(|text| self.tokenizer.encode_row(text.as_ref())).collect();
        self.encode_rows(&rows)
    }

    /// The embeddings of token rows (bos, tokens, eos), in their order. Rows of one length share a run.
    ///
    /// # Errors
    /// When a run fails, or an embedding has no unit norm.
    pub fn encode_rows<R: AsRef<[u32]>>(&mut self, rows: &[R]) -> Result<Vec<Vec<f32>>, CaptionError> {
        let mut by_len = BTreeMap::<usize, Vec<usize>>::new();
        for (idx, row) in rows.iter().enumerate() {
            by_len.entry(row.as_ref().len()).or_default().push(idx);
        }
        let mut embeddings = vec![Vec::new(); rows.len()];
        for (len, indices) in by_len {
            let mask = causal_mask(len);
            for batch in indices.chunks(MAX_BATCH) {
                let ids = batch.iter().flat_map(|idx| rows[*idx].as_ref());
                let ids: Vec<i64> = ids.map(|id| i64::from(*id)).collect();
                let (ids_shape, mask_shape) = ([batch.len(), len], [len, len]);
                let mut inputs = vec![("ids", TensorView::I64 { shape: &ids_shape, data: &ids })];
                if self.graph.signature().inputs.len() > 1 {
                    inputs.push(("mask", TensorView::F32 { shape: &mask_shape, data: &mask }));
                }
                let outputs = self.graph.run(&inputs)?;
                let [flat] = take_f32(outputs, "text_encoder")?;
                require_unit(&flat, self.dim, "text_encoder")?;
                for (idx, embedding) in batch.iter().zip(flat.chunks_exact(self.dim)) {
                    embeddings[*idx] = embedding.to_vec();
                }
            }
        }
        Ok(embeddings)
    }
}

/// Additive mask (len, len): 0 where the column is at or before the row.
fn causal_mask(len: usize) -> Vec<f32> {
    (0..len * len).map(|idx| if idx % len <= idx / len { 0.0 } else { MASKED }).collect()
}

/// The elements of `N` f32 outputs.
pub(crate) fn take_f32<const N: usize>(
    outputs: Vec<Tensor>,
    graph: &str,
) -> Result<[Vec<f32>; N], CaptionError> {
    let outputs: Option<Vec<Vec<f32>>> = outputs.into_iter().map(Tensor::into_f32).collect();
    outputs
        .and_then(|outputs| outputs.try_into().ok())
        .ok_or_else(|| CaptionError::graph(graph, "its outputs are not those of its signature"))
}

/// Cosines are taken as dot products, so an export without its last normalisation must not pass.
fn require_unit(rows: &[f32], dim: usize, graph: &str) -> Result<(), CaptionError> {
    const TOLERANCE: f32 = 1e-3;
    for row in rows.chunks_exact(dim) {
        let norm = vector::norm(row);
        if (norm - 1.0).abs() > TOLERANCE {
            return Err(CaptionError::graph(graph, format!("an embedding has norm {norm}, not 1")));
        }
    }
    Ok(())
}
