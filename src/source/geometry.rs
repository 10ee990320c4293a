//! What is done to every picture before anything else sees it: it is turned upright, private areas are blacked out,
//! and what is not wanted is cut off. Pure.
//!
//! This runs on the capture thread, between decoding and the inbox: neither the gate nor the model nor anything that
//! shows or keeps a picture ever holds a pixel of a private area.

use std::fmt;
use std::ops::Range;

use image::{RgbImage, imageops};

/// How far beyond a private area's edge pixels are blacked out, too: what a camera or a codec smears over the edge.
const MARGIN_PX: f32 = 1.5;

/// Turns, private areas and the part that is kept. All places are fractions of the picture as it is after turning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Geometry {
    pub rotation: Rotation,
    /// Left and right are exchanged, after the rotation.
    pub mirror: bool,
    pub masks: Vec<Polygon>,
    /// What is kept; without one all of it.
    pub crop: Option<Area>,
}

/// Clockwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    #[default]
    None,
    Quarter,
    Half,
    ThreeQuarters,
}

impl Rotation {
    pub fn of_degrees(degrees: u64) -> Option<Rotation> {
        Some(match degrees {
            0 => Rotation::None,
            90 => Rotation::Quarter,
            180 => Rotation::Half,
            270 => Rotation::ThreeQuarters,
            _ => return None,
        })
    }
}

/// A private area: at least three corners, each 0 to 1 from the left and from the top. Where its edges cross each
/// other all that they enclose is private.
#[derive(Clone, Debug, PartialEq)]
pub struct Polygon(Vec<[f32; 2]>);

impl Polygon {
    /// None unless there are at least three corners, all within the picture.
    pub fn new(corners: Vec<[f32; 2]>) -> Option<Polygon> {
        let inside = corners.iter().flatten().all(|at| (0.0..=1.0).contains(at));
        (corners.len() >= 3 && inside).then_some(Polygon(corners))
    }
}

/// A rectangle: left, top, width, height, each 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area([f32; 4]);

impl Area {
    /// None unless it lies within the picture and is not empty.
    pub fn new(sides: [f32; 4]) -> Option<Area> {
        let [left, top, width, height] = sides;
        let inside = sides.iter().all(|side| (0.0..=1.0).contains(side))
            && left + width <= 1.0 + f32::EPSILON
            && top + height <= 1.0 + f32::EPSILON;
        (inside && width > 0.0 && height > 0.0).then_some(Area(sides))
    }

    /// In pixels: left, top, width, height; at least one pixel.
    fn pixels(&self, (width, height): (u32, u32)) -> [u32; 4] {
        let along = |start: f32, length: f32, side: u32| {
            let first = ((start * side as f32).round() as u32).min(side.saturating_sub(1));
            let n = ((length * side as f32).round() as u32).clamp(1, (side - first).max(1));
            (first, n)
        };
        let [left, top, w, h] = self.0;
        let ((x, n_x), (y, n_y)) = (along(left, w, width), along(top, h, height));
        [x, y, n_x, n_y]
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        match self.rotation {
            Rotation::None => {}
            Rotation::Quarter => said.push("turned by 90 degrees".to_owned()),
            Rotation::Half => said.push("turned by 180 degrees".to_owned()),
            Rotation::ThreeQuarters => said.push("turned by 270 degrees".to_owned()),
        }
        if self.mirror {
            said.push("mirrored".to_owned());
        }
        if !self.masks.is_empty() {
            said.push(format!("{} private areas", self.masks.len()));
        }
        if let Some(Area([left, top, width, height])) = self.crop {
            said.push(format!("cut to {width} x {height} at {left}, {top}"));
        }
        f.write_str(&if said.is_empty() { "the whole picture".to_owned() } else { said.join(", ") })
    }
}

/// Applies a geometry to the pictures of one camera.
#[derive(Debug)]
pub struct Darkroom {
    geometry: Geometry,
    /// The pixels to black out, for pictures of one size.
    stencil: Option<((u32, u32), Stencil)>,
}

/// Ranges of columns, one list a row.
type Stencil = Vec<Vec<Range<u32>>>;

impl Darkroom {
    pub fn new(geometry: Geometry) -> Darkroom {
        Darkroom { geometry, stencil: None }
    }

    /// The picture that the rest of the daemon may see.
    pub fn develop(&mut self, image: RgbImage) -> RgbImage {
        let mut image = self.turn(image);
        self.mask(&mut image);
        match self.geometry.crop {
            None => image,
            Some(area) => {
                let [x, y, width, height] = area.pixels(image.dimensions());
                imageops::crop_imm(&image, x, y, width, height).to_image()
            }
        }
    }

    fn turn(&self, image: RgbImage) -> RgbImage {
        let mut image = match self.geometry.rotation {
            Rotation::None => image,
            Rotation::Quarter => imageops::rotate90(&image),
            Rotation::Half => imageops::rotate180(&image),
            Rotation::ThreeQuarters => imageops::rotate270(&image),
        };
        if self.geometry.mirror {
            imageops::flip_horizontal_in_place(&mut image);
        }
        image
    }

    fn mask(&mut self, image: &mut RgbImage) {
        if self.geometry.masks.is_empty() {
            return;
        }
        let size = image.dimensions();
        if self.stencil.as_ref().is_none_or(|(of, _)| *of != size) {
            self.stencil = Some((size, stencil(&self.geometry.masks, size)));
        }
        let Some((_, stencil)) = &self.stencil else { return };
        let row_len = size.0 as usize * 3;
        for (pixels, ranges) in image.chunks_exact_mut(row_len.max(1)).zip(stencil) {
            for range in ranges {
                pixels[range.start as usize * 3..range.end as usize * 3].fill(0);
            }
        }
    }
}

/// Every pixel that a polygon touches, and [`MARGIN_PX`] around it.
fn stencil(masks: &[Polygon], (width, height): (u32, u32)) -> Stencil {
    let mut rows: Stencil = vec![Vec::new(); height as usize];
    for Polygon(corners) in masks {
        let corners: Vec<[f32; 2]> =
            corners.iter().map(|[x, y]| [x * width as f32, y * height as f32]).collect();
        for (y, row) in rows.iter_mut().enumerate() {
            inside(&corners, y as f32 + 0.5, width, row);
            for (i, from) in corners.iter().enumerate() {
                row.extend(near_edge(*from, corners[(i + 1) % corners.len()], y as f32, width));
            }
        }
    }
    rows.into_iter().map(merged).collect()
}

/// The pixels of the line at `y` whose centre the corners wind around (non-zero rule).
fn inside(corners: &[[f32; 2]], y: f32, width: u32, row: &mut Vec<Range<u32>>) {
    let mut crossings: Vec<(f32, i32)> = Vec::new();
    for (i, [x0, y0]) in corners.iter().copied().enumerate() {
        let [x1, y1] = corners[(i + 1) % corners.len()];
        if (y0 <= y) != (y1 <= y) {
            let at = x0 + (y - y0) / (y1 - y0) * (x1 - x0);
            crossings.push((at, if y0 <= y { 1 } else { -1 }));
        }
    }
    crossings.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut winding = 0;
    for (i, (at, turn)) in crossings.iter().enumerate() {
        winding += turn;
        if winding != 0
            && let Some((until, _)) = crossings.get(i + 1)
        {
            row.extend(columns(*at, *until, width));
        }
    }
}

/// The pixels of row `row` that the edge passes within [`MARGIN_PX`].
fn near_edge(from: [f32; 2], to: [f32; 2], row: f32, width: u32) -> Option<Range<u32>> {
    let (low, high) = (row - MARGIN_PX, row + 1.0 + MARGIN_PX);
    let (upper, lower) = if from[1] <= to[1] { (from, to) } else { (to, from) };
    if lower[1] < low || upper[1] > high {
        return None;
    }
    let rise = lower[1] - upper[1];
    let at = |y: f32| upper[0] + (y - upper[1]) / rise * (lower[0] - upper[0]);
    let (a, b) = if rise > f32::EPSILON {
        (at(low.max(upper[1])), at(high.min(lower[1])))
    } else {
        (upper[0], lower[0])
    };
    columns(a.min(b) - MARGIN_PX, a.max(b) + MARGIN_PX, width)
}

/// Whole columns that hold `from` to `until`.
fn columns(from: f32, until: f32, width: u32) -> Option<Range<u32>> {
    let start = from.floor().clamp(0.0, width as f32) as u32;
    let end = until.ceil().clamp(0.0, width as f32) as u32;
    (start < end).then_some(start..end)
}

fn merged(mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u32>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
