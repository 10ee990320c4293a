//! Camera bytes to pixels: MJPG and YUYV. Pure; the bytes are not trusted.

use image::RgbImage;

use crate::photo::{self, PhotoError};

/// Why a camera's buffer is no image.
#[derive(Debug, thiserror::Error)]
pub enum PixelError {
    #[error(transparent)]
    Photo(#[from] PhotoError),
    #[error("YUYV buffer of {found} bytes is shorter than the {expected} of {width}x{height}")]
    Short { found: usize, expected: usize, width: u32, height: u32 },
    #[error("YUYV lines of {stride} bytes do not hold {width} pixels")]
    Stride { stride: usize, width: u32 },
}

/// An application segment that declares a motion-JPEG frame: the decoder then fills in the standard
/// Huffman tables.
const AVI1: [u8; 9] = [0xFF, 0xE0, 0x00, 0x07, b'A', b'V', b'I', b'1', 0x00];

/// Decodes one motion-JPEG frame.
pub fn decode_mjpg(bytes: &[u8]) -> Result<RgbImage, PixelError> {
    // Many USB cameras leave the Huffman tables out of every frame, as AVI files do.
    if has_huffman_table(bytes) {
        return Ok(photo::decode(bytes)?);
    }
    match bytes {
        [0xFF, 0xD8, rest @ ..] => Ok(photo::decode(&[&[0xFF, 0xD8], &AVI1[..], rest].concat())?),
        _ => Ok(photo::decode(bytes)?),
    }
}

/// Is there a table segment before the image data?
fn has_huffman_table(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let [0xFF, marker, high, low, ..] = *rest {
        match marker {
            0xC4 => return true,
            0xDA => return false,
            _ => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(2 + length.max(2)..).unwrap_or_default();
            }
        }
    }
    false
}

/// Converts packed 4:2:2 (`Y0 U Y1 V`, BT.601, limited range) of lines `stride` bytes apart.
pub fn decode_yuyv(bytes: &[u8], width: u32, height: u32, stride: usize) -> Result<RgbImage, PixelError> {
    let line = width as usize * 2;
    if stride < line || !width.is_multiple_of(2) {
        return Err(PixelError::Stride { stride, width });
    }
    let expected = (height as usize).saturating_sub(1).saturating_mul(stride).saturating_add(line);
    if bytes.len() < expected {
        return Err(PixelError::Short { found: bytes.len(), expected, width, height });
    }
    let mut image = RgbImage::new(width, height);
    for (pixels, line) in image.chunks_exact_mut(width as usize * 3).zip(bytes.chunks(stride)) {
        for (pair, yuyv) in pixels.chunks_exact_mut(6).zip(line.chunks_exact(4)) {
            pair[..3].copy_from_slice(&rgb(yuyv[0], yuyv[1], yuyv[3]));
            pair[3..].copy_from_slice(&rgb(yuyv[2], yuyv[1], yuyv[3]));
        }
    }
    Ok(image)
}

/// BT.601 in 8-bit fixed point.
fn rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let (c, d, e) = (298 * (i32::from(y) - 16), i32::from(u) - 128, i32::from(v) - 128);
    [c + 409 * e, c - 100 * d - 208 * e, c + 516 * d].map(|x| ((x + 128) >> 8).clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn jpeg() -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let image = RgbImage::from_fn(32, 24, |x, y| image::Rgb([(x * 8) as u8, (y * 10) as u8, 90]));
        image.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    fn without_huffman_tables(jpeg: &[u8]) -> Vec<u8> {
        let (mut kept, mut rest) = (jpeg[..2].to_vec(), &jpeg[2..]);
        while rest[1] != 0xDA {
            let length = 2 + usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            if rest[1] != 0xC4 {
                kept.extend(&rest[..length]);
            }
            rest = &rest[length..];
        }
        [kept, rest.to_vec()].concat()
    }

    #[test]
    fn a_frame_without_huffman_tables_decodes_like_one_with_them() {
        let full = jpeg();
        let bare = without_huffman_tables(&full);
        assert!(bare.len() < full.len() && has_huffman_table(&full) && !has_huffman_table(&bare));
        assert_eq!(decode_mjpg(&bare).unwrap(), decode_mjpg(&full).unwrap());
    }

    #[test]
    fn hostile_motion_jpeg_is_an_error() {
        for bytes in [&b""[..], b"\xFF", b"\xFF\xD8", b"\xFF\xD8\xFF\xC0\x00\x00\xFF\xFF", &jpeg()[..40]] {
            assert!(decode_mjpg(bytes).is_err());
        }
    }

    #[test]
    fn converts_the_primary_colors_and_skips_padding() {
        // Two lines of two pixels, six bytes apart.
        let black_white = [16, 128, 235, 128, 7, 7];
        let red = [81, 90, 81, 240];
        let image = decode_yuyv(&[&black_white[..], &red].concat(), 2, 2, 6).unwrap();
        let pixels: Vec<[u8; 3]> = image.pixels().map(|pixel| pixel.0).collect();
        assert_eq!(pixels[..2], [[0, 0, 0], [255, 255, 255]]);
        assert!(pixels[2][0] > 250 && pixels[2][1] < 5 && pixels[2][2] < 5, "{:?}", pixels[2]);
    }

    #[test]
    fn a_short_buffer_or_impossible_stride_is_an_error() {
        assert!(matches!(decode_yuyv(&[0; 15], 4, 2, 8), Err(PixelError::Short { expected: 16, .. })));
        assert!(matches!(decode_yuyv(&[0; 64], 4, 2, 7), Err(PixelError::Stride { .. })));
        assert!(matches!(decode_yuyv(&[0; 64], 3, 2, 8), Err(PixelError::Stride { .. })));
        assert!(decode_yuyv(&[0; 1], u32::MAX - 1, u32::MAX, usize::MAX).is_err());
    }
}
