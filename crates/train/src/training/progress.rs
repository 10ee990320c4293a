//! One line a report: what is done, the loss if there is one, speed, time left.

use std::io::Write;
use std::time::{Duration, Instant};

/// Prints to stderr at most once a period.
pub struct Progress {
    name: &'static str,
    steps: usize,
    started_at: Instant,
    printed_at: Option<Instant>,
    first_step: usize,
    loss: Option<f64>,
    n_units: f64,
    unit: &'static str,
}

const PERIOD: Duration = Duration::from_secs(5);
/// Weight of the past in the moving average of the loss.
const SMOOTHING: f64 = 0.98;

impl Progress {
    /// `unit` names what is counted (tokens, photos). Says where work goes on that does not begin at its beginning.
    pub fn new(name: &'static str, first_step: usize, steps: usize, unit: &'static str) -> Progress {
        let progress = Progress {
            name,
            steps,
            started_at: Instant::now(),
            printed_at: None,
            first_step,
            loss: None,
            n_units: 0.0,
            unit,
        };
        if (1..steps).contains(&first_step) {
            progress.say(&format!("goes on after {first_step} of {steps}"));
        }
        progress
    }

    /// Counts one finished step of training.
    pub fn step(&mut self, step: usize, loss: f64, n_units: usize, lr: f64) {
        let smoothed = self.loss.map_or(loss, |old| SMOOTHING * old + (1.0 - SMOOTHING) * loss);
        self.loss = Some(smoothed);
        self.line(step + 1, n_units, "step ", &format!(" loss {smoothed:.4} lr {lr:.2e}"));
    }

    /// Counts `n_units` of work that has no loss, after which `n_done` steps are finished.
    pub fn count(&mut self, n_done: usize, n_units: usize) {
        self.line(n_done, n_units, "", "");
    }

    fn line(&mut self, n_done: usize, n_units: usize, before: &str, after: &str) {
        self.n_units += n_units as f64;
        let last = n_done == self.steps;
        if !last && self.printed_at.is_some_and(|at| at.elapsed() < PERIOD) {
            return;
        }
        self.printed_at = Some(Instant::now());
        let elapsed = self.started_at.elapsed().as_secs_f64().max(1e-3);
        let per_step = elapsed / (n_done - self.first_step).max(1) as f64;
        let left = per_step * self.steps.saturating_sub(n_done) as f64;
        self.say(&format!(
            "{before}{n_done}/{}{after}, {:.0} {}/s, {} left",
            self.steps,
            self.n_units / elapsed,
            self.unit,
            minutes(left)
        ));
    }

    /// Prints a line of its own.
    pub fn say(&self, text: &str) {
        say(self.name, text);
    }
}

/// Prints a line about work that has no steps to count.
pub fn say(name: &str, text: &str) {
    // A closed stderr must not end a training run.
    let _closed = writeln!(std::io::stderr(), "{name}: {text}").is_err();
}

fn minutes(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
