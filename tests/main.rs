//! Everything that is tested from outside: one binary, so that it links once.

mod broker;
mod commands;
mod demo;
mod support;
mod tidy;
