//! The commands of `docs/jetson.md` that need no board.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use captiond::config::Config;

use crate::engines::{library, shim};

fn document() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/jetson.md")).unwrap()
}

fn configuration() -> String {
    let text = document();
    let block = text.split("<!-- config -->\n```toml\n").nth(1).expect("a configuration");
    block.split("```").next().unwrap().to_owned()
}

/// What a command line of the document does, which must stand there word by word.
fn run(line: &str, dir: &Path, environment: &[(&str, &Path)]) -> Output {
    assert!(document().lines().any(|found| found == line), "docs/jetson.md has no line {line:?}");
    let arguments = line.strip_prefix("captiond ").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_captiond"));
    command.args(arguments.split(' ')).current_dir(dir).envs(environment.iter().copied());
    for variable in ["CAPTIOND_BUNDLE", "CAPTIOND_LOG", "ORT_DYLIB_PATH"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

#[test]
fn the_configuration_is_valid() {
    let config = Config::parse(&configuration(), Path::new("/")).unwrap();
    assert_eq!((config.engine.name.as_str(), config.engine.device.to_string()), ("ort", "cuda:0".to_owned()));
}

#[test]
fn check_and_doctor_load_the_bundle_with_it() {
    let (Some(library), Some(shim)) = (library(), shim()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let text = configuration().replace("/opt/onnxruntime/libonnxruntime.so.1", shim.to_str().unwrap());
    fs::write(dir.path().join("captiond.toml"), text).unwrap();
    let environment = [("ORT_SHIM_REAL", library.as_path()), ("ORT_SHIM_CUDA", Path::new("1"))];
    let check = run("captiond check --config captiond.toml", dir.path(), &environment);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stderr));
    assert!(said.contains("engine ort on cuda:0"), "{said}");
    // There is neither a broker nor a camera, which is beside the point.
    let doctor = run("captiond doctor --config captiond.toml", dir.path(), &environment);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.lines().any(|line| line.starts_with("ok    bundle: ")), "{said}");
}

#[test]
fn bench_measures_what_runs() {
    if crate::support::shipped_bundle().is_none() {
        return crate::support::skipped("models/lite is not there");
    }
    let bench = run("captiond bench --runs 5", Path::new("/"), &[]);
    let said = String::from_utf8_lossy(&bench.stdout).into_owned();
    assert!(bench.status.success() && said.contains("encode"), "{said}");
}
