//! An invented corpus, a trainer that runs on it, and a disk that can be filled.

pub mod disk;
pub mod toy;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what must come, on a machine that has other work.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits for a condition; panics with `what` at the deadline.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Says past the harness, which hides what a passed test prints, that a test did not run.
pub fn skipped(why: &str) {
    drop(writeln!(std::io::stderr(), "skipped: {why}"));
}

/// The trainer, as a user who wants to see every stack would start it.
pub fn trainer(args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_captiond-train"));
    command.args(args).env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the trainer wrote to stderr, after it has ended well.
pub fn run(args: &[String]) -> String {
    let output = trainer(args).output().unwrap();
    let stderr = stderr(&output);
    assert!(output.status.success(), "{args:?} failed: {stderr}");
    stderr
}

/// The one sentence with which the trainer refuses.
pub fn refusal(args: &[String]) -> String {
    let output = trainer(args).output().unwrap();
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "a refusal is no result");
    for word in ["panicked", "backtrace", "Caused by"] {
        assert!(!stderr.contains(word), "{stderr}");
    }
    let said: Vec<&str> = stderr.lines().filter_map(|line| line.strip_prefix("captiond-train: ")).collect();
    assert_eq!(said.len(), 1, "one sentence: {stderr}");
    assert!(stderr.trim_end().ends_with(said[0]), "the last word: {stderr}");
    said[0].to_owned()
}

/// As [`refusal`]; checks that it holds every one of `words`.
pub fn assert_refused(args: &[String], words: &[&str]) {
    let said = refusal(args);
    for word in words {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
