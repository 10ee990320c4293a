//! Lines out. A reader that waits for a line has it as soon as it is written.

use std::io::{self, Write};

use serde_json::Value;

/// Writes one line to stdout and flushes it.
///
/// # Errors
/// When stdout cannot be written to.
pub fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes lines to stdout and flushes them.
///
/// # Errors
/// When stdout cannot be written to.
pub fn text(lines: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(lines.as_bytes())?;
    out.flush()
}

/// Writes one JSON object as a line to stdout and flushes it.
///
/// # Errors
/// When stdout cannot be written to.
pub fn json(value: &Value) -> io::Result<()> {
    line(&value.to_string())
}

/// Tells the person at the terminal how far something is.
pub fn tell(text: &str) {
    // Without a stderr there is nobody to tell.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Tells the person at the terminal what went wrong.
pub fn complain(text: &str) {
    // Without a stderr there is nobody to tell.
    drop(writeln!(io::stderr().lock(), "captiond: {text}"));
}
