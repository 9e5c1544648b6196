//! The thread that flushes behind the answers at level interval.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::CommitSeq;
use super::disk::DiskFile;
use super::segments::Shared;

/// Flushes what it was told of, once per interval. Ends when dropped, without a last flush.
#[derive(Debug)]
pub(crate) struct Flusher {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What is written and not flushed: the file, and its newest entry.
    written: Option<(Arc<dyn DiskFile>, CommitSeq)>,
    stop: bool,
}

impl Flusher {
    pub(crate) fn start(shared: Arc<Shared>, interval: Duration) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let thread = std::thread::Builder::new()
            .name("log-flush".to_owned())
            .spawn({
                let desk = Arc::clone(&desk);
                move || run(&desk, &shared, interval)
            })?;
        Ok(Self {
            desk,
            thread: Some(thread),
        })
    }

    /// Says that `file` holds entries up to `last`. When the file changes, the one before has been flushed.
    pub(crate) fn wrote(&self, file: &Arc<dyn DiskFile>, last: CommitSeq) {
        let before = self
            .desk
            .state
            .lock()
            .written
            .replace((Arc::clone(file), last));
        if before.is_none() {
            self.desk.changed.notify_one();
        }
    }
}

fn run(desk: &Desk, shared: &Shared, interval: Duration) {
    let mut state = desk.state.lock();
    loop {
        while state.written.is_none() && !state.stop {
            desk.changed.wait(&mut state);
        }
        let end = std::time::Instant::now() + interval;
        while !state.stop && !desk.changed.wait_until(&mut state, end).timed_out() {}
        if state.stop {
            return;
        }
        if let Some((file, last)) = state.written.take() {
            drop(state);
            if shared.flush(&*file, last).is_err() {
                return;
            }
            state = desk.state.lock();
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.desk.state.lock().stop = true;
        self.desk.changed.notify_one();
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the log's flusher has panicked");
        }
    }
}
