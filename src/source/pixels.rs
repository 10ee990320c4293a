//! Camera bytes to pixels. Pure; neither the bytes nor the sizes that a driver states are trusted.
//!
//! `color` knows which matrix and range a driver means, `raw` takes uncompressed lines apart, `mjpg`
//! looks a motion-JPEG frame over before it is decoded.

mod color;
mod mjpg;
mod raw;

use std::fmt;

use image::RgbImage;

#[cfg(feature = "rtsp")]
pub(super) use color::Converter;
pub use color::{Color, Matrix, Range};
pub use mjpg::decode_mjpg;

use crate::photo::{DECODED_BYTES_MAX, PhotoError, SIDE_MAX};

/// Why a camera's buffer is no image.
#[derive(Debug, thiserror::Error)]
pub enum PixelError {
    #[error(transparent)]
    Photo(#[from] PhotoError),
    #[error("motion-JPEG frame of {found} bytes {why}")]
    Frame { found: usize, why: &'static str },
    #[error("{format} buffer of {found} bytes is shorter than the {expected} of {width}x{height}")]
    Short { format: PixelFormat, found: usize, expected: usize, width: u32, height: u32 },
    #[error("{format} lines of {stride} bytes do not hold {width} pixels, which take {line}")]
    Stride { format: PixelFormat, stride: usize, width: u32, line: usize },
    #[error("{width}x{height} is no size of a picture")]
    Size { width: u32, height: u32 },
}

/// A pixel format that is understood, by its V4L2 name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PixelFormat {
    Mjpg,
    /// 4:2:0: a plane of Y, then one of `U V` at half the size.
    Nv12,
    /// 4:2:2: `Y0 U Y1 V`.
    Yuyv,
    /// 4:2:2: `U Y0 V Y1`.
    Uyvy,
    Rgb3,
    Bgr3,
    /// Brightness alone.
    Grey,
}

impl PixelFormat {
    pub const ALL: [PixelFormat; 7] = [
        PixelFormat::Mjpg,
        PixelFormat::Nv12,
        PixelFormat::Yuyv,
        PixelFormat::Uyvy,
        PixelFormat::Rgb3,
        PixelFormat::Bgr3,
        PixelFormat::Grey,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            PixelFormat::Mjpg => "MJPG",
            PixelFormat::Nv12 => "NV12",
            PixelFormat::Yuyv => "YUYV",
            PixelFormat::Uyvy => "UYVY",
            PixelFormat::Rgb3 => "RGB3",
            PixelFormat::Bgr3 => "BGR3",
            PixelFormat::Grey => "GREY",
        }
    }

    pub fn fourcc(self) -> [u8; 4] {
        let mut code = [0; 4];
        code.copy_from_slice(self.name().as_bytes());
        code
    }

    /// By its code. Old drivers call MJPG by the name of whole JPEG files, which it is.
    pub fn of(fourcc: [u8; 4]) -> Option<PixelFormat> {
        if fourcc == *b"JPEG" {
            return Some(PixelFormat::Mjpg);
        }
        PixelFormat::ALL.into_iter().find(|format| format.fourcc() == fourcc)
    }

    /// By its name in a configuration.
    pub fn named(name: &str) -> Option<PixelFormat> {
        PixelFormat::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Bytes of one uncompressed frame without padding; none for MJPG.
    pub fn frame_bytes(self, width: u32, height: u32) -> Option<u64> {
        let pixels = u64::from(width) * u64::from(height);
        match self {
            PixelFormat::Mjpg => None,
            PixelFormat::Grey => Some(pixels),
            PixelFormat::Nv12 => Some(pixels + pixels / 2),
            PixelFormat::Yuyv | PixelFormat::Uyvy => Some(pixels * 2),
            PixelFormat::Rgb3 | PixelFormat::Bgr3 => Some(pixels * 3),
        }
    }

    /// Whether the numbers are red, green and blue, or brightness alone, and no color differences:
    /// V4L2 lets these use the full range unless it says otherwise.
    fn is_without_chroma(self) -> bool {
        matches!(self, PixelFormat::Rgb3 | PixelFormat::Bgr3 | PixelFormat::Grey)
    }

    /// The least bytes of one line of `width` pixels. Two pixels share their chroma, so a line of an
    /// odd width has one more.
    fn line_bytes(self, width: u32) -> usize {
        let width = width as usize;
        match self {
            PixelFormat::Mjpg => 0,
            PixelFormat::Grey => width,
            PixelFormat::Nv12 => width.next_multiple_of(2),
            PixelFormat::Yuyv | PixelFormat::Uyvy => width.next_multiple_of(2) * 2,
            PixelFormat::Rgb3 | PixelFormat::Bgr3 => width * 3,
        }
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the bytes of a buffer make an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    format: PixelFormat,
    width: u32,
    height: u32,
    /// Bytes from line to line.
    stride: usize,
    color: Color,
}

impl Layout {
    /// Checks what a driver states. A `stride` of zero, which some drivers leave where lines are not
    /// padded, is the least one.
    ///
    /// # Errors
    /// When the size is none of a picture, or a line does not fit its stride.
    pub fn new(
        format: PixelFormat,
        (width, height): (u32, u32),
        stride: u32,
        color: Color,
    ) -> Result<Layout, PixelError> {
        let sides = 1..=SIDE_MAX;
        let decoded = u64::from(width) * u64::from(height) * 3;
        if !sides.contains(&width) || !sides.contains(&height) || decoded > DECODED_BYTES_MAX {
            return Err(PixelError::Size { width, height });
        }
        let line = format.line_bytes(width);
        let stride = if stride == 0 { line } else { stride as usize };
        if stride < line {
            return Err(PixelError::Stride { format, stride, width, line });
        }
        Ok(Layout { format, width, height, stride, color })
    }

    pub fn format(&self) -> PixelFormat {
        self.format
    }

    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Makes an image of one buffer; a motion-JPEG frame has the size that it states itself.
    ///
    /// # Errors
    /// When the buffer is too short for the size, or is no whole motion-JPEG frame.
    pub fn decode(&self, bytes: &[u8]) -> Result<RgbImage, PixelError> {
        match self.format {
            PixelFormat::Mjpg => decode_mjpg(bytes),
            _ => raw::decode(self, bytes),
        }
    }
}

#[cfg(test)]
mod tests;
