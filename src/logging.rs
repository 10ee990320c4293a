//! Logs on stderr, and what becomes of a panic.

mod format;

use std::any::Any;
use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How the lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; for the journal without the time and with the level as it wants it, when `to_journal`.
    Text { to_journal: bool },
    /// One JSON object a line.
    Json,
}

/// Starts logging to stderr. `filter` is in the syntax of `tracing_subscriber::EnvFilter`; a level for everything is not
/// for the inference engine, see `without_engine`.
///
/// # Errors
/// When `filter` cannot be parsed.
pub fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter =
        EnvFilter::try_new(without_engine(filter)).map_err(|e| format!("log filter {filter:?}: {e}"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second start is a test's; the first one stays.
    drop(match format {
        LogFormat::Json => log.with_ansi(false).event_format(format::Json).try_init(),
        LogFormat::Text { to_journal: true } => {
            let text = tracing_subscriber::fmt::format().without_time().with_level(false).with_ansi(false);
            log.with_ansi(false).event_format(format::Journal(text)).try_init()
        }
        LogFormat::Text { to_journal: false } => log.with_ansi(io::stderr().is_terminal()).try_init(),
    });
    panic::set_hook(Box::new(on_panic));
    Ok(())
}

/// tract says every step of optimizing a graph, hundreds of megabytes of it before the first frame: where everything is
/// asked for, no more than its infos. Its crates by name get what the filter says.
fn without_engine(filter: &str) -> String {
    let is_for_all = |directive: &str| {
        directive.trim().parse::<LevelFilter>().is_ok_and(|level| level > LevelFilter::INFO)
    };
    if filter.split(',').any(is_for_all) { format!("tract=info,{filter}") } else { filter.to_owned() }
}

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` and swallows its panic: none when it panicked. For third-party code that panics
/// where it should fail.
pub fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outer = CONTAINED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(outer);
    outcome.ok()
}

/// A panic that nobody contains would leave half a daemon behind: it is logged and ends the process,
/// and the broker publishes the last will.
fn on_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let why = payload(info.payload());
    if CONTAINED.get() || engine::is_engine_panic() {
        tracing::debug!(thread = name, place, why, "contained panic");
        return;
    }
    tracing::error!(thread = name, place, why, "panic, ending the process");
    std::process::exit(crate::cli::EXIT_FAILURE.into());
}

fn payload(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contained_panic_is_none_and_the_thread_goes_on() {
        assert_eq!(contained(|| 7), Some(7));
        assert_eq!(contained(|| -> u8 { panic!("as drivers do") }), None);
        assert!(!CONTAINED.get());
    }

    /// Whether a debug message of a crate of tract's, and one of the daemon, is logged with this filter.
    fn is_logged(filter: &str) -> (bool, bool) {
        let filter = EnvFilter::try_new(without_engine(filter)).unwrap();
        let subscriber =
            tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), filter);
        tracing::subscriber::with_default(subscriber, || {
            let tract = tracing::enabled!(target: "tract_linalg::optim", tracing::Level::DEBUG);
            (tract, tracing::enabled!(target: "captiond::mqtt", tracing::Level::DEBUG))
        })
    }

    #[test]
    fn the_engine_says_its_steps_only_where_it_is_named() {
        assert_eq!(is_logged("trace"), (false, true));
        assert_eq!(is_logged("warn,DEBUG"), (false, true));
        assert_eq!(is_logged("trace,tract=debug"), (true, true));
        assert_eq!(is_logged("debug,tract_linalg=trace"), (true, true));
        assert_eq!(is_logged("tract_linalg=trace"), (true, false));
        assert_eq!(is_logged("info,captiond=debug"), (false, true));
        // A quiet filter is not made louder.
        assert_eq!(without_engine("error"), "error");
    }

    #[test]
    fn refuses_a_filter_that_cannot_be_parsed() {
        let text = LogFormat::Text { to_journal: false };
        assert!(start("captiond=loud", text).unwrap_err().contains("loud"));
    }
}
