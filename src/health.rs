//! How the daemon is doing: counters, which cameras deliver, and what systemd is told.
//!
//! Counts and tells; it decides nothing and logs nothing per frame.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::message::Happening;
use crate::metrics::Stages;

/// The ways in which a frame or a publication does not come out, and those that do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub captured: u64,
    pub captioned: u64,
    /// A newer frame arrived before this one was looked at.
    pub overwritten: u64,
    /// Not different enough from the frame before.
    pub gated: u64,
    /// Inference was done, but the publication found its queue full or no broker.
    pub dropped: u64,
    /// Could not be decoded, or inference failed.
    pub failed: u64,
    /// Not a frame: times that the camera was lost, or not there at all.
    pub lost: u64,
}

/// One of the [`Counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    Captured,
    Captioned,
    Overwritten,
    Gated,
    Dropped,
    Failed,
    Lost,
}

/// Shared by every thread.
#[derive(Debug)]
pub struct Health {
    /// The camera of each place; none where there is none now.
    names: Mutex<Vec<Option<String>>>,
    cameras: Vec<[AtomicU64; 7]>,
    online: watch::Sender<Vec<bool>>,
    faults: Mutex<Vec<Option<String>>>,
    broker: AtomicBool,
    queued: AtomicU64,
    /// Milliseconds between two frames that are looked at, under pressure.
    slow_interval_ms: AtomicU64,
    engine_fault: Mutex<Option<String>>,
    stages: Stages,
    started: Instant,
    /// Of the inference thread, in milliseconds since the start.
    beat_ms: AtomicU64,
    watchdog: Mutex<Watchdog>,
}

#[derive(Debug)]
struct Watchdog {
    period: Option<Duration>,
    last: Option<Instant>,
}

impl Health {
    /// `watchdog` is the period within which systemd expects a sign of life.
    pub fn new(n_cameras: usize, watchdog: Option<Duration>) -> Health {
        Health {
            names: Mutex::new(vec![None; n_cameras]),
            cameras: (0..n_cameras).map(|_| Default::default()).collect(),
            online: watch::Sender::new(vec![false; n_cameras]),
            faults: Mutex::new(vec![None; n_cameras]),
            broker: AtomicBool::new(false),
            queued: AtomicU64::new(0),
            slow_interval_ms: AtomicU64::new(0),
            engine_fault: Mutex::new(None),
            stages: Stages::default(),
            started: Instant::now(),
            beat_ms: AtomicU64::new(0),
            watchdog: Mutex::new(Watchdog { period: watchdog, last: None }),
        }
    }

    /// Gives a place to a camera, or to none. Its counters begin anew.
    pub fn name_camera(&self, camera: usize, name: Option<&str>) {
        self.cameras[camera].iter().for_each(|counter| counter.store(0, Relaxed));
        self.set_camera_fault(camera, None);
        self.set_camera_online(camera, false);
        self.names.lock().unwrap_or_else(PoisonError::into_inner)[camera] = name.map(str::to_owned);
    }

    /// The cameras that there are, with their places.
    pub fn names(&self) -> Vec<(usize, String)> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().enumerate().filter_map(|(i, name)| Some((i, name.clone()?))).collect()
    }

    /// Counts one more; returns how many there are now.
    pub fn count(&self, camera: usize, count: Count) -> u64 {
        self.cameras[camera][count as usize].fetch_add(1, Relaxed) + 1
    }

    pub fn counters(&self, camera: usize) -> Counters {
        let read = |count: Count| self.cameras[camera][count as usize].load(Relaxed);
        Counters {
            captured: read(Count::Captured),
            captioned: read(Count::Captioned),
            overwritten: read(Count::Overwritten),
            gated: read(Count::Gated),
            dropped: read(Count::Dropped),
            failed: read(Count::Failed),
            lost: read(Count::Lost),
        }
    }

    /// Says whether a camera delivers frames; true when that is news. What keeps it from doing so is said before.
    pub fn set_camera_online(&self, camera: usize, online: bool) -> bool {
        self.online.send_if_modified(|all| std::mem::replace(&mut all[camera], online) != online)
    }

    /// Says why a camera does not deliver, or that it does.
    pub fn set_camera_fault(&self, camera: usize, fault: Option<String>) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)[camera] = fault;
    }

    /// Why a camera does not deliver; none where it does, or has not tried yet.
    pub fn camera_fault(&self, camera: usize) -> Option<String> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)[camera].clone()
    }

    /// Changes whenever a camera comes or goes.
    pub fn cameras_online(&self) -> watch::Receiver<Vec<bool>> {
        self.online.subscribe()
    }

    pub fn set_broker_online(&self, online: bool) {
        self.broker.store(online, Relaxed);
    }

    pub fn is_broker_online(&self) -> bool {
        self.broker.load(Relaxed)
    }

    /// How many messages wait on disk.
    pub fn set_queued(&self, n: u64) {
        self.queued.store(n, Relaxed);
    }

    pub fn queued(&self) -> u64 {
        self.queued.load(Relaxed)
    }

    /// Frames of one camera are to be looked at no more often than this; zero for as often as they come.
    pub fn set_slow_interval(&self, interval: Duration) {
        self.slow_interval_ms.store(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    pub fn slow_interval(&self) -> Duration {
        Duration::from_millis(self.slow_interval_ms.load(Relaxed))
    }

    /// Says why inference fails again and again, or that it does not.
    pub fn set_engine_fault(&self, fault: Option<String>) {
        *self.engine_fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Why nothing is captioned though frames come: the daemon is degraded. None where it is well.
    pub fn engine_fault(&self) -> Option<String> {
        self.engine_fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn stages(&self) -> &Stages {
        &self.stages
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Since the last sign of life of the inference thread.
    pub fn inference_age(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.beat_ms.load(Relaxed)))
    }

    /// The inference thread lives. Called between pieces of work, and by nothing else, so that a
    /// hung graph is restarted by systemd.
    pub fn beat(&self) {
        self.beat_ms.store(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(period) = watchdog.period else { return };
        if watchdog.last.is_none_or(|last| last.elapsed() >= period / 4) {
            watchdog.last = Some(Instant::now());
            notify(&[NotifyState::Watchdog]);
        }
    }

    /// The line that `systemctl status` shows.
    pub fn status_line(&self) -> String {
        let names = self.names();
        let online = self.online.borrow();
        let up = names.iter().filter(|(camera, _)| online[*camera]).count();
        let captions: u64 = names.iter().map(|(camera, _)| self.counters(*camera).captioned).sum();
        let broker = if self.is_broker_online() { "up" } else { "down" };
        let slowed = if self.slow_interval().is_zero() { "" } else { ", slowed" };
        let fault = names
            .iter()
            .find_map(|(camera, name)| Some(format!("; {name}: {}", self.camera_fault(*camera)?)));
        let degraded = self.engine_fault().map(|why| format!(", degraded: {why}"));
        format!(
            "{up}/{} cameras, {captions} captions, broker {broker}{slowed}{}{}",
            names.len(),
            degraded.unwrap_or_default(),
            fault.unwrap_or_default()
        )
    }
}

/// Whether inference was failing when somebody last looked.
#[derive(Debug, Default)]
pub struct Trouble {
    is_degraded: bool,
}

impl Trouble {
    /// What is news since the last look; it is in the log then, too.
    pub fn look(&mut self, health: &Health) -> Option<Happening> {
        let fault = health.engine_fault();
        if fault.is_some() == self.is_degraded {
            return None;
        }
        self.is_degraded = fault.is_some();
        match fault {
            Some(why) => {
                tracing::error!(why, "degraded: inference fails again and again");
                Some(Happening::Degraded { why })
            }
            None => {
                tracing::info!("inference succeeds again");
                Some(Happening::Restored)
            }
        }
    }
}

/// Tells systemd, where there is one.
pub fn notify(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::debug!(error = %e, "systemd was not notified");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_camera_apart() {
        let health = Health::new(2, None);
        health.count(1, Count::Gated);
        health.count(1, Count::Gated);
        health.count(0, Count::Failed);
        assert_eq!(health.counters(0), Counters { failed: 1, ..Counters::default() });
        assert_eq!(health.counters(1), Counters { gated: 2, ..Counters::default() });
    }

    #[test]
    fn tells_only_news_of_a_camera() {
        let health = Health::new(2, None);
        health.name_camera(0, Some("yard"));
        let mut online = health.cameras_online();
        assert!(!health.set_camera_online(0, false));
        assert!(!online.has_changed().unwrap());
        assert!(health.set_camera_online(0, true));
        assert!(online.has_changed().unwrap());
        assert_eq!(*online.borrow_and_update(), [true, false]);
        assert_eq!(health.status_line(), "1/1 cameras, 0 captions, broker down");
        health.name_camera(1, Some("gate"));
        health.set_camera_fault(1, Some("no picture for 10s".to_owned()));
        health.count(0, Count::Captioned);
        assert_eq!(health.status_line(), "1/2 cameras, 1 captions, broker down; gate: no picture for 10s");
        health.name_camera(1, None);
        assert_eq!(health.status_line(), "1/1 cameras, 1 captions, broker down");
    }
}
