use image::Rgb;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const SECRET: Rgb<u8> = Rgb([251, 252, 253]);
const OPEN: Rgb<u8> = Rgb([40, 50, 60]);

fn polygon(corners: &[[f32; 2]]) -> Polygon {
    Polygon::new(corners.to_vec()).unwrap()
}

/// Whether the corners wind around the point.
fn winds_around(corners: &[[f32; 2]], [x, y]: [f32; 2]) -> bool {
    let mut winding = 0;
    for (i, [x0, y0]) in corners.iter().copied().enumerate() {
        let [x1, y1] = corners[(i + 1) % corners.len()];
        let side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0);
        if y0 <= y && y1 > y && side > 0.0 {
            winding += 1;
        } else if y0 > y && y1 <= y && side < 0.0 {
            winding -= 1;
        }
    }
    winding != 0
}

fn random_geometry(rng: &mut ChaCha8Rng) -> Geometry {
    let n_masks = rng.random_range(1..=3);
    let masks = (0..n_masks)
        .map(|_| {
            let n_corners = rng.random_range(3..=7);
            Polygon::new((0..n_corners).map(|_| [rng.random(), rng.random()]).collect()).unwrap()
        })
        .collect();
    let rotation = Rotation::of_degrees(90 * rng.random_range(0..4u64)).unwrap();
    let [left, top]: [f32; 2] = [rng.random_range(0.0..0.8), rng.random_range(0.0..0.8)];
    let crop = rng.random_bool(0.5).then(|| {
        Area::new([left, top, rng.random_range(0.01..1.0 - left), rng.random_range(0.01..1.0 - top)]).unwrap()
    });
    Geometry { rotation, mirror: rng.random(), masks, crop }
}

/// A picture that shows `SECRET` wherever a point of a private area lies in the pixel, as the camera would deliver it,
/// and as it is upright.
fn picture(geometry: &Geometry, (width, height): (u32, u32)) -> RgbImage {
    let fine = 6;
    let upright = RgbImage::from_fn(width, height, |x, y| {
        let points = (0..=fine).flat_map(|i| (0..=fine).map(move |j| (i, j))).map(|(i, j)| {
            let at =
                |base: u32, step: u32, side: u32| (base as f32 + step as f32 / fine as f32) / side as f32;
            [at(x, i, width), at(y, j, height)]
        });
        let hidden = |point: [f32; 2]| geometry.masks.iter().any(|mask| winds_around(&mask.0, point));
        if points.into_iter().any(hidden) { SECRET } else { OPEN }
    });
    let mut raw = upright;
    if geometry.mirror {
        imageops::flip_horizontal_in_place(&mut raw);
    }
    match geometry.rotation {
        Rotation::None => raw,
        Rotation::Quarter => imageops::rotate270(&raw),
        Rotation::Half => imageops::rotate180(&raw),
        Rotation::ThreeQuarters => imageops::rotate90(&raw),
    }
}

#[test]
fn no_pixel_of_a_private_area_is_left_whatever_the_areas_and_turns() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for round in 0..300 {
        let geometry = random_geometry(&mut rng);
        let size = (rng.random_range(1..60), rng.random_range(1..60));
        let developed = Darkroom::new(geometry.clone()).develop(picture(&geometry, size));
        assert!(developed.pixels().all(|pixel| *pixel != SECRET), "round {round}: {geometry:?} at {size:?}");
    }
}

#[test]
fn what_is_not_private_stays_as_it_is() {
    let masks = vec![polygon(&[[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]])];
    let geometry = Geometry { masks, ..Geometry::default() };
    let developed = Darkroom::new(geometry).develop(RgbImage::from_pixel(40, 40, OPEN));
    let black = developed.pixels().filter(|pixel| pixel.0 == [0; 3]).count();
    let n = |side: usize| side * side;
    assert!((n(20)..=n(24)).contains(&black), "{black} pixels of {}", n(20));
    assert_eq!(*developed.get_pixel(5, 20), OPEN);
    assert_eq!(*developed.get_pixel(20, 20), Rgb([0; 3]));
}

#[test]
fn crossing_edges_hide_all_that_they_enclose() {
    // A pentagram, whose middle an even-odd fill would leave open.
    let star: Vec<[f32; 2]> = (0..5)
        .map(|i| {
            let angle = (i * 2) as f32 * std::f32::consts::TAU / 5.0;
            [0.5 + 0.45 * angle.sin(), 0.5 - 0.45 * angle.cos()]
        })
        .collect();
    let geometry = Geometry { masks: vec![polygon(&star)], ..Geometry::default() };
    let developed = Darkroom::new(geometry).develop(RgbImage::from_pixel(64, 64, OPEN));
    assert_eq!(*developed.get_pixel(32, 32), Rgb([0; 3]));
}

#[test]
fn a_picture_is_turned_before_it_is_mirrored_and_cut() {
    // Red left, green right; a quarter turn clockwise puts red on top.
    let image = RgbImage::from_fn(4, 2, |x, _| if x < 2 { Rgb([255, 0, 0]) } else { Rgb([0, 255, 0]) });
    let crop = Area::new([0.0, 0.0, 1.0, 0.5]);
    let geometry = Geometry { rotation: Rotation::Quarter, mirror: true, crop, ..Geometry::default() };
    let developed = Darkroom::new(geometry).develop(image);
    assert_eq!(developed.dimensions(), (2, 2));
    assert!(developed.pixels().all(|pixel| pixel.0 == [255, 0, 0]));
}

#[test]
fn a_camera_may_change_its_size_in_between() {
    let masks = vec![polygon(&[[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]])];
    let mut darkroom = Darkroom::new(Geometry { masks, ..Geometry::default() });
    for (width, height) in [(64, 48), (32, 8), (0, 0), (64, 48)] {
        let developed = darkroom.develop(RgbImage::from_pixel(width, height, OPEN));
        let half = width / 2;
        assert!(developed.enumerate_pixels().all(|(x, _, pixel)| x >= half || pixel.0 == [0; 3]));
        assert!(developed.enumerate_pixels().all(|(x, _, pixel)| x < half + 4 || *pixel == OPEN));
    }
}

#[test]
fn impossible_places_are_refused() {
    assert!(Polygon::new(vec![[0.0, 0.0], [1.0, 1.0]]).is_none());
    assert!(Polygon::new(vec![[0.0, 0.0], [1.0, 1.1], [0.5, 0.5]]).is_none());
    assert!(Polygon::new(vec![[0.0, f32::NAN], [1.0, 1.0], [0.5, 0.5]]).is_none());
    assert!(Area::new([0.5, 0.0, 0.6, 1.0]).is_none());
    assert!(Area::new([0.0, 0.0, 0.0, 1.0]).is_none());
    assert_eq!(Area::new([0.99, 0.99, 0.01, 0.01]).unwrap().pixels((10, 10)), [9, 9, 1, 1]);
}
