//! Resizing against Pillow's bicubic filter, columns before rows as the resizer works.

use caption::bundle::{Filter, PreprocessSettings, Resize};
use caption::preprocess;
use image::{Rgb, RgbImage};

/// Levels of 255 by which a pixel may differ: both sides round fixed-point sums.
const TOLERANCE: f32 = 1.0;

fn settings(width: usize, height: usize, resize: Resize) -> PreprocessSettings {
    let filter = Filter::Bicubic;
    PreprocessSettings { width, height, resize, shortest: None, filter, mean: [0.0; 3], std: [1.0; 3] }
}

fn synthetic(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([0, 1, 2].map(|channel| (((x * 7 + y * 13 + channel * 50) ^ (x * y)) & 255) as u8))
    })
}

#[test]
fn bicubic_resizing_is_that_of_pillow() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("golden/resize.json")).unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let numbers = |key: &str| -> Vec<usize> {
            case[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
        };
        let (from, to) = (numbers("from"), numbers("to"));
        let resize = match case["resize"].as_str().unwrap() {
            "crop" => Resize::Crop,
            "shortest" => Resize::Shortest,
            _ => Resize::Squash,
        };
        let pixels = preprocess(&synthetic(from[0] as u32, from[1] as u32), &settings(to[0], to[1], resize));
        assert_eq!(pixels.shape(), [1, 3, to[1], to[0]]);
        let (planes, n) = (pixels.as_f32().unwrap(), to[0] * to[1]);
        for (idx, expected) in numbers("rgb").into_iter().enumerate() {
            let found = planes[idx % 3 * n + idx / 3];
            assert!(
                (found - expected as f32).abs() <= TOLERANCE,
                "{from:?} {to:?} {idx}: {found} {expected}"
            );
        }
    }
}

#[test]
fn channels_are_planes_scaled_by_their_own_mean_and_std() {
    let image = RgbImage::from_pixel(3, 3, Rgb([10, 20, 30]));
    let settings = PreprocessSettings {
        mean: [10.0, 0.0, 20.0],
        std: [1.0, 2.0, 5.0],
        ..settings(2, 2, Resize::Squash)
    };
    let pixels = preprocess(&image, &settings);
    let expected = [[0.0; 4], [10.0; 4], [2.0; 4]].concat();
    assert_eq!(pixels.as_f32().unwrap(), expected);
}

#[test]
fn no_shape_of_image_is_too_odd() {
    for (width, height) in [(0, 0), (0, 5), (1, 1), (1, 5000), (5000, 1)] {
        for resize in [Resize::Squash, Resize::Crop, Resize::Shortest] {
            let pixels = preprocess(&synthetic(width, height), &settings(8, 4, resize));
            assert_eq!(pixels.shape(), [1, 3, 4, 8]);
            assert!(pixels.as_f32().unwrap().iter().all(|x| (0.0..=255.0).contains(x)));
        }
    }
}
