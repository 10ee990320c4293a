//! Everything that is tested from outside: one binary, so that it links once.

#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod broker;
mod commands;
mod demo;
mod support;
mod tidy;
mod v4l2;
