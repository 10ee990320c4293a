//! Watches over the capture threads: one that hangs in its driver is left alone and another takes its place.
//!
//! No thread can be ended from outside, and a driver may keep one for ever. So its office is given to a new thread,
//! its camera is said to be offline, and at shutdown it is left behind. How many are left behind is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::CameraConfig;
use crate::health::Health;
use crate::source::{NEXT_MAX, Office, Tenure};

/// A thread without a sign of life for so long hangs: opening and one picture take half of it at most.
pub const HANG: Duration = Duration::from_secs(3 * NEXT_MAX.as_secs());
/// Nobody looked after the threads for so long: the process was stopped.
const STOOD_STILL: Duration = Duration::from_secs(10);
/// Threads of one camera that may hang at a time; after that it is not tried again before one comes back.
pub const HANGING_MAX: usize = 3;

/// How a thread of a camera is started: its place, its configuration, and its office.
pub type Start = Box<dyn FnMut(usize, &CameraConfig, Office) -> anyhow::Result<JoinHandle<()>> + Send>;

/// The capture threads of every camera.
pub struct Captures {
    posts: BTreeMap<usize, Post>,
    /// Threads of cameras that were taken away.
    leaving: Vec<(String, JoinHandle<()>)>,
    start: Start,
    hang: Duration,
    /// When the threads were last looked after.
    looked: Instant,
}

struct Post {
    config: CameraConfig,
    tenure: Arc<Tenure>,
    thread: JoinHandle<()>,
    hanging: Vec<JoinHandle<()>>,
}

impl Captures {
    /// Starts a thread for every camera. A thread counts as hanging after `hang`, see [`HANG`].
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(cameras: &[CameraConfig], hang: Duration, start: Start) -> anyhow::Result<Captures> {
        let mut captures =
            Captures { posts: BTreeMap::new(), leaving: Vec::new(), start, hang, looked: Instant::now() };
        for (camera, config) in cameras.iter().enumerate() {
            captures.put(camera, config)?;
        }
        Ok(captures)
    }

    /// Starts the thread of a camera; one that this place had before ends as soon as it comes back from its driver.
    ///
    /// # Errors
    /// When the thread cannot be started; the place is empty then.
    pub fn put(&mut self, camera: usize, config: &CameraConfig) -> anyhow::Result<()> {
        self.remove(camera);
        let tenure = Arc::<Tenure>::default();
        let thread = (self.start)(camera, config, tenure.appoint(Instant::now()))?;
        self.posts.insert(camera, Post { config: config.clone(), tenure, thread, hanging: Vec::new() });
        Ok(())
    }

    /// Lets the thread of a camera end as soon as it comes back from its driver.
    pub fn remove(&mut self, camera: usize) {
        self.leaving.retain(|(_, thread)| !thread.is_finished());
        if let Some(post) = self.posts.remove(&camera) {
            post.tenure.dismiss();
            let name = post.config.name;
            self.leaving
                .extend(post.hanging.into_iter().chain([post.thread]).map(|thread| (name.clone(), thread)));
        }
    }

    /// Looks after every thread; to be called about once a second. Where that was not done for long, the process was
    /// stopped (SIGSTOP, a debugger, a machine without time for it): no thread could have given a sign of life.
    pub fn look_after(&mut self, now: Instant, health: &Health) {
        let former = std::mem::replace(&mut self.looked, now);
        if now.saturating_duration_since(former) >= STOOD_STILL {
            tracing::warn!("the process stood still: every camera begins its time anew");
            self.posts.values().for_each(|post| post.tenure.forgive(now));
            return;
        }
        for (camera, post) in &mut self.posts {
            post.hanging.retain(|thread| !thread.is_finished());
            let silent =
                post.tenure.seen_at().is_some_and(|at| now.saturating_duration_since(at) >= self.hang);
            if !silent || post.thread.is_finished() {
                continue;
            }
            let name = &post.config.name;
            health.set_camera_fault(*camera, Some("it hangs in its driver".to_owned()));
            if health.set_camera_online(*camera, false) {
                tracing::info!(camera = name, "camera down");
            }
            if post.hanging.len() >= HANGING_MAX {
                continue;
            }
            tracing::error!(camera = name, "camera hangs in its driver: another thread takes over");
            match (self.start)(*camera, &post.config, post.tenure.appoint(now)) {
                Ok(thread) => post.hanging.push(std::mem::replace(&mut post.thread, thread)),
                Err(e) => tracing::error!(camera = name, error = %e, "no thread takes over"),
            }
        }
    }

    /// Waits until `deadline` for every thread, after shutdown was requested.
    ///
    /// # Errors
    /// When one has panicked.
    pub fn join(self, deadline: Instant) -> anyhow::Result<()> {
        let of_post = |post: Post| {
            let name = post.config.name;
            post.hanging.into_iter().chain([post.thread]).map(move |thread| (name.clone(), thread))
        };
        for (name, thread) in self.posts.into_values().flat_map(of_post).chain(self.leaving) {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            if !thread.is_finished() {
                tracing::warn!(camera = name, "camera hangs in its driver and is left behind");
            } else if thread.join().is_err() {
                return Err(anyhow::anyhow!("the capture thread of camera {name} panicked"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::mpsc;

    use super::*;

    fn yard() -> CameraConfig {
        let pictures = crate::source::mqtt_image::MqttImageConfig { topic: "yard".to_owned(), bytes_max: 1 };
        CameraConfig::new("yard", crate::source::SourceConfig::Mqtt(pictures))
    }

    /// Threads that hang until their sender is dropped.
    fn hanging(n_started: &Arc<AtomicUsize>) -> (Captures, Vec<mpsc::SyncSender<()>>) {
        let (mut keys, mut doors) = (Vec::new(), Vec::new());
        for _ in 0..9 {
            let (key, door) = mpsc::sync_channel::<()>(1);
            keys.push(key);
            doors.push(door);
        }
        doors.reverse();
        let n_started = Arc::clone(n_started);
        let start = move |_, _: &CameraConfig, office: Office| {
            n_started.fetch_add(1, Relaxed);
            let door = doors.pop().unwrap();
            let body = move || drop((door.recv(), office));
            Ok(std::thread::Builder::new().spawn(body)?)
        };
        (Captures::start(&[yard()], HANG, Box::new(start)).unwrap(), keys)
    }

    #[test]
    fn a_hanging_thread_is_replaced_and_the_number_of_them_is_bounded() {
        let n_started = Arc::default();
        let (mut captures, mut keys) = hanging(&n_started);
        let health = Health::new(1, None);
        health.set_camera_online(0, true);
        let mut now = Instant::now();
        captures.look_after(now, &health);
        assert_eq!(n_started.load(Relaxed), 1);
        // In steps as short as they are while the process runs.
        fn watch_for(captures: &mut Captures, now: &mut Instant, health: &Health) {
            for _ in 0..30 {
                *now += HANG / 30;
                captures.look_after(*now, health);
            }
        }
        for round in 1..=HANGING_MAX + 3 {
            watch_for(&mut captures, &mut now, &health);
            assert_eq!(n_started.load(Relaxed), 1 + round.min(HANGING_MAX));
        }
        assert_eq!(*health.cameras_online().borrow(), [false]);
        assert_eq!(health.camera_fault(0).unwrap(), "it hangs in its driver");
        // The first one comes back, so there is room for another.
        drop(keys.remove(0));
        while !captures.posts[&0].hanging[0].is_finished() {
            std::thread::yield_now();
        }
        watch_for(&mut captures, &mut now, &health);
        assert_eq!(n_started.load(Relaxed), 2 + HANGING_MAX);
        drop(keys);
        captures.join(Instant::now() + HANG).unwrap();
    }

    #[test]
    fn nobody_hangs_after_the_process_stood_still() {
        let n_started = Arc::default();
        let (mut captures, keys) = hanging(&n_started);
        let (health, start) = (Health::new(1, None), Instant::now());
        health.set_camera_online(0, true);
        captures.look_after(start, &health);
        for second in 0..20 {
            captures.look_after(start + 10 * HANG + Duration::from_secs(second), &health);
        }
        assert_eq!((n_started.load(Relaxed), health.camera_fault(0)), (1, None));
        assert_eq!(*health.cameras_online().borrow(), [true]);
        drop(keys);
        captures.join(Instant::now() + HANG).unwrap();
    }

    #[test]
    fn a_hanging_thread_does_not_hold_up_the_end() {
        let (captures, keys) = hanging(&Arc::default());
        let started = Instant::now();
        captures.join(started + Duration::from_millis(20)).unwrap();
        assert!(started.elapsed() < Duration::from_secs(5));
        drop(keys);
    }

    #[test]
    fn a_camera_that_is_taken_away_lets_its_thread_go_and_another_may_have_its_place() {
        let n_started = Arc::default();
        let (mut captures, mut keys) = hanging(&n_started);
        captures.remove(0);
        captures.look_after(Instant::now() + HANG, &Health::new(1, None));
        assert_eq!((n_started.load(Relaxed), captures.posts.len(), captures.leaving.len()), (1, 0, 1));
        captures.put(0, &yard()).unwrap();
        assert_eq!((n_started.load(Relaxed), captures.posts.len(), captures.leaving.len()), (2, 1, 1));
        drop(keys.remove(0));
        while !captures.leaving[0].1.is_finished() {
            std::thread::yield_now();
        }
        captures.put(0, &yard()).unwrap();
        assert_eq!((captures.posts.len(), captures.leaving.len()), (1, 1), "only the second still leaves");
        drop(keys);
        captures.join(Instant::now() + HANG).unwrap();
    }
}
