//! Notices a picture that stays the same bit for bit: a camera or a network that hangs while it looks alive.

use std::time::{Duration, Instant};

use image::RgbImage;

/// The memory of one camera; it outlives the openings of its source.
#[derive(Debug)]
pub(super) struct FrozenWatch {
    /// After so long the picture counts as frozen.
    limit: Duration,
    last: Option<Seen>,
    /// The picture that was there before and after the source was opened anew: it is like that.
    still: Option<u32>,
}

#[derive(Debug)]
struct Seen {
    hash: u32,
    since: Instant,
}

impl FrozenWatch {
    pub(super) fn new(limit: Duration) -> FrozenWatch {
        FrozenWatch { limit, last: None, still: None }
    }

    /// For how long the picture has been the same, once that is too long. Said once: when the picture comes back the
    /// same from a source that was opened anew, it is not the source that hangs.
    pub(super) fn see(&mut self, picture: &RgbImage, taken: Instant) -> Option<Duration> {
        let hash = crc32fast::hash(picture.as_raw());
        if self.still.is_some_and(|still| still != hash) {
            self.still = None;
        }
        match &self.last {
            Some(last) if last.hash == hash => {
                let same_for = taken.saturating_duration_since(last.since);
                let frozen = same_for >= self.limit && self.still.is_none();
                if frozen {
                    self.still = Some(hash);
                }
                frozen.then_some(same_for)
            }
            _ => {
                self.last = Some(Seen { hash, since: taken });
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn plain(level: u8) -> RgbImage {
        RgbImage::from_pixel(16, 16, image::Rgb([level; 3]))
    }

    #[test]
    fn a_picture_that_never_changes_is_frozen_once() {
        let (mut watch, t) = (FrozenWatch::new(LIMIT), Instant::now());
        let at = |s: u64| t + Duration::from_secs(s);
        assert_eq!(watch.see(&plain(1), at(0)), None);
        assert_eq!(watch.see(&plain(1), at(59)), None);
        assert_eq!(watch.see(&plain(1), at(61)), Some(Duration::from_secs(61)));
        assert_eq!(watch.see(&plain(1), at(200)), None, "the same from the source that was opened anew");
        assert_eq!(watch.see(&plain(2), at(201)), None);
        assert_eq!(
            watch.see(&plain(2), at(300)),
            Some(Duration::from_secs(99)),
            "another picture may freeze, too"
        );
    }

    #[test]
    fn one_bit_of_noise_is_life() {
        let (mut watch, t) = (FrozenWatch::new(LIMIT), Instant::now());
        for s in 0..300u64 {
            let mut picture = plain(9);
            picture.put_pixel(3, 3, image::Rgb([9, 9, (s % 2) as u8]));
            assert_eq!(watch.see(&picture, t + Duration::from_secs(s)), None);
        }
    }
}
