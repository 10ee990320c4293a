//! Settings of the C library's allocator, made once before any thread is there.
//!
//! A frame lives for seconds on one thread and is freed on another. With its defaults glibc gives every thread a heap
//! of its own and keeps up to twice the largest block ever freed in each, so that memory creeps up for hours though
//! nothing is lost.

#![expect(unsafe_code, reason = "mallopt is how the allocator is told")]

/// Heaps of the process. Allocation is no bottleneck here: two are enough for capture and inference.
const HEAPS_MAX: libc::c_int = 2;
/// Blocks from this size on are taken from the system and given back one by one. Below it are the frames of usual
/// cameras and the tensors of every inference, for which that would cost time.
const OWN_BYTES_MIN: libc::c_int = 8 << 20;
/// What a heap may keep free at its end.
const FREE_BYTES_MAX: libc::c_int = 8 << 20;

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
