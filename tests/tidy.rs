//! The rules of the house that a compiler does not check. Each failure prints its rule.

use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file beneath `folder`, with its path from the root.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut pending = vec![root().join(folder)];
    let mut all = Vec::new();
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push((relative(&path), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

/// The code without its unit tests and comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("\n#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text.get(..end).unwrap_or_default().lines().enumerate();
    lines.map(|(i, line)| (i + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Nowhere in `folder` but in `exempt` may one of `words` stand.
fn forbid(rule: &str, folder: &str, exempt: &[&str], words: &[&str]) {
    let mut found = Vec::new();
    for (path, text) in sources(folder) {
        if exempt.iter().any(|exempt| path.starts_with(exempt)) || path.ends_with("/tests.rs") {
            continue;
        }
        for (number, line) in code(&text) {
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{rule}\n{}", found.join("\n"));
}

#[test]
fn the_crates_depend_in_one_direction() {
    forbid("engine never imports caption", "crates/engine/src", &[], &["caption::", "use caption"]);
    forbid(
        "caption knows no threads, clock, network or files (but those of bundle.rs)",
        "crates/caption/src",
        &["crates/caption/src/bundle"],
        &["tokio", "rumqttc", "std::thread", "Instant", "std::fs", "fs::"],
    );
    // `onnx.rs` hands out the ONNX messages, which are no types of the inference engine.
    let engine = ["crates/engine/src/tract", "crates/engine/src/onnx.rs"];
    for folder in ["src", "crates/engine/src", "crates/caption/src", "crates/import/src"] {
        forbid(
            "the types of ONNX Runtime stay behind the engine's seam",
            folder,
            &["crates/engine/src/ort"],
            &["::ort::", "ort_sys"],
        );
        forbid(
            "the types of tract stay behind the engine's seam",
            folder,
            &engine,
            &["tract_core", "tract_onnx"],
        );
    }
}

#[test]
fn sources_pipeline_and_mqtt_never_import_each_other() {
    let rule = "source, pipeline and mqtt never import each other: they meet in inbox and daemon";
    forbid(rule, "src/source", &[], &["crate::pipeline", "crate::mqtt"]);
    forbid(rule, "src/mqtt", &[], &["crate::pipeline", "crate::source"]);
    let others = ["crate::source", "crate::mqtt"];
    let (_, pipeline) = sources("src").into_iter().find(|(path, _)| path == "src/pipeline.rs").unwrap();
    assert!(code(&pipeline).all(|(_, line)| others.iter().all(|other| !line.contains(other))), "{rule}");
}

#[test]
fn the_world_is_touched_in_few_places() {
    forbid(
        "the types of rumqttc stay in mqtt/client and in the wire of the demonstration's broker",
        "src",
        &["src/mqtt/client", "src/demo/wire.rs"],
        &["rumqttc"],
    );
    forbid(
        "only daemon.rs and the demonstration spawn; what source/pipe.rs starts is a program",
        "src",
        &["src/daemon.rs", "src/demo/", "src/source/pipe.rs"],
        &["spawn(", "spawn_blocking"],
    );
    forbid(
        "only config/environment.rs reads the environment",
        "src",
        &["src/config/environment.rs"],
        &["env::var", "env::vars"],
    );
    forbid(
        "only daemon.rs (second signal) and logging.rs (panic) end the process",
        "src",
        &["src/daemon.rs", "src/logging.rs"],
        &["process::exit", "process::abort"],
    );
    forbid(
        "serializable types live in mqtt/payload alone",
        "src",
        &["src/mqtt/payload"],
        &["Serialize", "Deserialize"],
    );
    forbid(
        "unsafe code is in source/v4l2/sys.rs and allocator.rs alone",
        "src",
        &["src/source/v4l2/sys.rs", "src/allocator.rs"],
        &["unsafe "],
    );
    forbid(
        "unsafe code of the engine is in its kernels alone",
        "crates/engine/src",
        &["crates/engine/src/kernels/"],
        &["unsafe "],
    );
    forbid("only mqtt/topic.rs joins topics", "src/mqtt", &["src/mqtt/topic.rs"], &["/caption\"", "/ask\""]);
    forbid("every channel is bounded", "src", &[], &["unbounded_channel", "mpsc::channel()"]);
}

#[test]
fn files_are_of_a_size_to_be_read() {
    let mut long = Vec::new();
    for folder in ["src", "crates/engine/src", "crates/caption/src", "crates/import/src", "crates/train/src"]
    {
        for (path, text) in sources(folder) {
            let end = text.find("\n#[cfg(test)]\nmod tests").unwrap_or(text.len());
            let n_lines = text.get(..end).unwrap_or_default().lines().count();
            if n_lines > LINES_MAX && !path.ends_with("tests.rs") {
                long.push(format!("{path}: {n_lines}"));
            }
        }
    }
    assert!(long.is_empty(), "more than {LINES_MAX} lines that are not tests:\n{}", long.join("\n"));
}

#[test]
fn every_module_says_what_it_is() {
    for (path, text) in sources("src") {
        assert!(text.starts_with("//!") || path.ends_with("tests.rs"), "{path} opens without a description");
    }
}

#[test]
fn the_project_speaks_of_itself_alone() {
    let output = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Ok(output) = output else { return crate::support::skipped("git is not installed") };
    let words = ["/wor\x6b/", "/far\x6d/", "bash_job\x73", ".librar\x79/", "sub-agen\x74", "before-sto\x70"];
    for path in String::from_utf8(output.stdout).unwrap().split_terminator('\0').map(PathBuf::from) {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for word in words {
            // A level of a topic may have the name of a folder.
            let is_path = |(at, _)| {
                let before: &str = text.get(..at).unwrap_or_default();
                !before.ends_with(|c: char| c.is_alphanumeric() || "}>".contains(c))
            };
            assert!(!text.match_indices(word).any(is_path), "{} names the workplace: {word}", path.display());
        }
    }
}
