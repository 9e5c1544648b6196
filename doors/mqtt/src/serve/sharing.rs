//! What a connection delivers for groups in which durable sessions share (4.8.2): it claims each thing before it is
//! delivered, and the group is done with it when that is in the client's hands, or in its session's rows.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use sapwood_core::{
    Claim, DurableChange, DurableId, Event, Session, WatchId, for_group, is_for_group,
};

use super::{Client, Delivered, Delivery};
use crate::codec::Qos;
use crate::machine::{Change, InFlight};
use crate::shared;
use crate::subscriptions::Share;

/// So much is claimed at once of what waits.
const PULLED: usize = 16;

/// So much that has been delivered is settled together, if there is more to come.
const SETTLED: usize = 32;

/// What a connection has claimed for groups.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// By reference: whose it is.
    claimed: BTreeMap<u64, DurableId>,
    /// Whether something may wait for one of its groups.
    pub(crate) pulls: bool,
}

impl Shares {
    /// What a member that comes back has in flight is still its own, if nobody else has got it meanwhile.
    pub(crate) fn claim_again(
        &mut self,
        in_flight: &[InFlight],
        all: &[(WatchId, Share)],
        session: &Session,
    ) {
        let once_more = in_flight
            .iter()
            .filter(|one| one.qos == Qos::AtLeastOnce && is_for_group(one.reference));
        for one in once_more {
            for (_, share) in all {
                let number = sapwood_core::own_number(one.reference);
                if let Claim::Mine(group) = session.claim(&share.name, &share.filter, number) {
                    self.claimed.insert(one.reference, group);
                    break;
                }
            }
        }
    }
}

impl Client {
    /// Delivers what has been claimed just now; whether there was room for it.
    pub(super) fn tell_claimed(
        &mut self,
        watch: WatchId,
        share: &Share,
        (group, number): (DurableId, u64),
        event: &Arc<Event>,
        now: Instant,
        out: &mut BytesMut,
    ) -> bool {
        if !self.waiting.is_empty() {
            self.give_back(share, number);
            return false;
        }
        let Some(joined) = self.joined.as_deref_mut() else {
            return false;
        };
        let how = joined
            .subscriptions
            .how(watch, event, &mut joined.session, &joined.database);
        let said = how.and_then(|how| {
            let database = &joined.database;
            Some((shared::published(event, how.shape, now, database)?, how))
        });
        let reference = for_group(number);
        joined.shares.claimed.insert(reference, group);
        let Some((message, how)) = said else {
            self.done_for_group(reference);
            return true;
        };
        let (qos, delivery) = (
            how.qos,
            Delivery {
                message,
                qos: how.qos,
                retain: how.retain,
                subscription_ids: how.ids,
                reference,
            },
        );
        let delivered = self.machine.deliver(delivery, now, &mut self.actions);
        let is_full = matches!(delivered, Delivered::Full(_));
        match delivered {
            Delivered::Full(_) => self.give_back(share, number),
            Delivered::Dropped => self.done_for_group(reference),
            Delivered::Sent | Delivered::Queued if qos == Qos::AtMostOnce => {
                self.done_for_group(reference);
            }
            Delivered::Sent | Delivered::Queued => {}
        }
        self.act(out);
        !is_full
    }

    fn give_back(&mut self, share: &Share, number: u64) {
        if let Some(joined) = self.joined.as_deref_mut() {
            joined.shares.claimed.remove(&for_group(number));
            joined.shares.pulls = true;
            joined.session.release(&share.name, &share.filter, number);
        }
    }

    /// The group is done with something, as soon as that is written.
    fn done_for_group(&mut self, reference: u64) {
        let Some(joined) = self.joined.as_deref_mut() else {
            return;
        };
        if let (Some(feed), Some(group)) = (&mut joined.feed, joined.shares.claimed.get(&reference))
        {
            feed.keeping.add_late(settled(reference, *group));
            joined.shares.claimed.remove(&reference);
        }
    }

    /// What goes out at QoS 2 stays with its member (4.8.2-4, 4.8.2-5), so it is the group's no longer. At QoS 1 it is until
    /// it is acknowledged: if the member goes before, another one gets it (4.8.2-6).
    pub(super) fn hand_over(&mut self, change: &Change) {
        let reference = match change {
            Change::Assign { delivery, .. } if delivery.qos == Qos::ExactlyOnce => {
                delivery.reference
            }
            Change::Skip { reference } | Change::Settle { reference, .. } => *reference,
            Change::Assign { .. } | Change::Forget(_) | Change::Received { .. } => return,
        };
        if is_for_group(reference) {
            self.done_for_group(reference);
        }
    }

    /// Where the session has no rows, a group is done with what the client is done with.
    pub(super) fn settle_shares(&mut self) {
        let Some(joined) = self.joined.as_deref_mut() else {
            return;
        };
        if joined.feed.is_some() || joined.shares.claimed.is_empty() {
            return;
        }
        let held: HashSet<u64> = self.machine.references().collect();
        let claimed = &mut joined.shares.claimed;
        let done = claimed.keys().filter(|reference| !held.contains(reference));
        let done = done.count();
        if done < SETTLED && done < claimed.len() {
            return;
        }
        let done = claimed.extract_if(.., |reference, _| !held.contains(reference));
        let done = done.map(|(reference, group)| settled(reference, group));
        self.last_tag += 1;
        joined.session.submit_changes(self.last_tag, done.collect());
    }

    /// A subscription of a group is about to end: what has not gone out is another member's, what may have at QoS 2 stays.
    pub(super) fn leave_share(&mut self, share: &Share) {
        let Some(joined) = self.joined.as_deref_mut() else {
            return;
        };
        let known = joined.session.claim_waiting(&share.name, &share.filter, 0);
        let Some((group, _)) = known else {
            return;
        };
        let claimed = &mut joined.shares.claimed;
        let left: HashSet<u64> = claimed
            .extract_if(.., |_, of| *of == group)
            .map(|(reference, _)| reference)
            .collect();
        self.machine
            .forget_queued(|reference| left.contains(&reference));
        let once = self.machine.in_flight_once();
        let stays = once.filter(|reference| left.contains(reference));
        let stays: Vec<DurableChange> = stays
            .map(|one| {
                let number = sapwood_core::own_number(one);
                joined
                    .session
                    .stays_claimed(&share.name, &share.filter, number);
                settled(one, group)
            })
            .collect();
        if !stays.is_empty() {
            self.last_tag += 1;
            joined.session.submit_changes(self.last_tag, stays);
        }
    }

    /// What is settled at the end of a session without rows. What its client may have at QoS 2 nobody else gets (4.8.2-5).
    pub(super) fn last_settled(&self) -> Vec<DurableChange> {
        let Some(joined) = self.joined.as_deref() else {
            return Vec::new();
        };
        if joined.feed.is_some() {
            return Vec::new();
        }
        let once: HashSet<u64> = self.machine.in_flight_once().collect();
        let held: HashSet<u64> = self.machine.references().collect();
        let claimed = joined.shares.claimed.iter();
        let done =
            claimed.filter(|(reference, _)| once.contains(reference) || !held.contains(reference));
        done.map(|(reference, group)| settled(*reference, *group))
            .collect()
    }

    /// Takes what waits for its groups, if it has room; whether there may be more.
    pub(super) fn pull(&mut self, now: Instant, out: &mut BytesMut) -> bool {
        let may = self.machine.is_connected() && self.waiting.is_empty();
        if !may || !self.has_room_for_state() || !self.has_room(out) {
            return false;
        }
        let Some(joined) = self.joined.as_deref_mut() else {
            return false;
        };
        if !std::mem::take(&mut joined.shares.pulls) {
            return false;
        }
        for (watch, share) in joined.subscriptions.shares() {
            let Some(joined) = self.joined.as_deref_mut() else {
                return false;
            };
            let claimed = joined
                .session
                .claim_waiting(&share.name, &share.filter, PULLED);
            let Some((group, numbers)) = claimed else {
                continue;
            };
            joined.shares.pulls |= numbers.len() == PULLED;
            let mut numbers = numbers.into_iter();
            let is_full = numbers
                .by_ref()
                .any(|number| !self.tell_waiting(watch, &share, (group, number), now, out));
            if is_full {
                // It goes on when the client has taken something; what is behind waits for that, or for another member.
                numbers.for_each(|number| self.give_back(&share, number));
                return false;
            }
        }
        self.joined
            .as_ref()
            .is_some_and(|joined| joined.shares.pulls)
    }

    fn tell_waiting(
        &mut self,
        watch: WatchId,
        share: &Share,
        (group, number): (DurableId, u64),
        now: Instant,
        out: &mut BytesMut,
    ) -> bool {
        let Some(joined) = self.joined.as_deref_mut() else {
            return false;
        };
        match joined.session.kept(number) {
            Some(event) => self.tell_claimed(watch, share, (group, number), &event, now, out),
            // Its time is over.
            None => {
                joined.shares.claimed.insert(for_group(number), group);
                self.done_for_group(for_group(number));
                true
            }
        }
    }
}

fn settled(reference: u64, group: DurableId) -> DurableChange {
    DurableChange::SettleFor {
        group,
        number: sapwood_core::own_number(reference),
    }
}
