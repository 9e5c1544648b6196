//! The memory for decoding large bodies: one for the whole process, of which each takes a share and waits its turn.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::settings::Limits;

/// A body of at most so many bytes is read at once: the threads that read them are few.
const SMALL_BYTES: usize = 256 << 10;

/// How many times its own size a body may take once it is decoded. CBOR says an item in a byte, and a value takes 32.
const GROWTH_MAX: usize = 32;

/// Cheap to clone; all clones share the room.
#[derive(Debug, Clone)]
pub(crate) struct DecodeRoom {
    free: Arc<Semaphore>,
    kib_in_all: u32,
    value_bytes_max: usize,
}

/// A share of the memory for decoding, held as long as what was decoded is.
#[derive(Debug)]
#[must_use = "it is given back when it is dropped"]
pub struct DecodeShare(
    #[expect(dead_code, reason = "held for its end")] Option<OwnedSemaphorePermit>,
);

impl DecodeRoom {
    pub(crate) fn new(limits: &Limits) -> Self {
        let kib_in_all = kib(limits.decode_bytes_max);
        Self {
            free: Arc::new(Semaphore::new(kib_in_all as usize)),
            kib_in_all,
            value_bytes_max: limits.value_memory_bytes_max,
        }
    }

    /// Waits until a body of this size may be decoded, first come, first served.
    pub(crate) async fn share(&self, body_bytes: usize) -> DecodeShare {
        if body_bytes <= SMALL_BYTES {
            return DecodeShare(None);
        }
        let most = body_bytes
            .saturating_mul(GROWTH_MAX)
            .min(self.value_bytes_max);
        // What is larger than the whole room has all of it.
        let share = kib(most).min(self.kib_in_all);
        let permit = match Arc::clone(&self.free).try_acquire_many_owned(share) {
            Ok(permit) => Some(permit),
            Err(_) => {
                Limits::met("limits.decode_bytes_max");
                // It is never closed.
                Arc::clone(&self.free).acquire_many_owned(share).await.ok()
            }
        };
        DecodeShare(permit)
    }
}

/// In kibibytes, at least one, and no more than a semaphore counts.
fn kib(bytes: usize) -> u32 {
    let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
    u32::try_from((bytes >> 10).clamp(1, most)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use sapwood_testkit::LimitsMet;

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_body_that_waits_is_counted_once() {
        let (room, waited) = (room(64 << 20), LimitsMet::default());
        let count = || waited.count("limits.decode_bytes_max");
        metrics::with_local_recorder(&waited, || {
            let first = poll(pin!(room.share(15 << 20)));
            assert_eq!((first.is_ready(), count()), (true, 0));
            let mut second = pin!(room.share(15 << 20));
            assert!(poll(second.as_mut()).is_pending());
            assert_eq!(count(), 1);
            drop(first);
            assert!(poll(second).is_ready());
            assert_eq!(count(), 1);
        });
    }

    fn room(decode_bytes_max: usize) -> DecodeRoom {
        DecodeRoom::new(&Limits {
            decode_bytes_max,
            value_memory_bytes_max: 100 << 20,
            ..Limits::default()
        })
    }

    /// Whether a body may be decoded at once.
    async fn at_once(room: &DecodeRoom, body_bytes: usize) -> Option<DecodeShare> {
        tokio::time::timeout(std::time::Duration::ZERO, room.share(body_bytes))
            .await
            .ok()
    }

    #[tokio::test(start_paused = true)]
    async fn one_large_body_is_decoded_at_a_time() {
        let room = room(100 << 20);
        let first = at_once(&room, 15 << 20).await;
        assert!(first.is_some());
        assert!(at_once(&room, 15 << 20).await.is_none());
        assert!(
            at_once(&room, SMALL_BYTES).await.is_some(),
            "small ones don't wait"
        );
        drop(first);
        assert!(at_once(&room, 15 << 20).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_share_the_room_by_what_they_may_take() {
        let room = room(64 << 20);
        let one = at_once(&room, 1 << 20).await;
        let two = at_once(&room, 1 << 20).await;
        assert!(one.is_some() && two.is_some());
        assert!(at_once(&room, 1 << 20).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_larger_than_the_room_is_decoded_alone() {
        let room = room(1 << 20);
        let first = at_once(&room, 15 << 20).await;
        assert!(first.is_some());
        assert!(at_once(&room, 15 << 20).await.is_none());
    }
}
