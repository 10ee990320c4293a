//! The memory of the cameras stays within the formula that docs/cameras.md states.

use std::process::Command;
use std::time::Duration;

use captiond::config::{CameraConfig, GATE, Protocol};
use captiond::gate::GateConfig;
use captiond::source::SourceConfig;
use captiond::source::replay::{Photo, ReplayConfig};

use crate::support::{self, RunningDaemon, server, wait_until};

const N_CAMERAS: usize = 8;
const SIZE: (u32, u32) = (640, 480);
const CHILD_VARIABLE: &str = "CAPTIOND_TEST_MEMORY";

#[test]
fn eight_fast_cameras_take_at_most_four_pictures_each() {
    // In a process of its own, so that no other test's memory is counted.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::child_of_the_memory_test", "--ignored", "--nocapture"])
        .env(CHILD_VARIABLE, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

#[test]
#[ignore = "the child process of eight_fast_cameras_take_at_most_four_pictures_each"]
fn child_of_the_memory_test() {
    if std::env::var_os(CHILD_VARIABLE).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.png", "b.png"] {
        let salt = u32::from(name.as_bytes()[0]);
        let level = |x: u32, y: u32, c: u32| ((x * 31 + y * 17 + c * 7) * salt % 251) as u8;
        let picture = image::RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| {
            image::Rgb([level(x, y, 0), level(x, y, 1), level(x, y, 2)])
        });
        picture.save(dir.path().join(name)).unwrap();
    }
    let site = server::embedded();
    let mut config = support::config(site.port(), Protocol::V5, dir.path());
    let replay = ReplayConfig {
        photos: vec![Photo::Folder(dir.path().to_owned())],
        interval: Duration::from_millis(10),
        repeat: true,
    };
    config.cameras = (0..N_CAMERAS)
        .map(|i| CameraConfig {
            gate: GateConfig { enabled: false, ..GATE },
            ..CameraConfig::new(&format!("c{i}"), SourceConfig::Replay(replay.clone()))
        })
        .collect();
    let client = crate::support::client::Client::connect(site.port(), Protocol::V5, "viewer", "captiond/#");
    let before = crate::MEMORY.current_usage();
    crate::MEMORY.reset_peak_usage();
    let daemon = RunningDaemon::start(config);
    let mut n_seen = 0;
    wait_until("hundreds of frames went through", || {
        n_seen +=
            usize::from(client.wait_for("a caption", |m| m.topic.ends_with("/caption")).payload.len() > 2);
        n_seen >= 200
    });
    let peak = crate::MEMORY.peak_usage() - before;
    daemon.stop();
    let pictures = N_CAMERAS * 4 * (SIZE.0 * SIZE.1 * 3) as usize;
    // While a photo is decoded its file and the decoder's own rows are there, too; the rest is the broker and the queues.
    let files = N_CAMERAS * 2 * (SIZE.0 * SIZE.1 * 3) as usize;
    let rest = 16 << 20;
    assert!(
        peak <= pictures + files + rest,
        "{peak} bytes, more than {} for pictures",
        pictures + files + rest
    );
    assert!(peak > pictures / 8, "{peak} bytes: the frames were not there");
}
