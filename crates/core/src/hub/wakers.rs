//! Sessions to wake: a busy crowd not all at once.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};

/// So many sessions are woken together, for each core.
const TOGETHER: usize = 8;

/// About how long those woken together take to write to their sockets what they were told.
const WRITES: Duration = Duration::from_micros(40);

/// After so long without a crowd, the next is woken at once.
const CALM: Duration = Duration::from_millis(2);

/// The sessions that were told something and do not know it yet.
///
/// While crowds follow one another, they are woken as fast as their writes can be made. Were all woken at once, whoever
/// writes next would wait behind all of them, and each commit would cost each of them a write of its own. So the requests
/// of others go between, and who waits longer has more to write at once: the busier, the cheaper each event.
#[derive(Debug)]
pub(crate) struct Wakers {
    waiting: VecDeque<Waker>,
    together: usize,
    last: Option<Instant>,
}

impl Wakers {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            waiting: VecDeque::new(),
            together: TOGETHER * cores,
            last: None,
        }
    }

    pub(crate) fn add(&mut self, waker: Option<Waker>) {
        self.waiting.extend(waker);
    }

    /// Wakes those whose turn it is; how long until the next turn, if anybody is left.
    pub(crate) fn wake_some(&mut self) -> Option<Duration> {
        if self.waiting.len() <= self.together && self.last.is_none() {
            self.wake_all();
            return None;
        }
        let now = Instant::now();
        let since = self.last.map(|last| now.duration_since(last));
        if since.is_none_or(|since| since >= CALM) {
            self.last = (self.waiting.len() > self.together).then_some(now);
            self.wake_all();
        } else if let Some(wait) = since.and_then(|since| WRITES.checked_sub(since)) {
            return (!self.waiting.is_empty()).then_some(wait);
        } else if !self.waiting.is_empty() {
            let count = self.waiting.len().min(self.together);
            self.waiting.drain(..count).for_each(Waker::wake);
            self.last = Some(now);
        }
        (!self.waiting.is_empty()).then_some(WRITES)
    }

    /// Whether nobody waits to be woken.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn told(wakers: &mut Wakers, sessions: usize, count: &Arc<Count>) {
        for _ in 0..sessions {
            wakers.add(Some(Waker::from(Arc::clone(count))));
        }
    }

    #[test]
    fn the_first_crowd_is_woken_at_once_and_the_next_in_turns() {
        let count = Arc::new(Count::default());
        let mut wakers = Wakers::new();
        let crowd = wakers.together * 3;
        told(&mut wakers, crowd, &count);
        assert_eq!(wakers.wake_some(), None);
        assert_eq!(count.0.load(Ordering::Relaxed), crowd);
        // As if the first crowd had been woken this instant.
        told(&mut wakers, crowd, &count);
        let mut turns = 0;
        loop {
            wakers.last = wakers
                .last
                .map(|_| Instant::now().checked_sub(WRITES).unwrap());
            let before = count.0.load(Ordering::Relaxed);
            let wait = wakers.wake_some();
            assert!(count.0.load(Ordering::Relaxed) - before <= wakers.together);
            turns += 1;
            if wait.is_none() {
                break;
            }
        }
        assert_eq!(turns, 3);
        assert_eq!(count.0.load(Ordering::Relaxed), 2 * crowd);
    }

    #[test]
    fn a_few_never_wait() {
        let count = Arc::new(Count::default());
        let mut wakers = Wakers::new();
        for round in 1..=3 {
            told(&mut wakers, 1, &count);
            assert_eq!(wakers.wake_some(), None);
            assert_eq!(count.0.load(Ordering::Relaxed), round);
        }
    }
}
