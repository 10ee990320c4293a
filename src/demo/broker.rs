//! A small MQTT broker for one machine: the demonstration's, and a stand-in for tests.
//!
//! It speaks 3.1.1 and 5 on the loopback interface: retained messages with their expiry, wildcards,
//! last wills, quality 0 and 1. It keeps no sessions, checks no credentials and resends nothing, so
//! it is no broker for a network.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::wire::{Message, PACKET_BYTES_MAX, Said, Say, Wire, WireError};

const CLIENTS_MAX: usize = 64;
const FILTERS_MAX: usize = 64;
const RETAINED_MAX: usize = 1024;
/// Messages that may wait for a slow client; more are lost to it.
const WAITING_MAX: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(3600);

/// A broker that has its port and does not serve yet.
pub struct Broker {
    listener: TcpListener,
    port: u16,
}

impl Broker {
    /// Takes a free port of the loopback interface.
    ///
    /// # Errors
    /// When there is none.
    pub async fn bind() -> io::Result<Broker> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        Ok(Broker { listener, port })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serves until dropped.
    pub async fn serve(self) {
        let hub = Arc::new(Hub::default());
        let mut sessions = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, _)) => {
                        let hub = Arc::clone(&hub);
                        sessions.spawn(async move {
                            if let Err(e) = serve_client(socket, &hub).await {
                                tracing::debug!(error = %e, "client gone");
                            }
                        });
                    }
                    Err(e) => {
                        tracing::warn!(error = %e, "client not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = sessions.join_next() => {}
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("silence")]
    Silence,
    #[error("too many clients")]
    Full,
}

/// What all clients share.
#[derive(Default)]
struct Hub {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    retained: BTreeMap<String, Kept>,
    clients: BTreeMap<u64, Subscriber>,
    n_connections: u64,
}

struct Kept {
    message: Message,
    expires: Option<Instant>,
}

struct Subscriber {
    filters: Vec<(String, u8)>,
    outbox: mpsc::Sender<(Message, u8)>,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self) -> Option<(u64, mpsc::Receiver<(Message, u8)>)> {
        let mut state = self.lock();
        if state.clients.len() >= CLIENTS_MAX {
            return None;
        }
        let (outbox, inbox) = mpsc::channel(WAITING_MAX);
        state.n_connections += 1;
        let id = state.n_connections;
        state.clients.insert(id, Subscriber { filters: Vec::new(), outbox });
        Some((id, inbox))
    }

    fn leave(&self, id: u64) {
        self.lock().clients.remove(&id);
    }

    fn publish(&self, message: Message) {
        let mut state = self.lock();
        if message.retain {
            state.retain(&message);
        }
        let live = Message { retain: false, ..message };
        for subscriber in state.clients.values() {
            let matching = subscriber.filters.iter().filter(|(filter, _)| matches(&live.topic, filter));
            let Some(qos) = matching.map(|(_, qos)| *qos).max() else { continue };
            if subscriber.outbox.try_send((live.clone(), qos)).is_err() {
                tracing::debug!(topic = live.topic, "message lost to a slow client");
            }
        }
    }

    /// Subscribes, and sends what is retained under the new filters.
    fn subscribe(&self, id: u64, wanted: Vec<(String, u8)>) -> Vec<Option<u8>> {
        let mut state = self.lock();
        let now = Instant::now();
        state.retained.retain(|_, kept| kept.expires.is_none_or(|expires| expires > now));
        let State { retained, clients, .. } = &mut *state;
        let Some(subscriber) = clients.get_mut(&id) else { return vec![None; wanted.len()] };
        let mut granted = Vec::with_capacity(wanted.len());
        for (filter, qos) in wanted {
            let qos = qos.min(1);
            subscriber.filters.retain(|(known, _)| *known != filter);
            if !is_filter(&filter) || subscriber.filters.len() >= FILTERS_MAX {
                granted.push(None);
                continue;
            }
            for kept in retained.values().filter(|kept| matches(&kept.message.topic, &filter)) {
                if subscriber.outbox.try_send((kept.left(now), qos)).is_err() {
                    tracing::debug!(topic = kept.message.topic, "retained message lost to a slow client");
                }
            }
            subscriber.filters.push((filter, qos));
            granted.push(Some(qos));
        }
        granted
    }

    fn unsubscribe(&self, id: u64, unwanted: &[String]) {
        if let Some(subscriber) = self.lock().clients.get_mut(&id) {
            subscriber.filters.retain(|(filter, _)| !unwanted.contains(filter));
        }
    }
}

impl State {
    fn retain(&mut self, message: &Message) {
        if message.payload.is_empty() {
            self.retained.remove(&message.topic);
        } else if self.retained.len() < RETAINED_MAX || self.retained.contains_key(&message.topic) {
            let seconds = message.properties.as_ref().and_then(|p| p.message_expiry_interval);
            let expires = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
            self.retained.insert(message.topic.clone(), Kept { message: message.clone(), expires });
        }
    }
}

impl Kept {
    /// The message with what is left of its time.
    fn left(&self, now: Instant) -> Message {
        let mut message = self.message.clone();
        if let (Some(properties), Some(expires)) = (&mut message.properties, self.expires) {
            let left = expires.saturating_duration_since(now).as_secs().max(1);
            properties.message_expiry_interval = u32::try_from(left).ok();
        }
        message
    }
}

async fn serve_client(mut socket: TcpStream, hub: &Hub) -> Result<(), SessionError> {
    socket.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, read_connect(&mut socket, &mut buffer));
    let (wire, said) = connected.await.map_err(|_elapsed| SessionError::Silence)??;
    let Said::Connect { keep_alive_s, will, unnamed } = said else {
        return Err(WireError::Unexpected.into());
    };
    let (id, outbox) = hub.join().ok_or(SessionError::Full)?;
    let patience = match keep_alive_s {
        0 => DEFAULT_KEEP_ALIVE,
        seconds => Duration::from_secs(seconds.into()) * 3 / 2,
    };
    let assigned = unnamed.then(|| format!("client-{id}"));
    let mut session = Session { socket, wire, buffer, hub, id, outbox, patience, packet_id: 0 };
    let ended = session.run(assigned).await;
    hub.leave(id);
    // Only an orderly DISCONNECT takes the will back.
    if !matches!(ended, Ok(()))
        && let Some(will) = will
    {
        hub.publish(will);
    }
    ended
}

/// Reads until the first packet is complete.
async fn read_connect(socket: &mut TcpStream, buffer: &mut BytesMut) -> Result<(Wire, Said), SessionError> {
    loop {
        if let Some(wire) = Wire::of(buffer)?
            && let Some(said) = wire.read(buffer)?
        {
            return Ok((wire, said));
        }
        read_some(socket, buffer).await?;
    }
}

async fn read_some(socket: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), SessionError> {
    // A packet's length is checked as soon as its header is there; this bounds the header itself.
    if buffer.len() > PACKET_BYTES_MAX + 8 {
        return Err(WireError::Malformed.into());
    }
    match socket.read_buf(buffer).await? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        _ => Ok(()),
    }
}

/// One connected client.
struct Session<'a> {
    socket: TcpStream,
    wire: Wire,
    buffer: BytesMut,
    hub: &'a Hub,
    id: u64,
    outbox: mpsc::Receiver<(Message, u8)>,
    patience: Duration,
    packet_id: u16,
}

impl Session<'_> {
    /// Serves until the client says goodbye; every other end is an error.
    async fn run(&mut self, assigned: Option<String>) -> Result<(), SessionError> {
        self.say(Say::ConnectOk { assigned }).await?;
        let mut silent_since = Instant::now();
        loop {
            while let Some(said) = self.wire.read(&mut self.buffer)? {
                silent_since = Instant::now();
                if !self.hear(said).await? {
                    return Ok(());
                }
            }
            let patience = self.patience.saturating_sub(silent_since.elapsed());
            tokio::select! {
                read = read_some(&mut self.socket, &mut self.buffer) => read?,
                Some((message, qos)) = self.outbox.recv() => self.deliver(message, qos).await?,
                () = tokio::time::sleep(patience) => return Err(SessionError::Silence),
            }
        }
    }

    /// False after a DISCONNECT.
    async fn hear(&mut self, said: Said) -> Result<bool, SessionError> {
        match said {
            Said::Connect { .. } => return Err(WireError::Unexpected.into()),
            Said::Publish { message, qos, id } => {
                if !is_topic(&message.topic) {
                    return Err(WireError::Unexpected.into());
                }
                self.hub.publish(message);
                match qos {
                    0 => {}
                    1 => self.say(Say::Received(id)).await?,
                    _ => self.say(Say::Receive(id)).await?,
                }
            }
            Said::Release(id) => self.say(Say::Complete(id)).await?,
            Said::Subscribe { id, filters } => {
                let granted = self.hub.subscribe(self.id, filters);
                self.say(Say::Subscribed { id, granted }).await?;
            }
            Said::Unsubscribe { id, filters } => {
                self.hub.unsubscribe(self.id, &filters);
                self.say(Say::Unsubscribed { id, n: filters.len() }).await?;
            }
            Said::Ping => self.say(Say::Pong).await?,
            Said::Disconnect => return Ok(false),
            Said::Acknowledge => {}
        }
        Ok(true)
    }

    async fn deliver(&mut self, message: Message, qos: u8) -> Result<(), SessionError> {
        // Zero is no packet id.
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        let id = if qos == 0 { 0 } else { self.packet_id };
        self.say(Say::Publish { message, qos, id }).await
    }

    async fn say(&mut self, say: Say) -> Result<(), SessionError> {
        let mut packet = BytesMut::new();
        self.wire.write(say, &mut packet)?;
        Ok(self.socket.write_all(&packet).await?)
    }
}

fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['+', '#', '\0'])
}

fn is_filter(filter: &str) -> bool {
    let levels: Vec<_> = filter.split('/').collect();
    let level = |(i, level): (usize, &&str)| match *level {
        "#" => i + 1 == levels.len(),
        level => level == "+" || !level.contains(['+', '#', '\0']),
    };
    !filter.is_empty() && !filter.starts_with("$share/") && levels.iter().enumerate().all(level)
}

/// Does the topic match the filter, by the rules of the MQTT standard?
fn matches(topic: &str, filter: &str) -> bool {
    // Wildcards do not see the topics of the server's own.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut topic, mut filter) = (topic.split('/'), filter.split('/'));
    loop {
        match (topic.next(), filter.next()) {
            (_, Some("#")) | (None, None) => return true,
            (Some(_), Some("+")) => {}
            (Some(level), Some(wanted)) if level == wanted => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_the_standard_says() {
        for (topic, filter) in [
            ("a/b", "a/b"),
            ("a/b", "a/+"),
            ("a/b", "#"),
            ("a", "a/#"),
            ("a/b/c", "a/#"),
            ("ü", "+"),
            ("/a", "+/a"),
        ] {
            assert!(matches(topic, filter), "{topic} {filter}");
        }
        for (topic, filter) in
            [("a/b", "a"), ("a", "a/+"), ("a/b", "a/b/c"), ("$SYS/x", "#"), ("$SYS/x", "+/x"), ("a", "b")]
        {
            assert!(!matches(topic, filter), "{topic} {filter}");
        }
        assert!(is_filter("a/+/#") && is_filter("+"));
        assert!(!is_filter("a/#/b") && !is_filter("a+") && !is_filter("") && !is_filter("$share/g/a"));
    }
}
