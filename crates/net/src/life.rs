//! The deadline of each connection, and how it hears that the server drains.
//!
//! One task walks all connections once a second, instead of a timer per connection: so a request
//! costs an atomic store, and an idle connection no timer's memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use crate::limit_met;

/// What the server says to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The server stops: tell the client and end.
    Drain,
    /// The deadline has passed: end at once.
    Expired,
}

/// The second that the server's own clock shows, read without a system call.
#[derive(Debug, Default)]
pub(crate) struct Seconds(AtomicU32);

/// One connection's deadline, and the flags by which it is told to end.
#[derive(Debug)]
pub struct Life {
    seconds: Arc<Seconds>,
    /// The second at which the connection has expired; 0 for never.
    deadline: AtomicU32,
    /// The deadline is that of a write.
    stalled: AtomicBool,
    drain: AtomicBool,
    expired: AtomicBool,
    waker: AtomicWaker,
}

impl Life {
    fn new(seconds: Arc<Seconds>) -> Self {
        Self {
            seconds,
            deadline: AtomicU32::new(0),
            stalled: AtomicBool::new(false),
            drain: AtomicBool::new(false),
            expired: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// That of a connection inside the process, which nobody ends but its two sides.
    pub fn apart() -> Arc<Self> {
        Arc::new(Self::new(Arc::default()))
    }

    /// Expires the connection after this long, to the second, unless it says otherwise before.
    pub fn expire_in(&self, time: Duration) {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX / 2);
        let now = self.seconds.0.load(Ordering::Relaxed);
        self.deadline.store(
            now.saturating_add(seconds).saturating_add(1),
            Ordering::Relaxed,
        );
    }

    /// [`Life::expire_in`] for a client that takes nothing.
    pub(crate) fn stall(&self, time: Duration) {
        self.stalled.store(true, Ordering::Relaxed);
        self.expire_in(time);
    }

    /// Takes the deadline away.
    pub fn keep(&self) {
        self.stalled.store(false, Ordering::Relaxed);
        self.deadline.store(0, Ordering::Relaxed);
    }

    /// What has been said, if anything; wakes the task of `cx` when something is.
    ///
    /// One task at a time may wait here.
    pub fn poll_signal(&self, cx: &mut Context<'_>) -> Poll<Signal> {
        self.waker.register(cx.waker());
        if self.expired.load(Ordering::Acquire) {
            Poll::Ready(Signal::Expired)
        } else if self.drain.load(Ordering::Acquire) {
            Poll::Ready(Signal::Drain)
        } else {
            Poll::Pending
        }
    }

    /// Waits for a signal. Cancel-safe.
    pub async fn signal(&self) -> Signal {
        std::future::poll_fn(|cx| self.poll_signal(cx)).await
    }

    /// Whether the server drains.
    pub fn is_draining(&self) -> bool {
        self.drain.load(Ordering::Relaxed)
    }

    fn tell(&self, signal: Signal) {
        match signal {
            Signal::Drain => self.drain.store(true, Ordering::Release),
            Signal::Expired => self.expired.store(true, Ordering::Release),
        }
        self.waker.wake();
    }
}

/// All connections that are open.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    seconds: Arc<Seconds>,
    open: Mutex<Open>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    lives: HashMap<u64, Arc<Life>>,
    draining: bool,
}

impl Lives {
    pub(crate) fn enter(&self, id: u64) -> Arc<Life> {
        let life = Arc::new(Life::new(Arc::clone(&self.seconds)));
        let mut open = self.open.lock();
        if open.draining {
            life.tell(Signal::Drain);
        }
        open.lives.insert(id, Arc::clone(&life));
        life
    }

    pub(crate) fn leave(&self, id: u64) {
        let mut open = self.open.lock();
        drop(open.lives.remove(&id));
        if open.lives.is_empty() {
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.lock().lives.len()
    }

    /// Tells every connection, and those still to come, that the server drains.
    pub(crate) fn drain(&self) {
        let mut open = self.open.lock();
        open.draining = true;
        for life in open.lives.values() {
            life.tell(Signal::Drain);
        }
    }

    /// Waits until the last connection has left.
    pub(crate) async fn emptied(&self) {
        loop {
            let changed = self.changed.notified();
            if self.len() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Ends what has outlived its deadline, once a second, for ever.
    pub(crate) async fn watch(&self) {
        let start = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            let now = u32::try_from(start.elapsed().as_secs()).unwrap_or(u32::MAX);
            self.seconds.0.store(now, Ordering::Relaxed);
            for life in self.open.lock().lives.values() {
                let deadline = life.deadline.load(Ordering::Relaxed);
                if deadline != 0 && deadline <= now && !life.expired.load(Ordering::Relaxed) {
                    if life.stalled.load(Ordering::Relaxed) {
                        limit_met("http.write_timeout_s");
                    }
                    life.tell(Signal::Expired);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_expires_at_its_deadline_and_not_before() {
        let lives = Arc::new(Lives::default());
        let life = lives.enter(1);
        life.expire_in(Duration::from_secs(3));
        let watching = Arc::clone(&lives);
        let watcher = tokio::spawn(async move { watching.watch().await });
        let start = Instant::now();
        assert_eq!(life.signal().await, Signal::Expired);
        let took = start.elapsed();
        assert!(
            took >= Duration::from_secs(3) && took <= Duration::from_secs(5),
            "{took:?}"
        );
        watcher.abort();
    }

    #[tokio::test]
    async fn a_connection_that_comes_while_draining_is_told_so() {
        let lives = Lives::default();
        let before = lives.enter(1);
        lives.drain();
        assert_eq!(before.signal().await, Signal::Drain);
        assert_eq!(lives.enter(2).signal().await, Signal::Drain);
    }
}
