//! Motion-JPEG frames: what is wrong with them, and decoding of those that are whole.

use image::RgbImage;

use super::PixelError;
use crate::photo;

/// An application segment that declares a motion-JPEG frame: the decoder then fills in the standard
/// Huffman tables.
const AVI1: [u8; 9] = [0xFF, 0xE0, 0x00, 0x07, b'A', b'V', b'I', b'1', 0x00];

const START: [u8; 2] = [0xFF, 0xD8];
const END: u8 = 0xD9;
const HUFFMAN_TABLE: u8 = 0xC4;
const SCAN: u8 = 0xDA;

/// Decodes one motion-JPEG frame.
///
/// # Errors
/// When the frame is cut short, damaged, or no JPEG.
pub fn decode_mjpg(bytes: &[u8]) -> Result<RgbImage, PixelError> {
    let survey = survey(bytes).map_err(|why| PixelError::Frame { found: bytes.len(), why })?;
    // Many USB cameras leave the Huffman tables out of every frame, as AVI files do.
    match bytes.strip_prefix(&START) {
        Some(rest) if !survey.has_huffman_table => Ok(photo::decode(&[&START, &AVI1[..], rest].concat())?),
        _ => Ok(photo::decode(bytes)?),
    }
}

struct Survey {
    has_huffman_table: bool,
}

/// Walks from segment to segment. The decoder paints what is missing of a frame gray instead of
/// refusing it, and a caption of half a picture is a wrong one: so a frame must have its end.
fn survey(bytes: &[u8]) -> Result<Survey, &'static str> {
    const CUT: &str = "is cut short";
    let mut rest = bytes.strip_prefix(&START).ok_or("does not begin as a JPEG does")?;
    let mut survey = Survey { has_huffman_table: false };
    let mut has_scan = false;
    loop {
        rest = match *rest {
            [0xFF, END, ..] if has_scan => return Ok(survey),
            [0xFF, END, ..] => return Err("holds no picture"),
            // A marker may be preceded by any number of these, and cameras leave rubbish between segments.
            [0xFF, 0xFF | 0x00, ..] => rest.get(1..).ok_or(CUT)?,
            [0xFF, marker, high, low, ..] => {
                if has_scan && !may_follow_a_scan(marker) {
                    return Err("is damaged");
                }
                let length = usize::from(u16::from_be_bytes([high, low]));
                let after = rest.get(2 + length.max(2)..).ok_or(CUT)?;
                survey.has_huffman_table |= marker == HUFFMAN_TABLE;
                has_scan |= marker == SCAN;
                if marker == SCAN { after_scan(after).ok_or(CUT)? } else { after }
            }
            [0xFF, ..] | [] => return Err(CUT),
            _ => rest.get(1..).ok_or(CUT)?,
        };
    }
}

/// Tables, another scan of a progressive picture, the number of lines, comments, application data.
fn may_follow_a_scan(marker: u8) -> bool {
    matches!(marker, 0xC4 | 0xDA..=0xDD | 0xE0..=0xEF | 0xFE)
}

/// From the marker that ends the coded data; in it, 0xFF is followed by a zero or is a restart marker.
fn after_scan(bytes: &[u8]) -> Option<&[u8]> {
    let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7 | 0xFF);
    bytes.get(bytes.windows(2).position(is_marker)?..)
}
