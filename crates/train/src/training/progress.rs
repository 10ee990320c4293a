//! One line a report: step, loss, speed, time left.

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
    /// `unit` names what is counted (tokens, photos).
    pub fn new(name: &'static str, first_step: usize, steps: usize, unit: &'static str) -> Progress {
        Progress {
            name,
            steps,
            started_at: Instant::now(),
            printed_at: None,
            first_step,
            loss: None,
            n_units: 0.0,
            unit,
        }
    }

    /// Counts one finished step.
    pub fn step(&mut self, step: usize, loss: f64, n_units: usize, lr: f64) {
        let smoothed = self.loss.map_or(loss, |old| SMOOTHING * old + (1.0 - SMOOTHING) * loss);
        self.loss = Some(smoothed);
        self.n_units += n_units as f64;
        let last = step + 1 == self.steps;
        if !last && self.printed_at.is_some_and(|at| at.elapsed() < PERIOD) {
            return;
        }
        self.printed_at = Some(Instant::now());
        let elapsed = self.started_at.elapsed().as_secs_f64().max(1e-3);
        let per_step = elapsed / (step + 1 - self.first_step) as f64;
        let left = per_step * (self.steps - step - 1) as f64;
        self.say(&format!(
            "step {}/{} loss {smoothed:.4} lr {lr:.2e} {:.0} {}/s, {} left",
            step + 1,
            self.steps,
            self.n_units / elapsed,
            self.unit,
            minutes(left)
        ));
    }

    /// Prints a line of its own.
    pub fn say(&self, text: &str) {
        // A closed stderr must not end a training run.
        let _closed = writeln!(std::io::stderr(), "{}: {text}", self.name).is_err();
    }
}

fn minutes(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
