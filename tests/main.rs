//! Everything that is tested from outside: one binary, so that it links once.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod broker;
mod commands;
mod demo;
#[cfg(feature = "rtsp")]
mod rtsp;
mod support;
mod tidy;
