//! The way into the committer and the hub: many hands put in, one thread takes all out at once.

use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// A queue that one thread empties whole.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    filled: Condvar,
    emptied: Condvar,
    /// As much may wait before [`push`](Self::push) waits, too.
    max: usize,
}

#[derive(Debug)]
struct Inner<T> {
    waiting: Vec<T>,
    closed: bool,
    /// The taker will look again by itself, before long.
    napping: bool,
}

/// As much lies in the queue before a napping taker is woken for what can wait.
const NAP_MAX: usize = 32;

impl<T> Queue<T> {
    /// A queue without a bound of its own.
    pub(crate) fn new() -> Self {
        Self::bounded(usize::MAX)
    }

    /// A queue that makes those wait who put in more than `max`.
    pub(crate) fn bounded(max: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                waiting: Vec::new(),
                closed: false,
                napping: false,
            }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            max,
        }
    }

    /// Puts something in, or gives it back if nobody will ever take it out.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut inner = self.room();
        if inner.closed {
            return Err(item);
        }
        inner.waiting.push(item);
        let asleep = inner.waiting.len() == 1 || std::mem::take(&mut inner.napping);
        drop(inner);
        if asleep {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Puts something in that can wait until the taker looks by itself, if it naps and little waits.
    pub(crate) fn push_lazily(&self, item: T) -> Result<(), T> {
        let mut inner = self.room();
        if inner.closed {
            return Err(item);
        }
        inner.waiting.push(item);
        let woken = if inner.napping {
            inner.waiting.len() == NAP_MAX
        } else {
            inner.waiting.len() == 1
        };
        drop(inner);
        if woken {
            self.filled.notify_one();
        }
        Ok(())
    }

    fn room(&self) -> MutexGuard<'_, Inner<T>> {
        let mut inner = self.inner.lock();
        while inner.waiting.len() >= self.max && !inner.closed {
            self.filled.notify_one();
            self.emptied.wait(&mut inner);
        }
        inner
    }

    /// Waits until there is something to take, no longer than `timeout`, and takes nothing.
    pub(crate) fn wait(&self, timeout: Option<Duration>) {
        self.wait_in(&mut self.inner.lock(), timeout);
    }

    fn wait_in(&self, inner: &mut MutexGuard<'_, Inner<T>>, timeout: Option<Duration>) {
        if !inner.waiting.is_empty() || inner.closed {
            return;
        }
        match timeout {
            Some(Duration::ZERO) => {}
            Some(timeout) => {
                inner.napping = true;
                self.filled.wait_for(inner, timeout);
                inner.napping = false;
            }
            None => self.filled.wait(inner),
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.lock().waiting.is_empty()
    }

    /// Swaps what waits into `into`, which is empty; waits for it no longer than `timeout`. `false` when the queue is closed and
    /// empty.
    pub(crate) fn take(&self, into: &mut Vec<T>, timeout: Option<Duration>) -> bool {
        let mut inner = self.inner.lock();
        self.wait_in(&mut inner, timeout);
        std::mem::swap(&mut inner.waiting, into);
        if into.len() >= self.max {
            self.emptied.notify_all();
        }
        !(into.is_empty() && inner.closed)
    }

    /// Lets nothing more in. What is inside is still taken out.
    pub(crate) fn close(&self) {
        self.inner.lock().closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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

    #[test]
    fn a_full_queue_makes_those_wait_who_put_in_and_loses_nothing() {
        let queue = Arc::new(Queue::bounded(4));
        let hands: Vec<_> = (0..3)
            .map(|hand| {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || {
                    for number in 0..100 {
                        let pushed = if hand == 0 {
                            queue.push_lazily((hand, number))
                        } else {
                            queue.push((hand, number))
                        };
                        pushed.unwrap();
                    }
                })
            })
            .collect();
        let mut all = Vec::new();
        let mut taken = Vec::new();
        while all.len() < 300 {
            assert!(queue.take(&mut taken, Some(Duration::from_millis(10))));
            assert!(taken.len() <= 4);
            all.append(&mut taken);
        }
        hands.into_iter().for_each(|hand| hand.join().unwrap());
        for hand in 0..3 {
            let numbers = all
                .iter()
                .filter(|(of, _)| *of == hand)
                .map(|(_, number)| *number);
            assert!(numbers.eq(0..100));
        }
    }

    #[test]
    fn whoever_naps_is_woken_by_what_cannot_wait() {
        let queue = Arc::new(Queue::new());
        let taker = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                let (mut taken, mut all) = (Vec::new(), Vec::new());
                while queue.take(&mut taken, Some(Duration::from_secs(3600))) {
                    all.append(&mut taken);
                }
                all
            })
        };
        queue.push_lazily(1).unwrap();
        queue.push(2).unwrap();
        queue.close();
        assert_eq!(taker.join().unwrap(), [1, 2]);
    }
}
