//! What a [`CommitLog`] promises, as tests that each implementation passes.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::log::{AppendError, CommitLog, CommitSeq, LogReader, Retention, TailError};

/// Makes an empty log: one with its first commit at 1, that keeps at least a megabyte until it is told to keep less,
/// and then can drop in units of a few kilobytes.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn CommitLog>;

/// Runs all of it.
pub fn run(make: Make<'_>) {
    a_new_log_is_empty(make());
    what_was_appended_reads_back(make());
    an_append_elsewhere_than_at_the_end_changes_nothing(make());
    an_append_of_nothing_is_nothing(make());
    a_read_is_bounded_and_gets_one_entry_at_least(make());
    a_read_begins_within_a_group(make());
    too_large_a_group_changes_nothing(make());
    readers_follow_the_writer(make());
    what_is_let_go_is_gone_and_no_more(make());
    a_reader_outlives_the_log(make());
    no_two_logs_have_one_id(make(), make());
}

/// The content of the `seq`-th entry in these tests: up to 2 KB, some of it empty.
#[must_use]
pub fn content(seq: CommitSeq) -> Bytes {
    let length = (seq.0.wrapping_mul(7919) % 41).pow(2);
    let bytes = (0..length).map(|at| u8::try_from((seq.0 ^ at).wrapping_mul(31) % 251).unwrap());
    bytes.collect()
}

/// Appends a group of the next `count` entries.
///
/// # Errors
/// The log's.
pub fn append(log: &mut dyn CommitLog, count: u64) -> Result<(), AppendError> {
    let next = log.next();
    let entries = (0..count)
        .map(|at| content(next.plus(at)))
        .collect::<Vec<_>>();
    log.append(next, &entries)
}

/// Reads all from `from` on and holds it against [`content`]; returns the sequence after it.
pub fn check_from(reader: &dyn LogReader, from: CommitSeq) -> CommitSeq {
    let mut next = from;
    loop {
        let batch = reader.read(next, 10_000).unwrap();
        if batch.is_empty() {
            return next;
        }
        for (seq, bytes) in batch {
            assert_eq!(seq, next, "a log has no gaps");
            assert!(
                bytes == content(seq),
                "entry {seq} is not what was appended"
            );
            next = next.next();
        }
    }
}

fn a_new_log_is_empty(log: Box<dyn CommitLog>) {
    let reader = log.reader();
    assert_eq!(log.next(), CommitSeq::FIRST);
    assert_eq!(
        (reader.first(), reader.last()),
        (CommitSeq::FIRST, CommitSeq::ZERO)
    );
    assert!(reader.read(CommitSeq::FIRST, 1000).unwrap().is_empty());
}

fn what_was_appended_reads_back(mut log: Box<dyn CommitLog>) {
    let reader = log.reader();
    for count in [1, 2, 64, 1, 300, 7] {
        append(&mut *log, count).unwrap();
        assert_eq!(reader.last(), log.next().previous());
    }
    assert_eq!(check_from(&*reader, CommitSeq::FIRST), log.next());
    assert!(reader.read(log.next(), 1000).unwrap().is_empty());
    assert!(reader.read(log.next().plus(1000), 1000).unwrap().is_empty());
}

fn an_append_elsewhere_than_at_the_end_changes_nothing(mut log: Box<dyn CommitLog>) {
    append(&mut *log, 3).unwrap();
    for expected in [0, 1, 3, 5] {
        let result = log.append(CommitSeq(expected), &[Bytes::from_static(b"intruder")]);
        assert!(
            matches!(result, Err(AppendError::Conflict { next: CommitSeq(4) })),
            "{result:?}"
        );
    }
    append(&mut *log, 1).unwrap();
    assert_eq!(check_from(&*log.reader(), CommitSeq::FIRST), CommitSeq(5));
}

fn an_append_of_nothing_is_nothing(mut log: Box<dyn CommitLog>) {
    log.append(CommitSeq::FIRST, &[]).unwrap();
    assert_eq!(
        (log.next(), log.reader().last()),
        (CommitSeq::FIRST, CommitSeq::ZERO)
    );
}

fn a_read_is_bounded_and_gets_one_entry_at_least(mut log: Box<dyn CommitLog>) {
    append(&mut *log, 100).unwrap();
    let reader = log.reader();
    for bytes_max in [0, 1, 1000, 5000] {
        let batch = reader.read(CommitSeq(2), bytes_max).unwrap();
        let bytes = batch.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        assert!(!batch.is_empty() && (bytes <= bytes_max || batch.len() == 1));
    }
}

fn a_read_begins_within_a_group(mut log: Box<dyn CommitLog>) {
    append(&mut *log, 50).unwrap();
    append(&mut *log, 50).unwrap();
    let reader = log.reader();
    for from in 1..=100 {
        assert_eq!(check_from(&*reader, CommitSeq(from)), CommitSeq(101));
    }
}

fn too_large_a_group_changes_nothing(mut log: Box<dyn CommitLog>) {
    append(&mut *log, 1).unwrap();
    let huge = Bytes::from(vec![0; 1 << 20]);
    let result = log.append(CommitSeq(2), &vec![huge; 5000]);
    assert!(
        matches!(result, Err(AppendError::TooLarge { .. })),
        "{result:?}"
    );
    append(&mut *log, 1).unwrap();
    assert_eq!(check_from(&*log.reader(), CommitSeq::FIRST), CommitSeq(3));
}

fn readers_follow_the_writer(mut log: Box<dyn CommitLog>) {
    const LAST: CommitSeq = CommitSeq(600);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let reader = log.reader();
            scope.spawn(move || {
                let mut next = CommitSeq::FIRST;
                while next <= LAST {
                    let last = reader.last();
                    next = check_from(&*reader, next);
                    assert!(next > last, "what is durable can be read");
                    std::thread::yield_now();
                }
            });
        }
        while log.next() <= LAST {
            let left = LAST.next().0 - log.next().0;
            let count = (log.next().0 % 9 + 1).min(left);
            append(&mut *log, count).unwrap();
        }
    });
}

fn what_is_let_go_is_gone_and_no_more(mut log: Box<dyn CommitLog>) {
    let reader = log.reader();
    while log.next() < CommitSeq(400) {
        append(&mut *log, 5).unwrap();
    }
    let last = reader.last();
    let keep = |bytes_max| Retention {
        bytes_max,
        age_max: Duration::MAX,
        now: SystemTime::UNIX_EPOCH,
    };
    log.retain(keep(u64::MAX), last).unwrap();
    assert_eq!(
        reader.first(),
        CommitSeq::FIRST,
        "nothing is dropped that keeps within the bounds"
    );
    log.retain(keep(0), CommitSeq(200)).unwrap();
    let first = reader.first();
    assert!(
        first > CommitSeq::FIRST && first <= CommitSeq(201),
        "{first}"
    );
    let result = reader.read(first.previous(), 1000);
    assert!(
        matches!(result, Err(TailError::Gone { first: at }) if at == first),
        "{result:?}"
    );
    append(&mut *log, 3).unwrap();
    assert_eq!(check_from(&*reader, first), last.plus(4));
}

fn a_reader_outlives_the_log(mut log: Box<dyn CommitLog>) {
    append(&mut *log, 10).unwrap();
    let reader = log.reader();
    log.close().unwrap();
    assert_eq!(check_from(&*reader, CommitSeq::FIRST), CommitSeq(11));
}

fn no_two_logs_have_one_id(one: Box<dyn CommitLog>, other: Box<dyn CommitLog>) {
    assert_ne!(one.id(), other.id());
}
