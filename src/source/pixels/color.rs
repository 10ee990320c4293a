//! Which red, green and blue a triple of Y, Cb and Cr stands for.

use super::PixelFormat;

/// The weights of red and blue in Y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// ITU-R BT.601: most USB cameras, and every JPEG.
    Bt601,
    /// ITU-R BT.709: many HD cameras and HDMI grabbers.
    Bt709,
    /// ITU-R BT.2020; the rare variant of constant luminance is read as this one.
    Bt2020,
    Smpte240m,
}

impl Matrix {
    /// `Kr` and `Kb` of the standard.
    fn weights(self) -> (f64, f64) {
        match self {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
            Matrix::Bt2020 => (0.2627, 0.0593),
            Matrix::Smpte240m => (0.212, 0.087),
        }
    }
}

/// Which numbers are black and white.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// 0 to 255.
    Full,
    /// 16 to 235, color differences 16 to 240.
    Limited,
}

/// How a driver means its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color {
    pub matrix: Matrix,
    pub range: Range,
}

// `enum v4l2_colorspace`, `v4l2_ycbcr_encoding` and `v4l2_quantization` of `linux/videodev2.h`.
const COLORSPACE_SMPTE240M: u32 = 2;
const COLORSPACE_REC709: u32 = 3;
const COLORSPACE_JPEG: u32 = 7;
const COLORSPACE_BT2020: u32 = 10;
const COLORSPACE_DCI_P3: u32 = 12;
const YCBCR_DEFAULT: u32 = 0;
const YCBCR_709: u32 = 2;
const YCBCR_XV709: u32 = 4;
const YCBCR_BT2020: u32 = 6;
const YCBCR_BT2020_CONST_LUM: u32 = 7;
const YCBCR_SMPTE240M: u32 = 8;
const QUANTIZATION_FULL: u32 = 1;
const QUANTIZATION_LIMITED: u32 = 2;

impl Color {
    /// From the fields of `v4l2_pix_format`. Zeros, and numbers that are not known, stand for the
    /// defaults that `V4L2_MAP_YCBCR_ENC_DEFAULT` and `V4L2_MAP_QUANTIZATION_DEFAULT` document.
    pub fn of_driver(format: PixelFormat, colorspace: u32, ycbcr_enc: u32, quantization: u32) -> Color {
        let matrix = match (ycbcr_enc, colorspace) {
            (YCBCR_709 | YCBCR_XV709, _) => Matrix::Bt709,
            (YCBCR_BT2020 | YCBCR_BT2020_CONST_LUM, _) => Matrix::Bt2020,
            (YCBCR_SMPTE240M, _) => Matrix::Smpte240m,
            (YCBCR_DEFAULT, COLORSPACE_REC709 | COLORSPACE_DCI_P3) => Matrix::Bt709,
            (YCBCR_DEFAULT, COLORSPACE_BT2020) => Matrix::Bt2020,
            (YCBCR_DEFAULT, COLORSPACE_SMPTE240M) => Matrix::Smpte240m,
            _ => Matrix::Bt601,
        };
        let range = match quantization {
            QUANTIZATION_FULL => Range::Full,
            QUANTIZATION_LIMITED => Range::Limited,
            _ if format.is_without_chroma() || colorspace == COLORSPACE_JPEG => Range::Full,
            _ => Range::Limited,
        };
        Color { matrix, range }
    }
}

/// Bits behind the point of the fixed-point numbers.
const POINT: u32 = 16;
const HALF: i32 = 1 << (POINT - 1);

/// A [`Color`] as the integers that every pixel is multiplied with.
pub(in crate::source) struct Converter {
    y_gain: i32,
    y_black: i32,
    red_v: i32,
    green_u: i32,
    green_v: i32,
    blue_u: i32,
}

impl Converter {
    pub(in crate::source) fn new(color: Color) -> Converter {
        let (kr, kb) = color.matrix.weights();
        let kg = 1.0 - kr - kb;
        let (y_scale, chroma_scale, y_black) = match color.range {
            Range::Full => (1.0, 1.0, 0),
            Range::Limited => (255.0 / 219.0, 255.0 / 224.0, 16),
        };
        let fixed = |x: f64| (x * f64::from(1 << POINT)).round() as i32;
        let (red, blue) = (2.0 * (1.0 - kr) * chroma_scale, 2.0 * (1.0 - kb) * chroma_scale);
        Converter {
            y_gain: fixed(y_scale),
            y_black,
            red_v: fixed(red),
            green_u: fixed(blue * kb / kg),
            green_v: fixed(red * kr / kg),
            blue_u: fixed(blue),
        }
    }

    pub(in crate::source) fn rgb(&self, y: u8, u: u8, v: u8) -> [u8; 3] {
        let y = self.y_gain * (i32::from(y) - self.y_black) + HALF;
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        [y + self.red_v * v, y - self.green_u * u - self.green_v * v, y + self.blue_u * u]
            .map(|x| (x >> POINT).clamp(0, 255) as u8)
    }

    /// A number that stands alone: brightness, or one of red, green and blue.
    pub(super) fn level(&self, x: u8) -> u8 {
        ((self.y_gain * (i32::from(x) - self.y_black) + HALF) >> POINT).clamp(0, 255) as u8
    }
}
