//! What an image embedding goes through before a decoder that only ever saw text embeddings takes it.
//!
//! Images and texts of one meaning lie apart in the shared space (the modality gap). [`Bridge`]
//! moves by the mean gap, [`Memory`] replaces by a mean of near text embeddings.

use safetensors::{Dtype, SafeTensors};

use crate::vector;

/// Moves an embedding from one mean to another and scales it back to unit norm (C3, Zhang et al. 2024); with a scale
/// for each coordinate in between, the moments match, too.
#[derive(Clone, Debug, PartialEq)]
pub struct Bridge {
    /// (embed_dim), as the others.
    image_mean: Vec<f32>,
    scale: Vec<f32>,
    text_mean: Vec<f32>,
}

impl Bridge {
    /// Means over image and over text embeddings, and what is multiplied by in between, (embed_dim) each.
    pub fn new(image_mean: Vec<f32>, scale: Vec<f32>, text_mean: Vec<f32>) -> Bridge {
        Bridge { image_mean, scale, text_mean }
    }

    /// Reads `image_mean`, `text_mean` and, where it is there, `scale`, f32 (dim), from a safetensors file.
    ///
    /// # Errors
    /// A message when the file is malformed or does not fit `dim`.
    pub fn parse(bytes: &[u8], dim: usize) -> Result<Bridge, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let (image, text) = (floats(&file, "image_mean", &[dim])?, floats(&file, "text_mean", &[dim])?);
        let has_scale = file.names().contains(&"scale");
        let scale = if has_scale { floats(&file, "scale", &[dim])? } else { vec![1.0; dim] };
        Ok(Bridge::new(image, scale, text))
    }

    pub fn apply(&self, embedding: &[f32]) -> Vec<f32> {
        let means = std::iter::zip(&self.image_mean, &self.text_mean);
        let mut moved: Vec<f32> = std::iter::zip(embedding, &self.scale)
            .zip(means)
            .map(|((x, scale), (image, text))| (x - image) * scale + text)
            .collect();
        vector::normalize(&mut moved);
        moved
    }
}

/// A bank of text embeddings that an embedding is projected onto.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// (n, embed_dim).
    embeddings: Vec<i8>,
    /// What one unit of each row is worth, (n).
    scales: Vec<f32>,
    dim: usize,
    tau: f32,
}

impl Memory {
    /// Reads `embeddings`, i8 (n, dim), and `scales`, f32 (n), from a safetensors file. `tau` is the
    /// temperature of the softmax over cosines, greater than 0.
    ///
    /// # Errors
    /// A message when the file is malformed, does not fit `dim`, or holds no row.
    pub fn parse(bytes: &[u8], dim: usize, tau: f32) -> Result<Memory, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let tensor = file.tensor("embeddings").map_err(|e| e.to_string())?;
        let n = match (tensor.dtype(), tensor.shape()) {
            (Dtype::I8, [n, width]) if *width == dim && *n > 0 => *n,
            (dtype, shape) => return Err(format!("embeddings are {dtype:?} {shape:?}, not I8 [n, {dim}]")),
        };
        let scales = floats(&file, "scales", &[n])?;
        let embeddings = tensor.data().iter().map(|byte| byte.cast_signed()).collect();
        Ok(Memory { embeddings, scales, dim, tau })
    }

    /// The mean of the bank's rows weighted by `softmax(cosine / tau)`, scaled to unit norm. A tau near
    /// 0 gives the nearest row, a large one the mean of all.
    pub fn apply(&self, embedding: &[f32]) -> Vec<f32> {
        let mut weights = vec![0.0; self.scales.len()];
        engine::bank_products(&self.embeddings, embedding, &mut weights);
        weights.iter_mut().zip(&self.scales).for_each(|(weight, scale)| *weight *= scale / self.tau);
        vector::softmax(&mut weights);
        let mut mean = vec![0.0; self.dim];
        let rows = self.embeddings.chunks_exact(self.dim).zip(&self.scales);
        for ((row, scale), weight) in rows.zip(&weights) {
            // Most of a large bank lies far away and adds nothing that f32 could hold.
            if *weight > 1e-9 {
                mean.iter_mut().zip(row).for_each(|(x, q)| *x += weight * scale * f32::from(*q));
            }
        }
        vector::normalize(&mut mean);
        mean
    }
}

fn floats(file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    let tensor = file.tensor(name).map_err(|e| e.to_string())?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        return Err(format!("{name} is {:?} {:?}, not F32 {shape:?}", tensor.dtype(), tensor.shape()));
    }
    let (words, _) = tensor.data().as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    if !values.iter().all(|x| x.is_finite()) {
        return Err(format!("{name} is not finite"));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
        let views: Vec<_> = tensors
            .iter()
            .map(|(name, dtype, shape, data)| {
                (*name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap())
            })
            .collect();
        safetensors::serialize(views, None).unwrap()
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn bank(tau: f32) -> Memory {
        let rows: [i8; 6] = [127, 0, 0, 127, -127, 0];
        let file = file(&[
            ("embeddings", Dtype::I8, vec![3, 2], rows.iter().map(|q| q.cast_unsigned()).collect()),
            ("scales", Dtype::F32, vec![3], bytes(&[1.0 / 127.0; 3])),
        ]);
        Memory::parse(&file, 2, tau).unwrap()
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        a.len() == b.len() && std::iter::zip(a, b).all(|(a, b)| (a - b).abs() < 1e-4)
    }

    #[test]
    fn a_bridge_moves_by_the_gap_between_the_means() {
        let bridge = Bridge::new(vec![1.0, 0.0], vec![1.0, 1.0], vec![0.0, 1.0]);
        assert!(close(&bridge.apply(&[1.0, 0.0]), &[0.0, 1.0]));
        let stored = file(&[
            ("image_mean", Dtype::F32, vec![2], bytes(&[1.0, 0.0])),
            ("text_mean", Dtype::F32, vec![2], bytes(&[0.0, 1.0])),
        ]);
        assert_eq!(Bridge::parse(&stored, 2).unwrap(), bridge);
    }

    #[test]
    fn a_bridge_with_a_scale_stretches_what_lies_around_the_mean() {
        let bridge = Bridge::new(vec![0.5, 0.5], vec![2.0, 0.0], vec![0.0, 1.0]);
        let half = 0.5f32.sqrt();
        assert!(close(&bridge.apply(&[1.0, 0.0]), &[half, half]));
    }

    #[test]
    fn a_cold_memory_gives_the_nearest_row_and_a_hot_one_the_mean() {
        assert!(close(&bank(1e-3).apply(&[0.6, 0.8]), &[0.0, 1.0]));
        assert!(close(&bank(1e6).apply(&[0.6, 0.8]), &[0.0, 1.0]));
        assert!(close(&bank(1e-3).apply(&[-0.9, 0.1]), &[-1.0, 0.0]));
    }

    #[test]
    fn files_that_do_not_fit_are_refused() {
        let scales = ("scales", Dtype::F32, vec![1], bytes(&[1.0]));
        let cases = [
            vec![],
            vec![scales.clone()],
            vec![scales.clone(), ("embeddings", Dtype::I8, vec![1, 3], vec![0; 3])],
            vec![scales.clone(), ("embeddings", Dtype::U8, vec![1, 2], vec![0; 2])],
            vec![scales, ("embeddings", Dtype::I8, vec![0, 2], vec![])],
            vec![
                ("scales", Dtype::F32, vec![1], bytes(&[f32::NAN])),
                ("embeddings", Dtype::I8, vec![1, 2], vec![0; 2]),
            ],
        ];
        for tensors in cases {
            assert!(Memory::parse(&file(&tensors), 2, 1.0).is_err());
            assert!(Bridge::parse(&file(&tensors), 2).is_err());
        }
        assert!(Memory::parse(b"garbage", 2, 1.0).is_err());
    }
}
