//! A broker that keeps what it has over restarts, one that remembers everything it hears, and a wire that is listened to.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rumqttc::v5;
use serde_json::Value;

use super::server::free_port;
use super::{find, wait_until};

/// Mosquitto with its persistence, on one port for its whole life.
pub struct DurableBroker {
    child: Option<Child>,
    dir: tempfile::TempDir,
    pub port: u16,
}

impl DurableBroker {
    /// None where Mosquitto is not installed.
    pub fn new() -> Option<DurableBroker> {
        find("mosquitto")?;
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let text = format!(
            "persistence true\npersistence_location {}/\nautosave_on_changes true\nautosave_interval 1\n\
             max_queued_messages 0\nuser root\nlistener {port} 127.0.0.1\nallow_anonymous true\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        Some(DurableBroker { child: None, dir, port })
    }

    pub fn start(&mut self) {
        let config = self.dir.path().join("mosquitto.conf");
        wait_until("mosquitto listens", || {
            if self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
                let mut command = Command::new(find("mosquitto").unwrap());
                command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
                self.child = Some(command.spawn().unwrap());
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        });
    }

    /// Ends it with a signal such as `TERM`, and waits for the end.
    pub fn end(&mut self, signal: &str) {
        let Some(mut child) = self.child.take() else { return };
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        child.wait().unwrap();
    }
}

impl Drop for DurableBroker {
    fn drop(&mut self) {
        self.end("KILL");
    }
}

/// A message as the recorder heard it.
#[derive(Clone, Debug)]
pub struct Heard {
    pub payload: Value,
    /// The broker says that it may have sent it before.
    pub is_repeat: bool,
    pub is_retained: bool,
}

/// A subscriber with a session that the broker keeps.
pub struct Recorder {
    heard: Arc<Mutex<Vec<Heard>>>,
    is_over: Arc<AtomicBool>,
}

impl Recorder {
    /// Returns when the subscription holds.
    pub fn start(port: u16, filter: &str) -> Recorder {
        let mut options = v5::MqttOptions::new("recorder", "127.0.0.1", port);
        options.set_clean_start(false);
        options.set_session_expiry_interval(Some(86_400));
        options.set_max_packet_size(Some(1 << 20));
        let (client, mut connection) = v5::Client::new(options, 16);
        let (heard, is_over) = (Arc::<Mutex<Vec<Heard>>>::default(), Arc::new(AtomicBool::new(false)));
        let subscribed = Arc::new(AtomicBool::new(false));
        let (record, stop, ready) = (Arc::clone(&heard), Arc::clone(&is_over), Arc::clone(&subscribed));
        let filter = filter.to_owned();
        thread::spawn(move || {
            for event in connection.iter() {
                use v5::mqttbytes::v5::Packet;
                match event {
                    _ if stop.load(Relaxed) => return,
                    Ok(v5::Event::Incoming(Packet::ConnAck(ack))) if !ack.session_present => {
                        client.try_subscribe(&filter, v5::mqttbytes::QoS::AtLeastOnce).unwrap();
                    }
                    Ok(v5::Event::Incoming(Packet::SubAck(_))) => ready.store(true, Relaxed),
                    Ok(v5::Event::Incoming(Packet::Publish(publish))) => {
                        let payload = serde_json::from_slice(&publish.payload).unwrap_or(Value::Null);
                        let heard = Heard { payload, is_repeat: publish.dup, is_retained: publish.retain };
                        record.lock().unwrap().push(heard);
                    }
                    Ok(_) => {}
                    // The broker is away.
                    Err(_) => thread::park_timeout(Duration::from_millis(50)),
                }
            }
        });
        wait_until("the recorder listens", || subscribed.load(Relaxed));
        Recorder { heard, is_over }
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
    }
}

/// Stands between a client and the broker, and notes which messages were acknowledged.
pub struct Wire {
    pub port: u16,
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
}

impl Wire {
    /// `number` tells a message by its payload; others are not noted.
    pub fn start(broker_port: u16, number: fn(&[u8]) -> Option<u64>) -> Wire {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let acknowledged = Arc::<Mutex<BTreeSet<u64>>>::default();
        let noted = Arc::clone(&acknowledged);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                // No broker: the client is hung up on, as a host without one would.
                let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker_port)) else { continue };
                let flying = Arc::<Mutex<HashMap<u16, u64>>>::default();
                let (up, down) =
                    ((client.try_clone().unwrap(), broker.try_clone().unwrap()), (broker, client));
                let (sent, noted) = (Arc::clone(&flying), Arc::clone(&noted));
                thread::spawn(move || {
                    pass(up.0, up.1, |kind, body| {
                        if let Some((id, number)) = published(kind, body, number) {
                            sent.lock().unwrap().insert(id, number);
                        }
                    })
                });
                thread::spawn(move || {
                    pass(down.0, down.1, |kind, body| {
                        if kind >> 4 == 4 {
                            let id = u16::from_be_bytes([body[0], body[1]]);
                            noted.lock().unwrap().extend(flying.lock().unwrap().remove(&id));
                        }
                    })
                });
            }
        });
        Wire { port, acknowledged }
    }

    pub fn acknowledged(&self) -> BTreeSet<u64> {
        self.acknowledged.lock().unwrap().clone()
    }
}

/// Hands packets on until one side ends; each is seen before it is handed on.
fn pass(mut from: TcpStream, mut to: TcpStream, mut see: impl FnMut(u8, &[u8])) {
    let mut relay = || -> io::Result<()> {
        loop {
            let mut head = vec![0];
            from.read_exact(&mut head)?;
            let (mut length, mut shift) = (0_usize, 0);
            loop {
                let mut byte = [0];
                from.read_exact(&mut byte)?;
                head.push(byte[0]);
                length |= usize::from(byte[0] & 0x7f) << shift;
                shift += 7;
                if byte[0] & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            from.read_exact(&mut body)?;
            see(head[0], &body);
            to.write_all(&head)?;
            to.write_all(&body)?;
        }
    };
    drop(relay());
    drop(from.shutdown(std::net::Shutdown::Both));
    drop(to.shutdown(std::net::Shutdown::Both));
}

/// Packet identifier and number of a message at QoS 1.
fn published(kind: u8, body: &[u8], number: fn(&[u8]) -> Option<u64>) -> Option<(u16, u64)> {
    if kind >> 4 != 3 || kind & 0x06 == 0 {
        return None;
    }
    let after = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let id = u16::from_be_bytes([body[after], body[after + 1]]);
    // The payload is JSON and begins at the first brace after the properties, which hold none.
    let start = body[after + 2..].iter().position(|byte| *byte == b'{')? + after + 2;
    Some((id, number(&body[start..])?))
}
