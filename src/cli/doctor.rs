//! `doctor`: tries everything that the daemon needs, and says of each thing what is wrong and what to do.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::models::load_configured;
use super::{Failure, output};
use crate::config::{CameraConfig, Config, QueueConfig};
use crate::mailbox::Mailbox;
use crate::mqtt::probe::{ProbeError, probe};
use crate::shutdown::Shutdown;
use crate::source::{Capture, SourceConfig, open};
use crate::{daemon, metrics, spool};

/// A camera has so long for its first picture, and a driver to come back.
const CAMERA_PATIENCE: Duration = Duration::from_secs(15);
/// The release of this program is younger: a clock before it has not been set.
const CLOCK_LEAST: Duration = Duration::from_secs(1_767_225_600);
/// A clock so far ahead was set by mistake.
const CLOCK_MOST: Duration = Duration::from_secs(4_102_444_800);
/// What should be left when everything runs.
const MEMORY_SPARE: u64 = 128 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What came of trying one thing.
struct Finding {
    what: String,
    verdict: Verdict,
    found: String,
    /// What to do about it; empty where nothing is to be done.
    advice: String,
}

impl Finding {
    fn ok(what: &str, found: impl Into<String>) -> Finding {
        Finding { what: what.to_owned(), verdict: Verdict::Ok, found: found.into(), advice: String::new() }
    }

    fn warn(what: &str, found: impl Into<String>, advice: &str) -> Finding {
        Finding { verdict: Verdict::Warn, advice: advice.to_owned(), ..Finding::ok(what, found) }
    }

    fn fail(what: &str, found: impl Into<String>, advice: &str) -> Finding {
        Finding { verdict: Verdict::Fail, ..Finding::warn(what, found, advice) }
    }
}

/// Tries everything and says each finding as it is known.
///
/// # Errors
/// When something fails that the daemon needs, after all of it was said.
pub(super) fn doctor(path: &Path, json: bool) -> Result<(), Failure> {
    let mut is_well = true;
    let mut say = |finding: Finding| -> Result<(), Failure> {
        is_well &= finding.verdict != Verdict::Fail;
        Ok(print(&finding, json)?)
    };
    say(clock(SystemTime::now()))?;
    say(synchronized())?;
    let loaded = Config::load(path);
    match &loaded {
        Ok(config) => say(Finding::ok("configuration", format!("{} is valid", path.display())))
            .and_then(|()| examine(config, &mut say))?,
        Err(problems) => {
            let advice = "correct each; `captiond config reference` prints every key";
            say(Finding::fail("configuration", problems.to_string(), advice))?;
        }
    }
    if is_well { Ok(()) } else { Err(Failure::Said) }
}

fn examine(config: &Config, say: &mut impl FnMut(Finding) -> Result<(), Failure>) -> Result<(), Failure> {
    say(bundle(config))?;
    say(memory())?;
    say(broker(config))?;
    if let Some(queue) = &config.mqtt.queue {
        say(disk(queue))?;
    }
    for camera in &config.cameras {
        say(permission(camera).map_or_else(|| see(camera), Ok).unwrap_or_else(|finding| finding))?;
    }
    Ok(())
}

fn print(finding: &Finding, json: bool) -> std::io::Result<()> {
    let Finding { what, verdict, found, advice } = finding;
    let word = match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    if json {
        let advice = Some(advice).filter(|advice| !advice.is_empty());
        return output::json(&json!({ "check": what, "verdict": word, "found": found, "advice": advice }));
    }
    let found = found.replace('\n', "\n      ");
    output::line(&format!("{word:<4}  {what}: {found}"))?;
    if advice.is_empty() { Ok(()) } else { output::line(&format!("      -> {advice}")) }
}

fn clock(now: SystemTime) -> Finding {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let shown = jiff::Timestamp::try_from(now).map(|ts| format!("{ts:.0}")).unwrap_or_default();
    if since < CLOCK_LEAST || since > CLOCK_MOST {
        let advice = "set the clock, or let a time service do it: captions carry this time, and TLS refuses certificates by it";
        return Finding::fail("clock", format!("it is {shown} here"), advice);
    }
    Finding::ok("clock", format!("it is {shown}"))
}

/// Whether a time service keeps the clock.
fn synchronized() -> Finding {
    let what = "time service";
    let asked = Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output();
    let answer = asked.ok().filter(|output| output.status.success());
    match answer.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).as_deref() {
        Some("yes") => Finding::ok(what, "the clock is synchronized"),
        Some(_) => {
            Finding::warn(what, "the clock is not synchronized", "enable one: timedatectl set-ntp true")
        }
        None => Finding::warn(what, "timedatectl does not tell", "see that something keeps the clock"),
    }
}

fn bundle(config: &Config) -> Finding {
    let started = Instant::now();
    match load_configured(config) {
        Ok(configured) => {
            let ids: Vec<String> = configured
                .bundles
                .iter()
                .map(|loaded| format!("{} in {}", loaded.id, loaded.dir.display()))
                .collect();
            Finding::ok(
                "bundle",
                format!("{}, loaded in {} ms", ids.join(", "), started.elapsed().as_millis()),
            )
        }
        Err(e) => {
            let advice = "install the bundle anew, or name another one with `bundle`; a GPU's engine is told of in docs/engines.md";
            Finding::fail("bundle", e.words(), advice)
        }
    }
}

/// What is left beside the bundle, which was loaded by this process before.
fn memory() -> Finding {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    let Some(available) = kilobytes.map(|kb| kb << 10) else {
        return Finding::warn("memory", "the system does not tell what is left", "see that there is enough");
    };
    let used = metrics::resident_bytes().unwrap_or(0);
    let found = format!("{} MiB are left, and the bundle takes about {}", available >> 20, used >> 20);
    if available < used + MEMORY_SPARE {
        let advice = "take a smaller bundle or fewer cameras, or end other programs";
        return Finding::warn("memory", found, advice);
    }
    Finding::ok("memory", found)
}

fn broker(config: &Config) -> Finding {
    let (what, mqtt) = ("broker", &config.mqtt);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            return Finding::fail(what, format!("start the runtime: {e}"), "see the limits of this process");
        }
    };
    let at = format!("{}:{}", mqtt.host, mqtt.port);
    match runtime.block_on(probe(mqtt)) {
        Ok(()) => Finding::ok(what, format!("{at} takes and gives messages under {}", mqtt.base_topic)),
        Err(e @ (ProbeError::NoConnection(_) | ProbeError::Silent)) => {
            let advice = "see that the broker runs, `mqtt.host`, `mqtt.port` and `mqtt.tls`, the firewall, and the username and password; \
                          the unit of systemd reaches private networks alone (drop-ins/cloud-broker.conf)";
            Finding::fail(what, format!("{at}: {e}"), advice)
        }
        Err(e @ ProbeError::NotHeard { .. }) => {
            let advice =
                "let this user publish and subscribe beneath the base topic in the broker's access rules";
            Finding::fail(what, format!("{at}: {e}"), advice)
        }
        Err(e @ ProbeError::Lost(_)) => {
            Finding::fail(what, format!("{at}: {e}"), "see the log of the broker: it may forbid the topics")
        }
    }
}

fn disk(queue: &QueueConfig) -> Finding {
    let (what, dir) = ("queue", queue.dir.display());
    let free = match spool::try_folder(&queue.dir) {
        Ok(free) => free,
        Err(e) => {
            let advice =
                "let the user of the daemon write there, or name another folder with `mqtt.queue_dir`";
            return Finding::fail(what, format!("{dir}: {e}"), advice);
        }
    };
    let found = format!("{dir} can be written, {} MiB are free", free >> 20);
    if free < queue.limits.bytes_max {
        let advice = "make room, or make `mqtt.queue_bytes_max` smaller: what finds no room is dropped";
        return Finding::warn(what, found, advice);
    }
    Finding::ok(what, found)
}

/// What forbids this user a camera, if anything does.
fn permission(camera: &CameraConfig) -> Option<Finding> {
    let SourceConfig::V4l2(v4l2) = &camera.source else { return None };
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(&v4l2.device);
    let e = opened.err()?;
    let advice = match e.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "this user needs the group of the device: usermod --append --groups video USER, and log in anew"
        }
        std::io::ErrorKind::NotFound => "plug it in; `captiond cameras` lists those that are there",
        _ => return None,
    };
    Some(Finding::fail(&of(camera), format!("{}: {e}", v4l2.device.display()), advice))
}

fn of(camera: &CameraConfig) -> String {
    format!("camera {}", camera.name)
}

/// One picture of a camera.
fn see(camera: &CameraConfig) -> Result<Finding, Finding> {
    let what = of(camera);
    if camera.pictures().is_some() {
        return Ok(Finding::ok(&what, "its pictures come over MQTT"));
    }
    let source = camera.source.clone();
    let look = move || -> Result<String, String> {
        let (shutdown, started) = (Shutdown::new(), Instant::now());
        let mut source = open(&source, &Arc::<Mailbox>::default()).map_err(|e| e.to_string())?;
        while started.elapsed() < CAMERA_PATIENCE {
            match source.next(&shutdown).map_err(|e| e.to_string())? {
                Capture::Image(image) => {
                    let (width, height) = image.pixels.dimensions();
                    let ms = started.elapsed().as_millis();
                    return Ok(format!("{width}x{height} after {ms} ms"));
                }
                Capture::Broken { what, why } => tracing::info!(what, why, "image lost"),
                Capture::Nothing => {}
                Capture::End | Capture::Interrupted => return Err("it ended without a picture".to_owned()),
            }
        }
        Err(format!("no picture within {CAMERA_PATIENCE:?}"))
    };
    let advice = "see cable, power, address and password; `captiond cameras` lists V4L2 cameras";
    match daemon::bounded("doctor", 2 * CAMERA_PATIENCE, look) {
        Ok(Some(Ok(found))) => Ok(Finding::ok(&what, format!("{}: {found}", camera.source))),
        Ok(Some(Err(why))) if why.contains("busy") => {
            let advice = "another program uses it; where that is the daemon itself, all is well";
            Ok(Finding::warn(&what, why, advice))
        }
        Ok(Some(Err(why))) => Err(Finding::fail(&what, why, advice)),
        Ok(None) => {
            Err(Finding::fail(&what, "its driver does not come back", "unplug it, and plug it in again"))
        }
        Err(e) => Err(Finding::fail(&what, format!("{e:#}"), "see the limits of this process")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_or_set_by_mistake_fails() {
        let at = |s: u64| clock(UNIX_EPOCH + Duration::from_secs(s)).verdict;
        assert_eq!(
            [0, 1_000_000_000, 1_795_000_000, 9_000_000_000].map(at),
            [Verdict::Fail, Verdict::Fail, Verdict::Ok, Verdict::Fail]
        );
    }
}
