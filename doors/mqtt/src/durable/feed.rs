//! What a durable session has to deliver of what is kept for it.
//!
//! As long as the client keeps up, it is told of what is kept as it is said. When it does not, or is just back, or has a
//! first state still to come, it is *behind*: what is kept is read from the store then, from the last that was taken on,
//! until nothing is left to be read.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;

use metrics::counter;
use sapwood_core::{Durable, DurableChange, Limits, Session};
use tokio::time::Sleep;

use super::{Keeping, is_own};
use crate::MqttConfig;
use crate::config::AwayDrops;
use crate::machine::{Machine, Subscribing, Tag, Unsubscribing};

/// So many numbers are looked up at once.
const PLAN: usize = 8192;

/// A request that waits until it is written down.
#[derive(Debug)]
pub(crate) enum Asked {
    Subscribe(Subscribing),
    Unsubscribe(Unsubscribing),
    /// What the machine waits for.
    Kept(Vec<Tag>),
}

/// The durable part of a connection.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) keeping: Keeping,
    /// All up to this number has been handed to the machine, or does not concern the client.
    taken: u64,
    behind: bool,
    /// What is read next.
    plan: VecDeque<u64>,
    /// What is beyond the cursor, and has been delivered already.
    known: HashSet<u64>,
    /// What is not to be delivered: from behind the first number to the second.
    left_out: Option<(u64, u64)>,
    /// What is on its way to the disk, by the core's tag.
    pub(crate) asked: VecDeque<(u64, Asked)>,
    /// Something could not be written down: what follows from it must not be.
    pub(crate) has_failed: bool,
    /// When what may be written late is written.
    pub(crate) late: Option<Pin<Box<Sleep>>>,
}

impl Feed {
    pub(crate) fn new(durable: &Durable, session: &Session, config: &MqttConfig) -> Self {
        let bounds = session.kept_bounds(
            durable.cursor,
            config.away_messages_max,
            config.away_bytes_max,
        );
        let (mut taken, mut left_out) = (durable.cursor, None);
        if bounds.dropped > 0 {
            Limits::met(if bounds.messages > config.away_messages_max {
                "mqtt.away_messages_max"
            } else {
                "mqtt.away_bytes_max"
            });
            counter!("sapwood_mqtt_dropped_total", "reason" => "queue")
                .increment(bounds.dropped as u64);
            match config.away_drops {
                AwayDrops::Oldest => taken = bounds.newest_from,
                AwayDrops::Newest => left_out = Some((bounds.oldest_to, bounds.last)),
            }
        }
        let held = durable.held.iter().map(|(number, _)| *number);
        Self {
            keeping: Keeping::new(durable),
            taken,
            behind: true,
            plan: VecDeque::new(),
            known: held.chain(durable.settled.iter().copied()).collect(),
            left_out,
            asked: VecDeque::new(),
            has_failed: false,
            late: None,
        }
    }

    /// Whether something kept is to be delivered now: it comes next, and has not been.
    pub(crate) fn takes(&self, number: u64) -> bool {
        !self.behind && number > self.taken
    }

    /// It has been handed on, or does not concern the client.
    pub(crate) fn has_taken(&mut self, number: u64) {
        self.taken = self.taken.max(number);
        if let Some((from, to)) = self.left_out
            && self.taken >= from
        {
            self.taken = self.taken.max(to);
            self.left_out = None;
        }
    }

    /// A request that has been written down; several may have been by one tag.
    pub(crate) fn take_asked(&mut self, tag: u64) -> Option<Asked> {
        let at = self.asked.iter().position(|(asked, _)| *asked == tag)?;
        self.asked.remove(at).map(|(_, asked)| asked)
    }

    /// From now on what is kept is read.
    pub(crate) fn falls_behind(&mut self) {
        self.behind = true;
        self.plan.clear();
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.behind
    }

    /// The number of what is to be read next; none if nothing is left, and the client has caught up.
    pub(crate) fn next(&mut self, session: &Session) -> Option<u64> {
        loop {
            if self.plan.is_empty() {
                self.plan = session.kept_after(self.taken, PLAN).into();
            }
            let Some(next) = self.plan.pop_front() else {
                self.behind = false;
                self.known = HashSet::new();
                return None;
            };
            if next <= self.taken {
                continue;
            }
            if !self.known.remove(&next) {
                return Some(next);
            }
            self.has_taken(next);
        }
    }

    /// All up to here has a packet id, or none to come.
    pub(crate) fn cursor(&self, machine: &Machine) -> u64 {
        let queued = machine.first_queued(is_own);
        queued.map_or(self.taken, |first| self.taken.min(first - 1))
    }

    /// All that is still to be written when the connection is gone.
    pub(crate) fn last_changes(&mut self, machine: &Machine) -> Vec<DurableChange> {
        if self.has_failed {
            return Vec::new();
        }
        let cursor = self.cursor(machine);
        self.keeping.take(cursor).0
    }
}
