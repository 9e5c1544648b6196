//! Wills (3.1.2.5).
//!
//! A will is what a session of its own leaves to be done at its end: so it is durable before its client is let in, is
//! published also where the server dies, and does not hang on the life of the client's session.

use sapwood_core::{Answer, AtEnd, Connect, Database, Delivery, Session, SessionId};
use sapwood_tree::{NotOfForm, Path};

use crate::codec::{self, ReasonCode};
use crate::map;
use crate::rules::Demand;

/// What is to be published when a client is gone.
#[derive(Debug)]
pub(crate) struct Will {
    session: Session,
}

impl Will {
    /// Registers a will; it is as durable as the database when this returns.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) async fn arm(
        database: &Database,
        connect: Connect,
        path: &Path,
        will: &codec::Will,
        demand: Demand,
    ) -> Result<Self, ReasonCode> {
        let limits = database.limits().decoder();
        let at_end = if will.retain {
            map::record_write(path, &will.message, will.qos, &limits, demand).map(AtEnd::Write)
        } else {
            map::core_message(&will.message, will.qos, &limits, demand)
                .map(|message| AtEnd::Publish(path.clone(), message))
        };
        let at_end = at_end.map_err(|NotOfForm| ReasonCode::PayloadFormatInvalid)?;
        let mut session = database.connect(connect);
        session.submit_at_end(0, &at_end);
        let mut answers = Vec::new();
        session.next(&mut answers).await;
        match answers.pop() {
            Some(Delivery::Answer {
                answer: Ok(Answer::Registered | Answer::Written(_)),
                ..
            }) => Ok(Self { session }),
            Some(Delivery::Answer {
                answer: Err(error), ..
            }) => Err(map::refusal(error.kind())),
            _ => Err(ReasonCode::UnspecifiedError),
        }
    }

    /// A will that an earlier connection left, and that is still to be published.
    pub(crate) fn left(database: &Database, connect: Connect, by: SessionId) -> Self {
        let mut session = database.connect(connect);
        session.adopt(by);
        Self { session }
    }

    /// Leaves it to be published at a time, in milliseconds since 1970; what it is found again by until then. If that can't
    /// be written, it is published now.
    pub(crate) async fn leave_until(mut self, at_ms: u64) -> Option<SessionId> {
        self.session.submit_ends_at(0, at_ms);
        let mut answers = Vec::new();
        self.session.next(&mut answers).await;
        if matches!(answers.pop(), Some(Delivery::Answer { answer: Ok(_), .. })) {
            let id = self.session.id();
            self.session.abandon();
            return Some(id);
        }
        self.publish().await;
        None
    }

    /// Publishes it.
    pub(crate) async fn publish(self) {
        self.session.close().await;
    }

    /// Forgets it.
    pub(crate) async fn discard(mut self) {
        self.session.forget_at_end(0);
        let mut answers = Vec::new();
        self.session.next(&mut answers).await;
        self.session.close().await;
    }
}
