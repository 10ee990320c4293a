//! Everything that is tested from outside: one binary, so that it links once.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod broker;
mod commands;
mod demo;
mod fleet;
mod memory;
mod mqtt;
mod robot;
#[cfg(feature = "rtsp")]
mod rtsp;
mod sources;
mod support;
mod tidy;
mod v4l2;

/// Counts what is allocated, for the test of the cameras' memory.
#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
