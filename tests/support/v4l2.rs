//! Emulated cameras, and a process that looks through one: see `crates/v4l2-shim`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use captiond::config::Config;
use captiond::shutdown::Shutdown;
use captiond::source::{self, Capture, Source};

use super::TEXT;
use super::{DEADLINE, wait_until};

const CONFIG_VARIABLE: &str = "CAPTIOND_TEST_CONFIG";
/// What the child answers with, among what the test harness prints.
const ANSWER: &str = "> ";

/// A folder in the place of `/dev`, with emulated cameras in it.
pub struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("v4l/by-id")).unwrap();
        fs::create_dir_all(dir.path().join("v4l/by-path")).unwrap();
        Site { dir }
    }

    pub fn dev(&self) -> &Path {
        self.dir.path()
    }

    pub fn node(&self, number: u32) -> PathBuf {
        self.dev().join(format!("video{number}"))
    }

    /// Plugs a camera in, or changes it while it runs.
    pub fn plug(&self, number: u32, scenario: impl AsRef<str>) {
        let new = self.dev().join("new");
        fs::write(&new, scenario.as_ref()).unwrap();
        fs::rename(new, self.node(number)).unwrap();
    }

    pub fn unplug(&self, number: u32) {
        fs::remove_file(self.node(number)).unwrap();
    }

    /// Points a link of `by-id` or `by-path` at a camera, as udev does.
    pub fn link(&self, folder: &str, name: &str, number: u32) -> PathBuf {
        let new = self.dev().join("new-link");
        symlink(format!("../../video{number}"), &new).unwrap();
        let link = self.dev().join("v4l").join(folder).join(name);
        // The target is relative to the link's folder, so the link is made where it is not followed.
        fs::rename(new, &link).unwrap();
        link
    }

    /// The line of a scenario for frames of these bytes.
    pub fn frame(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.dev().join(name);
        fs::write(&path, bytes).unwrap();
        format!("frame {}\n", path.display())
    }

    /// What was done to the cameras so far.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dev().join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub fn has_logged(&self, line: &str) -> bool {
        self.log().iter().any(|logged| logged == line)
    }

    /// A command whose process sees the emulated cameras.
    pub fn command(&self, executable: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(executable);
        command.env("LD_PRELOAD", shim()).env("V4L2_SHIM_ROOT", self.dev());
        command
    }

    /// This executable anew, to run one ignored test of it.
    pub fn this_test(&self, name: &str) -> Command {
        let mut command = self.command(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--ignored", "--nocapture"]);
        command
    }

    /// A process that looks through the camera at `device`, with more keys of its source.
    pub fn viewer(&self, device: &Path, keys: &str) -> Viewer {
        let source = format!("type = \"v4l2\"\ndevice = \"{}\"\n{keys}\n", device.display());
        let config = format!("[[camera]]\nname = \"porch\"\n[camera.source]\n{source}");
        let stderr = self.dev().join("stderr");
        let mut child = self
            .this_test("v4l2::child_viewer")
            .env(CONFIG_VARIABLE, config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        let (answers_tx, answers) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The harness leaves its own words before the first answer in the same line.
                if let Some((_, answer)) = line.split_once(ANSWER) {
                    answers_tx.send(answer.to_owned()).unwrap_or_default();
                }
            }
        });
        Viewer { stdin: child.stdin.take().unwrap(), child, answers, stderr }
    }
}

/// The library to preload, which cargo builds beside the tests.
pub fn shim() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let library = tests.with_file_name("libv4l2_shim.so");
    assert!(library.is_file(), "{} is not there, though it is a dependency of the tests", library.display());
    library
}

/// A process that looks through one camera, step by step.
pub struct Viewer {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
    stderr: PathBuf,
}

impl Viewer {
    pub fn tell(&mut self, what: &str) {
        writeln!(self.stdin, "{what}").unwrap();
    }

    pub fn answer(&self) -> String {
        self.answers.recv_timeout(DEADLINE).unwrap_or_else(|e| panic!("{e}; {}", self.stderr()))
    }

    fn ask(&mut self, what: &str) -> String {
        self.tell(what);
        self.answer()
    }

    /// Opens the camera, anew where it is open.
    pub fn open(&mut self) -> Result<(), String> {
        match self.ask("open") {
            answer if answer == "opened" => Ok(()),
            answer => Err(answer),
        }
    }

    /// Closes the camera.
    pub fn close(&mut self) {
        assert_eq!(self.ask("close"), "closed");
    }

    /// Width, height and the bytes of red, green and blue of the next image.
    pub fn image(&mut self) -> (u32, u32, Vec<u8>) {
        let answer = self.ask("next");
        let Some(image) = answer.strip_prefix("image ") else { panic!("{answer}; {}", self.stderr()) };
        let numbers: Vec<u32> = image.split(' ').map(|n| n.parse().unwrap()).collect();
        (numbers[0], numbers[1], numbers[2..].iter().map(|n| *n as u8).collect())
    }

    /// Whatever comes next instead of an image.
    pub fn trouble(&mut self) -> String {
        let answer = self.ask("next");
        assert!(!answer.starts_with("image "), "{answer}");
        answer
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Ends it in order.
    pub fn end(mut self) {
        self.tell("end");
        wait_until("the viewer ends", || self.child.try_wait().unwrap().is_some());
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        // It may wait in a camera for ever, and may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The viewer's side: does what it is told, and says one line for each.
pub fn view() {
    let Ok(config) = std::env::var(CONFIG_VARIABLE) else { return };
    captiond::logging::start("captiond=debug", TEXT).unwrap();
    let config = Config::parse(&config, Path::new("")).unwrap().cameras.remove(0).source;
    let shutdown = Shutdown::new();
    let mut camera: Option<Box<dyn Source>> = None;
    for line in std::io::stdin().lines() {
        let answer = match line.unwrap().as_str() {
            "open" => {
                camera = None;
                match source::open(&config, &std::sync::Arc::default()) {
                    Ok(opened) => {
                        camera = Some(opened);
                        "opened".to_owned()
                    }
                    Err(e) => format!("error {e}"),
                }
            }
            "next" => match camera.as_mut().unwrap().next(&shutdown) {
                Ok(Capture::Image(image)) => {
                    let (width, height) = image.pixels.dimensions();
                    let numbers = image.pixels.as_raw().iter().map(|byte| format!(" {byte}"));
                    format!("image {width} {height}{}", numbers.collect::<String>())
                }
                Ok(Capture::Broken { why, .. }) => format!("broken {why}"),
                Ok(other) => format!("{other:?}"),
                Err(e) => {
                    // As the capture thread does: nothing of a camera that failed is used again.
                    camera = None;
                    format!("error {e}")
                }
            },
            "close" => {
                camera = None;
                "closed".to_owned()
            }
            _ => break,
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{ANSWER}{answer}").unwrap();
        out.flush().unwrap();
    }
}
