//! Which message is which. The library numbers packets by itself, and says the number when it sends one: what it was
//! handed is remembered in the order in which it was handed over.

use std::collections::{HashMap, VecDeque};

/// Names a message whose delivery its sender wants to hear of. Chosen by the sender.
pub type Ticket = u64;

/// A message of which the broker owes an acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) ticket: Option<Ticket>,
    /// For the complaint when it is refused.
    pub(super) topic: String,
}

/// What one connection owes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Handed over and not sent yet, oldest first; every message is here, with a ticket or without.
    handed: VecDeque<Owed>,
    /// Sent and not acknowledged, by packet identifier.
    in_flight: HashMap<u16, Owed>,
}

impl Ledger {
    pub(super) fn hand(&mut self, ticket: Option<Ticket>, topic: String) {
        self.handed.push_back(Owed { ticket, topic });
    }

    /// The oldest message is on its way. Gives its ticket back where no acknowledgement will come: QoS 0.
    pub(super) fn send(&mut self, packet_id: u16) -> Option<Ticket> {
        let owed = self.handed.pop_front()?;
        if packet_id == 0 {
            return owed.ticket;
        }
        self.in_flight.insert(packet_id, owed);
        None
    }

    /// The broker has it, or refuses it.
    pub(super) fn acknowledge(&mut self, packet_id: u16) -> Option<Owed> {
        self.in_flight.remove(&packet_id)
    }

    /// The connection is gone and nothing of it will be sent again. How many messages were never sent.
    pub(super) fn clear(&mut self) -> usize {
        self.in_flight.clear();
        let n_handed = self.handed.len();
        self.handed.clear();
        n_handed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_follow_their_messages_in_the_order_of_sending() {
        let mut ledger = Ledger::default();
        let ticket_of =
            |packet_id, ledger: &mut Ledger| ledger.acknowledge(packet_id).map(|owed| owed.ticket);
        for (ticket, topic) in [(Some(10), "a"), (None, "b"), (Some(11), "c")] {
            ledger.hand(ticket, topic.to_owned());
        }
        assert_eq!(ledger.send(1), None);
        assert_eq!(ledger.send(2), None);
        assert_eq!(ledger.send(3), None);
        assert_eq!(ticket_of(3, &mut ledger), Some(Some(11)), "acknowledgements may come in any order");
        assert_eq!(ledger.acknowledge(2), Some(Owed { ticket: None, topic: "b".to_owned() }));
        assert_eq!(ticket_of(1, &mut ledger), Some(Some(10)));
        assert_eq!(ticket_of(1, &mut ledger), None);
    }

    #[test]
    fn without_acknowledgements_a_message_is_done_when_it_is_sent() {
        let mut ledger = Ledger::default();
        ledger.hand(Some(10), "a".to_owned());
        assert_eq!(ledger.send(0), Some(10));
    }

    #[test]
    fn nothing_of_a_lost_connection_is_owed() {
        let mut ledger = Ledger::default();
        (10..13).for_each(|ticket| ledger.hand(Some(ticket), "a".to_owned()));
        ledger.send(1);
        assert_eq!(ledger.clear(), 2);
        assert_eq!(ledger.acknowledge(1), None);
    }
}
