//! Durable sessions: what outlives a connection, and the server.
//!
//! Such a session is a few private rows beside the tree, and nothing else while its client is away: its filters, a *cursor*
//! over what is *kept*, what it has taken beyond that and is not done with, and rows of its door's own. All of them are
//! changed by commits, in the one order of the database, and may be part of the commit of a write.
//!
//! What somebody durable has to be told at QoS 1 or 2 is kept once, however many these are, by the commit that says it.
//! Its number is the commit's place in the order, so a session finds what it has missed by topic, from its cursor on.
//! Nothing is written for who sleeps.
//!
//! | key | holds |
//! |---|---|
//! | `D` session | when it ends, how long it lives on without a client, its key |
//! | `F` session filter | the number from which on it is told what matches |
//! | `G` share filter | a group: its id, and how many durable sessions share in it |
//! | `H` session number | what was taken and is not done with: the door's row; nothing if it was done with beyond the cursor |
//! | `J` session share filter | that it shares in a group |
//! | `K` number | what is kept |
//! | `Q` session | the cursor |
//! | `R` session key | a row of the door's own |
//!
//! A group in which a durable session shares has cursor and `H` rows of its own, under an id of its own: what is kept for it
//! waits until one member has taken it, whoever is there.

use bytes::Bytes;
use sapwood_store::rows::View;
use sapwood_tree::{Path, RowsError, TopicFilter};
use sapwood_value::Text;

use crate::commit::Commit;
use crate::lease::{self, PrivateDraft};

mod kept;
mod state;

pub(crate) use kept::{Kept, What, event};
pub(crate) use state::Durables;
pub use state::{Claim, KeptBounds};

/// A durable session's id. No two of a database ever share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DurableId(pub(crate) u64);

impl DurableId {
    /// An id for something new.
    pub fn random() -> Self {
        Self(rand::random::<u64>().max(1))
    }
}

/// What is kept has numbers in the order in which it was said: the commit's, and its place in there.
pub(crate) const PART_BITS: u32 = 18;

/// So many things one commit can keep.
pub(crate) const PARTS_MAX: usize = 1 << PART_BITS;

/// Set in the number of what a session has taken for a group: it is held like its own, but its cursor does not pass it.
const FOR_GROUP: u64 = 1 << 62;

/// The number of the `part`th thing that a commit keeps.
pub(crate) fn number(seq: u64, part: u32) -> u64 {
    seq << PART_BITS | u64::from(part)
}

/// The highest number that a commit could give.
pub fn last_of(seq: u64) -> u64 {
    seq << PART_BITS | ((1 << PART_BITS) - 1)
}

/// What a session takes for a group is taken under this number.
pub fn for_group(number: u64) -> u64 {
    number | FOR_GROUP
}

/// Whether something was taken for a group.
pub fn is_for_group(number: u64) -> bool {
    number & !(FOR_GROUP - 1) == FOR_GROUP
}

/// The number under which it is kept, for whomever it was taken.
pub fn own_number(number: u64) -> u64 {
    if is_for_group(number) {
        number & (FOR_GROUP - 1)
    } else {
        number
    }
}

/// The commit that a number is of.
pub fn commit_of(number: u64) -> u64 {
    number >> PART_BITS
}

/// Something that changes in a durable session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DurableChange {
    /// It begins, with a client that is there.
    Begin {
        /// What its client finds it by.
        key: Text,
        /// How long it lives on without a client, in seconds.
        expiry_s: u32,
    },
    /// It ends: nothing of it is left.
    End,
    /// It is told what matches, from this commit on.
    Subscribe {
        /// What it is told.
        filter: TopicFilter,
    },
    /// It is told what matches no longer.
    Unsubscribe {
        /// A filter that it has.
        filter: TopicFilter,
    },
    /// A row of the door's own.
    Row {
        /// By which the door finds it.
        key: Bytes,
        /// What it says from now on; none removes it.
        value: Option<Bytes>,
    },
    /// Its client is given something kept; or the row about that is changed.
    Take {
        /// What is kept.
        number: u64,
        /// What the door has to remember about it; not empty.
        row: Bytes,
    },
    /// Its client is done with something.
    Settle {
        /// What is kept.
        number: u64,
    },
    /// All up to a number has been taken, or does not concern it.
    Pass {
        /// The number.
        cursor: u64,
    },
    /// It shares in a group: what matches is told to one of those who do.
    JoinGroup {
        /// The group's name.
        share: Text,
        /// What the group is told.
        filter: TopicFilter,
        /// The group's id, if there is none of that name and filter yet.
        group: DurableId,
    },
    /// It shares in a group no longer.
    LeaveGroup {
        /// The group's name.
        share: Text,
        /// What the group is told.
        filter: TopicFilter,
    },
    /// A group is done with something: a member has it.
    SettleFor {
        /// The group.
        group: DurableId,
        /// What is kept.
        number: u64,
    },
    /// Its client is away.
    Away {
        /// When it ends, in milliseconds since 1970.
        expires_ms: u64,
    },
    /// Its client is back.
    Back {
        /// How long it lives on without a client, in seconds.
        expiry_s: u32,
    },
}

/// A durable session as it is kept: what its client goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable {
    /// Its id.
    pub id: DurableId,
    /// All up to this number has been taken, or does not concern it.
    pub cursor: u64,
    /// What was taken and is not done with, with the door's rows, by number.
    pub held: Vec<(u64, Bytes)>,
    /// What was done with beyond the cursor.
    pub settled: Vec<u64>,
    /// The door's own rows, by key.
    pub rows: Vec<(Bytes, Bytes)>,
}

impl Durable {
    pub(crate) fn read(view: &View, id: DurableId) -> Result<Self, RowsError> {
        let cursor = view.private(&prefix(b'Q', id))?;
        let (mut held, mut settled) = (Vec::new(), Vec::new());
        for (key, row) in lease::all(view, &prefix(b'H', id))? {
            let Some(number) = number_at(&key, 9) else {
                continue;
            };
            if row.is_empty() {
                settled.push(number);
            } else {
                held.push((number, row));
            }
        }
        let rows = lease::all(view, &prefix(b'R', id))?.into_iter();
        Ok(Self {
            id,
            cursor: cursor.and_then(|row| number_at(&row, 0)).unwrap_or(0),
            held,
            settled,
            rows: rows.map(|(key, row)| (key.slice(9..), row)).collect(),
        })
    }
}

/// The `D` row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    /// When it ends, in milliseconds since 1970; none while its client is there.
    expires_ms: Option<u64>,
    expiry_s: u32,
    key: Text,
}

impl Head {
    fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(12 + self.key.len());
        out.extend_from_slice(&self.expires_ms.unwrap_or(0).to_be_bytes());
        out.extend_from_slice(&self.expiry_s.to_be_bytes());
        out.extend_from_slice(self.key.as_bytes());
        out.into()
    }

    fn decode(row: &[u8]) -> Option<Self> {
        let expires_ms = number_at(row, 0)?;
        Some(Self {
            expires_ms: (expires_ms != 0).then_some(expires_ms),
            expiry_s: u32::from_be_bytes(row.get(8..12)?.try_into().ok()?),
            key: std::str::from_utf8(row.get(12..)?).ok()?.into(),
        })
    }
}

/// Changes the rows of a durable session, as commit `seq` says.
pub(crate) fn apply(
    draft: &mut PrivateDraft<'_>,
    seq: u64,
    id: DurableId,
    change: &DurableChange,
) -> Result<(), RowsError> {
    match change {
        DurableChange::Begin { key, expiry_s } => {
            let head = Head {
                expires_ms: None,
                expiry_s: *expiry_s,
                key: key.clone(),
            };
            draft.set(prefix(b'D', id), head.encode());
            draft.set(prefix(b'Q', id), be(last_of(seq)));
        }
        DurableChange::End => {
            draft.unset(prefix(b'D', id));
            draft.unset(prefix(b'Q', id));
            for (key, _) in draft.all(&prefix(b'J', id))? {
                leave_group(draft, id, key.get(9..).unwrap_or_default())?;
            }
            for kind in *b"FHR" {
                draft.drop_all(&prefix(kind, id), None)?;
            }
        }
        DurableChange::Subscribe { filter } => {
            // Who asks again loses nothing of what waits.
            let key = filter_key(id, filter);
            if draft.get(&key)?.is_none() {
                draft.set(key, be(last_of(seq)));
            }
        }
        DurableChange::Unsubscribe { filter } => draft.unset(filter_key(id, filter)),
        DurableChange::Row { key, value } => {
            let key = [prefix(b'R', id).as_slice(), key].concat();
            match value {
                Some(value) => draft.set(key, value.clone()),
                None => draft.unset(key),
            }
        }
        DurableChange::Take { number, row } => draft.set(held_key(id, *number), row.clone()),
        DurableChange::Settle { number } => settle(draft, id, *number)?,
        DurableChange::SettleFor { group, number } => settle(draft, *group, *number)?,
        DurableChange::JoinGroup {
            share,
            filter,
            group,
        } => join_group(draft, seq, id, &group_name(share, filter), *group)?,
        DurableChange::LeaveGroup { share, filter } => {
            leave_group(draft, id, &group_name(share, filter))?;
        }
        DurableChange::Pass { cursor } => pass(draft, id, *cursor)?,
        DurableChange::Away { expires_ms } => change_head(draft, id, |head| Head {
            expires_ms: Some(*expires_ms),
            ..head
        })?,
        DurableChange::Back { expiry_s } => change_head(draft, id, |head| Head {
            expires_ms: None,
            expiry_s: *expiry_s,
            ..head
        })?,
    }
    Ok(())
}

/// What was done with up to the cursor need not be remembered. What has ended stays so.
fn pass(draft: &mut PrivateDraft<'_>, id: DurableId, cursor: u64) -> Result<(), RowsError> {
    if draft.get(&prefix(b'Q', id))?.is_none() {
        return Ok(());
    }
    draft.set(prefix(b'Q', id), be(cursor));
    for (key, row) in draft.all(&prefix(b'H', id))? {
        if row.is_empty() && number_at(&key, 9).is_some_and(|number| number <= cursor) {
            draft.unset(key.to_vec());
        }
    }
    Ok(())
}

/// What is done with beyond the cursor is remembered until the cursor has passed it.
fn settle(draft: &mut PrivateDraft<'_>, id: DurableId, number: u64) -> Result<(), RowsError> {
    let Some(row) = draft.get(&prefix(b'Q', id))? else {
        // It has ended.
        return Ok(());
    };
    if number < FOR_GROUP && number_at(&row, 0).is_some_and(|cursor| number > cursor) {
        draft.set(held_key(id, number), Bytes::new());
    } else {
        draft.unset(held_key(id, number));
    }
    Ok(())
}

/// A group's id, and how many durable sessions share in it.
fn group_row(row: &[u8]) -> Option<(DurableId, u32)> {
    let members = u32::from_be_bytes(row.get(8..12)?.try_into().ok()?);
    Some((DurableId(number_at(row, 0)?), members))
}

fn put_group(draft: &mut PrivateDraft<'_>, name: &[u8], group: DurableId, members: u32) {
    let row = [&group.0.to_be_bytes()[..], &members.to_be_bytes()].concat();
    draft.set([b"G", name].concat(), row.into());
}

fn join_group(
    draft: &mut PrivateDraft<'_>,
    seq: u64,
    id: DurableId,
    name: &[u8],
    new: DurableId,
) -> Result<(), RowsError> {
    let membership = [prefix(b'J', id).as_slice(), name].concat();
    if draft.get(&membership)?.is_some() {
        return Ok(());
    }
    let known = draft.get(&[b"G", name].concat())?;
    let (group, members) = match known.and_then(|row| group_row(&row)) {
        Some(known) => known,
        None => {
            draft.set(prefix(b'Q', new), be(last_of(seq)));
            (new, 0)
        }
    };
    put_group(draft, name, group, members + 1);
    draft.set(membership, be(group.0));
    Ok(())
}

/// The last one who leaves a group takes it along.
fn leave_group(draft: &mut PrivateDraft<'_>, id: DurableId, name: &[u8]) -> Result<(), RowsError> {
    let membership = [prefix(b'J', id).as_slice(), name].concat();
    if draft.get(&membership)?.is_none() {
        return Ok(());
    }
    draft.unset(membership);
    let known = draft.get(&[b"G", name].concat())?;
    let Some((group, members)) = known.and_then(|row| group_row(&row)) else {
        return Ok(());
    };
    if members > 1 {
        put_group(draft, name, group, members - 1);
        return Ok(());
    }
    draft.unset([b"G", name].concat());
    draft.unset(prefix(b'Q', group));
    draft.drop_all(&prefix(b'H', group), None)
}

/// A group's name and filter, as keys have them: the name's length (2 bytes), the name, the filter.
fn group_name(share: &Text, filter: &TopicFilter) -> Vec<u8> {
    let len = u16::try_from(share.len()).unwrap_or(u16::MAX);
    let mut name = len.to_be_bytes().to_vec();
    name.extend_from_slice(share.as_bytes());
    filter.store(&mut name);
    name
}

fn read_group_name(name: &[u8]) -> Option<(Text, TopicFilter)> {
    let (len, rest) = name.split_first_chunk::<2>()?;
    let (share, filter) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
    let share = std::str::from_utf8(share).ok()?.into();
    Some((share, TopicFilter::restore(filter)?))
}

fn change_head(
    draft: &mut PrivateDraft<'_>,
    id: DurableId,
    change: impl FnOnce(Head) -> Head,
) -> Result<(), RowsError> {
    let head = draft.get(&prefix(b'D', id))?;
    if let Some(head) = head.and_then(|row| Head::decode(&row)) {
        draft.set(prefix(b'D', id), change(head).encode());
    }
    Ok(())
}

/// Whether there is such a session.
pub(crate) fn exists(view: &View, id: DurableId) -> Result<bool, RowsError> {
    Ok(view.private(&prefix(b'D', id))?.is_some())
}

/// Keeps something.
pub(crate) fn keep(draft: &mut PrivateDraft<'_>, commit: &Commit, kept: &Kept) {
    if let Some(row) = kept.row(commit) {
        draft.set(kept_key(number(commit.seq, kept.part)), row);
    }
}

/// What was kept, if it still is.
pub(crate) fn kept_row(view: &View, number: u64) -> Result<Option<Bytes>, RowsError> {
    view.private(&kept_key(own_number(number)))
}

/// Forgets what nobody needs any more.
pub(crate) fn forget(draft: &mut PrivateDraft<'_>, numbers: &[u64]) {
    for number in numbers {
        draft.unset(kept_key(*number));
    }
}

/// The path of something kept, and whether it is a message, as its row says.
pub(crate) fn kept_path(row: &[u8]) -> Option<(Path, bool)> {
    kept::path_of(row)
}

fn prefix(kind: u8, id: DurableId) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}

fn filter_key(id: DurableId, filter: &TopicFilter) -> Vec<u8> {
    let mut key = prefix(b'F', id);
    filter.store(&mut key);
    key
}

fn held_key(id: DurableId, number: u64) -> Vec<u8> {
    let mut key = prefix(b'H', id);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn kept_key(number: u64) -> Vec<u8> {
    let mut key = vec![b'K'];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn be(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

fn number_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
