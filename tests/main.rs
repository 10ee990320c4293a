//! Everything that is tested from outside: one binary, so that it links once.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod bridge;
mod broker;
mod commands;
mod delivery;
mod demo;
mod doctor;
#[cfg(feature = "ort")]
mod engines;
mod faults;
mod fleet;
mod homie;
mod hostile;
#[cfg(feature = "ort")]
mod jetson;
mod memory;
mod mqtt;
mod mutated;
mod onvif;
mod packages;
mod pull;
mod recipes;
mod reload;
mod robot;
#[cfg(feature = "rtsp")]
mod rtsp;
mod secrets;
mod sources;
mod standing;
mod status;
mod support;
mod tidy;
mod v4l2;

/// Counts what is allocated, for the test of the cameras' memory.
#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
