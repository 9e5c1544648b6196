//! Whatever a crash or a disk does to the bytes of a log: what was answered is there, or the start is refused (T-D2).
#![expect(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sapwood_store::log::{
    CommitLog, CommitSeq, DatabaseId, Durability, OpenError, SegmentLog, SegmentSettings,
    TailError, check_segment,
};
use sapwood_store::testing::{FaultDisk, suite};

const DIR: &str = "log";
const PAGE: usize = 4096;

fn settings() -> SegmentSettings {
    SegmentSettings {
        preallocate_bytes: 1024,
        ..SegmentSettings::new(DatabaseId(7))
    }
}

fn open(disk: &FaultDisk, settings: SegmentSettings) -> Result<SegmentLog, OpenError> {
    SegmentLog::open(Arc::new(disk.clone()), Path::new(DIR), settings)
}

fn segments(disk: &FaultDisk) -> Vec<PathBuf> {
    disk.files()
}

/// A log as a kill leaves it, and for each group its end in the file and the sequence after it.
struct Recorded {
    path: PathBuf,
    bytes: Vec<u8>,
    groups: Vec<(usize, CommitSeq)>,
    settings: SegmentSettings,
}

impl Recorded {
    fn new(settings: SegmentSettings, groups: &[u64], clean: bool) -> Self {
        let disk = FaultDisk::new();
        let mut log = open(&disk, settings).unwrap();
        let path = segments(&disk).remove(0);
        let mut ends = vec![(64, CommitSeq::FIRST)];
        for count in groups {
            suite::append(&mut log, *count).unwrap();
            let report = check_segment(&disk.content(&path)).unwrap();
            assert_eq!(report.next, log.next());
            ends.push((usize::try_from(report.end).unwrap(), log.next()));
        }
        if clean {
            Box::new(log).close().unwrap();
        }
        Self {
            bytes: disk.content(&path),
            path,
            groups: ends,
            settings,
        }
    }

    fn open(&self, bytes: Vec<u8>) -> Result<SegmentLog, OpenError> {
        let disk = FaultDisk::new();
        disk.put(&self.path, bytes);
        let log = open(&disk, self.settings)?;
        // What was judged good stays so: the next start says the same.
        let again = open(&disk.killed(), self.settings).unwrap();
        assert_eq!(again.next(), log.next());
        Ok(log)
    }
}

/// The log holds the history up to its end, reads right, and can be gone on with.
fn check_usable(mut log: SegmentLog) {
    let next = log.next();
    assert_eq!(suite::check_from(&*log.reader(), CommitSeq::FIRST), next);
    suite::append(&mut log, 2).unwrap();
    assert_eq!(
        suite::check_from(&*log.reader(), CommitSeq::FIRST),
        next.plus(2)
    );
}

#[test]
fn a_log_cut_anywhere_opens_with_all_that_was_flushed_before_the_cut() {
    let recorded = Recorded::new(settings(), &[1, 3, 1, 6, 2, 1, 4], false);
    for length in 64..=recorded.bytes.len() {
        let log = recorded.open(recorded.bytes[..length].to_vec()).unwrap();
        let whole = recorded
            .groups
            .iter()
            .rev()
            .find(|(end, _)| *end <= length)
            .unwrap();
        assert_eq!(log.next(), whole.1, "cut at {length}");
        check_usable(log);
    }
}

#[test]
fn a_log_cut_within_its_header_is_refused() {
    let recorded = Recorded::new(settings(), &[1, 3], false);
    for length in 0..64 {
        let error = recorded
            .open(recorded.bytes[..length].to_vec())
            .unwrap_err();
        assert!(
            matches!(&error, OpenError::Damaged { damage } if damage.offset == 0),
            "cut at {length}: {error}"
        );
    }
}

#[test]
fn a_lost_page_of_the_last_group_costs_that_group_only() {
    let mut log_before = Recorded::new(settings(), &[3, 20, 5], false);
    let answered = log_before.groups.last().unwrap().1;
    let disk = FaultDisk::new();
    disk.put(&log_before.path, std::mem::take(&mut log_before.bytes));
    let mut log = open(&disk, settings()).unwrap();
    let before = disk.content(&log_before.path);
    suite::append(&mut log, 60).unwrap();
    let after = disk.content(&log_before.path);
    let touched = (0..after.len().div_ceil(PAGE))
        .filter(|page| slice(&before, *page) != slice(&after, *page));
    let touched = touched.collect::<Vec<_>>();
    assert!(touched.len() > 5, "the last group has some pages");
    for lost in touched {
        let mut bytes = after.clone();
        let (from, to) = (lost * PAGE, ((lost + 1) * PAGE).min(after.len()));
        bytes[from..to].fill(0);
        let old = slice(&before, lost);
        bytes[from..from + old.len()].copy_from_slice(old);
        let log = log_before.open(bytes).unwrap();
        let zeros_only = slice(&after, lost).iter().all(|byte| *byte == 0);
        assert!(log.next() == answered || zeros_only, "page {lost}");
        check_usable(log);
    }
}

fn slice(bytes: &[u8], page: usize) -> &[u8] {
    let end = ((page + 1) * PAGE).min(bytes.len());
    bytes.get(page * PAGE..end).unwrap_or_default()
}

#[test]
fn a_lost_page_of_an_earlier_group_is_damage_and_says_where() {
    let recorded = Recorded::new(settings(), &[3, 60, 60, 1], false);
    let (from, to) = (recorded.groups[1].0, recorded.groups[2].0);
    for page in from.div_ceil(PAGE)..to / PAGE {
        let mut bytes = recorded.bytes.clone();
        bytes[page * PAGE..(page + 1) * PAGE].fill(0);
        let OpenError::Damaged { damage } = recorded.open(bytes).unwrap_err() else {
            panic!("not damage")
        };
        assert_eq!(damage.offset, from as u64);
        assert!(
            (recorded.groups[1].1..recorded.groups[2].1).contains(&damage.seq),
            "{damage}"
        );
    }
}

/// The most that a log may lose to one bad bit: what no later group, nor a clean stop, says to be flushed.
fn check_flips(recorded: &Recorded, sure: CommitSeq) {
    let end = recorded.groups.last().unwrap();
    let mut refused = 0;
    for at in 0..recorded.bytes.len() {
        for bit in 0..8 {
            let mut bytes = recorded.bytes.clone();
            bytes[at] ^= 1 << bit;
            match recorded.open(bytes) {
                Ok(log) => {
                    assert!(
                        log.next() >= sure,
                        "byte {at}: an answered commit is gone in silence"
                    );
                    assert!(log.next() == end.1 || at < end.0, "byte {at}");
                    assert_eq!(
                        suite::check_from(&*log.reader(), CommitSeq::FIRST),
                        log.next()
                    );
                }
                Err(OpenError::Damaged { damage }) => {
                    refused += 1;
                    assert!(
                        damage.offset <= at as u64 && damage.seq < end.1,
                        "byte {at}: {damage}"
                    );
                }
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }
    assert!(refused > recorded.groups[1].0, "{refused}");
}

#[test]
fn a_flipped_bit_is_detected_or_harmless() {
    let recorded = Recorded::new(settings(), &[1, 3, 1], false);
    let sure = recorded.groups[2].1;
    check_flips(&recorded, sure);
}

#[test]
fn a_flipped_bit_after_a_clean_stop_is_detected_or_harmless() {
    let recorded = Recorded::new(settings(), &[1, 3, 1], true);
    let sure = recorded.groups[3].1;
    // But for the mark itself: without it the last group may be a torn one.
    let mark = recorded.groups[3].0;
    let without_mark = recorded.groups[2].1;
    let in_mark = recorded.bytes[mark..mark + 40].to_vec();
    assert!(in_mark.iter().any(|byte| *byte != 0));
    check_flips(&recorded, without_mark);
    let mut bytes = recorded.bytes.clone();
    bytes[mark + 9] ^= 1;
    assert_eq!(recorded.open(bytes).unwrap().next(), sure);
}

#[test]
fn a_flipped_bit_at_level_interval_is_detected_or_harmless() {
    let an_hour = std::time::Duration::from_secs(3600);
    let settings = SegmentSettings {
        durability: Durability::Interval(an_hour),
        ..settings()
    };
    // Nothing is flushed but the beginning: only prefixes are promised.
    let recorded = Recorded::new(settings, &[1, 3, 1], false);
    let end = recorded.groups.last().unwrap().1;
    for at in 64..recorded.bytes.len() {
        let mut bytes = recorded.bytes.clone();
        bytes[at] ^= 0x10;
        let log = recorded.open(bytes).unwrap();
        assert!(log.next() <= end);
        assert_eq!(
            suite::check_from(&*log.reader(), CommitSeq::FIRST),
            log.next()
        );
    }
}

/// A log of several segments; the paths in order.
fn several_segments(clean: bool) -> (FaultDisk, Vec<PathBuf>, CommitSeq, SegmentSettings) {
    let settings = SegmentSettings {
        segment_bytes: 1500,
        preallocate_bytes: 256,
        ..settings()
    };
    let disk = FaultDisk::new();
    let mut log = open(&disk, settings).unwrap();
    while log.next() < CommitSeq(20) {
        suite::append(&mut log, 2).unwrap();
    }
    let next = log.next();
    if clean {
        Box::new(log).close().unwrap();
    }
    let paths = segments(&disk);
    assert!(paths.len() >= 3, "{paths:?}");
    (disk.killed(), paths, next, settings)
}

#[test]
fn a_flip_in_an_older_segment_stops_the_start_after_a_crash() {
    let (disk, paths, next, settings) = several_segments(false);
    let whole = disk.content(&paths[1]);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        disk.put(&paths[1], bytes);
        match open(&disk.killed(), settings) {
            Ok(log) => assert_eq!(
                suite::check_from(&*log.reader(), CommitSeq::FIRST),
                next,
                "harmless at {at}"
            ),
            Err(OpenError::Damaged { damage }) => assert_eq!(damage.file, paths[1]),
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn a_flip_in_an_older_segment_is_found_after_a_clean_stop_when_it_is_read() {
    let (disk, paths, next, settings) = several_segments(true);
    let whole = disk.content(&paths[1]);
    for at in 64..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        disk.put(&paths[1], bytes);
        let log = open(&disk.killed(), settings).unwrap();
        let reader = log.reader();
        let mut from = CommitSeq::FIRST;
        let found = loop {
            match reader.read(from, 100) {
                Ok(batch) if batch.is_empty() => break None,
                Ok(batch) => from = check_batch(from, &batch),
                Err(TailError::Damaged(damage)) => break Some(damage),
                Err(other) => panic!("byte {at}: {other}"),
            }
        };
        assert!(
            found.as_ref().is_some_and(|damage| damage.file == paths[1]) || from == next,
            "byte {at}: {found:?}"
        );
    }
}

fn check_batch(from: CommitSeq, batch: &[(CommitSeq, Bytes)]) -> CommitSeq {
    let mut next = from;
    for (seq, bytes) in batch {
        assert!(
            *seq == next && *bytes == suite::content(*seq),
            "entry {seq} is not what was appended"
        );
        next = next.next();
    }
    next
}

#[test]
fn a_segment_that_is_missing_or_cut_short_is_missed() {
    for clean in [true, false] {
        let (disk, paths, _, settings) = several_segments(clean);
        let without = FaultDisk::new();
        for path in paths.iter().filter(|path| **path != paths[1]) {
            without.put(path, disk.content(path));
        }
        let sentence = open(&without, settings).unwrap_err().to_string();
        assert!(sentence.contains("lacks the commits"), "{sentence}");
    }
    let (disk, paths, _, settings) = several_segments(false);
    let whole = disk.content(&paths[0]);
    let end = end_of(&whole);
    for length in 0..end {
        disk.put(&paths[0], whole[..length].to_vec());
        let error = open(&disk.killed(), settings).unwrap_err();
        assert!(
            matches!(error, OpenError::Damaged { .. }),
            "cut at {length}: {error}"
        );
    }
}

#[test]
fn a_refusal_says_what_is_wrong_where_and_what_to_do() {
    let recorded = Recorded::new(settings(), &[1, 3, 1], false);
    let mut bytes = recorded.bytes.clone();
    bytes[recorded.groups[1].0 + 20] ^= 1;
    let sentence = recorded.open(bytes).unwrap_err().to_string();
    let place = format!(
        "{} is damaged at byte {}: commit 2",
        recorded.path.display(),
        recorded.groups[1].0
    );
    assert!(
        sentence.contains(&place) && sentence.contains("last backup"),
        "{sentence}"
    );

    let disk = FaultDisk::new();
    disk.put(&recorded.path, recorded.bytes.clone());
    let other = SegmentSettings {
        database: DatabaseId(8),
        ..settings()
    };
    let sentence = open(&disk, other).unwrap_err().to_string();
    assert!(sentence.contains("another database"), "{sentence}");
}

/// A log with three commits, and one in flight that carries `payload` when the power goes: its header does not arrive.
fn torn_with(disk: &FaultDisk, payload: Vec<u8>) -> FaultDisk {
    let disk = disk.killed();
    let mut log = open(&disk, settings()).unwrap();
    let path = segments(&disk).remove(0);
    let group = end_of(&disk.content(&path));
    log.append(CommitSeq(4), &[Bytes::from(payload)]).unwrap();
    let mut torn = disk.content(&path);
    torn[group..group + 40].fill(0);
    disk.put(&path, torn);
    disk.killed()
}

fn end_of(segment: &[u8]) -> usize {
    usize::try_from(check_segment(segment).unwrap().end).unwrap()
}

#[test]
fn bytes_that_a_client_sent_are_never_taken_for_a_group_of_the_log() {
    let disk = FaultDisk::new();
    let mut log = open(&disk, settings()).unwrap();
    suite::append(&mut log, 3).unwrap();
    let path = segments(&disk).remove(0);
    let content_at = end_of(&disk.content(&path)) + 40 + 16;

    // A copy of this very log that has gone on elsewhere, and so has later marks: at another place, however aligned.
    let fork = disk.killed();
    let mut other = open(&fork, settings()).unwrap();
    while other.next() < CommitSeq(30) {
        suite::append(&mut other, 1).unwrap();
    }
    let copy = fork.content(&path);
    let shifted = (0..8)
        .flat_map(|shift| [vec![0; shift], copy.clone()].concat())
        .collect();
    assert_eq!(
        open(&torn_with(&disk, shifted), settings()).unwrap().next(),
        CommitSeq(4)
    );

    // Another log's groups, with later marks and at the very offsets that they were written for.
    let other = Recorded::new(settings(), &[1; 30], false);
    let in_place = other.bytes[content_at..].to_vec();
    assert_eq!(
        open(&torn_with(&disk, in_place), settings())
            .unwrap()
            .next(),
        CommitSeq(4)
    );
}

#[test]
fn a_group_mixed_of_two_tries_is_no_group() {
    // A first try was half-way on the disk when it failed; of the second, the first pages only arrive.
    let disk = FaultDisk::new();
    let mut log = open(&disk, settings()).unwrap();
    suite::append(&mut log, 1).unwrap();
    let path = segments(&disk).remove(0);
    let start = end_of(&disk.content(&path));
    let attempt = |byte: u8| {
        let disk = disk.killed();
        let mut log = open(&disk, settings()).unwrap();
        log.append(CommitSeq(2), &vec![Bytes::from(vec![byte; 84]); 5])
            .unwrap();
        disk.content(&path)
    };
    let (first, second) = (attempt(1), attempt(2));
    for entries in 1..5 {
        let mut mixed = second.clone();
        let from = start + 40 + entries * 100;
        mixed[from..].copy_from_slice(&first[from..]);
        disk.put(&path, mixed);
        assert_eq!(
            open(&disk.killed(), settings()).unwrap().next(),
            CommitSeq(2),
            "{entries} of the second try"
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..500)) {
        proptest::prop_assert!(check_segment(&bytes).is_none());
    }

    #[test]
    fn no_edit_of_a_segment_makes_the_parser_panic(
        edits in proptest::collection::vec((64usize..1800, proptest::prelude::any::<u8>()), 1..20),
    ) {
        let mut bytes = Recorded::new(settings(), &[1, 3, 2], false).bytes;
        for (at, byte) in edits {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        proptest::prop_assert!(check_segment(&bytes).is_some());
    }
}
