//! How much a picture shows, told from its grey levels before any model sees it.
//!
//! A decoder writes a fluent sentence about a covered lens too. What such frames have in common is not
//! in their embedding but in their pixels: next to no contrast, or far less or far more fine detail
//! than a photo has.

use engine::Tensor;

use crate::bundle::{ConfidenceSettings, PreprocessSettings};

/// Share of red, green and blue in the luma (BT.601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Statistics of a preprocessed picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Standard deviation of the luma in grey levels, 0 to 127.5.
    pub contrast: f32,
    /// Mean absolute Laplacian of the luma over its standard deviation: about 0.1 for a blurred
    /// photo, 3.6 for white noise, 0 for a picture without contrast.
    pub roughness: f32,
}

impl Quality {
    /// Of the image encoder's input, f32 (1, 3, height, width).
    pub fn of(pixels: &Tensor, settings: &PreprocessSettings) -> Quality {
        let (width, height) = (settings.width, settings.height);
        let luma = luma(pixels, settings);
        let n = luma.len().max(1) as f32;
        let mean = luma.iter().sum::<f32>() / n;
        let contrast = (luma.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n).sqrt();
        let at = |x: usize, y: usize| luma[y * width + x];
        let mut detail = 0.0;
        for y in 1..height.saturating_sub(1) {
            for x in 1..width.saturating_sub(1) {
                let around = at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1);
                detail += (4.0 * at(x, y) - around).abs();
            }
        }
        let n_inner = width.saturating_sub(2) * height.saturating_sub(2);
        // Below one grey level nothing but rounding is left.
        let roughness = if contrast < 1.0 { 0.0 } else { detail / n_inner.max(1) as f32 / contrast };
        Quality { contrast, roughness }
    }

    /// Whether a caption of this picture deserves no trust.
    pub fn is_doubtful(&self, settings: &ConfidenceSettings) -> bool {
        self.contrast < settings.contrast_min
            || self.roughness < settings.roughness_min
            || self.roughness > settings.roughness_max
    }
}

/// Grey levels (height * width), 0 to 255.
fn luma(pixels: &Tensor, settings: &PreprocessSettings) -> Vec<f32> {
    let n = settings.width * settings.height;
    let mut luma = vec![0.0; n];
    for (channel, plane) in pixels.as_f32().unwrap_or_default().chunks_exact(n.max(1)).take(3).enumerate() {
        let (mean, std, share) = (settings.mean[channel], settings.std[channel], LUMA[channel]);
        luma.iter_mut().zip(plane).for_each(|(sum, x)| *sum += share * (x * std + mean));
    }
    luma
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::bundle::{Filter, Resize};
    use crate::preprocess;

    const SETTINGS: PreprocessSettings = PreprocessSettings {
        width: 64,
        height: 64,
        resize: Resize::Squash,
        shortest: None,
        filter: Filter::Bicubic,
        mean: [128.0; 3],
        std: [127.0; 3],
    };

    fn quality(level: impl Fn(u32, u32) -> u8) -> Quality {
        let image = RgbImage::from_fn(64, 64, |x, y| Rgb([level(x, y); 3]));
        Quality::of(&preprocess(&image, &SETTINGS), &SETTINGS)
    }

    #[test]
    fn a_flat_picture_has_neither_contrast_nor_roughness() {
        let flat = quality(|_, _| 17);
        assert!(flat.contrast < 0.01 && flat.roughness == 0.0, "{flat:?}");
    }

    #[test]
    fn a_checkerboard_is_as_rough_as_can_be_and_a_ramp_hardly() {
        let board = quality(|x, y| if (x + y) % 2 == 0 { 0 } else { 255 });
        assert!((board.contrast - 127.5).abs() < 0.1 && (board.roughness - 8.0).abs() < 0.1, "{board:?}");
        let ramp = quality(|x, _| (4 * x) as u8);
        assert!(ramp.contrast > 70.0 && ramp.roughness < 0.05, "{ramp:?}");
    }

    #[test]
    fn each_limit_alone_casts_doubt() {
        let limits = ConfidenceSettings { contrast_min: 5.0, roughness_min: 0.1, roughness_max: 2.0 };
        let doubtful = |contrast, roughness| Quality { contrast, roughness }.is_doubtful(&limits);
        assert!(!doubtful(40.0, 0.5));
        assert!(doubtful(4.0, 0.5) && doubtful(40.0, 0.05) && doubtful(40.0, 3.0));
    }
}
