//! Who is calling, and the one place where it is decided what they may do.

use std::sync::Arc;

use sapwood_tree::{Path, TopicFilter};

/// Who is calling: the same whatever the door and the kind of credential (design, section 7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    uid: Option<Arc<str>>,
}

impl Claims {
    /// Nobody in particular: no credentials were given, or the database is open and none count.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// The user's id, if a credential said one.
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub enum Operation<'a> {
    /// Read the value at a path: a GET, a first state, a change told.
    Read(&'a Path),
    /// Change what lies at a path.
    Write(&'a Path),
    /// Send a message to a path.
    Publish(&'a Path),
    /// Be told what happens at the topics that a filter matches.
    Subscribe(&'a TopicFilter),
}

/// Decides every operation of every door.
///
/// Reads, watches and messages pass it before they reach a view or the hub; writes pass it in the committer, in the
/// order in which they are decided. No door has another way to the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Gate {
    /// Everybody may do everything: the database has no rule set.
    #[default]
    Open,
    /// Nobody may do anything: the database has no rule set, and nobody said by name that it is open.
    Closed,
}

/// The gate said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no rule allows this")]
pub struct Denied;

impl Gate {
    /// Whether `claims` may do `operation`.
    ///
    /// # Errors
    /// [`Denied`], without a reason: a stranger learns nothing from it.
    pub fn check(&self, _claims: &Claims, operation: Operation<'_>) -> Result<(), Denied> {
        match (self, operation) {
            (
                Self::Open,
                Operation::Read(_)
                | Operation::Write(_)
                | Operation::Publish(_)
                | Operation::Subscribe(_),
            ) => Ok(()),
            (Self::Closed, _) => Err(Denied),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_lets_nobody_do_anything() {
        let path = Path::root();
        for operation in [
            Operation::Read(&path),
            Operation::Write(&path),
            Operation::Publish(&path),
        ] {
            assert_eq!(
                Gate::Closed.check(&Claims::anonymous(), operation),
                Err(Denied)
            );
            assert_eq!(Gate::Open.check(&Claims::anonymous(), operation), Ok(()));
        }
    }
}
