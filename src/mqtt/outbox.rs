//! What must arrive: captions of new scenes and events, kept until the broker has acknowledged them.
//!
//! While all is well a message is handed to the connection, and remembered until its ticket comes back: the disk sees
//! nothing. What a lost connection did not deliver goes to the queue on disk, and everything new behind it. Over the
//! next connection the queue goes out first, in order and marked as late, then what is new.

use std::collections::VecDeque;
use std::time::SystemTime;

use super::client::{Outgoing, Ticket};
use crate::spool::{Spool, SpoolError};

/// Messages from the queue that may be unacknowledged at a time.
const REPLAY_WINDOW: usize = 32;
/// What a late message begins with instead of its brace.
const LATE: &[u8] = br#"{"late":true,"#;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// None: what cannot be delivered is lost, and counted.
    spool: Option<Spool>,
    /// Handed to the connection and not acknowledged, oldest first.
    in_flight: VecDeque<Flight>,
    next_ticket: Ticket,
    /// Number of the next stored message to go out.
    next_stored: u64,
    /// How often the disk did what it should since a failure of it was logged; none where none was, or long ago.
    well_since: Option<u32>,
}

#[derive(Debug)]
struct Flight {
    ticket: Ticket,
    cargo: Cargo,
    is_delivered: bool,
}

#[derive(Debug)]
enum Cargo {
    /// A JSON object and its topic.
    Fresh { topic: String, payload: Vec<u8> },
    /// The number of a message in the queue.
    Stored(u64),
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Kept {
    /// It is to be handed to the connection now.
    Send(Outgoing),
    /// It waits for the broker, and so many older ones had to make room.
    Stored { n_dropped: u64 },
    /// There was no room for it.
    Lost,
}

/// A disk that did what it should so often in a row works again.
const WELL: u32 = 100;

impl Outbox {
    pub(super) fn new(spool: Option<Spool>) -> Outbox {
        Outbox { spool, ..Outbox::default() }
    }

    /// Whether older messages wait: what is new has to wait behind them.
    pub(super) fn is_behind(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| !spool.is_empty())
    }

    /// Messages that wait in the queue.
    pub(super) fn n_waiting(&self) -> u64 {
        self.spool.as_ref().map_or(0, Spool::len)
    }

    /// Takes a message over: a JSON object.
    pub(super) fn keep(&mut self, message: Outgoing, is_connected: bool, now: SystemTime) -> Kept {
        if is_connected && !self.is_behind() {
            let cargo = Cargo::Fresh { topic: message.topic.clone(), payload: message.payload.clone() };
            return Kept::Send(Outgoing { ticket: Some(self.launch(cargo)), ..message });
        }
        match self.store(&message.topic, &message.payload, now) {
            Some(n_dropped) => Kept::Stored { n_dropped },
            None => Kept::Lost,
        }
    }

    /// The next message of the queue, to be handed to the connection; none when the queue is out or enough of it is on
    /// its way.
    pub(super) fn replay(&mut self) -> Option<Outgoing> {
        while self.in_flight.len() < REPLAY_WINDOW {
            let (number, record) = match self.spool.as_mut()?.read(self.next_stored) {
                Ok(read) => read?,
                Err(e) => {
                    // What is new would wait for ever behind what cannot be read.
                    tracing::error!(error = %e, lost = self.n_waiting(), "the queue on disk is given up");
                    self.spool = None;
                    return None;
                }
            };
            self.next_stored = number + 1;
            let ticket = self.launch(Cargo::Stored(number));
            match unpack(&record) {
                Some((topic, payload)) => {
                    return Some(Outgoing { ticket: Some(ticket), ..Outgoing::json(topic, late(payload)) });
                }
                // Nothing of ours: as good as delivered.
                None => self.delivered(ticket),
            }
        }
        None
    }

    /// The broker has the message with this ticket.
    pub(super) fn delivered(&mut self, ticket: Ticket) {
        let Some(flight) = self.in_flight.iter_mut().find(|flight| flight.ticket == ticket) else { return };
        flight.is_delivered = true;
        // The queue forgets from its beginning on, so the oldest has to be done first.
        while self.in_flight.front().is_some_and(|oldest| oldest.is_delivered) {
            let Some(Flight { cargo, .. }) = self.in_flight.pop_front() else { return };
            if let (Cargo::Stored(number), Some(spool)) = (cargo, &mut self.spool) {
                let done = spool.acknowledge(number);
                self.heard(done);
            }
        }
    }

    /// The connection is gone: what was on its way has to go again. How many messages were lost.
    pub(super) fn disconnected(&mut self, now: SystemTime) -> u64 {
        let mut n_lost = 0;
        for Flight { cargo, is_delivered, .. } in std::mem::take(&mut self.in_flight) {
            if let (Cargo::Fresh { topic, payload }, false) = (cargo, is_delivered) {
                n_lost += self.store(&topic, &payload, now).unwrap_or(1);
            }
        }
        self.next_stored = 0;
        n_lost
    }

    /// Messages that were handed over and not acknowledged.
    pub(super) fn n_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Makes what waits outlast a power failure. Blocks on the disk.
    pub(super) fn sync(&mut self) {
        if let Some(spool) = &mut self.spool {
            let synced = spool.sync();
            if self.heard(synced).is_some() {
                tracing::debug!("queue synced");
            }
        }
    }

    fn launch(&mut self, cargo: Cargo) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.in_flight.push_back(Flight { ticket, cargo, is_delivered: false });
        ticket
    }

    /// How many older messages had to make room; none when the message was lost.
    fn store(&mut self, topic: &str, payload: &[u8], now: SystemTime) -> Option<u64> {
        let stored = self.spool.as_mut()?.push(&pack(topic, payload), now);
        self.heard(stored)
    }

    /// A disk that fails is said once, until it has worked for a while: on one that is full a short message finds room
    /// between two that do not.
    fn heard<T>(&mut self, result: Result<T, SpoolError>) -> Option<T> {
        match result {
            Ok(value) => {
                self.well_since = self.well_since.map(|n| n + 1).filter(|n| *n < WELL);
                Some(value)
            }
            Err(e) => {
                if self.well_since.replace(0).is_none() {
                    tracing::error!(error = %e, "messages cannot be kept on disk");
                }
                None
            }
        }
    }
}

fn pack(topic: &str, payload: &[u8]) -> Vec<u8> {
    [topic.as_bytes(), &[0], payload].concat()
}

/// Topic and payload. A topic holds no zero byte (MQTT 5, 1.5.4).
fn unpack(record: &[u8]) -> Option<(String, &[u8])> {
    let end = record.iter().position(|byte| *byte == 0)?;
    let topic = std::str::from_utf8(record.get(..end)?).ok()?;
    Some((topic.to_owned(), record.get(end + 1..)?))
}

/// The same object, marked.
fn late(payload: &[u8]) -> Vec<u8> {
    match payload.strip_prefix(b"{") {
        Some(rest) => [LATE, rest].concat(),
        None => payload.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::spool::Limits;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn outbox(dir: &Path) -> Outbox {
        let limits = Limits { bytes_max: 1 << 20, age_max: Duration::from_secs(3600) };
        Outbox::new(Some(Spool::open(dir, limits, NOW).unwrap()))
    }

    fn message(n: u32) -> Outgoing {
        Outgoing::json("captiond/porch/caption".to_owned(), format!(r#"{{"seq":{n}}}"#).into_bytes())
    }

    fn sent(kept: Kept) -> (String, Ticket) {
        let Kept::Send(Outgoing { payload, ticket, .. }) = kept else { panic!("{kept:?}") };
        (String::from_utf8(payload).unwrap(), ticket.unwrap())
    }

    fn replayed(outbox: &mut Outbox) -> Option<(String, Ticket)> {
        outbox.replay().map(|message| sent(Kept::Send(message)))
    }

    #[test]
    fn while_all_is_well_the_disk_sees_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = outbox(dir.path());
        for n in 0..100 {
            let (payload, ticket) = sent(outbox.keep(message(n), true, NOW));
            assert_eq!(payload, format!(r#"{{"seq":{n}}}"#));
            outbox.delivered(ticket);
        }
        assert_eq!((outbox.n_in_flight(), outbox.n_waiting()), (0, 0));
        let files: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, ["lock"]);
    }

    #[test]
    fn what_a_lost_connection_did_not_deliver_goes_again_first_and_is_marked() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = outbox(dir.path());
        let tickets: Vec<Ticket> = (0..3).map(|n| sent(outbox.keep(message(n), true, NOW)).1).collect();
        outbox.delivered(tickets[0]);
        assert_eq!(outbox.disconnected(NOW), 0);
        assert!(matches!(outbox.keep(message(3), false, NOW), Kept::Stored { n_dropped: 0 }));
        // There is a connection again, but what is new waits behind what is old.
        assert!(matches!(outbox.keep(message(4), true, NOW), Kept::Stored { n_dropped: 0 }));
        for n in 1..5 {
            let (payload, ticket) = replayed(&mut outbox).unwrap();
            assert_eq!(payload, format!(r#"{{"late":true,"seq":{n}}}"#));
            assert!(outbox.is_behind());
            outbox.delivered(ticket);
        }
        assert!(replayed(&mut outbox).is_none() && !outbox.is_behind());
        sent(outbox.keep(message(5), true, NOW));
    }

    #[test]
    fn a_connection_that_is_lost_in_the_replay_starts_it_at_the_oldest_unacknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = outbox(dir.path());
        for n in 0..5 {
            outbox.keep(message(n), false, NOW);
        }
        let tickets: Vec<Ticket> = (0..4).map(|_| replayed(&mut outbox).unwrap().1).collect();
        // Acknowledged out of order: the second cannot be forgotten before the first.
        outbox.delivered(tickets[1]);
        outbox.disconnected(NOW);
        assert_eq!(replayed(&mut outbox).unwrap().0, r#"{"late":true,"seq":0}"#);
    }

    #[test]
    fn what_waits_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = outbox(dir.path());
        sent(first.keep(message(0), true, NOW));
        first.disconnected(NOW);
        first.keep(message(1), false, NOW);
        drop(first);
        let mut second = outbox(dir.path());
        assert_eq!(second.n_waiting(), 2);
        assert_eq!(replayed(&mut second).unwrap().0, r#"{"late":true,"seq":0}"#);
    }

    #[test]
    fn no_more_than_a_window_is_on_its_way() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = outbox(dir.path());
        for n in 0..100 {
            outbox.keep(message(n), false, NOW);
        }
        let n_sent = std::iter::from_fn(|| replayed(&mut outbox)).count();
        assert_eq!(n_sent, REPLAY_WINDOW);
    }

    #[test]
    fn without_a_disk_what_cannot_be_sent_is_lost() {
        let mut outbox = Outbox::new(None);
        sent(outbox.keep(message(0), true, NOW));
        assert_eq!(outbox.disconnected(NOW), 1);
        assert!(matches!(outbox.keep(message(1), false, NOW), Kept::Lost));
    }
}
