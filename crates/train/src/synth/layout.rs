//! What stands where: the background, the cut-outs and their places in a collage. Geometry alone; no pixels.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::bank::{Bank, CutOut, Photo};
use super::nouns::Wanted;
use super::vocabulary::{RAISED, size_cm};
use crate::rect::Rect;

/// Width and height of a collage, in pixels.
pub const SIDE: u32 = 224;
const SIDE_PX: f32 = SIDE as f32;

/// Chance that objects which touch in some photo are cut out as one.
const TOGETHER: f64 = 0.75;
/// Cut-outs of which the one with the best score is taken.
const N_CUT_OUTS: usize = 3;
/// Backgrounds of which the one with the least in it is taken, and places of which the one that hides the least.
const N_BACKGROUNDS: usize = 12;
const N_PLACES: usize = 12;
/// How much of the surroundings is cut out beside an object, for the soft edge: a share of its side.
const MARGIN: f32 = 0.06;
/// A mouse beside an elephant would be a dot: sizes are compared by this power of their ratio.
const SIZE_POWER: f32 = 0.6;
/// Longer side of the largest object, in pixels, when it is alone; and the least of any.
const LARGEST: std::ops::Range<f32> = 110.0..185.0;
const LEAST: f32 = 26.0;

/// A square of a photo, or all of it.
pub struct Background<'b> {
    pub photo: &'b Photo,
    pub area: Rect,
    pub mirrored: bool,
}

/// A cut-out in its place.
pub struct Placed<'b> {
    pub photo: &'b Photo,
    /// In pixels of the photo, within it.
    pub area: Rect,
    /// In pixels of the collage; it may reach out of it.
    pub place: Rect,
    pub mirrored: bool,
}

pub struct Layout<'b> {
    pub background: Background<'b>,
    /// In the order of painting: the largest first, so that it hides nothing.
    pub objects: Vec<Placed<'b>>,
}

/// Draws a collage of the `wanted` objects in one of the photos that show a class of `scene`.
///
/// # Panics
/// When the bank has no photo.
pub fn draw<'b>(bank: &'b Bank, wanted: &[Wanted], scene: &[&str], rng: &mut impl Rng) -> Layout<'b> {
    Layout {
        background: background(bank, wanted, scene, rng),
        objects: place(pieces(bank, wanted, rng), rng),
    }
}

/// A cut-out with what its place depends on.
struct Piece<'b> {
    cut_out: CutOut<'b>,
    /// Of the longer side of the cut-out.
    size_cm: f32,
    raised: bool,
}

/// A cut-out for every wanted object; one for two where they touch.
fn pieces<'b>(bank: &'b Bank, wanted: &[Wanted], rng: &mut impl Rng) -> Vec<Piece<'b>> {
    let mut left: Vec<usize> = wanted.iter().map(|wanted| wanted.n).collect();
    let mut pieces = Vec::new();
    for first in 0..wanted.len() {
        for second in first + 1..wanted.len() {
            if left[first] == 0 || left[second] == 0 || !rng.random_bool(TOGETHER) {
                continue;
            }
            let both = bank.together(wanted[first].label, wanted[second].label);
            while left[first] > 0
                && left[second] > 0
                && let Some(cut_out) = choose(&both, &pieces, rng)
            {
                let size_cm = size_cm(wanted[first].label) / cut_out.share.max(0.1);
                pieces.push(Piece { cut_out, size_cm, raised: false });
                left[first] -= 1;
                left[second] -= 1;
            }
        }
    }
    for (wanted, left) in wanted.iter().zip(left) {
        let all = bank.cut_outs(wanted.label);
        let (size_cm, raised) = (size_cm(wanted.label), RAISED.contains(&wanted.label));
        for _ in 0..left {
            let Some(cut_out) = choose(&all, &pieces, rng) else { break };
            pieces.push(Piece { cut_out, size_cm, raised });
        }
    }
    pieces
}

/// The surest of some random cut-outs, if possible one that the collage does not have yet.
fn choose<'b>(all: &[CutOut<'b>], pieces: &[Piece<'_>], rng: &mut impl Rng) -> Option<CutOut<'b>> {
    let is_new = |one: &CutOut<'b>| {
        pieces
            .iter()
            .all(|piece| piece.cut_out.photo.image != one.photo.image || piece.cut_out.area != one.area)
    };
    let some: Vec<CutOut<'b>> = all.choose_multiple(rng, N_CUT_OUTS).copied().collect();
    let fresh = some.iter().filter(|one| is_new(one)).max_by(|a, b| a.score.total_cmp(&b.score));
    fresh.or_else(|| some.first()).copied()
}

/// The emptiest of some photos of the scene. Where the caption names no scene, or no photo shows it, photos that
/// show a wanted class stand in (the surroundings of dogs for a dog), then any photo.
fn background<'b>(bank: &'b Bank, wanted: &[Wanted], scene: &[&str], rng: &mut impl Rng) -> Background<'b> {
    let things: Vec<&str> =
        wanted.iter().map(|wanted| wanted.label).filter(|label| *label != "person").collect();
    let (mut pool, mut expected) = (bank.showing_any(scene), scene);
    if pool.is_empty() {
        (pool, expected) = (bank.showing_any(&things), &[]);
    }
    if pool.is_empty() {
        pool = bank.photos().iter().collect();
    }
    let mut best: Option<(f32, &Photo, Rect)> = None;
    for idx in 0..N_BACKGROUNDS {
        let photo = pool[rng.random_range(0..pool.len())];
        let area = if idx % 2 == 0 { whole(photo) } else { square(photo, rng) };
        let clutter = clutter(photo, &area, expected);
        if best.is_none_or(|(least, ..)| clutter < least) {
            best = Some((clutter, photo, area));
        }
    }
    let (photo, area) = best.map_or_else(|| (pool[0], whole(pool[0])), |(_, photo, area)| (photo, area));
    Background { photo, area, mirrored: rng.random() }
}

fn whole(photo: &Photo) -> Rect {
    Rect::new(0.0, 0.0, photo.width as f32, photo.height as f32)
}

/// A square of 50 to 100 % of the shorter side.
fn square(photo: &Photo, rng: &mut impl Rng) -> Rect {
    let (width, height) = (photo.width as f32, photo.height as f32);
    let side = rng.random_range(0.5..=1.0) * width.min(height);
    Rect::new(rng.random_range(0.0..=width - side), rng.random_range(0.0..=height - side), side, side)
}

/// How much of `area` the photo's objects cover, but for classes that are `expected`; more than 1 where they hide
/// one another.
fn clutter(photo: &Photo, area: &Rect, expected: &[&str]) -> f32 {
    let others = photo.things.iter().filter(|thing| !expected.contains(&thing.label.as_str()));
    others.map(|thing| area.share_covered_by(&thing.area)).sum()
}

/// Places the pieces one by one, the largest first.
fn place<'b>(pieces: Vec<Piece<'b>>, rng: &mut impl Rng) -> Vec<Placed<'b>> {
    let largest_cm = pieces.iter().map(|piece| piece.size_cm).fold(1.0, f32::max);
    // Many objects need room beside each other.
    let largest = rng.random_range(LARGEST) * (pieces.len().max(1) as f32).powf(-0.25);
    let mut sized: Vec<(f32, Piece<'b>)> = pieces
        .into_iter()
        .map(|piece| {
            let ratio = (piece.size_cm / largest_cm).powf(SIZE_POWER);
            ((largest * ratio * rng.random_range(0.85..1.15)).max(LEAST), piece)
        })
        .collect();
    sized.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut placed: Vec<Placed<'b>> = Vec::with_capacity(sized.len());
    for (side, piece) in sized {
        let CutOut { photo, area, .. } = piece.cut_out;
        let area = area.grown(MARGIN).within(photo.width, photo.height);
        let scale = side / area.longer_side().max(1.0);
        let (width, height) = (area.width() * scale, area.height() * scale);
        // What its photo cuts off at the bottom would float anywhere else.
        let cut_off = area.bottom >= photo.height as f32 - 1.0;
        let hidden = |place: &Rect| -> f32 {
            placed.iter().map(|other: &Placed<'_>| other.place.share_covered_by(place)).sum()
        };
        let mut best: Option<(f32, Rect)> = None;
        for _ in 0..N_PLACES {
            let x = rng.random_range(-0.05 * width..=(SIDE_PX - 0.95 * width).max(0.0));
            let bottom = match (piece.raised, cut_off) {
                (true, _) => SIDE_PX * rng.random_range(0.1..0.45) + height / 2.0,
                (false, true) => SIDE_PX + MARGIN * height,
                (false, false) => (SIDE_PX * rng.random_range(0.7..1.0)).max(height),
            };
            let place = Rect::new(x, bottom - height, width, height);
            let hidden = hidden(&place);
            if best.is_none_or(|(least, _)| hidden < least) {
                best = Some((hidden, place));
            }
        }
        if let Some((_, place)) = best {
            placed.push(Placed { photo, area, place, mirrored: rng.random() });
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::super::bank::Thing;
    use super::*;
    use crate::training::step_rng;

    fn photo(name: &str, things: &[(&str, Rect)]) -> Photo {
        let thing =
            |(label, area): &(&str, Rect)| Thing { label: (*label).to_owned(), score: 0.8, area: *area };
        Photo { image: name.into(), width: 200, height: 200, things: things.iter().map(thing).collect() }
    }

    fn wanted(label: &'static str, n: usize) -> Wanted {
        Wanted { label, n }
    }

    fn names(layout: &Layout<'_>) -> Vec<String> {
        layout.objects.iter().map(|placed| placed.photo.image.display().to_string()).collect()
    }

    #[test]
    fn larger_things_are_larger_and_painted_first() {
        let area = Rect::new(10.0, 10.0, 60.0, 60.0);
        let bank = Bank::new(vec![photo("ball", &[("sports ball", area)]), photo("bear", &[("bear", area)])]);
        for seed in 0..20 {
            let rng = &mut step_rng(seed, 0);
            let layout = draw(&bank, &[wanted("sports ball", 2), wanted("bear", 1)], &[], rng);
            assert_eq!(names(&layout), ["bear", "ball", "ball"]);
            let sides: Vec<f32> = layout.objects.iter().map(|placed| placed.place.longer_side()).collect();
            assert!(sides[0] > 1.5 * sides[1] && sides[2] >= LEAST - 0.1, "{sides:?}");
            let ball = &layout.objects[1].place;
            assert!((ball.top + ball.bottom) / 2.0 < 0.46 * SIDE_PX, "a ball is in the air: {ball:?}");
        }
    }

    #[test]
    fn most_of_every_object_is_in_the_picture() {
        let area = Rect::new(10.0, 10.0, 40.0, 120.0);
        let bank = Bank::new(vec![photo("person", &[("person", area)])]);
        let frame = Rect::new(0.0, 0.0, SIDE_PX, SIDE_PX);
        for seed in 0..50 {
            for placed in draw(&bank, &[wanted("person", 4)], &[], &mut step_rng(seed, 0)).objects {
                assert!(placed.place.share_covered_by(&frame) > 0.85, "{:?}", placed.place);
            }
        }
    }

    #[test]
    fn a_scene_is_a_photo_that_shows_it_and_little_else() {
        let area = Rect::new(0.0, 0.0, 190.0, 190.0);
        let bank = Bank::new(vec![
            photo("street", &[("stop sign", area)]),
            photo("crowded", &[("sheep", area), ("person", area)]),
            photo("pasture", &[("sheep", area)]),
        ]);
        for seed in 0..5 {
            let layout = draw(&bank, &[], &["sheep"], &mut step_rng(seed, 0));
            assert_eq!(layout.background.photo.image.to_str(), Some("pasture"));
        }
    }
}
