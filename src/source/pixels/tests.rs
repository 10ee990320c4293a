use std::io::Cursor;

use super::*;

const EVERY_COLOR: [Color; 8] = {
    const fn both(matrix: Matrix) -> [Color; 2] {
        [Color { matrix, range: Range::Full }, Color { matrix, range: Range::Limited }]
    }
    let (a, b) = (both(Matrix::Bt601), both(Matrix::Bt709));
    let (c, d) = (both(Matrix::Bt2020), both(Matrix::Smpte240m));
    [a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]]
};
const BT601: Color = Color { matrix: Matrix::Bt601, range: Range::Limited };
const BT709: Color = Color { matrix: Matrix::Bt709, range: Range::Limited };
const PLAIN: Color = Color { matrix: Matrix::Bt601, range: Range::Full };

/// The inverse of the standard's equations: `Y = Kr R + Kg G + Kb B`, `Cb = (B - Y) / (2 - 2 Kb)`,
/// `Cr = (R - Y) / (2 - 2 Kr)`, on 0 to 1 and -0.5 to 0.5.
fn reference(color: Color, [y, u, v]: [u8; 3]) -> [f64; 3] {
    let (kr, kb) = match color.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
        Matrix::Smpte240m => (0.212, 0.087),
    };
    let [y, u, v] = [y, u, v].map(f64::from);
    let (y, cb, cr) = match color.range {
        Range::Full => (y / 255.0, (u - 128.0) / 255.0, (v - 128.0) / 255.0),
        Range::Limited => ((y - 16.0) / 219.0, (u - 128.0) / 224.0, (v - 128.0) / 224.0),
    };
    let (r, b) = (y + (2.0 - 2.0 * kr) * cr, y + (2.0 - 2.0 * kb) * cb);
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|x| (x * 255.0).clamp(0.0, 255.0))
}

fn pixel_of_yuyv(color: Color, [y, u, v]: [u8; 3]) -> [u8; 3] {
    let layout = Layout::new(PixelFormat::Yuyv, (2, 1), 0, color).unwrap();
    layout.decode(&[y, u, y, v]).unwrap().get_pixel(1, 0).0
}

fn farthest(found: [u8; 3], expected: [f64; 3]) -> f64 {
    found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn every_matrix_and_range_is_that_of_its_standard() {
    for color in EVERY_COLOR {
        for y in (0..=255).step_by(15) {
            for u in (0..=255).step_by(15) {
                for v in (0..=255).step_by(15) {
                    let yuv = [y as u8, u as u8, v as u8];
                    let (found, expected) = (pixel_of_yuyv(color, yuv), reference(color, yuv));
                    assert!(farthest(found, expected) <= 1.0, "{color:?} {yuv:?}: {found:?} {expected:?}");
                }
            }
        }
    }
}

#[test]
fn the_color_bars_of_the_studio_have_their_colors() {
    // 75 % bars as test generators give them: white, yellow, cyan, green, magenta, red, blue, black.
    let bars_601 = [
        [180, 128, 128],
        [162, 44, 142],
        [131, 156, 44],
        [112, 72, 58],
        [84, 184, 198],
        [65, 100, 212],
        [35, 212, 114],
        [16, 128, 128],
    ];
    let bars_709 = [
        [180, 128, 128],
        [168, 44, 136],
        [145, 147, 44],
        [133, 63, 52],
        [63, 193, 204],
        [51, 109, 212],
        [28, 212, 120],
        [16, 128, 128],
    ];
    let on = [[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0]];
    for (color, bars) in [(BT601, bars_601), (BT709, bars_709)] {
        for (bar, on) in bars.into_iter().zip(on) {
            let found = pixel_of_yuyv(color, bar);
            // The bars themselves are rounded to whole numbers, which costs up to two more.
            assert!(farthest(found, on.map(|x| f64::from(x) * 191.25)) <= 2.0, "{bar:?}: {found:?}");
        }
    }
    assert_eq!(pixel_of_yuyv(PLAIN, [76, 85, 255]), [254, 0, 0], "the red of JPEG");
}

#[test]
fn the_fields_of_the_driver_choose_matrix_and_range() {
    use PixelFormat::{Grey, Rgb3, Yuyv};
    let of = Color::of_driver;
    // Zeros: what a driver of before these fields says, and a USB camera by sRGB.
    assert_eq!(of(Yuyv, 0, 0, 0), BT601);
    assert_eq!(of(Yuyv, 8, 0, 0), BT601);
    assert_eq!(of(Yuyv, 1, 0, 0), BT601);
    assert_eq!(of(Yuyv, 3, 0, 0), BT709);
    assert_eq!(of(Yuyv, 12, 0, 0), BT709);
    assert_eq!(of(Yuyv, 7, 0, 0), PLAIN);
    assert_eq!(of(Yuyv, 10, 0, 0).matrix, Matrix::Bt2020);
    assert_eq!(of(Yuyv, 2, 0, 0).matrix, Matrix::Smpte240m);
    // What is said outright goes before what the color space implies.
    assert_eq!(of(Yuyv, 8, 2, 0), BT709);
    assert_eq!(of(Yuyv, 3, 1, 0), BT601);
    assert_eq!(of(Yuyv, 7, 0, 2), BT601);
    assert_eq!(of(Yuyv, 0, 0, 1), PLAIN);
    assert_eq!([of(Rgb3, 8, 0, 0).range, of(Grey, 8, 0, 0).range], [Range::Full; 2]);
    assert_eq!(of(Rgb3, 8, 0, 2).range, Range::Limited);
    assert_eq!(of(Yuyv, 999, 999, 999), BT601);
}

/// Pixels in the order of rows.
fn decoded(format: PixelFormat, size: (u32, u32), stride: u32, color: Color, bytes: &[u8]) -> Vec<[u8; 3]> {
    let image = Layout::new(format, size, stride, color).unwrap().decode(bytes).unwrap();
    assert_eq!(image.dimensions(), size);
    image.pixels().map(|pixel| pixel.0).collect()
}

#[test]
fn takes_every_format_apart_and_skips_padding() {
    let (black, white, gray) = ([0; 3], [255; 3], [128; 3]);
    let red = [254, 0, 0];
    let (red_y, red_u, red_v) = (76, 85, 255);
    // Two lines of two pixels with two bytes of padding: black, white; red, red.
    let of = |format, stride, bytes: &[u8]| decoded(format, (2, 2), stride, PLAIN, bytes);
    let expected = [black, white, red, red];
    let yuyv = [0, 128, 255, 128, 7, 7, red_y, red_u, red_y, red_v];
    assert_eq!(of(PixelFormat::Yuyv, 6, &yuyv), expected);
    let uyvy = [128, 0, 128, 255, 7, 7, red_u, red_y, red_v, red_y];
    assert_eq!(of(PixelFormat::Uyvy, 6, &uyvy), expected);
    let expected = [black, white, [1, 2, 3], gray];
    let rgb = [0, 0, 0, 255, 255, 255, 7, 7, 1, 2, 3, 128, 128, 128];
    assert_eq!(of(PixelFormat::Rgb3, 8, &rgb), expected);
    let bgr = [0, 0, 0, 255, 255, 255, 7, 7, 3, 2, 1, 128, 128, 128];
    assert_eq!(of(PixelFormat::Bgr3, 8, &bgr), expected);
    assert_eq!(of(PixelFormat::Grey, 4, &[0, 255, 7, 7, 128, 0]), [black, white, gray, black]);
    // The four pixels of NV12 share one chroma, in a plane that starts behind both padded lines.
    let nv12 = [red_y, red_y, 7, 7, red_y, red_y, 7, 7, red_u, red_v];
    assert_eq!(of(PixelFormat::Nv12, 4, &nv12), [red; 4]);
    assert_eq!(decoded(PixelFormat::Grey, (2, 1), 0, BT601, &[16, 235]), [black, white]);
    assert_eq!(decoded(PixelFormat::Rgb3, (1, 1), 0, BT601, &[16, 235, 126]), [[0, 255, 128]]);
}

#[test]
fn odd_sizes_use_the_chroma_that_the_last_pixels_share_with_nobody() {
    let yuyv = [0, 128, 255, 128, 76, 85, 7, 255];
    let expected = [[0; 3], [255; 3], [254, 0, 0]];
    assert_eq!(decoded(PixelFormat::Yuyv, (3, 1), 0, PLAIN, &yuyv), expected);
    let nv12 = [0, 255, 76, 7, 128, 128, 85, 255];
    assert_eq!(decoded(PixelFormat::Nv12, (3, 1), 0, PLAIN, &nv12), expected);
    let e = Layout::new(PixelFormat::Yuyv, (3, 1), 6, PLAIN).unwrap_err().to_string();
    assert_eq!(e, "YUYV lines of 6 bytes do not hold 3 pixels, which take 8");
}

#[test]
fn sizes_and_lengths_of_a_driver_are_not_trusted() {
    for format in PixelFormat::ALL {
        for size in [(0, 480), (640, 0), (u32::MAX, 480), (640, u32::MAX), (16_384, 16_384)] {
            assert!(matches!(Layout::new(format, size, 0, BT601), Err(PixelError::Size { .. })), "{size:?}");
        }
        let layout = Layout::new(format, (640, 480), u32::MAX, BT601).unwrap();
        assert!(layout.decode(&[0; 4096]).is_err(), "{format}");
    }
    let yuyv = Layout::new(PixelFormat::Yuyv, (4, 2), 10, BT601).unwrap();
    assert!(matches!(yuyv.decode(&[0; 17]), Err(PixelError::Short { expected: 18, .. })));
    assert!(yuyv.decode(&[0; 18]).is_ok(), "the last line needs no padding");
    let nv12 = Layout::new(PixelFormat::Nv12, (4, 3), 4, BT601).unwrap();
    assert!(matches!(nv12.decode(&[0; 19]), Err(PixelError::Short { expected: 20, .. })));
}

/// Numbers that look random and are the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn no_buffer_of_any_size_and_length_panics() {
    let mut noise = Noise(1);
    let mut n_decoded = 0;
    for _ in 0..4_000 {
        let format = PixelFormat::ALL[noise.below(7) as usize];
        let size = (noise.below(40) as u32, noise.below(40) as u32);
        let stride = if noise.below(2) == 0 { 0 } else { noise.below(160) as u32 };
        let color = EVERY_COLOR[noise.below(8) as usize];
        let n_bytes = noise.below(6_000) as usize;
        let bytes = noise.bytes(n_bytes);
        let Ok(layout) = Layout::new(format, size, stride, color) else { continue };
        if let Ok(image) = layout.decode(&bytes) {
            assert_eq!(image.dimensions(), size);
            n_decoded += 1;
        }
    }
    assert!(n_decoded > 500, "{n_decoded}");
}

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
    assert!(bare.len() < full.len());
    assert_eq!(decode_mjpg(&bare).unwrap(), decode_mjpg(&full).unwrap());
}

#[test]
fn a_frame_may_be_padded_and_have_rubbish_between_its_segments() {
    let whole = jpeg();
    let padded = [&whole[..], &[0; 64]].concat();
    assert_eq!(decode_mjpg(&padded).unwrap(), decode_mjpg(&whole).unwrap());
}

#[test]
fn a_frame_that_is_cut_short_anywhere_is_an_error() {
    let whole = jpeg();
    for n in 0..whole.len() {
        assert!(decode_mjpg(&whole[..n]).is_err(), "the first {n} of {} bytes", whole.len());
    }
    let e = decode_mjpg(&whole[..whole.len() - 1]).unwrap_err().to_string();
    assert!(e.ends_with("is cut short"), "{e}");
}

#[test]
fn damaged_motion_jpeg_is_an_error_or_a_picture_and_never_a_panic() {
    for bytes in [&b""[..], b"\xFF", b"\xFF\xD8", b"\xFF\xD8\xFF\xC0\x00\x00\xFF\xFF", b"\xFF\xD8\xFF\xD9"] {
        assert!(decode_mjpg(bytes).is_err());
    }
    let whole = jpeg();
    let scan = whole.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    // A marker that has no place there, where the picture is.
    let mut torn = whole.clone();
    torn[scan + 20..scan + 24].copy_from_slice(&[0xFF, 0xC0, 0x00, 0x04]);
    assert!(decode_mjpg(&torn).unwrap_err().to_string().ends_with("is damaged"));
    let mut noise = Noise(2);
    for _ in 0..2_000 {
        let mut bytes = whole.clone();
        for _ in 0..=noise.below(8) {
            let at = noise.below(bytes.len() as u64) as usize;
            bytes[at] = noise.next() as u8;
        }
        drop(decode_mjpg(&bytes));
    }
}
