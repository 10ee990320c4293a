//! Grids of the frozen backbone for every photo and view, computed once by the daemon's own engine.
//!
//! The file holds f16 rows: image-major, view-minor, each a 7x7 grid of 192 channels, cells row-major. View 0 is
//! the whole photo as the daemon sees it, view 1 its mirror image, the rest random crops.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use engine::Graph;
use image::RgbImage;
use image::imageops::{crop_imm, flip_horizontal};
use rand::Rng;

use crate::data::{halves, read_photo};
use crate::export::image::backbone_grid;
use crate::graph;
use crate::model::{GRID_CHANNELS, GRID_SIDE};
use crate::training::step_rng;
use crate::workers::Workers;

/// Cells of a grid.
pub const N_CELLS: usize = GRID_SIDE * GRID_SIDE;
/// Elements of one grid.
pub const GRID_LEN: usize = N_CELLS * GRID_CHANNELS;

/// Photos between two writes.
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

    /// Reads the cache, or computes and writes it when it is absent.
    pub fn open(cache: &Path, photos: &[PathBuf], n_views: usize, backbone: &Path) -> Result<Grids> {
        if !cache.exists() {
            compute(cache, photos, n_views, backbone)?;
        }
        let bytes = std::fs::read(cache).with_context(|| format!("read {}", cache.display()))?;
        let expected = photos.len() * n_views * GRID_LEN * 2;
        ensure!(
            bytes.len() == expected,
            "{}: {} bytes, expected {expected} for {} photos in {n_views} views: remove it to compute it anew",
            cache.display(),
            bytes.len(),
            photos.len()
        );
        let data = halves(&bytes).collect();
        Ok(Grids { data, n_views })
    }
}

fn compute(cache: &Path, photos: &[PathBuf], n_views: usize, backbone: &Path) -> Result<()> {
    let onnx = std::fs::read(backbone).with_context(|| format!("read {}", backbone.display()))?;
    let onnx = backbone_grid(&onnx)?;
    let graphs = Workers::new(|| graph::load("backbone", &onnx))?;
    let partial = cache.with_extension("partial");
    let mut file =
        BufWriter::new(File::create(&partial).with_context(|| format!("create {}", partial.display()))?);
    let mut progress = crate::training::Progress::new("features", 0, photos.len(), "views");
    let photos: Vec<(usize, &PathBuf)> = photos.iter().enumerate().collect();
    for chunk in photos.chunks(CHUNK) {
        let rows = graphs.map(chunk, |graph, (idx, photo)| {
            let image = read_photo(photo)?;
            let mut bytes = Vec::with_capacity(n_views * GRID_LEN * 2);
            for view in 0..n_views {
                bytes.extend(grid(&mut **graph, &view_of(&image, view, *idx))?);
            }
            Ok(bytes)
        })?;
        for row in rows {
            file.write_all(&row).with_context(|| format!("write {}", partial.display()))?;
        }
        let last = chunk.last().map_or(0, |(idx, _)| *idx);
        progress.step(last, 0.0, chunk.len() * n_views, 0.0);
    }
    file.into_inner().context("flush")?.sync_all()?;
    std::fs::rename(&partial, cache).with_context(|| format!("rename to {}", cache.display()))?;
    Ok(())
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
    let input = caption::preprocess(pixels, &crate::bundle::preprocess_settings());
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
