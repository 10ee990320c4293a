//! Which frames of a camera are due. Knows no clock.

use std::time::{Duration, Instant};

/// After a frame that was lost the next one is tried so much later, where `interval` is not shorter:
/// soon enough to lose little, and late enough to spare the log.
const RETRY: Duration = Duration::from_secs(1);

/// Takes one frame in every interval.
#[derive(Debug)]
pub(super) struct Pace {
    due: Instant,
    interval: Duration,
    /// A frame that comes earlier than it is due by no more than this is taken: where the camera's
    /// period is the interval itself, jitter would otherwise lose every other one.
    slack: Duration,
}

impl Pace {
    /// The first frame is due `now`; `period` is the camera's own, zero where it is not known.
    pub(super) fn new(now: Instant, interval: Duration, period: Duration) -> Pace {
        Pace { due: now, interval, slack: period.min(interval) / 2 }
    }

    pub(super) fn is_due(&self, at: Instant) -> bool {
        at + self.slack >= self.due
    }

    /// A frame was taken: the next one is due an interval after this one was due, or, where the camera
    /// fell behind, after it came.
    pub(super) fn taken(&mut self, at: Instant) {
        let next = self.due + self.interval;
        self.due = if next > at { next } else { at + self.interval };
    }

    /// A frame was due and is lost.
    pub(super) fn lost(&mut self, at: Instant) {
        self.due = at + self.interval.min(RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Those of the frames at `times_ms` that are taken.
    fn taken(interval_ms: u32, period_ms: u32, times_ms: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let start = Instant::now();
        let mut pace = Pace::new(start, MS * interval_ms, MS * period_ms);
        let mut all = Vec::new();
        for time_ms in times_ms {
            let at = start + MS * time_ms;
            if pace.is_due(at) {
                pace.taken(at);
                all.push(time_ms);
            }
        }
        all
    }

    #[test]
    fn jitter_loses_no_frame_of_a_camera_whose_period_is_the_interval() {
        let times_ms = [3, 102, 199, 301, 398, 500, 599, 702];
        assert_eq!(taken(100, 100, times_ms), times_ms);
    }

    #[test]
    fn a_faster_camera_gives_one_frame_an_interval() {
        let times_ms = (0..39).map(|n| n * 33);
        assert_eq!(taken(100, 33, times_ms).len(), 13, "of 1.3 seconds");
        assert_eq!(taken(100, 0, [0, 33, 66, 99, 132, 165, 198, 231]), [0, 132, 231]);
    }

    #[test]
    fn frames_that_come_late_are_not_made_up_for() {
        assert_eq!(taken(100, 33, [0, 1000, 1033, 1066, 1099]), [0, 1000, 1099]);
    }

    #[test]
    fn after_a_loss_the_next_try_is_soon() {
        let start = Instant::now();
        let mut pace = Pace::new(start, Duration::from_secs(3600), MS * 33);
        pace.taken(start);
        let at = start + Duration::from_secs(3600);
        pace.lost(at);
        assert!(!pace.is_due(at + MS * 900) && pace.is_due(at + MS * 1000));
        let mut pace = Pace::new(start, MS * 100, MS * 33);
        pace.lost(start);
        assert!(pace.is_due(start + MS * 100));
    }
}
