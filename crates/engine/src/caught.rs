//! Panics of an inference engine, turned into errors.
//!
//! tract panics on some hostile graphs and inputs (a `Gather` out of range). One camera's frame or
//! one broken file must not end the process, so every call into an engine runs under [`caught`].

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IN_ENGINE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside an engine call whose panic will be caught and reported as an
/// [`EngineError`](crate::EngineError).
///
/// For panic hooks: a process that ends on panics must let these pass.
pub fn is_engine_panic() -> bool {
    IN_ENGINE.try_with(Cell::get).unwrap_or(false)
}

/// Marks a worker thread of an engine for good; its panics resurface in the thread that called.
pub(crate) fn mark_worker() {
    IN_ENGINE.set(true);
}

/// Runs `f`; a panic becomes an error message.
///
/// State that `f` was changing may be half changed afterwards: the caller throws it away.
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    let outer = IN_ENGINE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    IN_ENGINE.set(outer);
    result.map_err(|payload| format!("the engine panicked: {}", message(&*payload)))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// The beginning of an error: engines quote whole nodes.
pub(crate) fn brief(why: &str) -> String {
    const MAX_CHARS: usize = 500;
    let mut brief: String = why.chars().take(MAX_CHARS).collect();
    if brief.len() < why.len() {
        brief.push('…');
    }
    brief
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_the_mark_is_lifted() {
        assert!(!is_engine_panic());
        let plain = caught::<()>(|| panic!("plain"));
        let formatted = caught::<()>(|| panic!("number {}", std::hint::black_box(7)));
        let silent = caught::<()>(|| std::panic::panic_any(1));
        assert!(plain.unwrap_err().ends_with("plain"));
        assert!(formatted.unwrap_err().ends_with("number 7"));
        assert!(silent.unwrap_err().ends_with("no message"));
        assert!(!is_engine_panic());
    }

    #[test]
    fn a_hook_can_tell_where_it_is_even_in_nested_calls() {
        let inside = caught(|| {
            let before = is_engine_panic();
            let nested = caught::<()>(|| panic!("nested"));
            (before, nested.is_err(), is_engine_panic())
        });
        assert_eq!(inside, Ok((true, true, true)));
        let elsewhere = caught(|| std::thread::spawn(is_engine_panic).join().unwrap());
        assert_eq!(elsewhere, Ok(false));
    }
}
