//! Decoded rows of the engine, kept in memory; bounded in bytes.
//!
//! Readers hold different snapshots of the engine, one per *generation* (a batch written to it). An entry carries the
//! generation that it was read at, and each key's *mark* the generation that last wrote a key of the same shard. An entry
//! read at `t` is right for a reader at `g` if nobody wrote the key between the two, that is, if the mark is at most
//! `min(t, g)`. The writer sets the marks of a batch before anyone can see its snapshot, so a reader that meets an entry
//! of a later snapshot meets its marks, too.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use sapwood_tree::Row;

use super::stem::Key;

/// Marks per page; pages come into being when first written, so that an empty store costs nothing.
const PAGE: usize = 512;
const PAGES: usize = 512;
/// What an entry costs beside its key and its value.
const ENTRY_BYTES: u64 = 96;
/// For sizing the tables at the start: they grow.
const ITEMS_EXPECTED: usize = 1024;

/// A value of the cache tells its size.
pub(crate) trait Weigh {
    /// The bytes that this takes up in memory, about.
    fn weigh(&self) -> usize;
}

impl Weigh for Arc<Row> {
    fn weigh(&self) -> usize {
        // With the encoded form, which it gets when it is first read.
        self.estimated_bytes() + self.fragment.estimated_bytes()
    }
}

pub(crate) struct RowCache<V> {
    entries: Cache<Key, Entry<V>, ByBytes>,
    marks: Box<[OnceLock<Box<[AtomicU64]>>]>,
    hasher: RandomState,
}

/// What the engine has (`None`: nothing) under a key, as of a generation.
#[derive(Clone)]
struct Entry<V> {
    value: Option<V>,
    read_at: u64,
    /// As weighed when it came in: a row grows by its encoded forms, and the cache must take off what it put on.
    bytes: u64,
}

#[derive(Clone)]
struct ByBytes;

impl<V: Weigh> Weighter<Key, Entry<V>> for ByBytes {
    fn weight(&self, key: &Key, entry: &Entry<V>) -> u64 {
        ENTRY_BYTES + key.len() as u64 + entry.bytes
    }
}

impl<V: Clone + Weigh> RowCache<V> {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let mut marks = Vec::new();
        marks.resize_with(PAGES, OnceLock::new);
        Self {
            entries: Cache::with_weighter(ITEMS_EXPECTED, bytes_max, ByBytes),
            marks: marks.into_boxed_slice(),
            hasher: RandomState::new(),
        }
    }

    /// What a reader at `generation` would find in the engine, if that is known. `Some(None)`: nothing is there.
    pub(crate) fn get(&self, key: &[u8], generation: u64) -> Option<Option<V>> {
        let entry = self.entries.get(key)?;
        // Behind the look at the entry: whoever put it there had seen the marks of its generation.
        let written = self.mark(key);
        (written <= entry.read_at.min(generation)).then_some(entry.value)
    }

    /// Notes what a reader at `generation` found.
    pub(crate) fn insert(&self, key: Key, value: Option<V>, generation: u64) {
        let bytes = value.as_ref().map_or(0, Weigh::weigh) as u64;
        self.entries.insert(
            key,
            Entry {
                value,
                read_at: generation,
                bytes,
            },
        );
    }

    /// Notes that `generation` writes this key. To be called before a snapshot of that generation is given out.
    pub(crate) fn written(&self, key: &[u8], generation: u64) {
        if let Some((page, at)) = self.place(key)
            && let Some(mark) = page.get_or_init(new_page).get(at)
        {
            mark.store(generation, Ordering::Release);
        }
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    fn mark(&self, key: &[u8]) -> u64 {
        self.place(key)
            .and_then(|(page, at)| page.get()?.get(at))
            .map_or(0, |mark| mark.load(Ordering::Acquire))
    }

    fn place(&self, key: &[u8]) -> Option<(&OnceLock<Box<[AtomicU64]>>, usize)> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash do")]
        let hash = self.hasher.hash_one(key) as usize;
        Some((self.marks.get(hash / PAGE % PAGES)?, hash % PAGE))
    }
}

fn new_page() -> Box<[AtomicU64]> {
    let mut page = Vec::new();
    page.resize_with(PAGE, AtomicU64::default);
    page.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use parking_lot::{Mutex, RwLock};

    use super::*;

    const KEYS: usize = 40;
    const GENERATIONS: u64 = 20_000;

    impl Weigh for u64 {
        fn weigh(&self) -> usize {
            8
        }
    }

    fn key(n: usize) -> Key {
        Arc::from(n.to_string().as_bytes())
    }

    /// What an engine would say: the last generation, up to a reader's, that wrote the key.
    struct Engine(Vec<RwLock<Vec<u64>>>);

    impl Engine {
        fn get(&self, n: usize, generation: u64) -> Option<u64> {
            let written = self.0[n].read();
            written.iter().rev().find(|at| **at <= generation).copied()
        }
    }

    /// Numbers that look random, from a seed.
    fn numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        }
    }

    #[test]
    fn a_reader_of_any_generation_finds_what_its_snapshot_has() {
        let cache = RowCache::new(3_000);
        let engine = Engine((0..KEYS).map(|_| RwLock::default()).collect());
        let published = AtomicU64::new(0);
        let hits = Mutex::new(0_u64);
        let read = |seed: u64| {
            let mut random = numbers(seed);
            let mut generation = 0;
            let mut found = 0;
            while published.load(Ordering::Acquire) < GENERATIONS {
                // Some readers stay on an old snapshot for a while.
                if random(4) == 0 {
                    generation = published.load(Ordering::Acquire);
                }
                let n = usize::try_from(random(KEYS as u64)).unwrap();
                let wanted = engine.get(n, generation);
                match cache.get(&key(n), generation) {
                    Some(value) => {
                        assert_eq!(value, wanted, "key {n} at {generation}");
                        found += 1;
                    }
                    None => cache.insert(key(n), wanted, generation),
                }
            }
            *hits.lock() += found;
        };
        std::thread::scope(|scope| {
            for seed in 1..=3 {
                scope.spawn(move || read(seed));
            }
            let mut random = numbers(77);
            for generation in 1..=GENERATIONS {
                let written: Vec<usize> = (0..random(3))
                    .map(|_| usize::try_from(random(KEYS as u64)).unwrap())
                    .collect();
                for n in &written {
                    engine.0[*n].write().push(generation);
                }
                for n in &written {
                    cache.written(&key(*n), generation);
                    if random(2) == 0 {
                        cache.insert(key(*n), Some(generation), generation);
                    }
                }
                published.store(generation, Ordering::Release);
                if generation % 8 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        assert!(*hits.lock() > 0, "the cache is of use");
    }

    #[test]
    fn the_cache_stays_within_its_bytes() {
        let cache = RowCache::new(10_000);
        for n in 0..10_000 {
            cache.insert(key(n), Some(1), 1);
            assert!(cache.bytes() <= 10_000);
        }
        assert!(cache.bytes() > 5_000);
    }
}
