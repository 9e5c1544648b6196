//! The end of a connection: its will, and its session.

use std::time::Duration;

use sapwood_core::DurableChange;
use sapwood_net::Closed;
use tracing::{debug, error};

use super::Client;
use crate::durable;
use crate::joining::Joined;
use crate::machine::Ended;
use crate::will::Will;

impl Client {
    /// Sees to what the connection leaves.
    pub(super) async fn end(mut self: Box<Self>, closed: Closed) -> Closed {
        self.rest();
        self.note_first_states();
        let settled = self.last_settled();
        let Some(joined) = self.joined.take() else {
            self.link.finish(is_ours(closed)).await;
            return closed;
        };
        debug!(
            connection = self.info.id,
            client_id = joined.client_id,
            ?closed,
            "mqtt client gone"
        );
        let claim = self.claim.take();
        let lingers = is_ours(closed) || claim.is_some();
        let mut ended = self.machine.ended();
        if claim.as_ref().is_some_and(|claim| claim.clean) {
            ended.session_expiry_s = 0;
        }
        let Joined {
            database,
            session,
            feed,
            place,
            will,
            client_id,
            ..
        } = *joined;
        let waits = will_of(will, ended, claim.is_some()).await;
        match feed {
            None if settled.is_empty() => session.close().await,
            None => drop(session.close_with(settled).await),
            Some(mut feed) => {
                let mut changes = feed.last_changes(&self.machine);
                if let Some((will, delay)) = waits {
                    let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                    let at_ms = database.now_ms().saturating_add(delay_ms);
                    let left = will.leave_until(at_ms).await;
                    changes.extend(left.map(|by| durable::will_change(Some(by))));
                }
                changes.push(last_change(ended, database.now_ms()));
                if let Err(error) = session.close_with(changes).await {
                    error!(
                        error = &error as &dyn std::error::Error,
                        client_id,
                        "the end of a connection could not be written down: its session is as it was a little before"
                    );
                }
            }
        }
        if let Some(claim) = claim {
            claim.reply.send(()).ok();
        }
        drop(place);
        self.link.finish(lingers).await;
        closed
    }
}

/// What becomes of a durable session without its client.
fn last_change(ended: Ended, now_ms: u64) -> DurableChange {
    match ended.session_expiry_s {
        0 => DurableChange::End,
        expiry_s => DurableChange::Away {
            expires_ms: now_ms.saturating_add(u64::from(expiry_s) * 1000),
        },
    }
}

/// Whether the server has ended the connection, and its last word should arrive.
fn is_ours(closed: Closed) -> bool {
    matches!(closed, Closed::Refused(_) | Closed::Drained)
}

/// What becomes of a will: it is published now, or void, or waits.
async fn will_of(
    will: Option<Will>,
    ended: Ended,
    is_taken_over: bool,
) -> Option<(Will, Duration)> {
    let will = will?;
    match ended.will_after {
        // The session's end is the latest moment (3.1.2-8).
        Some(after) if after.is_zero() || ended.session_expiry_s == 0 => will.publish().await,
        // 3.1.3-9: who takes over is there in time.
        Some(after) if !is_taken_over => return Some((will, after)),
        Some(_) | None => will.discard().await,
    }
    None
}
