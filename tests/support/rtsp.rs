//! A real RTSP server to test against: GStreamer's, where it is installed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use super::{DEADLINE, skipped};

/// A running server; it ends when dropped.
pub struct RtspServer {
    child: Child,
    lines: Receiver<String>,
    pub port: u16,
    /// Here the same wants a password.
    secret_port: u16,
}

/// The photo that the server shows.
pub fn photo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/coffee.jpg")
}

impl RtspServer {
    /// None, and a word about it, where GStreamer's server is not installed.
    pub fn start() -> Option<RtspServer> {
        let server = RtspServer::start_with(0, None);
        if server.is_none() {
            skipped(
                "no RTSP server: Debian has it in gir1.2-gst-rtsp-server-1.0, python3-gi and gstreamer1.0-plugins-*",
            );
        }
        server
    }

    /// `clip` is a Matroska file with H.264, to be shown once a client.
    pub fn start_with(port: u16, clip: Option<&Path>) -> Option<RtspServer> {
        // Debian installs the bindings for its own Python alone.
        let python = ["/usr/bin/python3", "python3"].into_iter().find(|python| {
            let mut check = Command::new(python);
            check.args(["-c", "import gi; gi.require_version('GstRtspServer', '1.0')"]);
            check.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        })?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/rtsp_server.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(photo())
            .arg(port.to_string())
            .args(clip)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (lines_tx, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines_tx.send(line)));
        let mut server = RtspServer { child, lines, port: 0, secret_port: 0 };
        let line = server.wait_for("port ");
        let ports: Vec<u16> = line.split(' ').skip(1).map(|port| port.parse().unwrap()).collect();
        (server.port, server.secret_port) = (ports[0], ports[1]);
        Some(server)
    }

    /// The first line of the server that starts so and was not yet waited for.
    pub fn wait_for(&self, start: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|e| panic!("no {start:?}: {e}"));
            if line.starts_with(start) {
                return line;
            }
        }
    }

    pub fn url(&self, mount: &str) -> String {
        format!("rtsp://127.0.0.1:{}/{mount}", self.port)
    }

    pub fn secret_url(&self, mount: &str) -> String {
        format!("rtsp://127.0.0.1:{}/{mount}", self.secret_port)
    }

    /// Stops the process where it is, as a camera hangs: its connections stay.
    pub fn freeze(&self) {
        let kill = Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
