//! The way into the committer: many hands put in, one thread takes all out at once.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A queue that one thread empties whole.
///
/// It has no bound of its own: who puts in a write holds a permit of its database, so that as many requests wait as there
/// are permits, and an end for each session.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct Inner<T> {
    waiting: Vec<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                waiting: Vec::new(),
                closed: false,
            }),
            filled: Condvar::new(),
        }
    }

    /// Puts something in, or gives it back if nobody will ever take it out.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(item);
        }
        inner.waiting.push(item);
        let first = inner.waiting.len() == 1;
        drop(inner);
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Swaps what waits into `into`, which is empty; waits for it no longer than `timeout`. `false` when the queue is closed and
    /// empty.
    pub(crate) fn take(&self, into: &mut Vec<T>, timeout: Option<Duration>) -> bool {
        let mut inner = self.inner.lock();
        if inner.waiting.is_empty() && !inner.closed {
            match timeout {
                Some(timeout) => {
                    self.filled.wait_for(&mut inner, timeout);
                }
                None => self.filled.wait(&mut inner),
            }
        }
        std::mem::swap(&mut inner.waiting, into);
        !(into.is_empty() && inner.closed)
    }

    /// Lets nothing more in. What is inside is still taken out.
    pub(crate) fn close(&self) {
        self.inner.lock().closed = true;
        self.filled.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_in_when_it_closed_still_comes_out() {
        let queue = Queue::new();
        queue.push(1).unwrap();
        queue.close();
        assert_eq!(queue.push(2), Err(2));
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken, None));
        assert_eq!(taken, [1]);
        taken.clear();
        assert!(!queue.take(&mut taken, None));
    }

    #[test]
    fn a_wait_with_a_limit_ends() {
        let queue = Queue::<u8>::new();
        assert!(queue.take(&mut Vec::new(), Some(Duration::from_millis(1))));
    }
}
