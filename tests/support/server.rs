//! Brokers to test against: a real Mosquitto where it is installed, and the demonstration's own.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use captiond::demo::broker::Broker;

use super::{find, skipped, wait_until};

/// A running broker; it ends when dropped.
pub enum Server {
    Mosquitto { child: Child, port: u16, _dir: tempfile::TempDir },
    Embedded { _runtime: tokio::runtime::Runtime, port: u16 },
}

/// Mosquitto if it is installed, else none and a word about it.
pub fn mosquitto() -> Option<Server> {
    let Some(executable) = find("mosquitto") else {
        skipped("mosquitto is not installed");
        return None;
    };
    // Another process may take the port between finding and using it: then try the next one.
    (0..5).find_map(|_| start(&executable, free_port(), ""))
}

/// Mosquitto with more lines in its configuration; those may have listeners of their own.
pub fn mosquitto_with(more: &str) -> Option<Server> {
    let Some(executable) = find("mosquitto") else {
        skipped("mosquitto is not installed");
        return None;
    };
    (0..5).find_map(|_| start(&executable, free_port(), more))
}

/// Every broker that is there.
pub fn all() -> Vec<Server> {
    mosquitto().into_iter().chain([embedded()]).collect()
}

pub fn embedded() -> Server {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let broker = runtime.block_on(Broker::bind()).unwrap();
    let port = broker.port();
    runtime.spawn(broker.serve());
    Server::Embedded { _runtime: runtime, port }
}

pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn start(executable: &PathBuf, port: u16, more: &str) -> Option<Server> {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("mosquitto.conf");
    // Settings of the whole broker must stand before its listeners.
    let (whole, listeners) = more.split_once("\nlistener").map_or((more, ""), |(whole, rest)| (whole, rest));
    let listeners = if listeners.is_empty() { String::new() } else { format!("listener{listeners}") };
    let text =
        format!("{whole}\npersistence false\nlistener {port} 127.0.0.1\nallow_anonymous true\n{listeners}");
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(executable)
        .arg("-c")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ended = false;
    wait_until("mosquitto listens", || {
        ended = child.try_wait().unwrap().is_some();
        ended || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    (!ended).then_some(Server::Mosquitto { child, port, _dir: dir })
}

impl Server {
    pub fn port(&self) -> u16 {
        match self {
            Server::Mosquitto { port, .. } | Server::Embedded { port, .. } => *port,
        }
    }

    /// Kills Mosquitto and starts it anew on the same port: it has forgotten everything.
    pub fn restart(self) -> Server {
        let port = self.port();
        drop(self);
        let executable = find("mosquitto").unwrap();
        let mut started = None;
        wait_until("mosquitto is back", || {
            started = start(&executable, port, "");
            started.is_some()
        });
        started.unwrap()
    }

    /// Starts Mosquitto on a port that was free before.
    pub fn mosquitto_on(port: u16) -> Server {
        start(&find("mosquitto").unwrap(), port, "").expect("the port is still free")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Server::Mosquitto { child, .. } = self {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
