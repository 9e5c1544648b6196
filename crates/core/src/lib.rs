//! The core: databases, the one order of their writes, and who is told what.
//!
//! A door turns bytes into a [`Write`], a [`Reading`] or a watch of a [`Session`]; the rest happens here. The way of a write is
//! committer → commit log and rows → hub → outboxes (`ARCHITECTURE.md`); every operation passes the [`Gate`].

mod clock;
mod codec;
mod commit;
mod committer;
mod core;
mod database;
mod decode_room;
mod durable;
mod event;
mod first_state;
mod gate;
mod hub;
mod lease;
mod message;
mod outbox;
mod queue;
mod read;
mod replay;
mod session;
mod settings;
mod tell;
mod version;
mod watch;
mod write;

pub use crate::clock::{Clock, ManualClock, SystemClock};
pub use crate::codec::{EntryError, decode as decode_entry};
pub use crate::commit::Commit;
pub use crate::core::{Core, OpenError};
pub use crate::database::Database;
pub use crate::decode_room::DecodeShare;
pub use crate::durable::{
    Claim, Durable, DurableChange, DurableId, KeptBounds, commit_of, for_group, is_for_group,
    last_of, own_number,
};
pub use crate::event::{Event, EventKind, EventValue, Form};
pub use crate::gate::{Claims, Denied, Gate, Operation};
pub use crate::message::Message;
pub use crate::read::Reading;
pub use crate::session::{
    Answer, Begin, Connect, Delivery, Session, SessionId, Start, WatchError, WatchId, WatchSpec,
};
pub use crate::settings::{CoreSettings, DatabaseSettings, Durability, Limits, LogSettings};
pub use crate::version::{Tag, Version, VersionError};
pub use crate::write::{
    AtEnd, Committed, Condition, ErrorKind, OpOutcome, TagList, Write, WriteError, WriteOp,
};
pub use sapwood_store::log::LogId;
pub use sapwood_store::rows::{RowSettings, View};
