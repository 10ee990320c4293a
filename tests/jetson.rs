//! The commands of `docs/jetson.md` that need no board.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use captiond::config::Config;

use crate::engines::{VARIABLES, library, shim};

const BENCH: &str = "captiond bench --runs 5";
const BENCH_GPU: &str = "captiond bench --runs 5 --engine ort --device cuda:0";
const CHECK: &str = "captiond check --config captiond.toml";
const DOCTOR: &str = "captiond doctor --config captiond.toml";
const LOOK_INTO_WHEEL: &str = "python3 -m zipfile -l onnxruntime_gpu-*.whl | grep libonnxruntime.so";
const MAKE_FOLDER: &str = "install -d /opt/onnxruntime";
const COPY: &str = "cp libonnxruntime.so* libonnxruntime_providers_*.so /opt/onnxruntime/";
/// What the tests of this file run.
const HERE: [&str; 7] = [BENCH, BENCH_GPU, CHECK, DOCTOR, LOOK_INTO_WHEEL, MAKE_FOLDER, COPY];
/// How the others begin, and what they need.
const ELSEWHERE: [(&str, &str); 6] = [
    ("git clone ", "the network"),
    ("cd onnxruntime", "the clone"),
    ("./build.sh ", "CUDA, TensorRT and hours"),
    ("sudo nvpmodel ", "a board"),
    ("sudo jetson_clocks", "a board"),
    ("tegrastats", "a board"),
];

fn document() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/jetson.md")).unwrap()
}

fn configuration() -> String {
    let text = document();
    let block = text.split("<!-- config -->\n```toml\n").nth(1).expect("a configuration");
    block.split("```").next().unwrap().to_owned()
}

/// The command lines of the document, without comments; those that a backslash continues are one.
fn commands() -> Vec<String> {
    let text = document();
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let joined: String = blocks.map(|block| block.replace("\\\n", " ")).collect();
    let commands = joined.lines().map(|line| line.split("  #").next().unwrap_or_default().trim().to_owned());
    commands.filter(|line| !line.is_empty()).collect()
}

/// What a shell does with a command line of the document in `dir`, which stands for `/opt`, too.
fn shell(line: &str, dir: &Path) -> Output {
    assert!(commands().iter().any(|found| found == line), "docs/jetson.md has no command {line:?}");
    let line = line.replace("/opt/", &format!("{}/opt/", dir.display()));
    Command::new("sh").args(["-c", &line]).current_dir(dir).output().unwrap()
}

/// A command line of the document, which must stand there word by word.
fn command(line: &str, dir: &Path) -> Command {
    assert!(commands().iter().any(|found| found == line), "docs/jetson.md has no command {line:?}");
    let arguments = line.strip_prefix("captiond ").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_captiond"));
    command.args(arguments.split(' ')).current_dir(dir);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
}

fn run(line: &str, dir: &Path, environment: &[(&str, &Path)]) -> Output {
    command(line, dir).envs(environment.iter().copied()).output().unwrap()
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
    let check = run(CHECK, dir.path(), &environment);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(0), "{}", String::from_utf8_lossy(&check.stderr));
    assert!(said.contains("engine ort on cuda:0"), "{said}");
    // There is neither a broker nor a camera, which is beside the point.
    let doctor = run(DOCTOR, dir.path(), &environment);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.lines().any(|line| line.starts_with("ok    bundle: ")), "{said}");
}

#[test]
fn bench_measures_what_runs() {
    if crate::support::shipped_bundle().is_none() {
        return crate::support::skipped("models/lite is not there");
    }
    let bench = run(BENCH, Path::new("/"), &[]);
    let said = String::from_utf8_lossy(&bench.stdout).into_owned();
    assert!(bench.status.success() && said.contains("encode"), "{said}");
}

#[test]
fn bench_measures_a_device_as_on_a_board() {
    let (Some(library), Some(shim)) = (library(), shim()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(BENCH_GPU, dir.path());
    command.envs([("ORT_DYLIB_PATH", shim.as_path()), ("ORT_SHIM_REAL", &library)]);
    let bench = command.env("ORT_SHIM_CUDA", "1").output().unwrap();
    let said = String::from_utf8_lossy(&bench.stdout).into_owned();
    let error = String::from_utf8_lossy(&bench.stderr).into_owned();
    assert!(bench.status.success() && said.contains("encode"), "{said}{error}");
}

#[test]
fn a_wheel_shows_whether_it_holds_the_library() {
    let dir = tempfile::tempdir().unwrap();
    let make = "import zipfile; w = zipfile.ZipFile('onnxruntime_gpu-1.0-py3.whl', 'w'); \
                w.writestr('onnxruntime/capi/libonnxruntime.so.1.0', b''); w.close()";
    let made = Command::new("python3").args(["-c", make]).current_dir(dir.path()).status();
    if !made.is_ok_and(|status| status.success()) {
        return crate::support::skipped("no python3");
    }
    let looked = shell(LOOK_INTO_WHEEL, dir.path());
    let said = String::from_utf8_lossy(&looked.stdout).into_owned();
    assert!(looked.status.success() && said.contains("capi/libonnxruntime.so.1.0"), "{said}");
}

#[test]
fn the_library_and_its_providers_come_to_lie_in_one_folder() {
    let dir = tempfile::tempdir().unwrap();
    let names =
        ["libonnxruntime.so.1", "libonnxruntime_providers_cuda.so", "libonnxruntime_providers_shared.so"];
    for name in names {
        fs::write(dir.path().join(name), name).unwrap();
    }
    for line in [MAKE_FOLDER, COPY] {
        let output = shell(line, dir.path());
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for name in names {
        assert_eq!(fs::read_to_string(dir.path().join("opt/onnxruntime").join(name)).unwrap(), name);
    }
}

#[test]
fn every_command_runs_in_a_test_or_needs_what_no_test_has() {
    let commands = commands();
    assert!(commands.len() > HERE.len(), "{commands:?}");
    for command in &commands {
        let elsewhere = ELSEWHERE.iter().any(|(begin, _)| command.starts_with(begin));
        assert!(HERE.contains(&command.as_str()) || elsewhere, "no test runs {command:?}");
    }
}
