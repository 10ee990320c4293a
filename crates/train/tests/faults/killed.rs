//! A kill -9 costs the steps since the last checkpoint, and nothing of the result.

use std::path::Path;

use super::support::toy::Toy;
use super::support::{run, trainer, wait_until};

/// How often a run is killed before it may end.
const N_KILLS: usize = 3;

/// The step of the checkpoint in `run`, once there is one.
fn step_of(run: &Path) -> Option<u64> {
    let json = std::fs::read(run.join("checkpoint/state.json")).ok()?;
    serde_json::from_slice::<serde_json::Value>(&json).unwrap()["step"].as_u64()
}

/// Starts the command, and kills it as soon as it has written a checkpoint beyond the last one.
fn kill_after_a_checkpoint(args: &[String], out: &Path) {
    let before = step_of(out);
    let mut child = trainer(args).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("a checkpoint is there", || {
        assert!(child.try_wait().unwrap().is_none(), "{args:?} ended before it could be killed");
        step_of(out).is_some_and(|step| before.is_none_or(|before| step > before))
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Runs the command that `args` gives for a folder in one go and in parts, and compares what it exports.
fn assert_survives_kills(toy: &Toy, args: &dyn Fn(&str) -> Vec<String>, exported: &[&str]) {
    run(&args("whole"));
    for _ in 0..N_KILLS {
        kill_after_a_checkpoint(&args("parts"), &toy.path("parts"));
        assert!(!toy.path("parts").join(exported[0]).exists(), "a killed run has exported nothing");
    }
    let said = run(&args("parts"));
    assert!(said.contains("goes on after"), "{said}");
    for name in exported {
        let [whole, parts] = ["whole", "parts"].map(|run| toy.read(&format!("{run}/{name}")));
        assert!(whole == parts, "{name} differs");
    }
}

#[test]
fn a_killed_decoder_run_ends_where_an_uninterrupted_one_does() {
    let toy = Toy::new();
    run(&toy.text("text-run", "--steps 4"));
    let args = |out: &str| toy.decoder("text-run", out, "--steps 400 --save-every 20");
    assert_survives_kills(&toy, &args, &["decoder.onnx", "adapter.onnx", "memory.safetensors"]);
}

#[test]
fn a_killed_run_that_learns_from_its_own_captions_ends_where_an_uninterrupted_one_does() {
    let toy = Toy::new();
    run(&toy.text("text-run", "--steps 4"));
    let args = |out: &str| toy.decoder("text-run", out, "--steps 120 --save-every 20 --self-critical 3");
    assert_survives_kills(&toy, &args, &["decoder.onnx", "adapter.onnx"]);
    let plain = toy.decoder("text-run", "plain", "--steps 120");
    run(&plain);
    assert!(toy.read("plain/decoder.onnx") != toy.read("whole/decoder.onnx"), "the captions taught nothing");
}

#[test]
fn a_killed_adaptation_ends_where_an_uninterrupted_one_does() {
    let toy = Toy::new();
    toy.whole_bundle();
    let args = |out: &str| toy.adapt(out, "--steps 400 --save-every 20");
    assert_survives_kills(&toy, &args, &["decoder.onnx", "adapter.onnx", "report.md"]);
    let [whole, parts] =
        ["whole-bundle", "parts-bundle"].map(|name| caption::Bundle::open(&toy.path(name)).unwrap());
    assert_eq!(whole.id(), parts.id());
    assert_ne!(whole.id(), caption::Bundle::open(&toy.path("bundle")).unwrap().id());
}

#[test]
fn a_killed_text_run_ends_where_an_uninterrupted_one_does() {
    let toy = Toy::new();
    let args = |out: &str| toy.text(out, "--steps 400 --save-every 20");
    assert_survives_kills(&toy, &args, &["text_encoder.onnx", "tokenizer.json"]);
}

#[test]
fn a_killed_encoder_run_ends_where_an_uninterrupted_one_does() {
    let toy = Toy::new();
    let args = |out: &str| toy.encoder(out, "--steps 60 --save-every 4");
    assert_survives_kills(&toy, &args, &["image_encoder.onnx", "image_moments.json"]);
}

#[test]
fn features_that_a_kill_has_cut_off_go_on_where_they_were() {
    let toy = Toy::new();
    run(&toy.encoder("run", "--steps 1"));
    let cache = toy.path("run/grids_train_2.f16");
    let whole = std::fs::read(&cache).unwrap();
    // A key, one photo in two views, and the torn beginning of the next.
    let row_bytes = 2 * 49 * 192 * 2;
    std::fs::write(cache.with_extension("partial"), &whole[..32 + row_bytes + 1000]).unwrap();
    std::fs::remove_file(&cache).unwrap();
    let said = run(&toy.encoder("run", "--steps 1"));
    assert!(said.contains("features: goes on after 1 of 4"), "{said}");
    assert!(
        said.lines().any(|line| line.starts_with("features: 4/4, ") && line.contains("views/s")),
        "{said}"
    );
    assert!(std::fs::read(&cache).unwrap() == whole, "the features differ");
}
