//! What a client asks to change, and why it may be refused.

use std::time::Duration;

use sapwood_tree::{OpKind, Path};
use sapwood_value::{ServerValue, Text};

use crate::message::Message;
use crate::settings::Limits;
use crate::{Tag, Version};

/// One or more operations that happen together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Write {
    /// Done in this order.
    pub ops: Vec<WriteOp>,
    /// All judged on the tree as it is before the write.
    pub conditions: Vec<(Path, Condition)>,
}

impl Write {
    /// A write of one operation without conditions.
    pub fn of(path: Path, kind: OpKind) -> Self {
        Self {
            ops: vec![WriteOp::new(path, kind)],
            conditions: Vec::new(),
        }
    }
}

/// One operation of a write.
#[derive(Debug, Clone)]
pub struct WriteOp {
    /// Where.
    pub path: Path,
    /// What.
    pub kind: OpKind,
    /// Places inside the written value that the server fills in when it decides the write.
    pub server_values: Vec<(Vec<Text>, ServerValue)>,
    /// The value goes when the session that wrote it does.
    pub owner: bool,
    /// The value goes after this long, if it was not written again.
    pub ttl: Option<Duration>,
}

impl WriteOp {
    /// A plain operation.
    pub fn new(path: Path, kind: OpKind) -> Self {
        Self {
            path,
            kind,
            server_values: Vec::new(),
            owner: false,
            ttl: None,
        }
    }
}

/// What must be so before the write for it to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Something is there, or nothing is.
    Exists(bool),
    /// The record here was last changed by this commit of this log.
    Version(Version),
    /// The value here has one of these tags (HTTP's `If-Match`).
    Match(TagList),
    /// The value here has none of these tags (HTTP's `If-None-Match`).
    NoneMatch(TagList),
}

/// A list of tags, as conditional requests give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagList {
    /// `*`: any value at all.
    Any,
    /// One of these.
    Tags(Vec<Tag>),
}

/// A write that was accepted and is durable at the database's level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The commit.
    pub version: Version,
    /// What each operation met, in order.
    pub ops: Vec<OpOutcome>,
}

/// What an operation met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpOutcome {
    /// Something was there already.
    pub existed: bool,
}

/// Why a write was refused. Nothing of it has been applied.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The gate said no.
    #[error("no rule allows this write to {path}")]
    Denied {
        /// Where.
        path: Path,
    },
    /// A condition does not hold.
    #[error("the precondition on {path} does not hold")]
    Conflict {
        /// Where.
        path: Path,
        /// Which of the write's conditions.
        index: usize,
    },
    /// The operation can't be done on this tree.
    #[error("{message}")]
    Invalid {
        /// Which of the write's operations.
        index: usize,
        /// A stable word for the reason.
        code: &'static str,
        /// One clause, safe to show.
        message: String,
    },
    /// A value above a limit.
    #[error("{message}")]
    TooLarge {
        /// Which of the write's operations.
        index: usize,
        /// One clause with the limit, safe to show.
        message: String,
    },
    /// An operation with an owner came from somebody who has no session.
    #[error("only a session can own what it writes")]
    NoSession,
    /// More writes are waiting than the server takes.
    #[error("too many writes are waiting")]
    Busy,
    /// The disk is full: reads go on, writes come back when there is room.
    #[error("the disk is full")]
    Full,
    /// The store has stopped taking writes. The cause is in the log.
    #[error("the store takes no writes")]
    Unavailable,
}

/// What a door has to tell apart: a new kind stops the build in each door until somebody has decided
/// what that protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Not allowed.
    Denied,
    /// A precondition failed.
    Conflict,
    /// Not possible.
    Invalid,
    /// Above a size limit.
    TooLarge,
    /// Too much at once; later it may work.
    Busy,
    /// The disk is full.
    Full,
    /// The server's fault.
    Unavailable,
}

impl WriteError {
    /// Counts the limit that refused the write, if one did. What waits too long or too much is counted where it does.
    pub(crate) fn count(&self) {
        match self {
            Self::TooLarge { .. } => Limits::met("limits.value_bytes_max"),
            Self::Invalid {
                code: "too_deep", ..
            } => Limits::met("limits.depth_max"),
            _ => {}
        }
    }

    /// The kind that a door maps to its protocol's own error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Invalid { .. } | Self::NoSession => ErrorKind::Invalid,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Busy => ErrorKind::Busy,
            Self::Full => ErrorKind::Full,
            Self::Unavailable => ErrorKind::Unavailable,
        }
    }
}

/// What the server does when a session ends, however it ends.
#[derive(Debug, Clone)]
pub enum AtEnd {
    /// An operation.
    Write(WriteOp),
    /// A message.
    Publish(Path, Message),
}
