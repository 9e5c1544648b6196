//! What a durable session remembers: a machine's changes, on their way to the core's rows, and back.
//!
//! What a promise waits for is written at once. The rest is written a little later and together, so that of a message of
//! QoS 1 whose acknowledgement comes soon nothing is ever written but that the cursor has passed it.

mod feed;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sapwood_core::{Durable, DurableChange, SessionId, is_for_group};

use crate::codec::{PacketId, Qos};
use crate::machine::{Change, InFlight, Tag};

pub(crate) use feed::{Asked, Feed};
pub(crate) use rows::{Held, Row, Subscribed, subscription_key, subscription_row, unreleased_key};

/// What goes out and is not kept by the core has a reference from here on: a first state, mostly.
const UNKEPT: u64 = 1 << 63;

/// So many changes are written without waiting for more.
const LATE_MAX: usize = 256;

/// Whether a reference is the number of something kept, for the session or for a group.
pub(crate) fn is_kept(reference: u64) -> bool {
    reference < UNKEPT
}

/// Whether a reference is the number of something kept that the session's own cursor passes.
pub(crate) fn is_own(reference: u64) -> bool {
    is_kept(reference) && !is_for_group(reference)
}

/// What is still to be remembered of a connection's session.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    /// By reference, of messages toward the client.
    late: BTreeMap<u64, Late>,
    /// Of all else, in order.
    others: Vec<DurableChange>,
    /// Promises that wait for what is written next.
    waiting: Vec<Tag>,
    /// The references whose rows are written.
    written: BTreeSet<u64>,
    /// The cursor as it is written.
    cursor: u64,
    /// The reference of the last delivery that is not kept by the core.
    unkept: u64,
}

#[derive(Debug)]
enum Late {
    Taken(Bytes),
    Settled,
}

impl Keeping {
    pub(crate) fn new(durable: &Durable) -> Self {
        let unkept = durable.held.iter().map(|(number, _)| *number);
        Self {
            written: durable.held.iter().map(|(number, _)| *number).collect(),
            cursor: durable.cursor,
            unkept: unkept.max().unwrap_or(0).max(UNKEPT),
            ..Self::default()
        }
    }

    /// A reference for what the core does not keep.
    pub(crate) fn next_unkept(&mut self) -> u64 {
        self.unkept = self.unkept.max(UNKEPT) + 1;
        self.unkept
    }

    /// Takes a change of the machine's.
    pub(crate) fn add(&mut self, tag: Option<Tag>, change: Change) {
        self.waiting.extend(tag);
        match change {
            Change::Forget(packet_id) => self.others.push(DurableChange::Row {
                key: unreleased_key(packet_id),
                value: None,
            }),
            Change::Assign {
                packet_id,
                delivery,
            } => {
                let row = Held::of(packet_id, &delivery).encode();
                self.late.insert(delivery.reference, Late::Taken(row));
            }
            Change::Received {
                packet_id,
                reference,
            } => {
                let row = Held::received(packet_id).encode();
                self.late.insert(reference, Late::Taken(row));
            }
            Change::Settle { reference, .. } | Change::Skip { reference } => {
                self.late.insert(reference, Late::Settled);
            }
        }
    }

    /// Takes a change that may be written late.
    pub(crate) fn add_late(&mut self, change: DurableChange) {
        self.others.push(change);
    }

    /// Whether something waits for being written, or so much is there that it should be.
    pub(crate) fn is_urgent(&self) -> bool {
        !self.waiting.is_empty() || self.late.len() + self.others.len() >= LATE_MAX
    }

    /// Whether there is anything to be written, now that all up to `cursor` has been taken.
    pub(crate) fn is_empty(&self, cursor: u64) -> bool {
        self.late.is_empty() && self.others.is_empty() && cursor <= self.cursor
    }

    /// All that is to be written, and the promises that wait for it.
    pub(crate) fn take(&mut self, cursor: u64) -> (Vec<DurableChange>, Vec<Tag>) {
        let mut changes = std::mem::take(&mut self.others);
        if cursor > self.cursor {
            self.cursor = cursor;
            changes.push(DurableChange::Pass { cursor });
        }
        for (number, late) in std::mem::take(&mut self.late) {
            match late {
                Late::Taken(row) => {
                    self.written.insert(number);
                    changes.push(DurableChange::Take { number, row });
                }
                Late::Settled => {
                    let written = self.written.remove(&number);
                    // What is beyond the cursor would be delivered again.
                    if written || is_own(number) && number > self.cursor {
                        changes.push(DurableChange::Settle { number });
                    }
                }
            }
        }
        (changes, std::mem::take(&mut self.waiting))
    }
}

/// The will that an earlier connection has left, and that may still be to be published.
pub(crate) fn left_will(durable: &Durable) -> Option<SessionId> {
    let mut rows = durable.rows.iter();
    rows.find_map(|(key, row)| rows::will(key, row))
}

/// A will is left, or none is any more.
pub(crate) fn will_change(by: Option<SessionId>) -> DurableChange {
    DurableChange::Row {
        key: rows::WILL,
        value: by.map(|by| Bytes::copy_from_slice(&by.to_bytes())),
    }
}

/// What a client that comes back finds: its packet ids and its subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) unreleased: Vec<PacketId>,
    /// In the order in which they were sent; the messages are still to be looked up.
    pub(crate) in_flight: Vec<(InFlight, Held)>,
    pub(crate) subscriptions: Vec<Subscribed>,
}

/// Reads a session's rows. What can't be read is left out, and said: it was written by another version.
pub(crate) fn read(durable: &Durable, limits: &sapwood_tree::Limits) -> Found {
    let mut found = Found::default();
    for (key, row) in &durable.rows {
        match Row::read(key, row, limits) {
            Some(Row::Unreleased(packet_id)) => found.unreleased.push(packet_id),
            Some(Row::Subscription(subscribed)) => found.subscriptions.push(subscribed),
            Some(Row::Will) => {}
            None => tracing::error!(?key, "a row of an MQTT session can't be read"),
        }
    }
    for (number, row) in &durable.held {
        let Some(held) = Held::decode(row) else {
            tracing::error!(number, "a row of an MQTT session can't be read");
            continue;
        };
        let in_flight = InFlight {
            packet_id: held.packet_id,
            qos: held.qos,
            // It may have been, so it is said to be a repetition.
            sent: true,
            received: held.received,
            reference: *number,
            delivery: None,
        };
        found.in_flight.push((in_flight, held));
    }
    debug_assert!(
        found
            .in_flight
            .iter()
            .all(|(one, _)| one.qos != Qos::AtMostOnce)
    );
    found
}
