//! The C library's allocator: settings, made once before any thread is there, and giving back what is free.
//!
//! A frame lives for seconds on one thread and is freed on another. With its defaults glibc gives every thread a heap
//! of its own and keeps up to twice the largest block ever freed in each, so that memory creeps up for hours though
//! nothing is lost. What is free between two blocks that stay is never given back either: the pages of the busiest
//! moment so far remain.

#![expect(unsafe_code, reason = "mallopt and malloc_trim are how the allocator is told")]

use std::time::{Duration, Instant};

/// Heaps of the process. Allocation is no bottleneck here: two are enough for capture and inference.
const HEAPS_MAX: libc::c_int = 2;
/// Blocks from this size on are taken from the system and given back one by one. Below it are the frames of usual
/// cameras and the tensors of every inference, for which that would cost time.
const OWN_BYTES_MIN: libc::c_int = 8 << 20;
/// What a heap may keep free at its end.
const FREE_BYTES_MAX: libc::c_int = 8 << 20;
/// From one time that free memory is given back to the next.
const TIDY: Duration = Duration::from_secs(60);

/// To be called first of all.
pub fn settle() {
    #[cfg(target_env = "gnu")]
    for (option, value) in [
        (libc::M_ARENA_MAX, HEAPS_MAX),
        (libc::M_MMAP_THRESHOLD, OWN_BYTES_MIN),
        (libc::M_TRIM_THRESHOLD, FREE_BYTES_MAX),
    ] {
        // SAFETY: mallopt takes two numbers and may be called at any time; nothing else runs yet.
        let taken = unsafe { libc::mallopt(option, value) };
        debug_assert_eq!(taken, 1, "mallopt {option}");
    }
}

/// Gives free memory back, once in a while.
pub struct Tidy {
    last: Instant,
}

impl Tidy {
    pub fn new(now: Instant) -> Tidy {
        Tidy { last: now }
    }

    /// To be called about once a second. Once a minute it does [`give_back`].
    pub fn look(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last) >= TIDY {
            self.last = now;
            give_back();
        }
    }
}

/// Gives whole free pages of every heap back to the system, wherever in it they lie. Takes some milliseconds, in which a
/// thread that allocates may have to wait.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes a number and may be called at any time on any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the process that are in memory.
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    // Pages are larger elsewhere, and other C libraries do as they like.
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
    fn what_is_free_between_blocks_that_stay_is_given_back() {
        let alone = ["--exact", "allocator::tests::alone", "--ignored", "--nocapture"];
        let ran = std::process::Command::new(std::env::current_exe().unwrap()).args(alone).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "needs a process of its own, which the test above starts"]
    fn alone() {
        settle();
        let mut blocks: Vec<Option<Vec<u8>>> = (0..1024).map(|_| Some(vec![1; 64 << 10])).collect();
        blocks.iter_mut().step_by(2).for_each(|block| *block = None);
        let before = resident();
        let start = Instant::now();
        let mut tidy = Tidy::new(start);
        tidy.look(start + TIDY - Duration::from_secs(1));
        assert!(before.saturating_sub(resident()) < 4 << 20, "it is not time yet");
        tidy.look(start + TIDY);
        let given_back = before.saturating_sub(resident());
        assert!(given_back > 24 << 20, "{given_back} of 32 MiB");
        assert_eq!(blocks.iter().flatten().count(), 512);
    }
}
