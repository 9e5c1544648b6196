//! A connected bridge: what has come from either side goes to the other, until one of them ends.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use super::open::Opened;
use super::relay::{Outs, Relay};
use super::{Bridge, Side, told};
use crate::client::{Lost, Wire};
use crate::codec::Packet;

/// How many bytes may wait for a side before no more is taken from the other. Where both wait, each for the other, messages of
/// QoS 0 are dropped instead.
const WAITING_MAX: usize = 1 << 20;

/// What happens to a connected bridge.
enum Event {
    /// There is a packet.
    Read,
    Tick,
}

impl Bridge {
    /// Hands on what comes, until a connection ends; `Ok` when the server drains.
    pub(super) async fn relay(
        &mut self,
        opened: &mut Opened,
        drain: &mut watch::Receiver<bool>,
    ) -> Result<(), Lost> {
        let Opened {
            local,
            remote,
            local_terms,
            remote_terms,
            early,
            keep_alive_s,
        } = opened;
        let meters = Arc::clone(&self.meters);
        let mut relay = Relay::new(
            &self.routes,
            *local_terms,
            *remote_terms,
            &mut self.refusals,
            meters,
        );
        let mut pair = Pair {
            local: &mut local.wire,
            remote,
        };
        for (from, packet) in early.drain(..) {
            relay.packet(from, packet, false, &mut pair.outs())?;
        }
        let mut tick = tick(*keep_alive_s);
        let mut pinged = false;
        loop {
            let event = tokio::select! {
                event = poll_fn(|cx| pair.poll(cx, tick.as_mut())) => event?,
                () = told(drain) => return Ok(()),
            };
            match event {
                // All of it, before any of it is written.
                Event::Read => {
                    while let Some((from, packet)) = pair.decoded()? {
                        let crowded = pair.is_crowded();
                        relay.packet(from, packet, crowded, &mut pair.outs())?;
                    }
                }
                Event::Tick if pinged && !pair.remote.was_heard() => return Err(Lost::Silent),
                Event::Tick => {
                    pinged = true;
                    pair.remote.was_heard();
                    pair.remote.send(&Packet::Pingreq)?;
                }
            }
        }
    }
}

/// Ticks at the keep-alive, if there is one, a little early: what is sent takes its time.
fn tick(keep_alive_s: u16) -> Option<Interval> {
    let keep_alive = Duration::from_secs(u64::from(keep_alive_s)) * 4 / 5;
    (keep_alive_s > 0).then(|| {
        let first = tokio::time::Instant::now() + keep_alive;
        let mut tick = tokio::time::interval_at(first, keep_alive);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick
    })
}

/// Both wires.
struct Pair<'a, L, R> {
    local: &'a mut Wire<L>,
    remote: &'a mut Wire<R>,
}

impl<L, R> Pair<'_, L, R>
where
    L: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + AsyncWrite + Unpin,
{
    fn outs(&mut self) -> Outs<'_> {
        Outs {
            local: &mut self.local.out,
            remote: &mut self.remote.out,
        }
    }

    /// Whether each side takes nothing as long as the other takes nothing.
    fn is_crowded(&self) -> bool {
        self.local.out.len() >= WAITING_MAX && self.remote.out.len() >= WAITING_MAX
    }

    fn may_read(&self, side: Side) -> bool {
        let waits = match side {
            Side::Local => self.remote.out.len(),
            Side::Remote => self.local.out.len(),
        };
        waits < WAITING_MAX || self.is_crowded()
    }

    /// A packet of what has been read.
    fn decoded(&mut self) -> Result<Option<(Side, Packet)>, Lost> {
        for side in [Side::Local, Side::Remote] {
            if !self.may_read(side) {
                continue;
            }
            let packet = match side {
                Side::Local => self.local.decoded()?,
                Side::Remote => self.remote.decoded()?,
            };
            if let Some(packet) = packet {
                return Ok(Some((side, packet)));
            }
        }
        Ok(None)
    }

    /// Writes what waits, and reads what there is room for.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        tick: Option<&mut Interval>,
    ) -> Poll<Result<Event, Lost>> {
        if let Poll::Ready(flushed) = self.local.poll_flush(cx) {
            flushed?;
        }
        if let Poll::Ready(flushed) = self.remote.poll_flush(cx) {
            flushed?;
        }
        let mut read = false;
        for side in [Side::Local, Side::Remote] {
            if !self.may_read(side) {
                continue;
            }
            let polled = match side {
                // What has been read already may have waited for room.
                Side::Local if self.local.has_unread() => Poll::Ready(Ok(())),
                Side::Remote if self.remote.has_unread() => Poll::Ready(Ok(())),
                Side::Local => self.local.poll_read(cx),
                Side::Remote => self.remote.poll_read(cx),
            };
            if let Poll::Ready(polled) = polled {
                polled?;
                read = true;
            }
        }
        if read {
            return Poll::Ready(Ok(Event::Read));
        }
        match tick {
            Some(tick) => tick.poll_tick(cx).map(|_| Ok(Event::Tick)),
            None => Poll::Pending,
        }
    }
}
