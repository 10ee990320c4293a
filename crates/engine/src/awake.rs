//! Threads of a pool that stay awake while a graph runs.

use std::sync::atomic::{AtomicBool, Ordering};

/// Tries before the processor is offered to others.
const TRIES: usize = 200;

/// Runs `work` on a thread of a pool, and keeps the pool's other threads from falling asleep meanwhile. A layer is over in
/// less time than it takes to put a thread to sleep and wake it again.
pub(crate) fn awake<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let ended = AtomicBool::new(false);
    let here = rayon::current_thread_index();
    rayon::in_place_scope(|scope| {
        scope.spawn_broadcast(|_, other| {
            // Whoever does the work may come by while it waits for a part that another has taken.
            if Some(other.index()) != here {
                stay_awake(&ended);
            }
        });
        // Also when it panics.
        let _end = End(&ended);
        work()
    })
}

/// Does parts of the work as they come.
fn stay_awake(ended: &AtomicBool) {
    let mut n_idle = 0;
    while !ended.load(Ordering::Acquire) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            n_idle = 0;
        } else if n_idle < TRIES {
            n_idle += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn work_is_done_by_all_threads_and_a_panic_ends_it() {
        for n_threads in 1..4 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            for _ in 0..50 {
                let sum: u64 = pool.install(|| awake(|| (0..1000u64).into_par_iter().sum()));
                assert_eq!(sum, 499_500);
            }
            let broken = || pool.install(|| awake(|| assert_eq!(1, 2)));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(broken)).is_err());
            assert_eq!(pool.install(|| awake(|| 7)), 7);
        }
    }
}
