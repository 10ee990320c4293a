//! Decides whether a frame is worth a caption. Pure: time comes in as a parameter.
//!
//! Two stages, cheap first: `glance` compares brightness on a coarse grid before anything is
//! encoded; `judge` compares the embedding with that of the last scene that was called changed,
//! and knows how restless the camera's embeddings are of themselves.

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
    /// A scene counts as changed only when its distance also exceeds the usual distance between this camera's frames by
    /// so many standard deviations: leaves in the wind are no news. 0 leaves that out.
    pub deviations: f32,
    /// The scene is captioned anew after this time even where nothing changed.
    pub refresh: Duration,
    /// The caption is confirmed, without inference, after this time without another.
    pub heartbeat: Duration,
    /// Mean time between two captions at least.
    pub min_interval: Duration,
    /// Captions that may follow each other faster after a quiet time, at least 1.
    pub burst: u32,
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

/// What brightness alone says about a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// Nothing new, or too soon.
    Pass,
    /// Nothing new, and the caption is due to be confirmed.
    Confirm,
    /// Worth encoding.
    Look,
}

/// What the embedding says about a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// Worth a caption: changed, asked for, or due for renewal.
    pub caption: bool,
    /// Not worth one, but the one that is out is due to be confirmed.
    pub confirm: bool,
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
    stir: Stir,
    allowance: Allowance,
    captioned_at: Option<Instant>,
    /// The last caption or confirmation.
    told_at: Option<Instant>,
    /// Somebody asked for a caption.
    wanted: bool,
}

impl Gate {
    pub fn new(config: GateConfig) -> Gate {
        Gate {
            config,
            encoded: None,
            scene: None,
            stir: Stir::default(),
            allowance: Allowance::new(config.min_interval, config.burst),
            captioned_at: None,
            told_at: None,
            wanted: false,
        }
    }

    /// The next frame is captioned, whatever it shows.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Another mean time between two captions, from now on.
    pub fn set_min_interval(&mut self, min_interval: Duration) {
        self.config.min_interval = min_interval;
        self.allowance = Allowance::new(min_interval, self.config.burst);
    }

    /// The scene that was called changed got no caption: it still is news.
    pub fn forget(&mut self) {
        self.scene = None;
        self.encoded = None;
    }

    /// Is a frame taken at `taken` worth encoding?
    pub fn glance(&mut self, image: &RgbImage, taken: Instant) -> Glance {
        if !self.config.enabled && !self.wanted {
            return if self.allowance.has(taken) { Glance::Look } else { Glance::Pass };
        }
        let thumbnail = Thumbnail::of(image);
        let same =
            self.encoded.as_ref().is_some_and(|last| last.change(&thumbnail) < self.config.pixel_change);
        if !self.wanted {
            if same && !self.is_refresh_due(taken) {
                return if self.confirm(taken) { Glance::Confirm } else { Glance::Pass };
            }
            if !self.allowance.has(taken) {
                return Glance::Pass;
            }
        }
        self.encoded = Some(thumbnail);
        Glance::Look
    }

    /// Is a frame with this unit-norm embedding worth a caption?
    pub fn judge(&mut self, embedding: &[f32], taken: Instant) -> Judgement {
        let similarity = self.scene.as_ref().map(|scene| cosine(scene, embedding));
        let threshold = self.stir.threshold(1.0 - self.config.similarity, self.config.deviations);
        let changed = similarity.is_none_or(|similarity| 1.0 - similarity > threshold);
        self.stir.see(embedding, threshold);
        let wanted = std::mem::take(&mut self.wanted);
        let caption = changed || wanted || !self.config.enabled || self.is_refresh_due(taken);
        if changed {
            self.scene = Some(embedding.to_vec());
        }
        if caption {
            self.captioned_at = Some(taken);
            self.told_at = Some(taken);
            self.allowance.spend(taken);
        }
        let confirm = !caption && self.confirm(taken);
        Judgement { caption, confirm, changed, similarity }
    }

    /// True, once, when there is a caption that nothing was heard of for a while.
    fn confirm(&mut self, taken: Instant) -> bool {
        let due = |at: Instant| taken.saturating_duration_since(at) >= self.config.heartbeat;
        let confirm = self.told_at.is_some_and(due);
        if confirm {
            self.told_at = Some(taken);
        }
        confirm
    }

    fn is_refresh_due(&self, taken: Instant) -> bool {
        let since = |at: Instant| taken.saturating_duration_since(at);
        self.captioned_at.is_none_or(|at| since(at) >= self.config.refresh)
    }
}

/// How much one camera's embeddings move of themselves: mean and deviation of the distance between one encoded frame
/// and the next.
#[derive(Debug, Default)]
struct Stir {
    last: Option<Vec<f32>>,
    mean: f32,
    variance: f32,
    n: u32,
}

impl Stir {
    /// Distances before the figures are believed.
    const N_LEAST: u32 = 8;
    /// Distances that count; older ones fade.
    const N_MEMORY: u32 = 64;
    /// However restless a camera is, a scene as far as this from the last is another.
    const FAR: f32 = 0.5;

    /// Distance from which on a scene is another; never under `least`.
    fn threshold(&self, least: f32, deviations: f32) -> f32 {
        if self.n < Stir::N_LEAST || deviations <= 0.0 {
            return least;
        }
        // A scene that swings evenly has no deviation at all.
        let deviation = self.variance.sqrt().max(0.1 * self.mean);
        (self.mean + deviations * deviation).clamp(least, least.max(Stir::FAR))
    }

    fn see(&mut self, embedding: &[f32], threshold: f32) {
        if let Some(last) = self.last.replace(embedding.to_vec()) {
            // One real change says nothing about how restless the scene is; many small ones do.
            let distance = (1.0 - cosine(&last, embedding)).clamp(0.0, 2.0 * threshold.max(0.01));
            self.n = (self.n + 1).min(Stir::N_MEMORY);
            let share = 1.0 / self.n as f32;
            let gap = distance - self.mean;
            self.mean += share * gap;
            self.variance = (1.0 - share) * (self.variance + share * gap * gap);
        }
    }
}

/// How many captions may be made now: one more every `interval`, `most` at once.
#[derive(Debug)]
struct Allowance {
    interval: Duration,
    most: f64,
    left: f64,
    at: Option<Instant>,
}

impl Allowance {
    fn new(interval: Duration, most: u32) -> Allowance {
        let most = f64::from(most.max(1));
        Allowance { interval, most, left: most, at: None }
    }

    fn has(&mut self, now: Instant) -> bool {
        if self.interval.is_zero() {
            return true;
        }
        if let Some(at) = self.at.replace(now) {
            let gained = now.saturating_duration_since(at).as_secs_f64() / self.interval.as_secs_f64();
            self.left = (self.left + gained).min(self.most);
        }
        // Whole intervals must not be missed by the last bit of a sum.
        self.left >= 1.0 - 1e-6
    }

    fn spend(&mut self, now: Instant) {
        self.has(now);
        // What was asked for may overdraw, once.
        self.left = (self.left - 1.0).max(-1.0);
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
        deviations: 4.0,
        refresh: Duration::from_secs(3600),
        heartbeat: Duration::from_secs(60),
        min_interval: Duration::ZERO,
        burst: 1,
    };
    const A: [f32; 2] = [1.0, 0.0];
    const B: [f32; 2] = [0.0, 1.0];

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

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn looks_at_the_first_frame_and_then_only_at_change() {
        let (mut gate, t) = (Gate::new(CONFIG), Instant::now());
        assert_eq!(gate.glance(&plain(100), t), Glance::Look);
        assert!(gate.judge(&A, t).caption);
        assert_eq!(gate.glance(&plain(104), t), Glance::Pass, "noise");
        assert_eq!(gate.glance(&with_square(10), t), Glance::Pass, "less than one per cent of the cells");
        assert_eq!(gate.glance(&with_square(60), t), Glance::Look);
    }

    #[test]
    fn a_slow_drift_adds_up() {
        let (mut gate, t) = (Gate::new(CONFIG), Instant::now());
        gate.glance(&plain(100), t);
        gate.judge(&A, t);
        let looked = (1..=6u8).filter(|step| gate.glance(&plain(100 + 4 * step), t) == Glance::Look).count();
        assert_eq!(looked, 1);
    }

    #[test]
    fn the_same_scene_is_captioned_again_only_when_a_refresh_is_due() {
        let (mut gate, t) = (Gate::new(CONFIG), Instant::now());
        let first = Judgement { caption: true, confirm: false, changed: true, similarity: None };
        assert_eq!(gate.judge(&A, t), first);
        let same = Judgement { caption: false, confirm: false, changed: false, similarity: Some(1.0) };
        assert_eq!(gate.judge(&A, t + seconds(59)), same);
        assert_eq!(gate.judge(&A, t + seconds(3600)), Judgement { caption: true, ..same });
        assert_eq!(gate.judge(&A, t + seconds(3601)), same);
        assert!(gate.judge(&B, t + seconds(3602)).changed);
    }

    #[test]
    fn an_unchanged_scene_is_confirmed_once_a_heartbeat_by_either_stage() {
        let (mut gate, t) = (Gate::new(CONFIG), Instant::now());
        gate.glance(&plain(100), t);
        gate.judge(&A, t);
        let glances: Vec<Glance> =
            [59, 60, 61, 119, 120].map(|s| gate.glance(&plain(100), t + seconds(s))).to_vec();
        use Glance::{Confirm, Pass};
        assert_eq!(glances, [Pass, Confirm, Pass, Pass, Confirm]);
        assert_eq!(gate.glance(&with_square(60), t + seconds(180)), Glance::Look);
        let judgement = gate.judge(&A, t + seconds(180));
        assert!(judgement.confirm && !judgement.caption);
    }

    #[test]
    fn nothing_is_confirmed_before_the_first_caption() {
        let mut gate = Gate::new(CONFIG);
        assert!(!gate.confirm(Instant::now() + seconds(600)));
    }

    #[test]
    fn keeps_captions_the_least_interval_apart() {
        let mut gate = Gate::new(GateConfig { min_interval: seconds(5), ..CONFIG });
        let t = Instant::now();
        assert!(gate.glance(&plain(0), t) == Glance::Look && gate.judge(&A, t).caption);
        assert_eq!(gate.glance(&plain(200), t + seconds(4)), Glance::Pass);
        assert_eq!(gate.glance(&plain(200), t + seconds(5)), Glance::Look);
    }

    #[test]
    fn a_burst_lets_captions_through_after_a_quiet_time() {
        let mut gate = Gate::new(GateConfig { min_interval: seconds(10), burst: 3, ..CONFIG });
        let t = Instant::now();
        let mut captions_at = |start: u64, n: u64| {
            (0..n)
                .filter(|i| {
                    let (now, brightness) =
                        (t + seconds(start + i), if i.is_multiple_of(2) { 0 } else { 200 });
                    let scene = if i.is_multiple_of(2) { A } else { B };
                    gate.glance(&plain(brightness), now) == Glance::Look && gate.judge(&scene, now).caption
                })
                .count()
        };
        assert_eq!(captions_at(0, 9), 3);
        assert_eq!(captions_at(9, 2), 1, "one more every interval");
        assert_eq!(captions_at(600, 9), 3);
    }

    #[test]
    fn what_is_asked_for_is_captioned_at_once_and_once() {
        let mut gate = Gate::new(GateConfig { min_interval: seconds(60), ..CONFIG });
        let t = Instant::now();
        gate.glance(&plain(9), t);
        gate.judge(&A, t);
        gate.want();
        assert_eq!(gate.glance(&plain(9), t + seconds(1)), Glance::Look);
        let judgement = gate.judge(&A, t + seconds(1));
        assert!(judgement.caption && !judgement.changed);
        assert_eq!(gate.glance(&plain(9), t + seconds(2)), Glance::Pass);
    }

    #[test]
    fn a_restless_scene_raises_its_own_threshold_and_a_far_one_still_counts() {
        let (mut gate, t) = (Gate::new(GateConfig { similarity: 0.99, ..CONFIG }), Instant::now());
        let turned = |angle: f32| [angle.cos(), angle.sin()];
        // The scene swings by 0.2 rad: a distance of 0.02, twice what `similarity` allows.
        let changed = |gate: &mut Gate, from: u64, n: u64| {
            let swing = |i: u64| turned(if i.is_multiple_of(2) { 0.0 } else { 0.2 });
            (from..from + n).filter(|i| gate.judge(&swing(*i), t).changed).count()
        };
        assert!(changed(&mut gate, 0, 10) > 5);
        assert_eq!(changed(&mut gate, 10, 40), 0);
        assert!(gate.judge(&turned(1.6), t).changed);
    }

    #[test]
    fn a_scene_whose_caption_failed_is_looked_at_again() {
        let (mut gate, t) = (Gate::new(CONFIG), Instant::now());
        gate.glance(&plain(9), t);
        gate.judge(&A, t);
        gate.forget();
        assert_eq!(gate.glance(&plain(9), t), Glance::Look);
        assert!(gate.judge(&A, t).caption);
    }

    #[test]
    fn without_the_gate_every_frame_is_captioned() {
        let (mut gate, t) = (Gate::new(GateConfig { enabled: false, ..CONFIG }), Instant::now());
        for _ in 0..3 {
            assert!(gate.glance(&plain(9), t) == Glance::Look && gate.judge(&A, t).caption);
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
