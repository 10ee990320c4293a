//! Objects in photos, by YOLOX-Nano (Ge et al. 2021) in the daemon's own engine.
//!
//! What becomes of the objects does not belong here.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use engine::{Graph, TensorView};
use image::RgbImage;
use image::imageops::{FilterType, resize};

use crate::graph;
use crate::rect::Rect;

/// Side of the detector's square input, in pixels.
const SIDE: usize = 416;
/// Pixels between neighbouring cells of the three output grids, in the order of the output's rows.
const STRIDES: [usize; 3] = [8, 16, 32];
/// Level of the bars that make a photo square, as in the detector's training.
const BAR: f32 = 114.0;
/// Least product of objectness and class probability.
pub const SCORE_MIN: f32 = 0.35;
/// Of two boxes of one class with more overlap than this, the one with the lower score goes.
pub const IOU_MAX: f32 = 0.45;
/// Elements of a row before the class probabilities: centre x and y, width, height, objectness.
const N_BOX: usize = 5;

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Index of its class among the labels.
    pub class: usize,
    /// Objectness times class probability, [`SCORE_MIN`] to 1.
    pub score: f32,
    /// In pixels of the photo, within it.
    pub area: Rect,
}

/// A loaded detector, owned by one thread.
pub struct Detector {
    graph: Box<dyn Graph>,
    input: String,
    n_classes: usize,
}

impl Detector {
    /// Loads the ONNX graph `onnx`: input f32 (1, 3, 416, 416), output f32 (1, 3549, 5 + `n_classes`). Blocks.
    ///
    /// # Errors
    /// When the engine cannot run it.
    pub fn load(onnx: &[u8], n_classes: usize) -> Result<Detector> {
        let graph = graph::load("detector", onnx)?;
        let input = graph.signature().inputs.first().context("the detector has no input")?.name.clone();
        Ok(Detector { graph, input, n_classes })
    }

    /// The objects of a photo, best score first. Blocks for one run.
    ///
    /// # Errors
    /// When the photo has no pixels, or the run fails or gives another shape.
    pub fn detect(&mut self, photo: &RgbImage) -> Result<Vec<Detection>> {
        ensure!(photo.width() > 0 && photo.height() > 0, "detect objects: the photo has no pixels");
        let (pixels, scale) = letterbox(photo);
        let view = TensorView::F32 { shape: &[1, 3, SIDE, SIDE], data: &pixels };
        let outputs = self.graph.run(&[(self.input.as_str(), view)])?;
        let rows =
            outputs.first().and_then(|rows| rows.as_f32()).context("the detector's output is not f32")?;
        let mut found = decode(rows, self.n_classes)?;
        for detection in &mut found {
            let Rect { left, top, right, bottom } = detection.area;
            let area =
                Rect { left: left / scale, top: top / scale, right: right / scale, bottom: bottom / scale };
            detection.area = area.within(photo.width(), photo.height());
        }
        // A box that lies in the bars alone.
        found.retain(|detection| detection.area.area() > 0.0);
        Ok(suppress(found))
    }
}

/// The names of the detector's classes, in their order: one a line.
///
/// # Errors
/// When the file cannot be read or is empty.
pub fn labels(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let labels: Vec<String> =
        text.lines().map(|line| line.trim().to_owned()).filter(|label| !label.is_empty()).collect();
    ensure!(!labels.is_empty(), "{} names no class", path.display());
    Ok(labels)
}

/// The photo in the upper left corner of a square with bars: levels 0 to 255, planes blue, green, red; and how
/// many of the square's pixels make one of the photo's.
fn letterbox(photo: &RgbImage) -> (Vec<f32>, f32) {
    let scale = SIDE as f32 / photo.width().max(photo.height()) as f32;
    let scaled = |side: u32| ((side as f32 * scale) as u32).clamp(1, SIDE as u32);
    let resized = resize(photo, scaled(photo.width()), scaled(photo.height()), FilterType::Triangle);
    let mut planes = vec![BAR; 3 * SIDE * SIDE];
    for (x, y, pixel) in resized.enumerate_pixels() {
        for (plane, channel) in [2, 1, 0].into_iter().enumerate() {
            planes[(plane * SIDE + y as usize) * SIDE + x as usize] = f32::from(pixel.0[channel]);
        }
    }
    (planes, scale)
}

/// Boxes in pixels of the square, from rows (3549, 5 + `n_classes`): grids from fine to coarse, cells row-major.
/// Each cell gives at most its best class.
fn decode(rows: &[f32], n_classes: usize) -> Result<Vec<Detection>> {
    let n_cells: usize = STRIDES.iter().map(|stride| (SIDE / stride).pow(2)).sum();
    ensure!(
        rows.len() == n_cells * (N_BOX + n_classes),
        "decode detections: {} elements are not {n_cells} rows for {n_classes} classes",
        rows.len()
    );
    let cells = STRIDES.into_iter().flat_map(|stride| {
        let n = SIDE / stride;
        (0..n * n).map(move |cell| ((cell % n) as f32, (cell / n) as f32, stride as f32))
    });
    let mut found = Vec::new();
    for (row, (x, y, stride)) in rows.chunks_exact(N_BOX + n_classes).zip(cells) {
        let (place, classes) = row.split_at(N_BOX);
        let best = classes.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let Some((class, probability)) = best else { continue };
        let score = place[4] * probability;
        if score >= SCORE_MIN {
            let (width, height) = (place[2].exp() * stride, place[3].exp() * stride);
            let (left, top) = ((place[0] + x) * stride - width / 2.0, (place[1] + y) * stride - height / 2.0);
            found.push(Detection { class, score, area: Rect::new(left, top, width, height) });
        }
    }
    Ok(found)
}

/// Non-maximum suppression within each class; best score first.
fn suppress(mut found: Vec<Detection>) -> Vec<Detection> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Detection> = Vec::new();
    for detection in found {
        let hides = |better: &Detection| {
            better.class == detection.class && better.area.iou(&detection.area) > IOU_MAX
        };
        if !kept.iter().any(hides) {
            kept.push(detection);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    const N_CLASSES: usize = 3;
    const N_CELLS: usize = 52 * 52 + 26 * 26 + 13 * 13;

    /// Rows that find nothing but what `cells` say: index of the row and its elements.
    fn rows(cells: &[(usize, [f32; N_BOX + N_CLASSES])]) -> Vec<f32> {
        let mut rows = vec![0.0; N_CELLS * (N_BOX + N_CLASSES)];
        for (idx, row) in cells {
            rows[idx * row.len()..(idx + 1) * row.len()].copy_from_slice(row);
        }
        rows
    }

    fn detection(class: usize, score: f32, area: Rect) -> Detection {
        Detection { class, score, area }
    }

    #[test]
    fn a_cell_gives_a_box_around_its_own_place_in_units_of_its_stride() {
        // Column 3, row 2 of the grid of stride 16.
        let idx = 52 * 52 + 2 * 26 + 3;
        let row = [0.5, 0.25, 2f32.ln(), 4f32.ln(), 0.9, 0.1, 0.8, 0.2];
        let found = decode(&rows(&[(idx, row)]), N_CLASSES).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].class, 1);
        assert!((found[0].score - 0.72).abs() < 1e-6);
        let Rect { left, top, right, bottom } = found[0].area;
        for (value, expected) in [(left, 40.0), (top, 4.0), (right, 72.0), (bottom, 68.0)] {
            assert!((value - expected).abs() < 1e-3, "{:?}", found[0].area);
        }
    }

    #[test]
    fn a_sure_class_in_an_unsure_box_is_not_found() {
        let row = [0.0, 0.0, 0.0, 0.0, 0.3, 1.0, 0.0, 0.0];
        assert!(decode(&rows(&[(0, row)]), N_CLASSES).unwrap().is_empty());
    }

    #[test]
    fn an_output_of_another_shape_is_refused() {
        let error = decode(&[0.0; 80], N_CLASSES).unwrap_err().to_string();
        assert!(error.contains("3549 rows"), "{error}");
    }

    #[test]
    fn of_boxes_on_one_thing_the_best_of_each_class_stays() {
        let area = Rect::new(10.0, 10.0, 100.0, 100.0);
        let near = Rect::new(15.0, 10.0, 100.0, 100.0);
        let far = Rect::new(80.0, 10.0, 100.0, 100.0);
        let all = vec![
            detection(0, 0.5, area),
            detection(0, 0.9, near),
            detection(1, 0.6, area),
            detection(0, 0.4, far),
        ];
        let kept: Vec<(usize, f32)> = suppress(all).into_iter().map(|d| (d.class, d.score)).collect();
        assert_eq!(kept, [(0, 0.9), (1, 0.6), (0, 0.4)]);
    }

    #[test]
    fn a_photo_is_fitted_into_the_upper_left_corner_as_blue_green_red() {
        let photo = RgbImage::from_pixel(208, 104, Rgb([10, 20, 30]));
        let (planes, scale) = letterbox(&photo);
        assert!((scale - 2.0).abs() < 1e-6);
        let at = |plane: usize, x: usize, y: usize| planes[(plane * SIDE + y) * SIDE + x];
        for (plane, level) in [30.0, 20.0, 10.0].into_iter().enumerate() {
            assert!((at(plane, 415, 207) - level).abs() < 1e-3, "plane {plane}");
            assert!((at(plane, 0, 208) - BAR).abs() < 1e-3, "the bar of plane {plane}");
        }
    }
}
