//! How long each stage takes, and every counter in the text format of Prometheus (version 0.0.4).
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::health::{Counters, Health};

/// What takes time between a camera and a caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Decode,
    Wait,
    Preprocess,
    Encode,
    Caption,
    Answer,
    /// From capture to the end of inference, of frames that are captioned.
    Total,
}

impl Stage {
    const ALL: [(Stage, &str); 7] = [
        (Stage::Decode, "decode"),
        (Stage::Wait, "wait"),
        (Stage::Preprocess, "preprocess"),
        (Stage::Encode, "encode"),
        (Stage::Caption, "caption"),
        (Stage::Answer, "answer"),
        (Stage::Total, "total"),
    ];
}

/// Upper bounds of the buckets, in milliseconds: from a preprocessing on a PC to a caption on the least of boards.
const BOUNDS_MS: [u64; 14] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000];

/// How many durations fell into each bucket.
#[derive(Debug, Default)]
struct Histogram {
    /// One a bound, and one for what is above all of them.
    counts: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    fn record(&self, duration: Duration) {
        let bucket = BOUNDS_MS.partition_point(|bound| Duration::from_millis(*bound) < duration);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    fn write(&self, out: &mut String, stage: &str) -> fmt::Result {
        let mut n = 0;
        for (i, count) in self.counts.iter().enumerate() {
            n += count.load(Relaxed);
            let bound = BOUNDS_MS.get(i).map_or("+Inf".to_owned(), |ms| (*ms as f64 / 1e3).to_string());
            writeln!(out, "captiond_stage_seconds_bucket{{stage=\"{stage}\",le=\"{bound}\"}} {n}")?;
        }
        let sum = self.sum_us.load(Relaxed) as f64 / 1e6;
        writeln!(out, "captiond_stage_seconds_sum{{stage=\"{stage}\"}} {sum}")?;
        writeln!(out, "captiond_stage_seconds_count{{stage=\"{stage}\"}} {n}")
    }
}

/// The durations of every stage since the start.
#[derive(Debug, Default)]
pub struct Stages([Histogram; Stage::ALL.len()]);

impl Stages {
    pub fn record(&self, stage: Stage, duration: Duration) {
        self.0[stage as usize].record(duration);
    }
}

/// The answer to `GET /metrics`.
pub fn exposition(health: &Health) -> String {
    let mut out = String::with_capacity(8 << 10);
    // Writing to a string cannot fail.
    write(&mut out, health).unwrap_or_default();
    out
}

fn write(out: &mut String, health: &Health) -> fmt::Result {
    let (cameras, online) = (health.names(), health.cameras_online().borrow().clone());
    type Read = fn(&Counters) -> u64;
    let counters: [(&str, &str, Read); 7] = [
        ("captured", "Frames that came from a camera.", |c| c.captured),
        ("captioned", "Frames that were captioned.", |c| c.captioned),
        ("overwritten", "Frames that a newer one displaced before they were looked at.", |c| c.overwritten),
        ("gated", "Frames that were not different enough.", |c| c.gated),
        ("dropped", "Results that found their queue full or no broker.", |c| c.dropped),
        ("failed", "Frames that could not be decoded or captioned.", |c| c.failed),
        ("lost", "Times that a camera was lost.", |c| c.lost),
    ];
    for (name, help, read) in counters {
        head(out, &format!("captiond_{name}_total"), "counter", help)?;
        for (camera, label) in &cameras {
            let n = read(&health.counters(*camera));
            writeln!(out, "captiond_{name}_total{{camera=\"{label}\"}} {n}")?;
        }
    }
    head(out, "captiond_camera_up", "gauge", "Whether a camera delivers frames.")?;
    for (camera, label) in &cameras {
        writeln!(out, "captiond_camera_up{{camera=\"{label}\"}} {}", u8::from(online[*camera]))?;
    }
    head(out, "captiond_stage_seconds", "histogram", "How long the stages of a caption or an answer take.")?;
    for (stage, name) in Stage::ALL {
        health.stages().0[stage as usize].write(out, name)?;
    }
    let slowed = health.slow_interval().as_secs_f64();
    let gauges = [
        (
            "captiond_broker_up",
            "Whether the broker is there.",
            f64::from(u8::from(health.is_broker_online())),
        ),
        ("captiond_queue_messages", "Messages that wait on disk for the broker.", health.queued() as f64),
        (
            "captiond_slow_interval_seconds",
            "Least time between two frames of a camera under pressure, or 0.",
            slowed,
        ),
        (
            "captiond_degraded",
            "Whether inference fails again and again.",
            f64::from(u8::from(health.engine_fault().is_some())),
        ),
        (
            "captiond_inference_age_seconds",
            "Since the last sign of life of the inference thread.",
            health.inference_age().as_secs_f64(),
        ),
        ("captiond_uptime_seconds", "Since the start.", health.uptime().as_secs_f64()),
    ];
    for (name, help, value) in gauges {
        head(out, name, "gauge", help)?;
        writeln!(out, "{name} {value}")?;
    }
    let of_process = [
        ("process_resident_memory_bytes", "Memory in use, in bytes.", resident_bytes()),
        ("process_open_fds", "Open file descriptors.", open_descriptors()),
    ];
    for (name, help, value) in of_process {
        if let Some(value) = value {
            head(out, name, "gauge", help)?;
            writeln!(out, "{name} {value}")?;
        }
    }
    head(out, "captiond_build_info", "gauge", "The version that runs.")?;
    writeln!(out, "captiond_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

/// Memory in use, where the system tells.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kb| kb << 10)
}

fn open_descriptors() -> Option<u64> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Count;

    #[test]
    fn stages_are_where_their_histogram_is() {
        assert!(Stage::ALL.iter().enumerate().all(|(i, (stage, _))| *stage as usize == i));
    }

    #[test]
    fn durations_are_counted_up_to_each_bound() {
        let stages = Stages::default();
        for ms in [1, 2, 3, 40_000] {
            stages.record(Stage::Encode, Duration::from_millis(ms));
        }
        let mut out = String::new();
        stages.0[Stage::Encode as usize].write(&mut out, "encode").unwrap();
        let value =
            |line: &str| out.lines().find_map(|found| found.strip_prefix(line)).unwrap().trim().to_owned();
        let bucket =
            |le: &str| value(&format!("captiond_stage_seconds_bucket{{stage=\"encode\",le=\"{le}\"}}"));
        assert_eq!(["0.001", "0.002", "0.005", "30", "+Inf"].map(bucket), ["1", "2", "3", "3", "4"]);
        assert_eq!(value("captiond_stage_seconds_sum{stage=\"encode\"}"), "40.006");
    }

    #[test]
    fn every_line_is_a_sample_of_the_family_that_was_announced() {
        let health = Health::new(3, None);
        health.name_camera(1, Some("yard"));
        health.count(1, Count::Captioned);
        let text = exposition(&health);
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                assert!(line.starts_with(family), "{line} is not of {family}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(text.contains("captiond_captioned_total{camera=\"yard\"} 1\n"), "{text}");
        assert!(text.contains("captiond_camera_up{camera=\"yard\"} 0\n"));
        assert!(text.contains("process_resident_memory_bytes ") && text.contains("process_open_fds "));
    }
}
