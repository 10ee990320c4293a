//! Grids of the frozen backbone for every photo and view, computed once by the daemon's own engine.
//!
//! The file holds a key (32 bytes) and f16 rows: image-major, view-minor, each a 7x7 grid of 192 channels, cells row-major. View 0 is
//! the whole photo as the daemon sees it, view 1 its mirror image, the rest random crops.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};
use engine::Graph;
use image::RgbImage;
use image::imageops::{crop_imm, flip_horizontal};
use rand::Rng;
use sha2::{Digest, Sha256};

use crate::data::{halves, read_photo};
use crate::export::image::{INPUT_SIDE, backbone_grid};
use crate::graph;
use crate::model::{GRID_CHANNELS, GRID_SIDE};
use crate::training::{Progress, step_rng};
use crate::workers::Workers;

/// Cells of a grid.
pub const N_CELLS: usize = GRID_SIDE * GRID_SIDE;
/// Elements of one grid.
pub const GRID_LEN: usize = N_CELLS * GRID_CHANNELS;

/// Photos between two writes: what a kill costs at most.
const CHUNK: usize = 32;

/// Grids in memory, as f16.
pub struct Grids {
    data: Vec<half::f16>,
    pub n_views: usize,
}

impl Grids {
    /// The grid of one view, (49, 192).
    pub fn get(&self, image: usize, view: usize) -> &[half::f16] {
        let at = (image * self.n_views + view) * GRID_LEN;
        &self.data[at..at + GRID_LEN]
    }

    /// Reads the cache, or computes and writes it when it is absent. `photos` are paths under `images`. Blocks, for
    /// minutes when it has to compute thousands; a computation that was stopped goes on where it was.
    ///
    /// # Errors
    /// When a photo or the backbone cannot be read, or the cache is of another backbone or of other photos.
    pub fn open(
        cache: &Path,
        images: &Path,
        photos: &[&Path],
        n_views: usize,
        backbone: &Path,
    ) -> Result<Grids> {
        let onnx = std::fs::read(backbone).with_context(|| format!("read {}", backbone.display()))?;
        let key = key(&onnx, photos, n_views);
        if !cache.exists() {
            compute(cache, &key, images, photos, n_views, &onnx)?;
        }
        let bytes = std::fs::read(cache).with_context(|| format!("read {}", cache.display()))?;
        let rows = bytes.strip_prefix(&key);
        let rows = rows.filter(|rows| rows.len() == photos.len() * n_views * GRID_LEN * 2).with_context(|| {
            format!(
                "{}: not the grids of these {} photos by this backbone: give another --out, or remove it to compute \
                 it anew",
                cache.display(),
                photos.len()
            )
        })?;
        Ok(Grids { data: halves(rows).collect(), n_views })
    }
}

/// Of the backbone, the photos' names and the views.
fn key(onnx: &[u8], photos: &[&Path], n_views: usize) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(Sha256::digest(onnx));
    hasher.update((n_views as u64).to_le_bytes());
    photos.iter().for_each(|photo| hasher.update(format!("{}\n", photo.display())));
    hasher.finalize().into()
}

fn compute(
    cache: &Path,
    key: &[u8; 32],
    images: &Path,
    photos: &[&Path],
    n_views: usize,
    onnx: &[u8],
) -> Result<()> {
    let onnx = backbone_grid(onnx)?;
    let graphs = Workers::new(|| graph::load("backbone", &onnx))?;
    let partial = cache.with_extension("partial");
    let (mut file, n_there) = open_partial(&partial, key, n_views * GRID_LEN * 2)
        .with_context(|| format!("open {}", partial.display()))?;
    let mut progress = Progress::new("features", n_there, photos.len(), "views");
    let missing: Vec<(usize, &&Path)> = photos.iter().enumerate().skip(n_there).collect();
    for chunk in missing.chunks(CHUNK) {
        let rows = graphs.map(chunk, |graph, (idx, photo)| {
            let image = read_photo(&images.join(photo))?;
            let mut bytes = Vec::with_capacity(n_views * GRID_LEN * 2);
            for view in 0..n_views {
                bytes.extend(grid(&mut **graph, &view_of(&image, view, *idx))?);
            }
            Ok(bytes)
        })?;
        // On the disk before the next rows: a row within the file's length is then a whole one.
        let written = file.write_all(&rows.concat()).and_then(|()| file.sync_data());
        written.with_context(|| format!("write {}", partial.display()))?;
        progress.count(chunk.last().map_or(0, |(idx, _)| idx + 1), chunk.len() * n_views);
    }
    std::fs::rename(&partial, cache).with_context(|| format!("rename to {}", cache.display()))
}

/// The file at the end of the whole rows that a stopped computation has left, and their number; a file of another
/// key is emptied.
fn open_partial(partial: &Path, key: &[u8; 32], row_bytes: usize) -> std::io::Result<(File, usize)> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(partial)?;
    let mut found = Vec::new();
    Read::by_ref(&mut file).take(key.len() as u64).read_to_end(&mut found)?;
    if found != key {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(key)?;
    }
    let n_rows = (file.metadata()?.len() - key.len() as u64) / row_bytes as u64;
    file.set_len(key.len() as u64 + n_rows * row_bytes as u64)?;
    file.seek(SeekFrom::End(0))?;
    Ok((file, n_rows as usize))
}

/// View 0 whole, 1 mirrored, the rest random crops of 40 to 100 % of the area, mirrored half of the time. The
/// aspect is jittered widely, since many training photos were squeezed to squares.
fn view_of(image: &RgbImage, view: usize, image_idx: usize) -> RgbImage {
    match view {
        0 => image.clone(),
        1 => flip_horizontal(image),
        _ => {
            let mut rng = step_rng(view as u64, image_idx);
            let (w, h) = (image.width() as f32, image.height() as f32);
            let area: f32 = rng.random_range(0.4..1.0);
            let aspect = rng.random_range((2.0f32 / 3.0).ln()..1.5f32.ln()).exp();
            let crop_w = (w * (area * aspect).sqrt()).min(w);
            let crop_h = (h * (area / aspect).sqrt()).min(h);
            let x = rng.random_range(0.0..=w - crop_w);
            let y = rng.random_range(0.0..=h - crop_h);
            let crop = crop_imm(image, x as u32, y as u32, crop_w as u32, crop_h as u32).to_image();
            if rng.random() { flip_horizontal(&crop) } else { crop }
        }
    }
}

/// One run of the backbone, as little-endian f16 bytes, cells row-major.
fn grid(graph: &mut dyn Graph, pixels: &RgbImage) -> Result<Vec<u8>> {
    let input = caption::preprocess(pixels, &crate::bundle::preprocess_settings(INPUT_SIDE));
    let outputs = graph.run(&[("image", input.view())])?;
    let channels_first = outputs[0].as_f32().context("the grid is not f32")?;
    let mut bytes = Vec::with_capacity(GRID_LEN * 2);
    for cell in 0..N_CELLS {
        for channel in 0..GRID_CHANNELS {
            bytes.extend(half::f16::from_f32(channels_first[channel * N_CELLS + cell]).to_le_bytes());
        }
    }
    Ok(bytes)
}
