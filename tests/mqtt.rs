//! What the broker's side of the daemon promises beyond captions and answers: Home Assistant, settings, TLS.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use captiond::config::{Config, Protocol};
use serde_json::json;

use crate::support::client::Client;
use crate::support::http::certificates;
use crate::support::server::{self, Server};
use crate::support::{self, RunningDaemon, color_photos, config, skipped, wait_until};

const NODE: &str = "captiond_wall-watcher";

/// A daemon with a client id that is known.
fn named(port: u16, protocol: Protocol, photos: &Path) -> Config {
    let mut config = config(port, protocol, photos);
    config.mqtt.client_id = Some("captiond-wall-watcher".to_owned());
    config
}

#[test]
fn home_assistant_learns_of_every_camera_and_forgets_those_that_are_gone() {
    for server in server::all() {
        let photos = color_photos();
        let client = Client::connect(server.port(), Protocol::V311, "homeassistant", "homeassistant/#");
        let of = |id: &str| format!("homeassistant/device/{id}/config");
        let stale = of(&format!("{NODE}_gone"));
        let foreign = of("zigbee2mqtt_lamp");
        for topic in [&stale, &foreign] {
            client.publish(topic, "{}", true);
            client.wait_for_topic(topic);
        }
        let daemon = RunningDaemon::start(named(server.port(), Protocol::V5, photos.path()));
        let described = client.wait_for_topic(&of(&format!("{NODE}_wall"))).json();
        assert_eq!(described["components"]["caption"]["state_topic"], "captiond/wall/caption");
        assert_eq!(described["device"]["via_device"], format!("{NODE}_bridge"));
        client.wait_for("the former device is taken away", |m| m.topic == stale && m.payload.is_empty());
        // Home Assistant starts anew, and asks so.
        client.publish("homeassistant/status", "online", false);
        client.wait_for_topic(&of(&format!("{NODE}_wall")));
        let late = Client::connect(server.port(), Protocol::V5, "late", "homeassistant/#");
        for topic in [of(&format!("{NODE}_bridge")), of(&format!("{NODE}_wall")), foreign] {
            late.wait_for("what is retained", |m| m.retained && m.topic == topic);
        }
        daemon.stop();
    }
}

#[test]
fn settings_change_while_the_daemon_runs_and_spring_back_when_not_understood() {
    for server in server::all() {
        let photos = color_photos();
        let client = Client::connect(server.port(), Protocol::V5, "switch", "captiond/wall/#");
        // What was retained is not a wish of now.
        client.publish("captiond/wall/enabled/set", "OFF", true);
        let daemon = RunningDaemon::start(named(server.port(), Protocol::V5, photos.path()));
        client.wait_for_text("captiond/wall/enabled", "ON");
        client.wait_for_text("captiond/wall/prompt", "");
        client.wait_for_topic("captiond/wall/caption");
        client.publish("captiond/wall/enabled/set", "OFF", false);
        client.wait_for_text("captiond/wall/enabled", "OFF");
        // It is looked at all the same when somebody wants to know.
        client.publish("captiond/wall/ask", r#"{"question": "what color?", "transaction": "q"}"#, false);
        client.wait_for_topic("captiond/wall/answer");
        client.publish("captiond/wall/enabled/set", "perhaps", false);
        client.wait_for_text("captiond/wall/enabled", "OFF");
        client.publish("captiond/wall/interval/set", "0.5", false);
        client.wait_for_text("captiond/wall/interval", "0.5");
        client.publish("captiond/wall/prompt/set", "there is", false);
        client.wait_for_text("captiond/wall/prompt", "there is");
        client.publish("captiond/wall/enabled/set", "ON", false);
        client.wait_for_text("captiond/wall/enabled", "ON");
        client.wait_for("a caption after frames at which nobody looked", |m| {
            m.topic == "captiond/wall/caption" && m.json()["counters"]["gated"].as_u64() > Some(0)
        });
        client.publish("captiond/wall/enabled/set", Vec::new(), true);
        daemon.stop();
    }
}

/// A Mosquitto with one listener for tests and one for TLS, both with the user `me` and his password.
struct Secured {
    server: Server,
    tls_port: u16,
    dir: tempfile::TempDir,
}

impl Secured {
    fn start() -> Option<Secured> {
        let dir = tempfile::tempdir().unwrap();
        if !certificates(dir.path()) {
            skipped("openssl is not installed");
            return None;
        }
        let at = dir.path().display().to_string();
        let hashed = Command::new("mosquitto_passwd")
            .args(["-b", "-c", &format!("{at}/passwords"), "me", "hunter2"])
            .status();
        if !hashed.is_ok_and(|status| status.success()) {
            skipped("mosquitto_passwd is not installed");
            return None;
        }
        let tls_port = server::free_port();
        // A broker that is started by root drops to a user of its own, who must be able to read.
        let open = Command::new("chmod").args(["-R", "a+rX", &at]).status().unwrap();
        assert!(open.success());
        let more = format!(
            "per_listener_settings true\nlistener {tls_port} 127.0.0.1\nallow_anonymous false\n\
             password_file {at}/passwords\ncafile {at}/ca.pem\ncertfile {at}/server.crt\nkeyfile {at}/server.key\n\
             require_certificate true\n"
        );
        let server = server::mosquitto_with(&more)?;
        Some(Secured { server, tls_port, dir })
    }

    /// Writes a configuration, with these keys about trust.
    fn daemon(&self, photos: &Path, password: &str, keys: &str) -> Running {
        std::fs::write(self.dir.path().join("password"), password).unwrap();
        let text = format!(
            "bundle = \"{}\"\n[mqtt]\nhost = \"127.0.0.1\"\nport = {}\nusername = \"me\"\npassword_file = \"password\"\n\
             tls = true\n{keys}\n[[camera]]\nname = \"wall\"\n\
             source = {{ type = \"replay\", path = \"{}\", interval = \"200ms\" }}\n",
            support::shipped_bundle().unwrap().display(),
            self.tls_port,
            photos.display()
        );
        let path = self.dir.path().join("captiond.toml");
        std::fs::write(&path, text).unwrap();
        let log = self.dir.path().join("log");
        let child = Command::new(env!("CARGO_BIN_EXE_captiond"))
            .args(["--log", "trace", "run", "--config"])
            .arg(&path)
            .stderr(std::fs::File::create(&log).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Running { child, log }
    }
}

struct Running {
    child: Child,
    log: std::path::PathBuf,
}

impl Running {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const TRUST: &str = "ca_file = \"ca.pem\"\ncert_file = \"server.crt\"\nkey_file = \"server.key\"";

#[test]
fn tls_connects_with_a_client_certificate_and_says_what_is_wrong_without() {
    if support::shipped_bundle().is_none() {
        return skipped("the shipped bundle is not there");
    }
    let Some(site) = Secured::start() else { return };
    let photos = color_photos();
    {
        let client = Client::connect(site.server.port(), Protocol::V5, "viewer", "captiond/#");
        let daemon = site.daemon(photos.path(), "hunter2", TRUST);
        client.wait_for_text("captiond/bridge/state", "online");
        let caption = client.wait_for_topic("captiond/wall/caption").json();
        assert_eq!(caption["camera"], json!("wall"));
        assert!(
            !daemon.log().contains("hunter2"),
            "no line of the log holds the password, not even at `trace`"
        );
    }
    let without_ca = TRUST.replace("ca_file = \"ca.pem\"\n", "");
    let without_us = "ca_file = \"ca.pem\"";
    for (password, keys, wanted) in [
        ("wrong-one", TRUST, "uthori"),
        ("hunter2", without_ca.as_str(), "ertificate"),
        ("hunter2", without_us, "ertificate"),
    ] {
        let daemon = site.daemon(photos.path(), password, keys);
        wait_until("the refusal is logged", || daemon.log().contains("no broker, retrying"));
        let log = daemon.log();
        let line = log.lines().find(|line| line.contains("no broker, retrying")).unwrap();
        assert!(line.contains(wanted), "{line}");
        assert!(!log.contains(password), "the password is in the log");
    }
}
