//! Hands pictures that come over MQTT from the listener to a camera's capture thread: the newest wins, one waits.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

/// A picture as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    pub bytes: Bytes,
    pub came: Instant,
    /// Wall clock, for people.
    pub came_at: SystemTime,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    newest: Option<Letter>,
    closed: bool,
}

impl Mailbox {
    /// Leaves a letter; true when it displaced one that nobody took.
    pub fn put(&self, letter: Letter) -> bool {
        let displaced = self.lock().newest.replace(letter).is_some();
        self.wake.notify_one();
        displaced
    }

    /// Takes the letter that waits, or the first that comes within `timeout`.
    pub fn take(&self, timeout: Duration) -> Option<Letter> {
        let until = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if state.newest.is_some() || state.closed {
                return state.newest.take();
            }
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Nobody waits any longer.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Every critical section leaves the state consistent, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(text: &'static str) -> Letter {
        Letter {
            bytes: Bytes::from_static(text.as_bytes()),
            came: Instant::now(),
            came_at: SystemTime::now(),
        }
    }

    #[test]
    fn the_newest_letter_wins_and_is_taken_once() {
        let mailbox = Mailbox::default();
        assert!(!mailbox.put(letter("old")));
        assert!(mailbox.put(letter("new")));
        assert_eq!(mailbox.take(Duration::ZERO).unwrap().bytes, "new");
        assert_eq!(mailbox.take(Duration::ZERO), None);
    }

    #[test]
    fn a_closed_mailbox_wakes_its_reader() {
        let mailbox = Mailbox::default();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| mailbox.take(Duration::from_secs(600)));
            mailbox.close();
            assert_eq!(reader.join().unwrap(), None);
        });
    }
}
