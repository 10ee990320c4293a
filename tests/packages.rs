//! What the packages consist of beside the executable: versions that agree, and the start of the Home Assistant app.
//! `scripts/package_test.sh` installs a package, which takes root and minutes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use captiond::config::Protocol;

use crate::support::client::Client;
use crate::support::http::{Scripted, Step};
use crate::support::server::mosquitto_with;
use crate::support::{find, shipped_bundle, skipped};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn every_package_has_the_version_of_the_daemon() {
    let version = env!("CARGO_PKG_VERSION");
    let changelog = read("packaging/debian/changelog");
    assert!(changelog.starts_with(&format!("captiond ({version}-")), "packaging/debian/changelog");
    let app = read("packaging/home-assistant/captiond/config.yaml");
    assert!(app.lines().any(|line| line == format!("version: \"{version}\"")), "config.yaml of the app");
}

/// Ended when dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The folders of the app and a Supervisor.
struct App {
    dir: tempfile::TempDir,
    supervisor: Scripted,
}

impl App {
    fn new(status: &str, answer: &str) -> Option<App> {
        for program in ["curl", "jq"] {
            if find(program).is_none() {
                skipped(&format!("{program} is not installed"));
                return None;
            }
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_captiond"), dir.path().join("bin/captiond")).unwrap();
        let reply = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            answer.len()
        );
        Some(App { dir, supervisor: Scripted::start(vec![vec![Step::Send(reply.into_bytes())]]) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The start of the app with the demonstration's photos as its camera.
    fn command(&self, options: &str) -> Command {
        fs::write(self.path("options.json"), options).unwrap();
        let mut path = self.path("bin").into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let mut command = Command::new(root().join("packaging/home-assistant/captiond/run.sh"));
        command
            .env("PATH", path)
            .env("SUPERVISOR_TOKEN", "the-token")
            .env("CAPTIOND_APP_SUPERVISOR", self.supervisor.url())
            .env("CAPTIOND_APP_CONFIG", self.path("captiond.toml"))
            .env("CAPTIOND_APP_DATA", self.dir.path())
            .env("CAPTIOND_APP_TEMPLATE", root().join("packaging/captiond.toml"))
            .env("CAPTIOND_BUNDLE", root().join("models/lite"))
            .stderr(Stdio::piped());
        command
    }
}

#[test]
fn the_app_starts_with_the_broker_and_password_that_home_assistant_offers() {
    let (Some(_), Some(passwords)) = (shipped_bundle(), find("mosquitto_passwd")) else {
        return skipped("no bundle, or mosquitto_passwd is not installed");
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("passwords");
    let made = Command::new(passwords).args(["-c", "-b"]).arg(&file).args(["addons", "pass word\""]).status();
    assert!(made.unwrap().success());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let Some(broker) = mosquitto_with(&format!("password_file {}", file.display())) else { return };
    let port = broker.port();
    let answer = format!(
        r#"{{"result":"ok","data":{{"host":"127.0.0.1","port":{port},"ssl":false,"protocol":"3.1.1","username":"addons","password":"pass word\""}}}}"#
    );
    let Some(app) = App::new("200 OK", &answer) else { return };
    let client = Client::connect(port, Protocol::V5, "reader", "captiond/bridge/state");
    let _app = Started(app.command(r#"{"broker":"home_assistant","log":"warn"}"#).spawn().unwrap());
    client.wait_for_text("captiond/bridge/state", "online");
    // Written for its user to edit, and a secret for nobody else.
    assert_eq!(fs::read_to_string(app.path("captiond.toml")).unwrap(), read("packaging/captiond.toml"));
    let mode = fs::metadata(app.path("mqtt-password")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_app_without_a_broker_says_what_to_install() {
    let Some(app) = App::new("400 Bad Request", r#"{"result":"error"}"#) else { return };
    let output = app.command(r#"{"broker":"home_assistant"}"#).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("install the app Mosquitto"), "{said}");
}
