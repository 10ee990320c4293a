//! A full disk costs the steps since the last checkpoint, and the run goes on when there is room again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::support::disk::SmallDisk;
use super::support::toy::Toy;
use super::support::{refusal, run, skipped};

/// Every file in a folder with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            all.insert(path, bytes);
        }
    }
    all
}

#[test]
fn a_full_disk_ends_a_run_with_its_checkpoint_intact_and_room_lets_it_go_on() {
    let Some(disk) = SmallDisk::mount(16) else {
        return skipped("no file system may be mounted here, so that none can be filled");
    };
    let toy = Toy::new();
    run(&toy.text("text-run", "--steps 4"));
    run(&toy.decoder("text-run", "whole", "--steps 60"));
    let out = disk.path().join("run");
    let args = |more: &str| {
        toy.decoder("text-run", out.to_str().unwrap(), &format!("--steps 60 --save-every 10 {more}"))
    };
    run(&args("--stop-at 20"));
    let before = files(&out);

    // Room for what a run writes at its start, and not for a checkpoint.
    disk.fill(128 << 10);
    let said = refusal(&args(""));
    assert!(said.starts_with("write checkpoint "), "{said}");
    assert!(said.contains("(the last one is intact)"), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(files(&out) == before, "nothing has changed and nothing lies beside it");

    disk.fill(0);
    let said = refusal(&args(""));
    assert!(said.contains("config.json: No space left on device"), "{said}");
    assert!(files(&out) == before, "nothing has changed and nothing lies beside it");

    disk.clear();
    let said = run(&args(""));
    assert!(said.contains("goes on after 20 of 60"), "{said}");
    for name in ["decoder.onnx", "adapter.onnx"] {
        assert!(
            std::fs::read(out.join(name)).unwrap() == toy.read(&format!("whole/{name}")),
            "{name} differs"
        );
    }
}
