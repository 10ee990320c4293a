//! Decides whether a frame is worth a caption. Pure: time comes in as a parameter.
//!
//! Two stages, cheap first: `glance` compares brightness on a coarse grid before anything is
//! encoded; `judge` compares the embedding with that of the last scene that was called changed.

use std::time::{Duration, Instant};

use image::RgbImage;

/// Cells of the grid, per side.
const GRID: u32 = 32;
/// Samples taken of a cell, per side: more only average noise that eight average already.
const SAMPLES: u32 = 8;
/// A cell whose brightness (0 to 255) moved by less shows noise, not change.
const CELL_NOISE: u8 = 12;

/// When a frame is worth a caption.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateConfig {
    /// Without the gate every frame is captioned, `min_interval` apart.
    pub enabled: bool,
    /// Share of the cells that must change before a frame is encoded, 0 to 1.
    pub pixel_change: f32,
    /// Cosine with the last changed scene from which on a frame shows the same scene.
    pub similarity: f32,
    /// A caption is renewed after this time even where nothing changed.
    pub refresh: Duration,
    /// Least time between two captions.
    pub min_interval: Duration,
}

/// Mean brightness of each cell of the grid, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Thumbnail(Vec<u8>);

impl Thumbnail {
    pub fn of(image: &RgbImage) -> Thumbnail {
        let (width, height) = image.dimensions();
        let mut cells = Vec::with_capacity((GRID * GRID) as usize);
        for row in 0..GRID {
            for column in 0..GRID {
                let (mut sum, mut n) = (0u32, 0u32);
                for y in samples(row, height) {
                    for x in samples(column, width) {
                        let [r, g, b] = image.get_pixel(x, y).0.map(u32::from);
                        sum += (299 * r + 587 * g + 114 * b) / 1000;
                        n += 1;
                    }
                }
                cells.push((sum / n.max(1)) as u8);
            }
        }
        Thumbnail(cells)
    }

    /// Share of the cells that differ by more than noise, 0 to 1.
    fn change(&self, other: &Thumbnail) -> f32 {
        let moved = self.0.iter().zip(&other.0).filter(|(a, b)| a.abs_diff(**b) > CELL_NOISE).count();
        moved as f32 / self.0.len() as f32
    }
}

/// Coordinates to sample in one cell of an axis; images smaller than the grid repeat pixels.
fn samples(cell: u32, length: u32) -> impl Iterator<Item = u32> {
    let start = (u64::from(cell) * u64::from(length) / u64::from(GRID)) as u32;
    let end = (u64::from(cell + 1) * u64::from(length) / u64::from(GRID)) as u32;
    let end = end.clamp((start + 1).min(length), length);
    (start..end).step_by(((end - start).div_ceil(SAMPLES)).max(1) as usize)
}

/// What the embedding says about a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// Worth a caption: changed, or due for renewal.
    pub caption: bool,
    pub changed: bool,
    /// Cosine with the last changed scene; none for the first.
    pub similarity: Option<f32>,
}

/// The memory of one camera.
#[derive(Debug)]
pub struct Gate {
    config: GateConfig,
    /// The last frame that was encoded, so that a slow drift adds up.
    encoded: Option<Thumbnail>,
    /// The last scene that was called changed, for the same reason.
    scene: Option<Vec<f32>>,
    captioned_at: Option<Instant>,
}

impl Gate {
    pub fn new(config: GateConfig) -> Gate {
        Gate { config, encoded: None, scene: None, captioned_at: None }
    }

    /// Is a frame taken at `taken` worth encoding?
    pub fn glance(&mut self, image: &RgbImage, taken: Instant) -> bool {
        if self.since_caption(taken).is_some_and(|since| since < self.config.min_interval) {
            return false;
        }
        if !self.config.enabled {
            return true;
        }
        let thumbnail = Thumbnail::of(image);
        let same =
            self.encoded.as_ref().is_some_and(|last| last.change(&thumbnail) < self.config.pixel_change);
        if same && !self.is_refresh_due(taken) {
            return false;
        }
        self.encoded = Some(thumbnail);
        true
    }

    /// Is a frame with this unit-norm embedding worth a caption?
    pub fn judge(&mut self, embedding: &[f32], taken: Instant) -> Judgement {
        let similarity = self.scene.as_ref().map(|scene| cosine(scene, embedding));
        let changed = similarity.is_none_or(|similarity| similarity < self.config.similarity);
        let caption = changed || !self.config.enabled || self.is_refresh_due(taken);
        if changed {
            self.scene = Some(embedding.to_vec());
        }
        if caption {
            self.captioned_at = Some(taken);
        }
        Judgement { caption, changed, similarity }
    }

    fn since_caption(&self, taken: Instant) -> Option<Duration> {
        self.captioned_at.map(|at| taken.saturating_duration_since(at))
    }

    fn is_refresh_due(&self, taken: Instant) -> bool {
        self.since_caption(taken).is_none_or(|since| since >= self.config.refresh)
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>().clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: GateConfig = GateConfig {
        enabled: true,
        pixel_change: 0.01,
        similarity: 0.95,
        refresh: Duration::from_secs(60),
        min_interval: Duration::ZERO,
    };

    fn plain(brightness: u8) -> RgbImage {
        RgbImage::from_pixel(320, 240, image::Rgb([brightness; 3]))
    }

    fn with_square(side: u32) -> RgbImage {
        let mut image = plain(100);
        for y in 0..side {
            for x in 0..side {
                image.put_pixel(40 + x, 40 + y, image::Rgb([255; 3]));
            }
        }
        image
    }

    #[test]
    fn looks_at_the_first_frame_and_then_only_at_change() {
        let (mut gate, t) = (Gate::new(CONFIG), Instant::now());
        assert!(gate.glance(&plain(100), t));
        assert!(gate.judge(&[1.0, 0.0], t).caption);
        assert!(!gate.glance(&plain(104), t), "noise");
        assert!(!gate.glance(&with_square(10), t), "less than one per cent of the cells");
        assert!(gate.glance(&with_square(60), t));
    }

    #[test]
    fn a_slow_drift_adds_up() {
        let (mut gate, t) = (Gate::new(CONFIG), Instant::now());
        assert!(gate.glance(&plain(100), t));
        gate.judge(&[1.0, 0.0], t);
        let looked = (1..=6u8).filter(|step| gate.glance(&plain(100 + 4 * step), t)).count();
        assert_eq!(looked, 1);
    }

    #[test]
    fn the_same_scene_is_captioned_again_only_when_a_refresh_is_due() {
        let (mut gate, t) = (Gate::new(CONFIG), Instant::now());
        assert_eq!(gate.judge(&[1.0, 0.0], t), Judgement { caption: true, changed: true, similarity: None });
        let soon = t + Duration::from_secs(59);
        let same = Judgement { caption: false, changed: false, similarity: Some(1.0) };
        assert_eq!(gate.judge(&[1.0, 0.0], soon), same);
        assert_eq!(gate.judge(&[1.0, 0.0], t + Duration::from_secs(60)), Judgement { caption: true, ..same });
        assert_eq!(gate.judge(&[1.0, 0.0], t + Duration::from_secs(61)), same);
        assert!(gate.judge(&[0.0, 1.0], t + Duration::from_secs(62)).changed);
    }

    #[test]
    fn keeps_captions_the_least_interval_apart() {
        let mut gate = Gate::new(GateConfig { min_interval: Duration::from_secs(5), ..CONFIG });
        let t = Instant::now();
        assert!(gate.glance(&plain(0), t) && gate.judge(&[1.0, 0.0], t).caption);
        assert!(!gate.glance(&plain(200), t + Duration::from_secs(4)));
        assert!(gate.glance(&plain(200), t + Duration::from_secs(5)));
    }

    #[test]
    fn without_the_gate_every_frame_is_captioned() {
        let (mut gate, t) = (Gate::new(GateConfig { enabled: false, ..CONFIG }), Instant::now());
        for _ in 0..3 {
            assert!(gate.glance(&plain(9), t) && gate.judge(&[1.0, 0.0], t).caption);
        }
    }

    #[test]
    fn an_image_smaller_than_the_grid_is_compared_too() {
        let tiny = |brightness| Thumbnail::of(&RgbImage::from_pixel(3, 1, image::Rgb([brightness; 3])));
        assert_eq!(tiny(9).change(&tiny(9)), 0.0);
        assert_eq!(tiny(9).change(&tiny(99)), 1.0);
        assert_eq!(Thumbnail::of(&RgbImage::new(0, 0)).0.len(), 1024);
    }
}
