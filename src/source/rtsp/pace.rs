//! Which coded frames are decoded, and which of those are delivered.
//!
//! A coded frame needs the ones since the last keyframe. Where the interval is no shorter than the
//! distance of keyframes, keyframes alone are decoded, which costs a fraction; else every frame is
//! but those that no other frame needs.

use std::time::{Duration, Instant};

/// What becomes of a coded frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Skip,
    /// For the frames that come after it.
    Decode,
    Deliver,
    /// Frames after it are not decoded.
    DeliverAlone,
}

/// What is known of a coded frame before it is decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coded {
    /// Needs no frame before it.
    pub keyframe: bool,
    /// No frame needs it.
    pub disposable: bool,
    /// Packets before it were lost.
    pub after_loss: bool,
}

/// Keyframes come so much later than they should, at times.
const JITTER: u32 = 8;
/// Decoding that takes a larger share of so long a time falls behind the camera for good. Short of
/// that it may be catching up with a connection that stalled.
const BUSY_MAX: f64 = 0.9;
const BUSY_FOR: Duration = Duration::from_secs(10);

/// The state of the choice.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    due: Option<Instant>,
    /// Arrival of the last keyframe.
    keyframe: Option<Instant>,
    /// The last two distances of keyframes. Two, since a connection that stalled delivers in a burst.
    distances: [Option<Duration>; 2],
    keyframes_only: bool,
    /// What is decoded next must be a keyframe.
    needs_keyframe: bool,
    /// Time spent on decoding since then.
    busy: Duration,
    busy_since: Option<Instant>,
    overloaded: bool,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Pace {
        Pace {
            interval,
            due: None,
            keyframe: None,
            distances: [None; 2],
            keyframes_only: false,
            needs_keyframe: true,
            busy: Duration::ZERO,
            busy_since: None,
            overloaded: false,
        }
    }

    /// What to do with a frame that arrives at `now`.
    pub(super) fn step(&mut self, coded: Coded, now: Instant) -> Step {
        self.needs_keyframe |= coded.after_loss;
        if coded.keyframe {
            self.note_keyframe(now);
            self.needs_keyframe = false;
        } else if self.needs_keyframe || self.keyframes_only {
            return Step::Skip;
        }
        // Of keyframes alone, the nearest to the due time is taken: the first one after it would be
        // late by up to their distance, every time.
        let early = self.distance().filter(|_| self.keyframes_only).unwrap_or_default() / 2;
        match self.due {
            Some(due) if now + early < due && (coded.disposable || self.keyframes_only) => Step::Skip,
            Some(due) if now + early < due => Step::Decode,
            _ if self.keyframes_only => Step::DeliverAlone,
            _ => Step::Deliver,
        }
    }

    /// The frame that arrived at `now` was delivered.
    pub(super) fn delivered(&mut self, now: Instant) {
        self.due = Some(self.due.map_or(now + self.interval, |due| (due + self.interval).max(now)));
    }

    /// Time spent on a frame. All frames of a camera that this machine is too slow for would come
    /// later and later: from then on keyframes alone are decoded. True once, when that begins.
    pub(super) fn spent(&mut self, took: Duration, now: Instant) -> bool {
        let since = *self.busy_since.get_or_insert(now);
        self.busy += took;
        let elapsed = now.saturating_duration_since(since);
        if elapsed < BUSY_FOR {
            return false;
        }
        let is_busy = self.busy.as_secs_f64() > elapsed.as_secs_f64() * BUSY_MAX;
        let begins = is_busy && !self.keyframes_only && !self.overloaded;
        self.overloaded |= begins;
        (self.busy, self.busy_since) = (Duration::ZERO, Some(now));
        begins
    }

    /// What was decoded so far is of no use for the frames that come.
    pub(super) fn lost_track(&mut self) {
        self.needs_keyframe = true;
    }

    /// From keyframe to keyframe.
    fn distance(&self) -> Option<Duration> {
        Some(self.distances[0]?.max(self.distances[1]?))
    }

    fn note_keyframe(&mut self, now: Instant) {
        if let Some(last) = self.keyframe.replace(now) {
            self.distances = [Some(now.saturating_duration_since(last)), self.distances[0]];
        }
        let often = self.distance().is_some_and(|distance| distance - distance / JITTER <= self.interval);
        self.keyframes_only = often || self.overloaded;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A minute of 25 frames a second with a keyframe every `keyframe_ms`; `odd` says whether every
    /// other frame is disposable. How many are decoded, and when what was delivered arrived.
    fn minute(interval: Duration, keyframe_ms: u32, odd: bool) -> (usize, Vec<u32>) {
        let (start, mut pace) = (Instant::now(), Pace::new(interval));
        let (mut n_decoded, mut delivered) = (0, Vec::new());
        for ms in (0..60_000).step_by(40) {
            let keyframe = ms % keyframe_ms == 0;
            let coded = Coded { keyframe, disposable: odd && ms % 80 != 0 && !keyframe, after_loss: false };
            let now = start + ms * MS;
            let step = pace.step(coded, now);
            n_decoded += usize::from(step != Step::Skip);
            if matches!(step, Step::Deliver | Step::DeliverAlone) {
                pace.delivered(now);
                delivered.push(ms);
            }
        }
        (n_decoded, delivered)
    }

    #[test]
    fn decodes_keyframes_alone_once_they_are_known_to_come_often_enough() {
        // The first two distances are decoded in full: no other is known.
        let (n_decoded, delivered) = minute(2000 * MS, 2000, false);
        assert_eq!((n_decoded, delivered.len()), (100 + 28, 30));
        assert!(delivered.iter().all(|ms| ms % 2000 == 0));
        let (n_decoded, delivered) = minute(5000 * MS, 1000, false);
        assert_eq!((n_decoded, delivered.len()), (50 + 11, 12));
    }

    #[test]
    fn takes_the_keyframe_next_to_the_due_time() {
        let (_, delivered) = minute(2500 * MS, 1000, false);
        assert_eq!(delivered.len(), 24);
        let late = |(i, ms): (usize, &u32)| ms.abs_diff(2500 * i as u32);
        assert!(delivered.iter().enumerate().map(late).all(|ms| ms <= 500), "{delivered:?}");
    }

    #[test]
    fn decodes_all_where_keyframes_are_rare_but_what_no_frame_needs() {
        let (n_decoded, delivered) = minute(200 * MS, 2000, false);
        assert_eq!((n_decoded, delivered.len()), (1500, 300));
        let (n_decoded, delivered) = minute(200 * MS, 2000, true);
        assert_eq!(delivered.len(), 300);
        assert!((750..1000).contains(&n_decoded), "{n_decoded}");
        // A camera that sends one keyframe and never another.
        let (n_decoded, delivered) = minute(2000 * MS, 600_000, false);
        assert_eq!((n_decoded, delivered.len()), (1500, 30));
    }

    #[test]
    fn waits_for_a_keyframe_first_and_after_losses() {
        let (now, mut pace) = (Instant::now(), Pace::new(100 * MS));
        let (inner, key) = (Coded::default(), Coded { keyframe: true, ..Coded::default() });
        assert_eq!(pace.step(inner, now), Step::Skip);
        assert_eq!(pace.step(key, now), Step::Deliver);
        assert_eq!(pace.step(inner, now), Step::Deliver);
        assert_eq!(pace.step(Coded { after_loss: true, ..inner }, now), Step::Skip);
        assert_eq!(pace.step(inner, now), Step::Skip);
        assert_eq!(pace.step(Coded { after_loss: true, ..key }, now), Step::Deliver);
        pace.lost_track();
        assert_eq!(pace.step(inner, now), Step::Skip);
    }

    #[test]
    fn a_machine_that_is_too_slow_falls_back_to_keyframes_and_says_so_once() {
        let (start, mut pace) = (Instant::now(), Pace::new(100 * MS));
        let mut said = 0;
        for ms in (0..60_000).step_by(40) {
            let (keyframe, now) = (ms % 2000 == 0, start + ms * MS);
            let step = pace.step(Coded { keyframe, ..Coded::default() }, now);
            if step != Step::Skip {
                said += usize::from(pace.spent(39 * MS, now));
                assert!(ms <= 12_000 || keyframe, "{ms}");
            }
        }
        assert_eq!(said, 1);
    }
}
