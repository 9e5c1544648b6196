//! What has come to whom, and whether it is what should have.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Condvar, Mutex},
    time::Duration,
};

use sapwood_mqtt::codec::{Publish, Qos};

use crate::{Told, publisher::Publisher};

/// What has come to a session, or to all members of a group.
pub(crate) struct Ledger {
    pub(crate) seen: Mutex<Seen>,
    pub(crate) more: Condvar,
    pub(crate) is_group: bool,
    pub(crate) granted: Qos,
    /// Which publishers and which of their topics it is to be told.
    pub(crate) wants: fn(usize, usize) -> bool,
}

#[derive(Default)]
pub(crate) struct Seen {
    /// In the order in which they came.
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) distinct: BTreeSet<Told>,
    /// How often a connection of it has begun or ended.
    pub(crate) turns: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt {
    pub(crate) told: Told,
    pub(crate) qos: Qos,
    pub(crate) dup: bool,
    /// How often a connection had begun or ended.
    pub(crate) turns: u64,
}

/// A connection.
pub(crate) struct Connected<'a>(&'a Ledger);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.seen.lock().unwrap().turns += 1;
    }
}

impl Ledger {
    pub(crate) fn new(granted: Qos, wants: fn(usize, usize) -> bool) -> Self {
        Self {
            seen: Mutex::default(),
            more: Condvar::new(),
            is_group: false,
            granted,
            wants,
        }
    }

    /// A connection begins, and ends when what this gives is dropped: what is not acknowledged then may come again, in a
    /// group to another member.
    pub(crate) fn connects(&self) -> Connected<'_> {
        self.seen.lock().unwrap().turns += 1;
        Connected(self)
    }

    pub(crate) fn takes(&self, publish: &Publish) {
        let told = Told::read(&publish.message);
        let mut seen = self.seen.lock().unwrap();
        let turns = seen.turns;
        seen.receipts.push(Receipt {
            told,
            qos: publish.qos,
            dup: publish.dup,
            turns,
        });
        seen.distinct.insert(told);
        drop(seen);
        self.more.notify_all();
    }

    pub(crate) fn expected(&self, publishers: &[Publisher]) -> BTreeSet<Told> {
        let mut all = BTreeSet::new();
        for one in publishers {
            for (topic, sent) in one.sent.iter().enumerate() {
                let publisher = one.number;
                if (self.wants)(publisher, topic) {
                    all.extend((1..=*sent).map(|n| Told {
                        publisher,
                        topic,
                        n,
                    }));
                }
            }
        }
        all
    }

    /// Waits until all of it is there; what is missing when nothing more comes for so long.
    pub(crate) fn wait_for(&self, all: &BTreeSet<Told>, patience: Duration) -> Vec<Told> {
        let mut seen = self.seen.lock().unwrap();
        while seen.distinct.len() < all.len() {
            let (now, waited) = self.more.wait_timeout(seen, patience).unwrap();
            seen = now;
            if waited.timed_out() {
                break;
            }
        }
        all.difference(&seen.distinct).copied().collect()
    }

    /// Judges all that has come.
    pub(crate) fn check(&self, name: &str, publishers: &[Publisher]) {
        let seen = self.seen.lock().unwrap();
        assert!(seen.distinct == self.expected(publishers), "{name}");
        let mut newest = BTreeMap::new();
        let mut before: BTreeMap<Told, Receipt> = BTreeMap::new();
        for receipt in &seen.receipts {
            let Told {
                publisher,
                topic,
                n,
            } = receipt.told;
            let qos = publishers[publisher].topics[topic].min(self.granted);
            assert_eq!(receipt.qos, qos, "{name}: {receipt:?}");
            if let Some(before) = before.insert(receipt.told, *receipt) {
                let may = receipt.dup
                    || receipt.turns > before.turns
                    || publishers[publisher].resent.contains(&receipt.told)
                    // It went to a member that has gone, to another one, and again to the first, which is back.
                    || self.is_group && before.dup;
                assert!(
                    qos == Qos::AtLeastOnce && may,
                    "{name}: {receipt:?} doubles {before:?}"
                );
            } else if !self.is_group {
                // The standard demands no order of a group (4.6.0-6).
                let last = newest.insert((publisher, topic), n).unwrap_or(0);
                assert_eq!(n, last + 1, "{name}: {receipt:?} comes behind {last}");
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().receipts.len()
    }
}
