//! One switch that ends the daemon: threads sleep on it, tasks await it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// A handle to the switch; clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    shared: Arc<Shared>,
    requested: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Shared {
    set: Mutex<bool>,
    wake: Condvar,
    sender: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown::new()
    }
}

impl Shutdown {
    pub fn new() -> Shutdown {
        let (sender, requested) = watch::channel(false);
        Shutdown {
            shared: Arc::new(Shared { set: Mutex::new(false), wake: Condvar::new(), sender }),
            requested,
        }
    }

    /// Asks everything to end. Further calls change nothing.
    pub fn request(&self) {
        *self.shared.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.wake.notify_all();
        self.shared.sender.send_replace(true);
    }

    pub fn is_requested(&self) -> bool {
        *self.requested.borrow()
    }

    /// Sleeps for `duration` on the calling thread, or less: true when shutdown was requested.
    pub fn wait_for(&self, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        let mut set = self.shared.set.lock().unwrap_or_else(PoisonError::into_inner);
        while !*set {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                return false;
            };
            set = self.shared.wake.wait_timeout(set, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Completes once shutdown is requested.
    pub async fn requested(&self) {
        let mut requested = self.requested.clone();
        // The sender lives as long as this handle, so waiting cannot fail.
        drop(requested.wait_for(|set| *set).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_a_sleeping_thread_at_once() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.wait_for(Duration::from_millis(1)));
        let sleeper = shutdown.clone();
        let thread =
            std::thread::Builder::new().spawn(move || sleeper.wait_for(Duration::from_secs(600))).unwrap();
        shutdown.request();
        assert!(thread.join().unwrap());
        assert!(shutdown.is_requested() && shutdown.wait_for(Duration::from_secs(600)));
    }
}
