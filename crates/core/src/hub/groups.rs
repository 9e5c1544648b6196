//! Groups: of each event that a topic filter is told, one member is told.

use std::collections::HashMap;
use std::sync::Arc;

use sapwood_tree::TopicFilter;
use sapwood_value::Text;

use super::index::Watcher;
use super::wakers::Wakers;
use crate::event::Event;
use crate::outbox::Slot;
use crate::session::SessionId;

/// So many members are asked how much waits for them, from the one whose turn it is.
const ASKED: usize = 32;

/// A group, as the index of filters knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GroupId(u64);

#[derive(Debug, Default)]
pub(super) struct Groups {
    ids: HashMap<(Text, TopicFilter), GroupId>,
    groups: HashMap<GroupId, Group>,
    newest: u64,
}

#[derive(Debug, Default)]
struct Group {
    members: Vec<Watcher>,
    /// Whose turn it is among those for whom equally much waits.
    turn: usize,
}

impl Groups {
    /// Adds a member; the group, if it is its first.
    pub(super) fn join(
        &mut self,
        name: &Text,
        filter: &TopicFilter,
        member: Watcher,
    ) -> Option<GroupId> {
        let key = (name.clone(), filter.clone());
        let known = self.ids.get(&key).copied();
        let id = known.unwrap_or_else(|| {
            self.newest += 1;
            let id = GroupId(self.newest);
            self.ids.insert(key, id);
            id
        });
        let group = self.groups.entry(id).or_default();
        group.members.retain(|known| *known != member);
        group.members.push(member);
        known.is_none().then_some(id)
    }

    /// Removes a member, and gives what it had not taken to the others; the group, if it was its last.
    pub(super) fn leave(
        &mut self,
        (name, filter): (&Text, &TopicFilter),
        (session, slot): (SessionId, Slot),
        left: &[Arc<Event>],
        wakers: &mut Wakers,
    ) -> Option<GroupId> {
        let key = (name.clone(), filter.clone());
        let id = *self.ids.get(&key)?;
        let group = self.groups.get_mut(&id)?;
        group.members.retain(|known| !known.is(session, slot));
        if group.members.is_empty() {
            self.groups.remove(&id);
            self.ids.remove(&key);
            return Some(id);
        }
        for event in left {
            group.tell(event, event.weight(), u64::MAX, wakers);
        }
        None
    }

    /// Tells one member of a group, of those who joined before commit `seq`; whoever took it.
    pub(super) fn tell(
        &mut self,
        id: GroupId,
        event: &Arc<Event>,
        weight: usize,
        seq: u64,
        wakers: &mut Wakers,
    ) -> Option<SessionId> {
        self.groups.get_mut(&id)?.tell(event, weight, seq, wakers)
    }
}

impl Group {
    fn tell(
        &mut self,
        event: &Arc<Event>,
        weight: usize,
        seq: u64,
        wakers: &mut Wakers,
    ) -> Option<SessionId> {
        let from_turn = self.in_turn(self.turn, seq).take(ASKED);
        let (best, _) = from_turn.min_by_key(|(_, member)| member.outbox.held_and_waiting())?;
        let taken = self.in_turn(best, seq).find_map(|(index, member)| {
            let waker = member.outbox.offer(member.slot, event, weight).ok()?;
            Some((index, member.session, waker))
        });
        if let Some((index, session, waker)) = taken {
            wakers.add(waker);
            self.turn = index + 1;
            return Some(session);
        }
        // It finds no room with anybody: it is dropped, and one is told so.
        self.members.get(best)?.tell(event, weight, wakers);
        None
    }

    /// The members who joined before a commit, with their numbers, once round.
    fn in_turn(&self, first: usize, seq: u64) -> impl Iterator<Item = (usize, &Watcher)> {
        let all = self.members.iter().enumerate();
        let first = first % self.members.len().max(1);
        let round = all.clone().skip(first).chain(all.take(first));
        round.filter(move |(_, member)| member.from < seq)
    }
}
