//! The life of one camera: open, deliver, fail, wait, open again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::frozen::FrozenWatch;
use super::geometry::{Darkroom, Geometry};
use super::{Capture, Image, SourceConfig, SourceError, open};
use crate::backoff::Backoff;
use crate::config::CameraConfig;
use crate::frame::{Frame, FrameId};
use crate::health::{Count, Health};
use crate::inbox::Inbox;
use crate::mailbox::Mailbox;
use crate::shutdown::Shutdown;

/// A camera that delivered for so long was well: its next failure is a new one.
const GOOD_MINUTE: Duration = Duration::from_secs(60);
/// A source comes back earlier, unless the process was stopped.
const SUSPENDED: Duration = Duration::from_secs(super::NEXT_MAX.as_secs() + 1);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_LONGEST: Duration = Duration::from_secs(30);

/// One camera: its place in the configuration, its name, its source.
#[derive(Debug)]
pub struct Capturer {
    pub camera: usize,
    pub name: String,
    pub config: SourceConfig,
    pub geometry: Geometry,
    /// After so long without a picture the source is opened anew.
    pub silence: Option<Duration>,
    /// After so long with the same picture, bit for bit, the source is opened anew.
    pub frozen: Option<Duration>,
    /// Where pictures come in that the listener takes from the broker.
    pub mailbox: Arc<Mailbox>,
    pub office: Office,
}

/// Which thread may speak for a camera. A thread that hangs in a driver cannot be ended, but another can take its
/// office: when it wakes up, it finds that and goes.
#[derive(Debug, Default)]
pub struct Tenure {
    holder: AtomicU64,
    seen: Mutex<Option<Instant>>,
}

/// The right of one thread to speak for a camera.
#[derive(Debug)]
pub struct Office {
    tenure: Arc<Tenure>,
    number: u64,
}

impl Tenure {
    /// Gives the office to a thread that is about to start, and takes it from the one before.
    pub fn appoint(self: &Arc<Tenure>, now: Instant) -> Office {
        let number = self.holder.fetch_add(1, Relaxed) + 1;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        Office { tenure: Arc::clone(self), number }
    }

    /// The holder is taken to have been seen, though it may not have been.
    pub fn forgive(&self, now: Instant) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Takes the office from whoever has it; nobody gets it.
    pub fn dismiss(&self) {
        self.holder.fetch_add(1, Relaxed);
    }

    /// When the holder was appointed or last gave a sign of life.
    pub fn seen_at(&self) -> Option<Instant> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Office {
    /// Gives a sign of life; false when another has taken over.
    fn hold(&self) -> bool {
        let held = self.tenure.holder.load(Relaxed) == self.number;
        if held {
            *self.tenure.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        held
    }
}

/// Why one life of a source ended without an error.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The source has no more pictures, or shutdown was requested.
    Done,
    /// Another thread speaks for this camera.
    Replaced,
}

impl Capturer {
    /// The one of the camera at this place in the configuration.
    pub fn new(camera: usize, config: &CameraConfig, mailbox: Arc<Mailbox>, office: Office) -> Capturer {
        let CameraConfig { name, source, geometry, silence, frozen, .. } = config.clone();
        Capturer { camera, name, config: source, geometry, silence, frozen, mailbox, office }
    }

    /// Captures until shutdown or the end of the source; opens it again, ever later, when it fails.
    pub fn run(&self, inbox: &Inbox, health: &Health, shutdown: &Shutdown) {
        // What is said further down names the camera, too.
        let _span = tracing::error_span!("camera", name = self.name).entered();
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_LONGEST);
        let mut life = Life {
            capturer: self,
            inbox,
            health,
            darkroom: Darkroom::new(self.geometry.clone()),
            frozen: self.frozen.map(FrozenWatch::new),
        };
        while !shutdown.is_requested() {
            let opened = Instant::now();
            let outcome = life.run(shutdown);
            if matches!(outcome, Ok(Ended::Replaced)) || !self.office.hold() {
                tracing::info!(camera = self.name, "camera's former thread came back and ends");
                return;
            }
            // First why, then that: whoever hears of it asks for the reason at once.
            health.set_camera_fault(self.camera, outcome.as_ref().err().map(ToString::to_string));
            if health.set_camera_online(self.camera, false) {
                tracing::info!(camera = self.name, "camera down");
            }
            let Err(e) = outcome else { return };
            health.count(self.camera, Count::Lost);
            if opened.elapsed() >= GOOD_MINUTE {
                backoff.reset();
            }
            let wait = backoff.next_wait();
            tracing::warn!(camera = self.name, error = %e, retry_ms = wait.as_millis(), "camera lost, retrying");
            self.rest(wait, shutdown);
        }
    }

    /// Waits with signs of life.
    fn rest(&self, wait: Duration, shutdown: &Shutdown) {
        let until = Instant::now() + wait;
        while self.office.hold()
            && !shutdown.wait_for(until.saturating_duration_since(Instant::now()).min(super::NEXT_MAX))
        {
            if Instant::now() >= until {
                return;
            }
        }
    }
}

/// One camera's capture between two openings, and what outlives them.
struct Life<'a> {
    capturer: &'a Capturer,
    inbox: &'a Inbox,
    health: &'a Health,
    darkroom: Darkroom,
    frozen: Option<FrozenWatch>,
}

impl Life<'_> {
    /// One life of the source, from opening to its end or failure.
    fn run(&mut self, shutdown: &Shutdown) -> Result<Ended, SourceError> {
        let Capturer { camera, name, silence, office, .. } = self.capturer;
        office.hold();
        let mut source = open(&self.capturer.config, &self.capturer.mailbox)?;
        let mut last = Instant::now();
        loop {
            let asked = Instant::now();
            let capture = source.next(shutdown)?;
            if asked.elapsed() >= SUSPENDED {
                // No source takes so long: the whole process stood still, which is not the camera's fault.
                last = Instant::now();
            }
            if !office.hold() {
                return Ok(Ended::Replaced);
            }
            match capture {
                Capture::Image(image) => {
                    last = Instant::now();
                    self.deliver(image)?;
                }
                Capture::Broken { what, why } => {
                    self.health.count(*camera, Count::Failed);
                    tracing::warn!(camera = name, what, why, "image lost");
                }
                Capture::Nothing => {}
                Capture::End | Capture::Interrupted => return Ok(Ended::Done),
            }
            if let Some(limit) = silence
                && last.elapsed() >= *limit
            {
                return Err(SourceError::Silent(last.elapsed()));
            }
        }
    }

    fn deliver(&mut self, image: Image) -> Result<(), SourceError> {
        let camera = self.capturer.camera;
        let Image { pixels, file, captured_at, taken, decode } = image;
        let seq = self.health.count(camera, Count::Captured);
        if let Some(frozen) = &mut self.frozen
            && let Some(same_for) = frozen.see(&pixels, taken)
        {
            return Err(SourceError::Frozen(same_for));
        }
        if self.health.set_camera_online(camera, true) {
            self.health.set_camera_fault(camera, None);
            tracing::info!(camera = self.capturer.name, "camera up");
        }
        let image = self.darkroom.develop(pixels);
        let frame = Frame { id: FrameId { camera, seq, captured_at, file }, taken, decode, image };
        if self.inbox.put_frame(frame) {
            self.health.count(camera, Count::Overwritten);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::geometry::Polygon;
    use super::super::replay::{Photo, ReplayConfig};
    use super::*;
    use crate::inbox::Work;

    const PHOTO: &[u8] = include_bytes!("../../assets/demo/cat.jpg");

    fn capturer(photos: Vec<Photo>, repeat: bool) -> Capturer {
        let config = ReplayConfig { photos, interval: Duration::from_millis(1), repeat };
        Capturer {
            camera: 0,
            name: "yard".to_owned(),
            config: SourceConfig::Replay(config),
            geometry: Geometry::default(),
            silence: None,
            frozen: None,
            mailbox: Arc::default(),
            office: Arc::<Tenure>::default().appoint(Instant::now()),
        }
    }

    fn cat() -> Photo {
        Photo::Embedded { name: "cat.jpg", bytes: PHOTO }
    }

    fn run(capturer: &Capturer) -> (Inbox, Health) {
        let (inbox, health, shutdown) = (Inbox::new(1), Health::new(1, None), Shutdown::new());
        capturer.run(&inbox, &health, &shutdown);
        (inbox, health)
    }

    #[test]
    fn a_source_that_ends_goes_offline_and_counts_what_it_gave() {
        let broken = Photo::Embedded { name: "broken.jpg", bytes: b"garbage" };
        let (_, health) = run(&capturer(vec![cat(), broken, cat()], false));
        let counters = health.counters(0);
        assert_eq!((counters.captured, counters.failed, counters.overwritten), (2, 1, 1));
        assert_eq!(*health.cameras_online().borrow(), [false]);
    }

    #[test]
    fn a_source_that_fails_to_open_is_retried_until_shutdown_and_says_why() {
        let capturer = capturer(vec![Photo::Folder("/nonexistent".into())], true);
        let (inbox, health, shutdown) = (Inbox::new(1), Health::new(1, None), Shutdown::new());
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| capturer.run(&inbox, &health, &shutdown));
            while health.camera_fault(0).is_none() {
                assert!(!thread.is_finished());
                std::thread::yield_now();
            }
            shutdown.request();
        });
        assert!(health.camera_fault(0).unwrap().contains("/nonexistent"));
    }

    #[test]
    fn what_reaches_the_inbox_has_no_private_pixel() {
        let all = Polygon::new(vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]);
        let geometry = Geometry { masks: all.into_iter().collect(), ..Geometry::default() };
        let (inbox, _) = run(&Capturer { geometry, ..capturer(vec![cat()], false) });
        let Work::Frame(frame, _) = inbox.next(Duration::ZERO) else { panic!("no frame") };
        assert!(frame.image.as_raw().iter().all(|level| *level == 0));
    }

    #[test]
    fn a_frozen_picture_opens_the_source_anew_and_is_then_believed() {
        let capturer = Capturer { frozen: Some(Duration::from_millis(20)), ..capturer(vec![cat()], true) };
        let (inbox, health, shutdown) = (Inbox::new(1), Health::new(1, None), Shutdown::new());
        std::thread::scope(|scope| {
            scope.spawn(|| capturer.run(&inbox, &health, &shutdown));
            while !health.camera_fault(0).is_some_and(|fault| fault.contains("bit for bit")) {
                std::thread::yield_now();
            }
            while health.camera_fault(0).is_some() {
                std::thread::yield_now();
            }
            let back_at = health.counters(0).captured;
            while health.counters(0).captured < back_at + 30 {
                std::thread::yield_now();
            }
            assert!(health.camera_fault(0).is_none(), "the picture is like that");
            shutdown.request();
        });
    }

    #[test]
    fn a_thread_that_lost_its_office_ends_without_a_word() {
        let capturer = capturer(vec![cat()], true);
        let (inbox, health, shutdown) = (Inbox::new(1), Health::new(1, None), Shutdown::new());
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| capturer.run(&inbox, &health, &shutdown));
            while health.counters(0).captured == 0 {
                std::thread::yield_now();
            }
            drop(capturer.office.tenure.appoint(Instant::now()));
            thread.join().unwrap();
        });
        assert_eq!(*health.cameras_online().borrow(), [true], "that is for its successor to say");
    }
}
