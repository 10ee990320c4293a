//! From planes of luma and half-size chroma to RGB, by the matrix and the range that the stream states.

use image::RgbImage;

/// How RGB was turned into luma and chroma (ITU-T H.273, `MatrixCoefficients`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matrix {
    Bt601,
    Bt709,
    Bt2020,
}

/// What the numbers of a decoded picture mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colors {
    pub matrix: Matrix,
    /// Luma of 0 to 255 instead of 16 to 235, chroma likewise.
    pub full_range: bool,
}

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

const SHIFT: i32 = 14;
const HALF: i32 = 1 << (SHIFT - 1);

/// Fixed-point factors of one pair of matrix and range.
struct Factors {
    black: i32,
    luma: i32,
    red_of_v: i32,
    green_of_u: i32,
    green_of_v: i32,
    blue_of_u: i32,
}

impl Factors {
    fn of(colors: Colors) -> Factors {
        let (kr, kb) = match colors.matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
            Matrix::Bt2020 => (0.2627, 0.0593),
        };
        let kg = 1.0 - kr - kb;
        let (black, luma, chroma) =
            if colors.full_range { (0, 1.0, 1.0) } else { (16, 255.0 / 219.0, 255.0 / 224.0) };
        let fixed = |factor: f64| (factor * f64::from(1 << SHIFT)).round() as i32;
        let (red, blue) = (2.0 * (1.0 - kr) * chroma, 2.0 * (1.0 - kb) * chroma);
        Factors {
            black,
            luma: fixed(luma),
            red_of_v: fixed(red),
            green_of_u: fixed(blue * kb / kg),
            green_of_v: fixed(red * kr / kg),
            blue_of_u: fixed(blue),
        }
    }
}

/// None where a plane is shorter than the size needs.
pub(super) fn to_rgb(planes: Planes<'_>, colors: Colors) -> Option<RgbImage> {
    let Planes { width, height, luma, luma_stride, chroma: [u, v], chroma_stride } = planes;
    let factors = Factors::of(colors);
    let half_width = width.div_ceil(2);
    let mut rgb = vec![0; width * height * 3];
    for (row, line) in rgb.chunks_exact_mut((width * 3).max(1)).enumerate() {
        let luma = luma.get(row * luma_stride..)?.get(..width)?;
        let chroma = row / 2 * chroma_stride..row / 2 * chroma_stride + half_width;
        convert(line, luma, u.get(chroma.clone())?, v.get(chroma)?, &factors);
    }
    RgbImage::from_raw(width as u32, height as u32, rgb)
}

/// One line: every pair of pixels shares its chroma.
fn convert(line: &mut [u8], luma: &[u8], u: &[u8], v: &[u8], factors: &Factors) {
    for ((pixels, luma), (u, v)) in line.chunks_mut(6).zip(luma.chunks(2)).zip(u.iter().zip(v)) {
        let (u, v) = (i32::from(*u) - 128, i32::from(*v) - 128);
        let red = factors.red_of_v * v;
        let green = factors.green_of_u * u + factors.green_of_v * v;
        let blue = factors.blue_of_u * u;
        for (pixel, luma) in pixels.chunks_exact_mut(3).zip(luma) {
            let gray = (i32::from(*luma) - factors.black) * factors.luma + HALF;
            for (channel, sum) in pixel.iter_mut().zip([gray + red, gray - green, gray + blue]) {
                *channel = (sum >> SHIFT).clamp(0, 255) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(yuv: [u8; 3], matrix: Matrix, full_range: bool) -> [u8; 3] {
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
        let image = to_rgb(planes, Colors { matrix, full_range }).unwrap();
        assert!(image.pixels().all(|pixel| pixel == image.get_pixel(0, 0)));
        image.get_pixel(0, 0).0
    }

    fn near(found: [u8; 3], wanted: [u8; 3]) -> bool {
        found.iter().zip(wanted).all(|(found, wanted)| found.abs_diff(wanted) <= 1)
    }

    #[test]
    fn follows_matrix_and_range() {
        for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020] {
            assert_eq!(one([16, 128, 128], matrix, false), [0; 3]);
            assert_eq!(one([235, 128, 128], matrix, false), [255; 3]);
            assert_eq!(one([0, 128, 128], matrix, true), [0; 3]);
            assert_eq!(one([255, 128, 128], matrix, true), [255; 3]);
        }
        // Pure red, by the tables of the recommendations.
        assert!(near(one([81, 90, 240], Matrix::Bt601, false), [254, 0, 0]));
        assert!(near(one([63, 102, 240], Matrix::Bt709, false), [255, 1, 0]));
        assert!(near(one([76, 85, 255], Matrix::Bt601, true), [254, 0, 0]));
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
        let colors = Colors { matrix: Matrix::Bt709, full_range: true };
        let image = to_rgb(planes(&luma), colors).unwrap();
        for row in 0..3 {
            let line: Vec<u8> = (0..3).map(|x| image.get_pixel(x, row).0[0]).collect();
            assert_eq!(line, [50, 60, 70]);
        }
        assert!(to_rgb(planes(&luma[..10]), colors).is_none());
    }
}
