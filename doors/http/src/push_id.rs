//! Push ids: names of new children that sort by the time they were made (Firebase's, `protocols/firebase.md` 12).

const ALPHABET: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

/// Makes push ids, each greater than the one before.
#[derive(Debug, Default)]
pub(crate) struct PushIds {
    time_ms: u64,
    random: u128,
}

/// The random part has 72 bits, the time 48.
const RANDOM_BITS: u32 = 72;

impl PushIds {
    /// The next id, at `now_ms` milliseconds since 1970; `random` is asked when a new millisecond begins.
    pub(crate) fn next(&mut self, now_ms: u64, random: impl FnOnce() -> u128) -> String {
        if now_ms > self.time_ms {
            self.time_ms = now_ms;
            self.random = random() % (1 << RANDOM_BITS);
        } else {
            // In the same millisecond, or while the clock is behind: the one before, plus one.
            self.random += 1;
            if self.random >> RANDOM_BITS != 0 {
                self.time_ms += 1;
                self.random = 0;
            }
        }
        let bits = (u128::from(self.time_ms % (1 << 48)) << RANDOM_BITS) | self.random;
        (0..20)
            .rev()
            .map(|digit| letter((bits >> (6 * digit)) & 63))
            .collect()
    }
}

fn letter(value: u128) -> char {
    let index = usize::try_from(value).unwrap_or(0);
    char::from(ALPHABET.get(index).copied().unwrap_or(b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_time_is_the_first_eight_letters() {
        let mut ids = PushIds::default();
        assert_eq!(ids.next(0x1234_5678_9abc, || 0), "3YGLT8ew------------");
        assert_eq!(ids.next(0x1234_5678_9abc, || 0), "3YGLT8ew-----------0");
    }

    #[test]
    fn the_last_id_of_a_millisecond_carries_into_the_next() {
        let mut ids = PushIds::default();
        let last = ids.next(5, || u128::MAX);
        assert!(last.ends_with("zzzzzzzzzzzz"));
        assert!(ids.next(5, || 0) > last);
    }

    proptest! {
        #[test]
        fn each_id_is_greater_than_the_one_before(times in proptest::collection::vec((0_u64..50, any::<u128>()), 1..50)) {
            let mut ids = PushIds::default();
            let mut before = String::new();
            for (time, random) in times {
                let id = ids.next(time, || random);
                prop_assert_eq!(id.len(), 20);
                prop_assert!(id > before);
                before = id;
            }
        }
    }
}
