//! What the trainer does when it is killed, when the disk is full, and when what it is given does not fit together.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]
#![cfg(feature = "flex")]

mod disk_full;
mod killed;
mod refused;
mod support;
