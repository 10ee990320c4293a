//! Uncompressed lines to RGB.

use image::RgbImage;

use super::color::Converter;
use super::{Layout, PixelError, PixelFormat};

/// Bytes of a pixel of the image that comes out.
const RGB: usize = 3;

/// Makes an image of a buffer in any format but MJPG.
pub(super) fn decode(layout: &Layout, bytes: &[u8]) -> Result<RgbImage, PixelError> {
    let Layout { format, width, height, stride, color } = *layout;
    let expected = expected_bytes(layout);
    if bytes.len() < expected {
        return Err(PixelError::Short { format, found: bytes.len(), expected, width, height });
    }
    let converter = Converter::new(color);
    let mut image = RgbImage::new(width, height);
    // V4L2 puts the plane of NV12's chroma right behind the last line of Y, padding included.
    let chroma = bytes.get(stride.saturating_mul(height as usize)..).unwrap_or_default();
    let lines = image.chunks_exact_mut(width as usize * RGB).zip(bytes.chunks(stride));
    for (y, (pixels, line)) in lines.enumerate() {
        match format {
            PixelFormat::Mjpg => {}
            PixelFormat::Grey => gray(&converter, pixels, line),
            PixelFormat::Rgb3 => rgb(&converter, pixels, line, |[r, g, b]| [r, g, b]),
            PixelFormat::Bgr3 => rgb(&converter, pixels, line, |[b, g, r]| [r, g, b]),
            PixelFormat::Yuyv => packed(&converter, pixels, line, |[y0, u, y1, v]| (y0, y1, u, v)),
            PixelFormat::Uyvy => packed(&converter, pixels, line, |[u, y0, v, y1]| (y0, y1, u, v)),
            PixelFormat::Nv12 => {
                let line_of_chroma = chroma.get(y / 2 * stride..).unwrap_or_default();
                planar(&converter, pixels, line, line_of_chroma);
            }
        }
    }
    Ok(image)
}

/// The least length of a buffer: the last line needs no padding.
fn expected_bytes(layout: &Layout) -> usize {
    let (height, stride) = (layout.height as usize, layout.stride);
    let lines = match layout.format {
        PixelFormat::Nv12 => height + height.div_ceil(2),
        _ => height,
    };
    (lines - 1).saturating_mul(stride).saturating_add(layout.format.line_bytes(layout.width))
}

fn gray(converter: &Converter, pixels: &mut [u8], line: &[u8]) {
    for (pixel, y) in pixels.chunks_exact_mut(RGB).zip(line) {
        pixel.fill(converter.level(*y));
    }
}

fn rgb(converter: &Converter, pixels: &mut [u8], line: &[u8], order: impl Fn([u8; 3]) -> [u8; 3]) {
    let (triples, _) = line.as_chunks::<RGB>();
    for (pixel, triple) in pixels.chunks_exact_mut(RGB).zip(triples) {
        pixel.copy_from_slice(&order(triple.map(|x| converter.level(x))));
    }
}

/// Two pixels of four bytes; `order` gives them as Y, Y, U, V.
fn packed(
    converter: &Converter,
    pixels: &mut [u8],
    line: &[u8],
    order: impl Fn([u8; 4]) -> (u8, u8, u8, u8),
) {
    let (quads, _) = line.as_chunks::<4>();
    for (pair, quad) in pixels.chunks_mut(2 * RGB).zip(quads) {
        let (y0, y1, u, v) = order(*quad);
        for (pixel, y) in pair.chunks_exact_mut(RGB).zip([y0, y1]) {
            pixel.copy_from_slice(&converter.rgb(y, u, v));
        }
    }
}

/// A line of Y and the line of `U V` that two lines share.
fn planar(converter: &Converter, pixels: &mut [u8], line: &[u8], chroma: &[u8]) {
    let (differences, _) = chroma.as_chunks::<2>();
    for ((pair, ys), [u, v]) in pixels.chunks_mut(2 * RGB).zip(line.chunks(2)).zip(differences) {
        for (pixel, y) in pair.chunks_exact_mut(RGB).zip(ys) {
            pixel.copy_from_slice(&converter.rgb(*y, *u, *v));
        }
    }
}
