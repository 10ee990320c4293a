//! What the image encoder makes of a list of photos, kept in a file: many decoders are measured behind one encoder, and
//! the encoder is the slow half.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use caption::{ImageView, Manifest, Models};
use half::f16;
use sha2::{Digest, Sha256};

use crate::data::{halves, read_photo};
use crate::training::{Progress, write_atomically};
use crate::workers::Workers;

/// Photos between two progress lines.
const CHUNK: usize = 50;
/// Bytes of a cache before its rows: the key, and the widths of an embedding and of the weights (u32 each).
const HEAD_BYTES: usize = 40;

/// The views of `photos`, paths under the folder `images`, in their order. With a folder `cache` they are read from
/// there, or encoded and written; either way they are the f16 numbers of the file, so that a bundle's captions do not
/// depend on who came first. Blocks.
///
/// # Errors
/// When a photo cannot be read, a graph fails, or the cache cannot be written.
pub fn views(
    cache: Option<&Path>,
    models: &Workers<Models>,
    manifest: &Manifest,
    images: &Path,
    photos: &[PathBuf],
) -> Result<Vec<ImageView>> {
    let Some(folder) = cache else { return encode(models, images, photos) };
    let key = key(manifest, photos)?;
    let name: String = key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let path = folder.join(format!("{name}.views"));
    if let Ok(bytes) = std::fs::read(&path)
        && bytes.starts_with(&key)
        && let Some(views) = parse(&bytes)
        && views.len() == photos.len()
    {
        return Ok(views);
    }
    let bytes = bytes(&key, &encode(models, images, photos)?);
    write_atomically(&path, &bytes)?;
    parse(&bytes).with_context(|| format!("encode photos for {}: the encoder has no patches", path.display()))
}

fn encode(models: &Workers<Models>, images: &Path, photos: &[PathBuf]) -> Result<Vec<ImageView>> {
    let mut progress = Progress::new("encode", 0, photos.len(), "photos");
    let mut views = Vec::with_capacity(photos.len());
    for chunk in photos.chunks(CHUNK) {
        views.extend(models.map(chunk, |models, photo| {
            let photo = read_photo(&images.join(photo))?;
            Ok(models.encode(&models.preprocess(&photo))?)
        })?);
        progress.count(views.len(), chunk.len());
    }
    Ok(views)
}

/// Sha256 over all that a view depends on: the encoder's graph, the preprocessing, the photos by name.
fn key(manifest: &Manifest, photos: &[PathBuf]) -> Result<[u8; 32]> {
    let encoder = &manifest.graphs.image_encoder.sha256;
    Ok(Sha256::digest(serde_json::to_vec(&(encoder, &manifest.preprocess, photos))?).into())
}

/// The key, the two widths, then for every photo its embedding, patches and weights; all little-endian.
fn bytes(key: &[u8; 32], views: &[ImageView]) -> Vec<u8> {
    let mut bytes = key.to_vec();
    let widths = views.first().map_or((0, 0), |view| (view.embedding.len(), view.weights.len()));
    bytes.extend((widths.0 as u32).to_le_bytes());
    bytes.extend((widths.1 as u32).to_le_bytes());
    for view in views {
        let values = view.embedding.iter().chain(&view.patches).chain(&view.weights);
        values.for_each(|value| bytes.extend(f16::from_f32(*value).to_le_bytes()));
    }
    bytes
}

fn parse(bytes: &[u8]) -> Option<Vec<ImageView>> {
    let (head, rows) = bytes.split_at_checked(HEAD_BYTES)?;
    let width = |at: usize| Some(u32::from_le_bytes(head[at..at + 4].try_into().ok()?) as usize);
    let (dim, n_patches) = (width(32)?, width(36)?);
    let row_len = dim.checked_mul(n_patches + 1)?.checked_add(n_patches)?;
    if dim == 0 || n_patches == 0 || rows.len() % (2 * row_len) != 0 {
        return None;
    }
    let view = |row: &[u8]| {
        let values: Vec<f32> = halves(row).map(f16::to_f32).collect();
        let (embedding, rest) = values.split_at(dim);
        let (patches, weights) = rest.split_at(dim * n_patches);
        ImageView { embedding: embedding.to_vec(), patches: patches.to_vec(), weights: weights.to_vec() }
    };
    Some(rows.chunks_exact(2 * row_len).map(view).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        caption::testing::tiny_bundle(1).0
    }

    #[test]
    fn views_come_back_as_they_were_written() {
        let view = |x: f32| ImageView {
            embedding: vec![x, 0.0, 1.0],
            patches: vec![0.5, x, 0.25, 1.0, 0.0, -x],
            weights: vec![0.75, 0.25],
        };
        let views = vec![view(0.5), view(-2.0)];
        let file = bytes(&[7; 32], &views);
        assert_eq!(parse(&file), Some(views));
        assert_eq!(parse(&file[..file.len() - 2]), None, "a cut file is none");
        assert_eq!(parse(&[0; HEAD_BYTES]), None);
    }

    #[test]
    fn the_key_follows_the_encoder_the_preprocessing_and_the_photos() {
        let photos = [PathBuf::from("a.jpg"), PathBuf::from("b.jpg")];
        let of = |manifest: &Manifest, photos: &[PathBuf]| key(manifest, photos).unwrap();
        let known = of(&manifest(), &photos);
        assert_eq!(known, of(&manifest(), &photos));
        let mut encoder = manifest();
        encoder.graphs.image_encoder.sha256 = "other".to_owned();
        let mut preprocess = manifest();
        preprocess.preprocess.width += 1;
        let mut decoder = manifest();
        decoder.graphs.decoder.as_mut().unwrap().sha256 = "other".to_owned();
        assert_ne!(known, of(&encoder, &photos));
        assert_ne!(known, of(&preprocess, &photos));
        assert_ne!(known, of(&manifest(), &photos[..1]));
        assert_eq!(known, of(&decoder, &photos), "decoders share the views");
    }
}
