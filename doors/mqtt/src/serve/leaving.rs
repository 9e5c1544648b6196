//! The end of a connection: its will, and its session.

use std::time::Duration;

use sapwood_core::Delivery as Told;
use sapwood_net::Closed;
use tracing::debug;

use super::Client;
use crate::joining::Joined;
use crate::link::Link;
use crate::machine::{Delivery, Ended};
use crate::map;
use crate::registry::{Away, Claim, Kept, Queue, QueueLimits, keep};
use crate::will::Will;

/// How long outcomes are waited for when the connection is gone, and the session is kept.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

impl Client {
    /// Sees to what the connection leaves.
    pub(super) async fn end(mut self: Box<Self>, closed: Closed) -> Closed {
        self.rest();
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
        if ended.session_expiry_s == 0 {
            end_session(*joined, claim, ended).await;
            self.link.finish(lingers).await;
        } else {
            let link = self.keep_session(*joined, claim, ended).await;
            link.finish(lingers).await;
        }
        closed
    }

    /// Hands the session to who claims it, or to a task that keeps it while the client is away.
    async fn keep_session(
        mut self: Box<Self>,
        joined: Joined,
        claim: Option<Claim>,
        ended: Ended,
    ) -> Link {
        let Joined {
            mut kept,
            place,
            claimed,
            will,
            ..
        } = joined;
        let will = will_of_kept(will, ended.will_after, claim.is_some()).await;
        let config = &self.site.config;
        let limits = QueueLimits {
            messages_max: config.queued_max,
            bytes_max: config.queued_bytes_max,
        };
        let behind = self.settle(&mut kept, limits).await;
        let Self {
            machine,
            waiting,
            link,
            ..
        } = *self;
        kept.machine = machine.into_session();
        let mut queue = Queue::new(limits, &kept.machine.queue);
        for delivery in waiting.into_iter().chain(behind) {
            queue.push(&mut kept.machine.queue, delivery);
        }
        match claim {
            Some(claim) => drop(claim.reply.send(Some(kept))),
            None => {
                // It ends with the client's return, with the session, or with the runtime; nobody waits for it.
                drop(tokio::spawn(keep(Away {
                    kept,
                    place,
                    claimed,
                    expires: Duration::from_secs(u64::from(ended.session_expiry_s)),
                    will,
                    limits,
                })));
            }
        }
        link
    }

    /// Waits for the outcomes of what the client has published: what was done must not be done again when it comes back
    /// and sends it again (4.3.3). Gives what the session was told meanwhile.
    async fn settle(&mut self, kept: &mut Kept, limits: QueueLimits) -> Vec<Delivery> {
        let until = tokio::time::Instant::now() + SETTLE_TIMEOUT;
        let mut queue = Queue::new(limits, &[]);
        let (mut told, mut behind) = (Vec::new(), Vec::new());
        while self.machine.has_open_writes() {
            let next = tokio::time::timeout_at(until, kept.session.next(&mut told));
            if next.await.is_err() {
                break;
            }
            for one in &told {
                if let Told::Answer { tag, answer } = one
                    && let Some(tag) = self.take_open(*tag)
                {
                    let reason = map::outcome(answer);
                    self.machine.written(tag, reason, &mut self.actions);
                }
            }
            kept.take_in(&mut told, &mut queue, &mut behind);
        }
        behind
    }
}

async fn end_session(joined: Joined, claim: Option<Claim>, ended: Ended) {
    let Joined {
        kept, place, will, ..
    } = joined;
    place.keeps_no_more();
    match (will, ended.will_after) {
        // The session's end is the latest moment (3.1.2-8).
        (Some(will), Some(_)) => will.publish().await,
        (Some(will), None) => will.discard().await,
        (None, _) => {}
    }
    kept.session.close().await;
    if let Some(claim) = claim {
        drop(claim.reply.send(None));
    }
    drop(place);
}

/// Whether the server has ended the connection, and its last word should arrive.
fn is_ours(closed: Closed) -> bool {
    matches!(closed, Closed::Refused(_) | Closed::Drained)
}

/// What becomes of a will where the session goes on: it is published now, or void, or waits.
async fn will_of_kept(
    will: Option<Will>,
    after: Option<Duration>,
    is_taken_over: bool,
) -> Option<(Will, Duration)> {
    let will = will?;
    match after {
        Some(after) if after.is_zero() => will.publish().await,
        // 3.1.3-9: who takes over is there in time.
        Some(after) if !is_taken_over => return Some((will, after)),
        Some(_) | None => will.discard().await,
    }
    None
}
