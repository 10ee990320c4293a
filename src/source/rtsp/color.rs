//! From planes of luma and half-size chroma to RGB, by the matrix and the range that the stream states.

use image::RgbImage;

use crate::source::pixels::{Color, Converter};

/// A picture in 4:2:0; every plane has lines of `stride` bytes, of which the first ones count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes<'a> {
    pub width: usize,
    pub height: usize,
    pub luma: &'a [u8],
    pub luma_stride: usize,
    pub chroma: [&'a [u8]; 2],
    pub chroma_stride: usize,
}

/// None where a plane is shorter than the size needs.
pub(super) fn to_rgb(planes: Planes<'_>, color: Color) -> Option<RgbImage> {
    let Planes { width, height, luma, luma_stride, chroma: [u, v], chroma_stride } = planes;
    let converter = Converter::new(color);
    let half_width = width.div_ceil(2);
    let mut rgb = vec![0; width * height * 3];
    for (row, line) in rgb.chunks_exact_mut((width * 3).max(1)).enumerate() {
        let luma = luma.get(row * luma_stride..)?.get(..width)?;
        let chroma = row / 2 * chroma_stride..row / 2 * chroma_stride + half_width;
        convert(line, luma, u.get(chroma.clone())?, v.get(chroma)?, &converter);
    }
    RgbImage::from_raw(width as u32, height as u32, rgb)
}

/// One line: every pair of pixels shares its chroma.
fn convert(line: &mut [u8], luma: &[u8], u: &[u8], v: &[u8], converter: &Converter) {
    for ((pixels, luma), (u, v)) in line.chunks_mut(6).zip(luma.chunks(2)).zip(u.iter().zip(v)) {
        for (pixel, luma) in pixels.chunks_exact_mut(3).zip(luma) {
            pixel.copy_from_slice(&converter.rgb(*luma, *u, *v));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::pixels::{Matrix, Range};

    fn one(yuv: [u8; 3], matrix: Matrix, range: Range) -> [u8; 3] {
        let [y, u, v] = yuv;
        let (luma, chroma) = ([y; 4], [[u], [v]]);
        let planes = Planes {
            width: 2,
            height: 2,
            luma: &luma,
            luma_stride: 2,
            chroma: [&chroma[0], &chroma[1]],
            chroma_stride: 1,
        };
        let image = to_rgb(planes, Color { matrix, range }).unwrap();
        assert!(image.pixels().all(|pixel| pixel == image.get_pixel(0, 0)));
        image.get_pixel(0, 0).0
    }

    fn near(found: [u8; 3], wanted: [u8; 3]) -> bool {
        found.iter().zip(wanted).all(|(found, wanted)| found.abs_diff(wanted) <= 1)
    }

    #[test]
    fn follows_matrix_and_range() {
        for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020] {
            assert_eq!(one([16, 128, 128], matrix, Range::Limited), [0; 3]);
            assert_eq!(one([235, 128, 128], matrix, Range::Limited), [255; 3]);
            assert_eq!(one([0, 128, 128], matrix, Range::Full), [0; 3]);
            assert_eq!(one([255, 128, 128], matrix, Range::Full), [255; 3]);
        }
        // Pure red, by the tables of the recommendations.
        assert!(near(one([81, 90, 240], Matrix::Bt601, Range::Limited), [254, 0, 0]));
        assert!(near(one([63, 102, 240], Matrix::Bt709, Range::Limited), [255, 1, 0]));
        assert!(near(one([76, 85, 255], Matrix::Bt601, Range::Full), [254, 0, 0]));
    }

    #[test]
    fn passes_over_padding_and_odd_edges_and_refuses_short_planes() {
        // 3x3 in planes with lines of 4 and 2 bytes; padding is white.
        let luma = [50, 60, 70, 255].repeat(3);
        let chroma = [128; 4];
        let planes = |luma| Planes {
            width: 3,
            height: 3,
            luma,
            luma_stride: 4,
            chroma: [&chroma, &chroma],
            chroma_stride: 2,
        };
        let color = Color { matrix: Matrix::Bt709, range: Range::Full };
        let image = to_rgb(planes(&luma), color).unwrap();
        for row in 0..3 {
            let line: Vec<u8> = (0..3).map(|x| image.get_pixel(x, row).0[0]).collect();
            assert_eq!(line, [50, 60, 70]);
        }
        assert!(to_rgb(planes(&luma[..10]), color).is_none());
    }
}
