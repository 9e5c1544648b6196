//! What durable sessions have in a commit's entry.

use bytes::Bytes;
use sapwood_tree::{Path, TopicFilter};

use super::{Input, UNLIMITED, put_bytes, put_len, put_sized};
use crate::durable::{DurableChange, DurableId, Kept, What};

pub(super) fn put_kept(out: &mut Vec<u8>, kept: &Kept) {
    out.push(7);
    out.extend_from_slice(&kept.part.to_le_bytes());
    out.extend_from_slice(&kept.origin.map_or(0, |origin| origin.0).to_le_bytes());
    match &kept.what {
        What::Message(bytes) => {
            out.push(1);
            put_bytes(out, bytes);
        }
        What::Op(index) => {
            out.push(2);
            put_len(out, *index);
        }
        What::State(path) => {
            out.push(3);
            put_bytes(out, path.as_str().as_bytes());
        }
    }
}

pub(super) fn read_kept(input: &mut Input<'_>) -> Option<Kept> {
    let part = input.u32()?;
    let origin = input.u64()?;
    let what = match input.u8()? {
        1 => What::Message(Bytes::copy_from_slice(input.sized()?)),
        2 => What::Op(usize::try_from(input.u32()?).ok()?),
        3 => What::State(Path::parse(input.text()?, &UNLIMITED).ok()?),
        _ => return None,
    };
    Some(Kept {
        part,
        origin: (origin != 0).then_some(DurableId(origin)),
        what,
    })
}

pub(super) fn put_change(out: &mut Vec<u8>, id: DurableId, change: &DurableChange) {
    out.push(9);
    out.extend_from_slice(&id.0.to_le_bytes());
    let (kind, number) = match change {
        DurableChange::Begin { expiry_s, .. } => (1, u64::from(*expiry_s)),
        DurableChange::End => (2, 0),
        DurableChange::Subscribe { .. } => (3, 0),
        DurableChange::Unsubscribe { .. } => (4, 0),
        DurableChange::Row { value, .. } => (5, u64::from(value.is_some())),
        DurableChange::Take { number, .. } => (6, *number),
        DurableChange::Settle { number } => (7, *number),
        DurableChange::Pass { cursor } => (8, *cursor),
        DurableChange::JoinGroup { group, .. } => (11, group.0),
        DurableChange::LeaveGroup { .. } => (12, 0),
        DurableChange::SettleFor { number, .. } => (13, *number),
        DurableChange::Away { expires_ms } => (9, *expires_ms),
        DurableChange::Back { expiry_s } => (10, u64::from(*expiry_s)),
    };
    out.push(kind);
    out.extend_from_slice(&number.to_le_bytes());
    match change {
        DurableChange::Begin { key, .. } => put_bytes(out, key.as_bytes()),
        DurableChange::Subscribe { filter } | DurableChange::Unsubscribe { filter } => {
            put_sized(out, |out| filter.store(out));
        }
        DurableChange::Row { key, value } => {
            put_bytes(out, key);
            put_bytes(out, value.as_deref().unwrap_or_default());
        }
        DurableChange::JoinGroup { share, filter, .. }
        | DurableChange::LeaveGroup { share, filter } => {
            put_bytes(out, share.as_bytes());
            put_sized(out, |out| filter.store(out));
        }
        DurableChange::SettleFor { group, .. } => out.extend_from_slice(&group.0.to_le_bytes()),
        DurableChange::Take { row, .. } => put_bytes(out, row),
        DurableChange::End
        | DurableChange::Settle { .. }
        | DurableChange::Pass { .. }
        | DurableChange::Away { .. }
        | DurableChange::Back { .. } => {}
    }
}

pub(super) fn read_change(input: &mut Input<'_>) -> Option<(DurableId, DurableChange)> {
    let id = DurableId(input.u64()?);
    let (kind, number) = (input.u8()?, input.u64()?);
    let seconds = u32::try_from(number);
    let change = match kind {
        1 => DurableChange::Begin {
            key: input.text()?.into(),
            expiry_s: seconds.ok()?,
        },
        2 => DurableChange::End,
        3 => DurableChange::Subscribe {
            filter: TopicFilter::restore(input.sized()?)?,
        },
        4 => DurableChange::Unsubscribe {
            filter: TopicFilter::restore(input.sized()?)?,
        },
        5 => {
            let key = Bytes::copy_from_slice(input.sized()?);
            let value = Bytes::copy_from_slice(input.sized()?);
            DurableChange::Row {
                key,
                value: (number != 0).then_some(value),
            }
        }
        6 => DurableChange::Take {
            number,
            row: Bytes::copy_from_slice(input.sized()?),
        },
        7 => DurableChange::Settle { number },
        8 => DurableChange::Pass { cursor: number },
        9 => DurableChange::Away { expires_ms: number },
        10 => DurableChange::Back {
            expiry_s: seconds.ok()?,
        },
        11 => DurableChange::JoinGroup {
            share: input.text()?.into(),
            filter: TopicFilter::restore(input.sized()?)?,
            group: DurableId(number),
        },
        12 => DurableChange::LeaveGroup {
            share: input.text()?.into(),
            filter: TopicFilter::restore(input.sized()?)?,
        },
        13 => DurableChange::SettleFor {
            number,
            group: DurableId(input.u64()?),
        },
        _ => return None,
    };
    Some((id, change))
}
