//! Painting a layout: photos read, cut, scaled and blended.

use std::path::Path;

use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, flip_horizontal_in_place, resize};
use image::{Rgb, RgbImage};

use super::layout::{Layout, SIDE};
use crate::data::read_photo;
use crate::rect::Rect;

const JPEG_QUALITY: u8 = 90;
/// Distance from a cut-out's centre where it begins to fade, 1 being its edge.
const OPAQUE: f32 = 0.8;

/// The collage of a layout as a JPEG file, 224x224; `images` is the folder of the photos.
///
/// # Errors
/// When a photo cannot be read.
pub fn jpeg(layout: &Layout<'_>, images: &Path) -> Result<Vec<u8>> {
    let background = &layout.background;
    let photo = read_photo(&images.join(&background.photo.image))?;
    let mut canvas = resize(&background.area.cut(&photo), SIDE, SIDE, FilterType::CatmullRom);
    if background.mirrored {
        flip_horizontal_in_place(&mut canvas);
    }
    for placed in &layout.objects {
        let cut = placed.area.cut(&read_photo(&images.join(&placed.photo.image))?);
        let side = |px: f32| (px.round() as u32).max(1);
        let (width, height) = (side(placed.place.width()), side(placed.place.height()));
        let mut cut = resize(&cut, width, height, FilterType::CatmullRom);
        if placed.mirrored {
            flip_horizontal_in_place(&mut cut);
        }
        paste(&mut canvas, &cut, &placed.place);
    }
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    canvas.write_with_encoder(encoder).context("encode a collage")?;
    Ok(bytes)
}

/// Blends `cut` into the canvas with its upper left corner at that of `place`; what is outside is left out.
fn paste(canvas: &mut RgbImage, cut: &RgbImage, place: &Rect) {
    let (left, top) = (place.left.round() as i64, place.top.round() as i64);
    // From -1 at one edge of the cut-out to 1 at the other.
    let across = |at: u32, side: u32| 2.0 * (at as f32 + 0.5) / side as f32 - 1.0;
    for (x, y, pixel) in cut.enumerate_pixels() {
        let to = (u32::try_from(left + i64::from(x)), u32::try_from(top + i64::from(y)));
        if let (Ok(to_x), Ok(to_y)) = to
            && let Some(under) = canvas.get_pixel_mut_checked(to_x, to_y)
        {
            let opacity = opacity(across(x, cut.width()), across(y, cut.height()));
            *under = blend(*under, *pixel, opacity);
        }
    }
}

/// 1 within, 0 at the edge, without a step, over a square with round corners: `x` and `y` from -1 to 1.
fn opacity(x: f32, y: f32) -> f32 {
    let distance = (x.powi(4) + y.powi(4)).powf(0.25);
    let inside = ((1.0 - distance) / (1.0 - OPAQUE)).clamp(0.0, 1.0);
    inside * inside * (3.0 - 2.0 * inside)
}

fn blend(under: Rgb<u8>, over: Rgb<u8>, opacity: f32) -> Rgb<u8> {
    let mix = |under: u8, over: u8| f32::from(under) + opacity * (f32::from(over) - f32::from(under));
    Rgb(std::array::from_fn(|channel| mix(under.0[channel], over.0[channel]).round() as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_out_covers_its_middle_and_fades_at_its_edge() {
        let mut canvas = RgbImage::from_pixel(60, 60, Rgb([0, 0, 0]));
        let cut = RgbImage::from_pixel(40, 40, Rgb([200, 200, 200]));
        paste(&mut canvas, &cut, &Rect::new(10.0, 10.0, 40.0, 40.0));
        let level = |x, y| canvas.get_pixel(x, y).0[0];
        assert_eq!(level(30, 30), 200);
        assert_eq!(level(5, 30), 0);
        assert!(level(10, 30) < 20, "the edge has {}", level(10, 30));
        assert!((20..180).contains(&level(12, 30)), "beside the edge is {}", level(12, 30));
    }

    #[test]
    fn what_lies_outside_of_the_canvas_is_left_out() {
        let mut canvas = RgbImage::from_pixel(20, 20, Rgb([0, 0, 0]));
        let cut = RgbImage::from_pixel(30, 30, Rgb([200, 200, 200]));
        paste(&mut canvas, &cut, &Rect::new(-20.0, 10.0, 30.0, 30.0));
        assert_eq!(canvas.get_pixel(0, 19).0, [200; 3]);
        assert_eq!(canvas.get_pixel(19, 0).0, [0; 3]);
    }
}
