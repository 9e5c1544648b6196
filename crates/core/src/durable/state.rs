//! Who is told what durably, and what is kept for them: what the rows say, in memory and in order.
//!
//! The committer changes it, behind the log; sessions look up in it what they have missed. What lies in a session's
//! place while its client is away is some hundred bytes; something kept takes some twenty, and its topic a hundred.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::RwLock;
use sapwood_store::rows::View;
use sapwood_tree::{FilterIndex, Op, Path, RowsError, TopicFilter, told};
use sapwood_value::Text;

use super::{DurableChange, DurableId, Head, Kept, What, last_of, number, number_at, own_number};
use crate::commit::Commit;
use crate::lease::{self, Effect};
use crate::session::SessionId;
use crate::settings::Limits;

/// So many topics are looked at before the time is.
const SWEEP_STEP: usize = 64;

/// So much is forgotten by one commit, about.
const SWEPT_MAX: usize = 1 << 14;

/// What is kept of a database, beside its rows.
#[derive(Debug)]
pub(crate) struct Durables {
    state: RwLock<State>,
    /// Whether anybody is told anything: where nobody is, no write looks for them.
    any: AtomicBool,
    limits: Limits,
    figures: Figures,
}

/// What is counted of a database.
#[derive(Debug)]
struct Figures {
    sessions: Gauge,
    kept: Gauge,
    kept_bytes: Gauge,
    dropped: Counter,
}

impl Figures {
    fn of(database: &str) -> Self {
        let name = database.to_owned();
        Self {
            sessions: gauge!("sapwood_durable_sessions", "database" => name.clone()),
            kept: gauge!("sapwood_kept_messages", "database" => name.clone()),
            kept_bytes: gauge!("sapwood_kept_bytes", "database" => name.clone()),
            dropped: counter!("sapwood_kept_dropped_total", "database" => name),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn show(&self, state: &State) {
        self.sessions.set(state.durable_sessions() as f64);
        self.kept.set(state.kept as f64);
        self.kept_bytes.set(state.kept_bytes as f64);
    }
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<DurableId, Member>,
    keys: HashMap<Text, DurableId>,
    wanted: HashMap<TopicFilter, HashSet<DurableId>>,
    /// Each filter once, however many have it.
    index: FilterIndex<TopicFilter>,
    topics: BTreeMap<Path, Topic>,
    /// How many sessions hold what was kept.
    held: HashMap<u64, u32>,
    /// The groups in which durable sessions share. Each stands among the sessions, too.
    groups: HashMap<DurableId, Group>,
    group_ids: HashMap<(Text, TopicFilter), DurableId>,
    ends: BTreeSet<(u64, DurableId)>,
    kept: usize,
    kept_bytes: usize,
    /// Whether something kept may be needed no longer.
    dirty: bool,
    /// Where the sweep goes on.
    swept: Option<Path>,
}

/// How much is kept for a session, and which part of it is within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeptBounds {
    /// All of it, in messages.
    pub messages: usize,
    /// The newest that are within bounds begin behind this number.
    pub newest_from: u64,
    /// The oldest that are within bounds end with this number.
    pub oldest_to: u64,
    /// The number of the last.
    pub last: u64,
    /// How many are not within bounds.
    pub dropped: usize,
}

/// What became of a claim for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// No durable session shares in the group, so nothing is kept for it.
    NotDurable,
    /// It is the session's, until it is settled or the session ends.
    Mine(DurableId),
    /// Somebody has or had it.
    Taken,
}

/// A group in which durable sessions share.
#[derive(Debug)]
struct Group {
    name: (Text, TopicFilter),
    members: HashSet<DurableId>,
    /// What is done with beyond the cursor.
    settled: BTreeSet<u64>,
    /// What is with a connected session, durable or not.
    claims: HashMap<u64, SessionId>,
    /// Nothing up to this number is free.
    looked_to: u64,
}

/// A durable session.
#[derive(Debug)]
struct Member {
    key: Text,
    expires_ms: Option<u64>,
    expiry_s: u32,
    cursor: u64,
    filters: Vec<(TopicFilter, u64)>,
    held: BTreeSet<u64>,
    groups: Vec<DurableId>,
}

/// What is kept of one topic.
#[derive(Debug, Default)]
struct Topic(VecDeque<Entry>);

#[derive(Debug, Clone, Copy)]
struct Entry {
    number: u64,
    bytes: u32,
}

impl Durables {
    /// What the rows say.
    pub(crate) fn load(view: &View, limits: Limits, database: &str) -> Result<Self, RowsError> {
        let mut state = State::default();
        for (key, row) in lease::all(view, b"D")? {
            if let Some((id, head)) = number_at(&key, 1).zip(Head::decode(&row)) {
                state.load_session(view, DurableId(id), head)?;
            }
        }
        for (key, row) in lease::all(view, b"G")? {
            state.load_group(view, &key, &row)?;
        }
        for (key, row) in lease::all(view, b"J")? {
            if let Some((session, group)) = number_at(&key, 1).zip(number_at(&row, 0)) {
                state.share(DurableId(session), DurableId(group));
            }
        }
        let mut after = None;
        loop {
            let rows = view.scan_private(b"K", after.as_deref(), 256)?;
            let Some((last, _)) = rows.last() else {
                break;
            };
            after = Some(last.clone());
            for (key, row) in rows {
                if let Some((number, (path, _))) = number_at(&key, 1).zip(super::kept_path(&row)) {
                    state.keep(path, number, row.len());
                }
            }
        }
        state.dirty = state.kept > 0;
        let durables = Self {
            any: AtomicBool::new(!state.wanted.is_empty()),
            state: RwLock::new(state),
            limits,
            figures: Figures::of(database),
        };
        durables.figures.show(&durables.state.read());
        Ok(durables)
    }

    /// Whether anybody is told anything durably.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether somebody is told durably what is said to a path.
    pub(crate) fn wants(&self, path: &Path) -> bool {
        let mut found = false;
        if self.any() {
            self.state
                .read()
                .index
                .for_each_match(path, |_| found = true);
        }
        found
    }

    /// What a commit of these operations has to keep.
    pub(crate) fn to_keep(
        &self,
        before: &View,
        after: &View,
        ops: &[Op],
        origin: Option<DurableId>,
    ) -> Result<Vec<Kept>, RowsError> {
        if !self.any() || ops.is_empty() {
            return Ok(Vec::new());
        }
        let state = self.state.read();
        let told = told(before, after, ops, &state.index)?;
        let mut kept: Vec<Kept> = Vec::with_capacity(told.len());
        let mut last = None;
        for told in told {
            // What a topic is to a filter that names it comes first.
            if last.as_ref() == Some(&told.topic) {
                continue;
            }
            if let Some(what) = what(&told.topic, &told.what, ops) {
                let part = u32::try_from(kept.len()).unwrap_or(u32::MAX);
                kept.push(Kept { part, origin, what });
            }
            last = Some(told.topic);
        }
        Ok(kept)
    }

    /// Takes note of what commits have changed.
    pub(crate) fn note<'a>(&self, commits: impl Iterator<Item = &'a Commit>) {
        let mut state = None;
        for commit in commits {
            for effect in &commit.effects {
                if let Effect::Keep(_) | Effect::Durable { .. } = effect {
                    state
                        .get_or_insert_with(|| self.state.write())
                        .apply(commit, effect);
                }
            }
        }
        if let Some(state) = state {
            self.any.store(!state.wanted.is_empty(), Ordering::Release);
            self.figures.show(&state);
        }
    }

    /// The durable session of a key.
    pub(crate) fn find(&self, key: &str) -> Option<DurableId> {
        self.state.read().keys.get(key).copied()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.state.read().durable_sessions()
    }

    /// A session claims something for a group.
    pub(crate) fn claim(
        &self,
        name: &(Text, TopicFilter),
        number: u64,
        session: SessionId,
    ) -> Claim {
        let mut state = self.state.write();
        let Some(id) = state.group_ids.get(name).copied() else {
            return Claim::NotDurable;
        };
        let group = state.sessions.get(&id);
        let (cursor, since) = group.map_or((0, 0), |group| (group.cursor, group.since()));
        match state.groups.get_mut(&id) {
            // It was said before the group was durable: whoever was told it is the one.
            _ if number <= since => Claim::NotDurable,
            Some(group) if group.is_free(number, cursor) => {
                group.claims.insert(number, session);
                Claim::Mine(id)
            }
            _ => Claim::Taken,
        }
    }

    /// A session claims what waits for a group, the first `max` of it.
    pub(crate) fn claim_waiting(
        &self,
        name: &(Text, TopicFilter),
        (max, until): (usize, u64),
        session: SessionId,
    ) -> Option<(DurableId, Vec<u64>)> {
        let mut state = self.state.write();
        let id = *state.group_ids.get(name)?;
        let cursor = state.sessions.get(&id)?.cursor;
        let group = state.groups.get(&id)?;
        // No more of them than these can be somebody's.
        let others = group.claims.len() + group.settled.len();
        let looked_at = max.saturating_add(others);
        let mut numbers = state.after(id, cursor.max(group.looked_to), looked_at);
        numbers.retain(|number| *number <= until);
        let group = state.groups.get_mut(&id)?;
        let last = numbers.last().copied();
        let free = numbers.into_iter();
        let free = free.filter(|number| group.is_free(*number, cursor));
        let free: Vec<u64> = free.take(max).collect();
        for number in &free {
            group.claims.insert(*number, session);
        }
        let come_to = free.last().copied().filter(|_| free.len() == max).or(last);
        group.looked_to = group.looked_to.max(come_to.unwrap_or(0));
        Some((id, free))
    }

    /// A session gives back one thing that it has claimed for a group.
    pub(crate) fn release(&self, name: &(Text, TopicFilter), number: u64, session: SessionId) {
        let mut state = self.state.write();
        if let Some(group) = state.group_mut(name)
            && group.claims.get(&number) == Some(&session)
        {
            group.claims.remove(&number);
            group.looked_to = group.looked_to.min(number - 1);
        }
    }

    /// What a session has claimed for a group is not given back: it is about to be settled.
    pub(crate) fn stays(&self, name: &(Text, TopicFilter), number: u64, session: SessionId) {
        let mut state = self.state.write();
        let group = state.group_mut(name);
        let claim = group.and_then(|group| group.claims.get_mut(&number));
        if let Some(who) = claim.filter(|who| **who == session) {
            *who = SessionId(0);
        }
    }

    /// A session gives back all that it has claimed for a group; whether durable sessions share in that.
    pub(crate) fn release_all(&self, name: &(Text, TopicFilter), session: SessionId) -> bool {
        let mut state = self.state.write();
        let group = state.group_mut(name);
        group.is_some_and(|group| {
            let released = group.claims.extract_if(|_, who| *who == session);
            let first = released.map(|(number, _)| number).min();
            group.looked_to = group
                .looked_to
                .min(first.map_or(u64::MAX, |first| first - 1));
            true
        })
    }

    /// The numbers of what is kept for a session behind `after`, in order; the first `max` of them.
    pub(crate) fn after(&self, id: DurableId, after: u64, max: usize) -> Vec<u64> {
        self.state.read().after(id, after, max)
    }

    /// How much is kept for a session, and where to begin to stay within bounds.
    pub(crate) fn bounds(
        &self,
        id: DurableId,
        after: u64,
        messages_max: usize,
        bytes_max: usize,
    ) -> KeptBounds {
        let entries = self.state.read().entries_after(id, after);
        let mut bounds = KeptBounds {
            messages: entries.len(),
            newest_from: after,
            oldest_to: entries.last().map_or(after, |entry| entry.number),
            last: entries.last().map_or(after, |entry| entry.number),
            dropped: 0,
        };
        let fits = |entries: &mut dyn Iterator<Item = &Entry>| {
            let mut bytes = 0;
            let within = entries.take(messages_max).take_while(|entry| {
                bytes += entry.bytes as usize;
                bytes <= bytes_max
            });
            within.count()
        };
        let newest = fits(&mut entries.iter().rev());
        if newest == entries.len() {
            return bounds;
        }
        bounds.dropped = entries.len() - newest;
        if let Some(entry) = entries.get(bounds.dropped - 1) {
            bounds.newest_from = entry.number;
        }
        let oldest = fits(&mut entries.iter());
        bounds.oldest_to = oldest
            .checked_sub(1)
            .and_then(|last| entries.get(last))
            .map_or(after, |entry| entry.number);
        bounds
    }

    /// Those whose clients were there when the server died: how long each lives on, in seconds.
    pub(crate) fn left_behind(&self) -> Vec<(DurableId, u32)> {
        let state = self.state.read();
        let there = state
            .sessions
            .iter()
            .filter(|(id, one)| one.expires_ms.is_none() && !state.groups.contains_key(id));
        there.map(|(id, one)| (*id, one.expiry_s)).collect()
    }

    /// When the next one ends, in milliseconds since 1970.
    pub(crate) fn next_end(&self) -> Option<u64> {
        self.state.read().ends.first().map(|(end, _)| *end)
    }

    /// Those whose time is over; some of them, if there are many.
    pub(crate) fn ended(&self, now_ms: u64) -> Vec<DurableId> {
        let state = self.state.read();
        let ended = state.ends.iter().take_while(|(end, _)| *end <= now_ms);
        ended.take(1024).map(|(_, id)| *id).collect()
    }

    /// Whether there may be something to [forget](Self::sweep).
    pub(crate) fn needs_sweep(&self) -> bool {
        let state = self.state.read();
        state.dirty || state.swept.is_some() || state.is_too_full(&self.limits)
    }

    /// Forgets what is kept and needed by nobody, or must give way: some of it, found in about `budget`. Its rows are
    /// still to go.
    pub(crate) fn sweep(&self, budget: Duration) -> Vec<Effect> {
        let mut state = self.state.write();
        let mut numbers = state.sweep(budget);
        let dropped = state.make_room(&self.limits);
        self.figures.dropped.increment(dropped.len() as u64);
        numbers.extend(dropped);
        let cursors = state.group_cursors().into_iter();
        let mut effects: Vec<Effect> = cursors
            .map(|(id, cursor)| Effect::Durable {
                id,
                change: DurableChange::Pass { cursor },
            })
            .collect();
        if !numbers.is_empty() {
            self.figures.show(&state);
            effects.push(Effect::Unkept { numbers });
        }
        effects
    }
}

/// What is kept of something told; nothing if nobody is told it at QoS 1 or 2.
fn what(topic: &Path, what: &sapwood_tree::What, ops: &[Op]) -> Option<What> {
    use sapwood_tree::OpKind;
    let sapwood_tree::What::Written { op, entry: None } = what else {
        return Some(What::State(topic.clone()));
    };
    match ops.get(*op).map(|op| &op.kind) {
        Some(OpKind::PutRecord {
            payload: Some(payload),
            ..
        }) if payload.qos == 0 => None,
        Some(OpKind::PutRecord { .. } | OpKind::DeleteRecord) => Some(What::Op(*op)),
        _ => Some(What::State(topic.clone())),
    }
}

impl Group {
    fn is_free(&self, number: u64, cursor: u64) -> bool {
        number > cursor && !self.settled.contains(&number) && !self.claims.contains_key(&number)
    }
}

impl Member {
    /// From where on it is told what its first filter matches.
    fn since(&self) -> u64 {
        self.filters.first().map_or(0, |(_, since)| *since)
    }
}

impl State {
    fn group_mut(&mut self, name: &(Text, TopicFilter)) -> Option<&mut Group> {
        let id = self.group_ids.get(name)?;
        self.groups.get_mut(id)
    }

    fn durable_sessions(&self) -> usize {
        self.sessions.len() - self.groups.len()
    }

    fn load_session(&mut self, view: &View, id: DurableId, head: Head) -> Result<(), RowsError> {
        self.begin(id, head);
        let durable = super::Durable::read(view, id)?;
        for (key, row) in lease::all(view, &super::prefix(b'F', id))? {
            let filter = key.get(9..).and_then(TopicFilter::restore);
            if let Some((filter, since)) = filter.zip(number_at(&row, 0)) {
                self.subscribe(id, filter, since);
            }
        }
        if let Some(member) = self.sessions.get_mut(&id) {
            member.cursor = durable.cursor;
        }
        for (number, _) in durable.held {
            self.take(id, number);
        }
        Ok(())
    }

    fn apply(&mut self, commit: &Commit, effect: &Effect) {
        match effect {
            Effect::Keep(kept) => {
                let path = kept.path(commit);
                let bytes = match &kept.what {
                    What::Message(bytes) => bytes.len(),
                    What::Op(_) => commit.weight / commit.ops.len().max(1),
                    What::State(_) => 64,
                };
                if let Some(path) = path {
                    self.keep(path, number(commit.seq, kept.part), bytes);
                }
            }
            Effect::Durable { id, change } => self.change(commit.seq, *id, change),
            _ => {}
        }
    }

    fn change(&mut self, seq: u64, id: DurableId, change: &DurableChange) {
        match change {
            DurableChange::Begin { key, expiry_s } => {
                let head = Head {
                    expires_ms: None,
                    expiry_s: *expiry_s,
                    key: key.clone(),
                };
                self.begin(id, head);
                if let Some(member) = self.sessions.get_mut(&id) {
                    member.cursor = last_of(seq);
                }
            }
            DurableChange::End => self.end(id),
            DurableChange::Subscribe { filter } => {
                self.subscribe(id, filter.clone(), last_of(seq));
            }
            DurableChange::Unsubscribe { filter } => self.unsubscribe(id, filter),
            DurableChange::Row { .. } => {}
            DurableChange::Take { number, .. } => self.take(id, *number),
            DurableChange::Settle { number } => self.settle(id, *number),
            DurableChange::SettleFor { group, number } => self.settle(*group, *number),
            DurableChange::JoinGroup {
                share,
                filter,
                group,
            } => {
                let name = (share.clone(), filter.clone());
                let group = match self.group_ids.get(&name) {
                    Some(known) => *known,
                    None => {
                        self.begin_group(*group, name, last_of(seq));
                        *group
                    }
                };
                self.share(id, group);
            }
            DurableChange::LeaveGroup { share, filter } => {
                let name = (share.clone(), filter.clone());
                if let Some(group) = self.group_ids.get(&name).copied() {
                    self.leave_group(id, group);
                }
            }
            DurableChange::Pass { cursor } => {
                if let Some(member) = self.sessions.get_mut(&id) {
                    member.cursor = *cursor;
                    self.dirty = true;
                }
                if let Some(group) = self.groups.get_mut(&id) {
                    group.settled = group.settled.split_off(&(*cursor + 1));
                }
            }
            DurableChange::Away { expires_ms } => self.goes(id, Some(*expires_ms), None),
            DurableChange::Back { expiry_s } => self.goes(id, None, Some(*expiry_s)),
        }
    }

    fn begin(&mut self, id: DurableId, head: Head) {
        self.keys.insert(head.key.clone(), id);
        if let Some(end) = head.expires_ms {
            self.ends.insert((end, id));
        }
        let member = Member {
            key: head.key,
            expires_ms: head.expires_ms,
            expiry_s: head.expiry_s,
            cursor: 0,
            filters: Vec::new(),
            held: BTreeSet::new(),
            groups: Vec::new(),
        };
        self.sessions.insert(id, member);
    }

    fn end(&mut self, id: DurableId) {
        let Some(mut member) = self.sessions.remove(&id) else {
            return;
        };
        if self.keys.get(&member.key) == Some(&id) {
            self.keys.remove(&member.key);
        }
        if let Some(end) = member.expires_ms {
            self.ends.remove(&(end, id));
        }
        for (filter, _) in std::mem::take(&mut member.filters) {
            self.unwant(id, &filter);
        }
        for number in member.held {
            self.release(number);
        }
        for group in member.groups {
            self.leave_group(id, group);
        }
        self.dirty = true;
    }

    fn load_group(&mut self, view: &View, key: &[u8], row: &[u8]) -> Result<(), RowsError> {
        let name = key.get(1..).and_then(super::read_group_name);
        let Some((name, (id, _))) = name.zip(super::group_row(row)) else {
            return Ok(());
        };
        let durable = super::Durable::read(view, id)?;
        self.begin_group(id, name, durable.cursor);
        if let Some(group) = self.groups.get_mut(&id) {
            group.settled = durable.settled.into_iter().collect();
        }
        Ok(())
    }

    fn begin_group(&mut self, id: DurableId, name: (Text, TopicFilter), cursor: u64) {
        let member = Member {
            key: Text::default(),
            expires_ms: None,
            expiry_s: 0,
            cursor,
            filters: Vec::new(),
            held: BTreeSet::new(),
            groups: Vec::new(),
        };
        self.sessions.insert(id, member);
        self.subscribe(id, name.1.clone(), cursor);
        self.group_ids.insert(name.clone(), id);
        let group = Group {
            name,
            members: HashSet::new(),
            settled: BTreeSet::new(),
            claims: HashMap::new(),
            looked_to: 0,
        };
        self.groups.insert(id, group);
    }

    fn share(&mut self, id: DurableId, group: DurableId) {
        let Some(member) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(known) = self.groups.get_mut(&group)
            && known.members.insert(id)
        {
            member.groups.push(group);
        }
    }

    fn leave_group(&mut self, id: DurableId, group: DurableId) {
        if let Some(member) = self.sessions.get_mut(&id) {
            member.groups.retain(|known| *known != group);
        }
        let Some(known) = self.groups.get_mut(&group) else {
            return;
        };
        known.members.remove(&id);
        if known.members.is_empty()
            && let Some(known) = self.groups.remove(&group)
        {
            self.group_ids.remove(&known.name);
            self.end(group);
        }
    }

    /// How far the groups have come: those that have come further than their cursors.
    fn group_cursors(&self) -> Vec<(DurableId, u64)> {
        let mut come = Vec::new();
        for (id, group) in &self.groups {
            let (Some(member), Some(last)) = (self.sessions.get(id), group.settled.last()) else {
                continue;
            };
            let waits = self.after(*id, member.cursor, group.settled.len() + 1);
            let first = waits
                .into_iter()
                .find(|number| !group.settled.contains(number));
            let cursor = first.map_or(*last, |first| first - 1);
            if cursor > member.cursor {
                come.push((*id, cursor));
            }
        }
        come
    }

    fn subscribe(&mut self, id: DurableId, filter: TopicFilter, since: u64) {
        let Some(member) = self.sessions.get_mut(&id) else {
            return;
        };
        if member.filters.iter().any(|(known, _)| *known == filter) {
            return;
        }
        member.filters.push((filter.clone(), since));
        let who = self.wanted.entry(filter.clone()).or_default();
        if who.is_empty() {
            self.index.insert(&filter, filter.clone());
        }
        who.insert(id);
    }

    fn unsubscribe(&mut self, id: DurableId, filter: &TopicFilter) {
        if let Some(member) = self.sessions.get_mut(&id) {
            member.filters.retain(|(known, _)| known != filter);
        }
        self.unwant(id, filter);
        self.dirty = true;
    }

    fn unwant(&mut self, id: DurableId, filter: &TopicFilter) {
        if let Some(who) = self.wanted.get_mut(filter) {
            who.remove(&id);
            if who.is_empty() {
                self.wanted.remove(filter);
                self.index.remove(filter, filter);
            }
        }
    }

    fn take(&mut self, id: DurableId, number: u64) {
        if let Some(member) = self.sessions.get_mut(&id)
            && member.held.insert(number)
        {
            *self.held.entry(own_number(number)).or_default() += 1;
        }
    }

    fn settle(&mut self, id: DurableId, number: u64) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.claims.remove(&number);
            if self
                .sessions
                .get(&id)
                .is_some_and(|member| number > member.cursor)
            {
                group.settled.insert(number);
                self.dirty = true;
            }
            return;
        }
        if let Some(member) = self.sessions.get_mut(&id)
            && member.held.remove(&number)
        {
            self.release(number);
            self.dirty = true;
        }
    }

    fn release(&mut self, number: u64) {
        let number = own_number(number);
        if let Some(count) = self.held.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&number);
            }
        }
    }

    fn goes(&mut self, id: DurableId, expires_ms: Option<u64>, expiry_s: Option<u32>) {
        let Some(member) = self.sessions.get_mut(&id) else {
            return;
        };
        if let Some(end) = member.expires_ms {
            self.ends.remove(&(end, id));
        }
        member.expires_ms = expires_ms;
        member.expiry_s = expiry_s.unwrap_or(member.expiry_s);
        if let Some(end) = expires_ms {
            self.ends.insert((end, id));
        }
    }

    fn keep(&mut self, path: Path, number: u64, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.kept += 1;
        self.kept_bytes += bytes as usize;
        let entry = Entry { number, bytes };
        self.topics.entry(path).or_default().0.push_back(entry);
    }

    fn after(&self, id: DurableId, after: u64, max: usize) -> Vec<u64> {
        let mut entries = self.unsorted_after(id, after, max);
        // Of several filters each may have found the same.
        let filters = self
            .sessions
            .get(&id)
            .map_or(1, |member| member.filters.len());
        let enough = max.saturating_mul(filters.max(1));
        if enough < entries.len() {
            entries.select_nth_unstable_by_key(enough, |entry| entry.number);
            entries.truncate(enough);
        }
        let entries = in_order(entries).into_iter();
        entries.map(|entry| entry.number).take(max).collect()
    }

    fn entries_after(&self, id: DurableId, after: u64) -> Vec<Entry> {
        in_order(self.unsorted_after(id, after, usize::MAX))
    }

    /// What is kept behind `after`, the first `max` of each topic.
    fn unsorted_after(&self, id: DurableId, after: u64, max: usize) -> Vec<Entry> {
        let Some(member) = self.sessions.get(&id) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (filter, since) in &member.filters {
            let from = after.max(*since);
            let under = filter.literal_prefix();
            let topics = self.topics.range(under.clone()..);
            for (_, topic) in topics
                .take_while(|(path, _)| path.starts_with(&under))
                .filter(|(path, _)| filter.matches(path))
            {
                let first = topic.0.partition_point(|entry| entry.number <= from);
                found.extend(topic.0.range(first..).take(max));
            }
        }
        found
    }

    /// Goes on through the topics: what all have passed who are told, and nobody holds, is not needed.
    fn sweep(&mut self, budget: Duration) -> Vec<u64> {
        let (begin, mut unkept) = (Instant::now(), Vec::new());
        let mut at = self.swept.take();
        if at.is_none() && !std::mem::take(&mut self.dirty) {
            return unkept;
        }
        let mut passed = HashMap::new();
        loop {
            let after = at.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let step = self.topics.range((after, Bound::Unbounded));
            let step: Vec<Path> = step
                .take(SWEEP_STEP)
                .map(|(path, _)| path.clone())
                .collect();
            let is_last = step.len() < SWEEP_STEP;
            let count = step.len();
            for (index, path) in step.into_iter().enumerate() {
                self.sweep_topic(&path, &mut passed, &mut unkept);
                let is_over = begin.elapsed() >= budget || unkept.len() >= SWEPT_MAX;
                let more = !is_last || index + 1 < count;
                at = Some(path);
                if is_over && more {
                    self.swept = at;
                    return unkept;
                }
            }
            if is_last {
                return unkept;
            }
        }
    }

    /// `by_filter` is how far all have come who have a filter: so many may have one that each is asked once a sweep.
    fn sweep_topic(
        &mut self,
        path: &Path,
        by_filter: &mut HashMap<TopicFilter, u64>,
        unkept: &mut Vec<u64>,
    ) {
        let mut passed = u64::MAX;
        self.index.for_each_match(path, |filter| {
            let known = by_filter.get(filter).copied();
            passed = passed.min(known.unwrap_or_else(|| {
                let passed = self.passed_by_all(filter);
                by_filter.insert(filter.clone(), passed);
                passed
            }));
        });
        let held = std::mem::take(&mut self.held);
        self.drop_entries(path, passed, unkept, |entry| {
            !held.contains_key(&entry.number)
        });
        self.held = held;
    }

    fn passed_by_all(&self, filter: &TopicFilter) -> u64 {
        let who = self.wanted.get(filter).into_iter().flatten();
        let cursors = who.filter_map(|id| Some(self.sessions.get(id)?.cursor));
        cursors.min().unwrap_or(u64::MAX)
    }

    /// Drops what is kept of a topic up to a number, and `drops` says.
    fn drop_entries(
        &mut self,
        path: &Path,
        to: u64,
        dropped: &mut Vec<u64>,
        drops: impl Fn(&Entry) -> bool,
    ) {
        let Some(topic) = self.topics.get_mut(path) else {
            return;
        };
        if topic.0.front().is_none_or(|first| first.number > to) {
            return;
        }
        let (kept, kept_bytes) = (&mut self.kept, &mut self.kept_bytes);
        topic.0.retain(|entry| {
            let goes = entry.number <= to && drops(entry);
            if goes {
                *kept -= 1;
                *kept_bytes -= entry.bytes as usize;
                dropped.push(entry.number);
            }
            !goes
        });
        if topic.0.is_empty() {
            self.topics.remove(path);
        }
    }

    fn is_too_full(&self, limits: &Limits) -> bool {
        self.kept > limits.kept_messages_max || self.kept_bytes > limits.kept_bytes_max
    }

    /// Drops the oldest of what is kept, if it is more than may be.
    fn make_room(&mut self, limits: &Limits) -> Vec<u64> {
        let (messages_max, bytes_max) = (limits.kept_messages_max, limits.kept_bytes_max);
        if !self.is_too_full(limits) {
            return Vec::new();
        }
        Limits::met(if self.kept > messages_max {
            "limits.kept_messages_max"
        } else {
            "limits.kept_bytes_max"
        });
        let mut all: Vec<Entry> = self
            .topics
            .values()
            .flat_map(|topic| topic.0.iter().copied())
            .collect();
        all.sort_unstable_by_key(|entry| entry.number);
        // More than is needed goes: finding it must pay for itself.
        let (mut kept, mut bytes, mut newest) = (self.kept, self.kept_bytes, 0);
        for entry in all {
            if kept <= messages_max - messages_max / 16 && bytes <= bytes_max - bytes_max / 16 {
                break;
            }
            kept -= 1;
            bytes -= entry.bytes as usize;
            newest = entry.number;
        }
        let mut dropped = Vec::new();
        for path in self.topics.keys().cloned().collect::<Vec<_>>() {
            self.drop_entries(&path, newest, &mut dropped, |_| true);
        }
        dropped
    }
}

/// Each once, in order.
fn in_order(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_unstable_by_key(|entry| entry.number);
    entries.dedup_by_key(|entry| entry.number);
    entries
}
