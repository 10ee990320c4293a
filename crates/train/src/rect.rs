//! Upright rectangles, in pixels of whatever they lie in.

use image::RgbImage;
use image::imageops::crop_imm;
use serde::{Deserialize, Serialize};

/// From (`left`, `top`) up to (`right`, `bottom`), which are not below them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rect {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

impl Rect {
    pub fn new(left: f32, top: f32, width: f32, height: f32) -> Rect {
        Rect { left, top, right: left + width, bottom: top + height }
    }

    pub fn width(&self) -> f32 {
        (self.right - self.left).max(0.0)
    }

    pub fn height(&self) -> f32 {
        (self.bottom - self.top).max(0.0)
    }

    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    pub fn longer_side(&self) -> f32 {
        self.width().max(self.height())
    }

    /// What both cover; without area when they do not meet.
    pub fn intersection(&self, other: &Rect) -> Rect {
        Rect {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
    }

    /// The smallest rectangle around both.
    pub fn hull(&self, other: &Rect) -> Rect {
        Rect {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// Intersection over union, 0 to 1.
    pub fn iou(&self, other: &Rect) -> f32 {
        let both = self.intersection(other).area();
        both / (self.area() + other.area() - both).max(f32::MIN_POSITIVE)
    }

    /// The share of this rectangle that `other` covers, 0 to 1.
    pub fn share_covered_by(&self, other: &Rect) -> f32 {
        self.intersection(other).area() / self.area().max(f32::MIN_POSITIVE)
    }

    /// Moved outwards on every side by `share` of the side's length.
    pub fn grown(&self, share: f32) -> Rect {
        let (dx, dy) = (share * self.width(), share * self.height());
        Rect { left: self.left - dx, top: self.top - dy, right: self.right + dx, bottom: self.bottom + dy }
    }

    /// What of it lies in an image of this size.
    pub fn within(&self, width: u32, height: u32) -> Rect {
        self.intersection(&Rect::new(0.0, 0.0, width as f32, height as f32))
    }

    /// The pixels of `image` in it, rounded outwards and at least one, for a rectangle within the image.
    pub fn cut(&self, image: &RgbImage) -> RgbImage {
        let (left, top) = (self.left.max(0.0) as u32, self.top.max(0.0) as u32);
        let (left, top) = (left.min(image.width().max(1) - 1), top.min(image.height().max(1) - 1));
        let width = (self.right.ceil() as u32).saturating_sub(left).max(1);
        let height = (self.bottom.ceil() as u32).saturating_sub(top).max(1);
        crop_imm(image, left, top, width, height).to_image()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_measured_over_the_union_and_over_one_of_them() {
        let a = Rect::new(0.0, 0.0, 4.0, 2.0);
        let b = Rect::new(2.0, 0.0, 4.0, 2.0);
        assert!((a.iou(&b) - 4.0 / 12.0).abs() < 1e-6);
        assert!((a.share_covered_by(&b) - 0.5).abs() < 1e-6);
        assert!(a.iou(&Rect::new(5.0, 5.0, 1.0, 1.0)).abs() < 1e-6, "apart on both axes");
        assert_eq!(a.hull(&b), Rect::new(0.0, 0.0, 6.0, 2.0));
    }

    #[test]
    fn a_cut_stays_within_the_image_and_has_pixels() {
        let image = RgbImage::new(10, 6);
        let size = |rect: Rect| rect.cut(&image).dimensions();
        assert_eq!(size(Rect::new(1.5, 0.0, 3.0, 2.5)), (4, 3));
        assert_eq!(size(Rect::new(-5.0, -5.0, 100.0, 100.0)), (10, 6));
        assert_eq!(size(Rect::new(10.0, 6.0, 0.0, 0.0)), (1, 1));
    }
}
