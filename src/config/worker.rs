//! The table `[worker]`: jobs that others publish are taken.

use std::time::Duration;

use super::reader::Section;
use super::{MqttConfig, Protocol, TOPIC_MAX, is_topic};
use crate::job::JOBS_MAX;

/// Name of the shared subscription.
pub const WORKER_GROUP: &str = "captiond";
/// A restart takes seconds; a broker that waits for longer keeps its jobs from others.
pub const WORKER_SESSION_EXPIRY: Duration = Duration::from_secs(60);
/// One job in inference and one that waits, so that the network is never waited for.
pub const WORKER_RECEIVE_MAX: u16 = 2;
pub const JOB_BYTES_MAX: usize = 2 << 20;
/// The most that may be asked for.
pub const JOB_BYTES_LIMIT: usize = 32 << 20;

/// Which jobs are taken, and how many at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerConfig {
    /// Workers of one group share the jobs.
    pub group: String,
    /// A topic filter; none for `<base>/work/+`.
    pub topic: Option<String>,
    /// For how long the broker keeps the jobs of a worker that is away.
    pub session_expiry: Duration,
    /// Jobs that the broker hands over before one is acknowledged, 1 to [`JOBS_MAX`].
    pub receive_max: u16,
    /// Largest picture.
    pub bytes_max: usize,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        WorkerConfig {
            group: WORKER_GROUP.to_owned(),
            topic: None,
            session_expiry: WORKER_SESSION_EXPIRY,
            receive_max: WORKER_RECEIVE_MAX,
            bytes_max: JOB_BYTES_MAX,
        }
    }
}

pub(super) fn worker(section: &mut Section<'_>) -> Option<WorkerConfig> {
    let default = WorkerConfig::default();
    let group = section.string("group").unwrap_or(default.group);
    if !is_topic(&group) || group.contains('/') {
        section.problem("group", format!("must be one topic level without wildcards (got {group:?})"));
    }
    let topic = section.string("topic");
    if topic.as_ref().is_some_and(|topic| !is_filter(topic)) {
        let why = "must be a topic filter such as \"captiond/work/+\"";
        section.problem("topic", format!("{why} (got {:?})", topic.as_deref().unwrap_or_default()));
    }
    let day = Duration::from_secs(86_400);
    let session_expiry = section.duration("session_expiry", Duration::from_secs(1)..=day);
    let receive_max = section.integer("receive_max", 1..=JOBS_MAX as u64);
    let bytes_max = section.integer("bytes_max", 1..=JOB_BYTES_LIMIT as u64);
    Some(WorkerConfig {
        group,
        topic,
        session_expiry: session_expiry.unwrap_or(default.session_expiry),
        receive_max: receive_max.map_or(default.receive_max, |n| n as u16),
        bytes_max: bytes_max.map_or(default.bytes_max, |n| n as usize),
    })
}

/// What a worker needs of the rest of the file.
pub(super) fn check(root: &Section<'_>, mqtt: &MqttConfig) {
    if mqtt.protocol != Protocol::V5 {
        // 3.1.1 has neither shared subscriptions nor response topics.
        root.problem("worker", "needs mqtt.protocol = \"5\"");
    }
}

fn is_filter(filter: &str) -> bool {
    let is_short = (1..=TOPIC_MAX).contains(&filter.len());
    let n_levels = filter.split('/').count();
    let is_level = |(i, level): (usize, &str)| match level {
        "+" => true,
        "#" => i + 1 == n_levels,
        level => !level.contains(['+', '#', '\0']),
    };
    is_short && !filter.starts_with('$') && filter.split('/').enumerate().all(is_level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_topic_filter() {
        for good in ["captiond/work/+", "+/jobs/#", "#", "jobs", "a//b"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["", "$share/a/b", "a/#/b", "a/b+", "#a", &"x".repeat(TOPIC_MAX + 1)] {
            assert!(!is_filter(bad), "{bad}");
        }
    }
}
