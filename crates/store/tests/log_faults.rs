//! The power goes, operations fail, the disk is full: every answered commit is there, and the log goes on (T-D3 to T-D5).
#![expect(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sapwood_store::log::{
    AppendError, CommitLog, CommitSeq, DatabaseId, Durability, LogId, OpenError, Retention,
    SegmentLog, SegmentSettings, TailError,
};
use sapwood_store::testing::{Dice, FaultDisk, suite};

const DIR: &str = "log";
/// The flusher sleeps through the test: what is flushed is up to the test.
const INTERVAL: Durability = Durability::Interval(Duration::from_secs(3600));
const SEEDS: u64 = 12;

fn settings(durability: Durability) -> SegmentSettings {
    let settings = SegmentSettings::new(DatabaseId(7));
    SegmentSettings {
        durability,
        segment_bytes: 9000,
        preallocate_bytes: 4096,
        ..settings
    }
}

fn open(disk: &FaultDisk, durability: Durability) -> Result<SegmentLog, OpenError> {
    SegmentLog::open(Arc::new(disk.clone()), Path::new(DIR), settings(durability))
}

fn keep(bytes_max: u64) -> Retention {
    Retention {
        bytes_max,
        age_max: Duration::MAX,
        now: SystemTime::UNIX_EPOCH,
    }
}

/// What a workload has been told.
#[derive(Clone, Copy, Debug)]
struct Told {
    durability: Durability,
    /// Every commit before this is answered.
    answered: CommitSeq,
    /// Every commit before this is answered and said to be flushed.
    flushed: CommitSeq,
    /// No commit from here on has been tried.
    tried: CommitSeq,
    /// The id under which the newest commit was answered.
    id: Option<LogId>,
}

impl Told {
    /// Appends, rolls, drops, stops and starts again. Ends at the first failure, but not of a disk that is full.
    fn work(disk: &FaultDisk, durability: Durability) -> Self {
        let start = CommitSeq::FIRST;
        let mut told = Self {
            durability,
            answered: start,
            flushed: start,
            tried: start,
            id: None,
        };
        for round in 0..3 {
            let Ok(mut log) = open(disk, durability) else {
                break;
            };
            told.id = Some(log.id());
            for group in 0..6 {
                if !told.append(&mut log, 1 + (round * 5 + group * 7) % 9) {
                    check_final(log);
                    return told;
                }
                if group == 3 && log.flush().is_ok() {
                    told.flushed = told.answered;
                }
            }
            let dropped = log.retain(keep(12_000), log.next().previous());
            // The second stop is not a clean one.
            if dropped.is_ok() && round != 1 && Box::new(log).close().is_ok() {
                told.flushed = told.answered;
            }
        }
        told
    }

    fn append(&mut self, log: &mut SegmentLog, count: u64) -> bool {
        self.tried = log.next().plus(count);
        match suite::append(log, count) {
            Ok(()) => self.answered = log.next(),
            Err(AppendError::Full) => {}
            Err(_) => return false,
        }
        if self.durability == Durability::Sync {
            self.flushed = self.answered;
        }
        true
    }

    /// Holds the disk that the next process finds against it. `sure` are the commits that must be there.
    fn check(&self, disk: &FaultDisk, sure: CommitSeq) {
        let mut log =
            open(disk, self.durability).unwrap_or_else(|error| panic!("{error}; {self:?}"));
        let next = log.next();
        assert!(
            sure <= next && next <= self.tried.max(self.answered),
            "{next}, {sure}, {self:?}"
        );
        assert!(
            next >= self.answered || Some(log.id()) != self.id,
            "a history that is gone keeps its id"
        );
        let first = log.reader().first();
        assert_eq!(suite::check_from(&*log.reader(), first), next);
        // Whatever is shown now is durable, even if the process before has died of a failed flush.
        let again = open(&disk.power_off(false, &mut |_| 0), self.durability).unwrap();
        assert_eq!(again.next(), next, "what was shown is gone");

        suite::append(&mut log, 2).unwrap();
        let id = log.id();
        Box::new(log).close().unwrap();
        let log = open(&disk.power_off(false, &mut |_| 0), self.durability).unwrap();
        assert!(log.opening().clean && !log.opening().renewed && log.opening().cut_bytes == 0);
        assert_eq!((log.id(), log.next()), (id, next.plus(2)));
        assert_eq!(suite::check_from(&*log.reader(), first), next.plus(2));
    }
}

/// A log that has failed takes nothing more, whatever the disk says now.
fn check_final(mut log: SegmentLog) {
    let next = log.next();
    for _ in 0..3 {
        assert!(matches!(
            suite::append(&mut log, 1),
            Err(AppendError::Failed(_))
        ));
    }
    assert_eq!(log.next(), next);
    assert!(Box::new(log).close().is_err());
}

fn the_power_goes_at_every_flush(durability: Durability) {
    let untroubled = FaultDisk::new();
    Told::work(&untroubled, durability);
    assert!(untroubled.flushes() > 20);
    for flush in 0..=untroubled.flushes() {
        let disk = FaultDisk::new();
        disk.stop_before_flush(flush);
        let told = Told::work(&disk, durability);
        told.check(&disk.power_off(false, &mut |_| 0), told.flushed);
        told.check(
            &disk.power_off(false, &mut |count| count - 1),
            told.answered,
        );
        for seed in 0..SEEDS {
            let mut dice = Dice::new(seed);
            told.check(
                &disk.power_off(seed % 2 == 0, &mut |count| dice.below(count)),
                told.flushed,
            );
        }
    }
}

#[test]
fn a_power_cut_at_any_flush_loses_nothing_that_was_answered() {
    the_power_goes_at_every_flush(Durability::Sync);
}

#[test]
fn a_power_cut_at_level_interval_loses_the_unflushed_end_and_the_id() {
    the_power_goes_at_every_flush(INTERVAL);
}

#[test]
fn a_kill_at_any_operation_loses_nothing_that_was_answered() {
    for durability in [Durability::Sync, INTERVAL] {
        let untroubled = FaultDisk::new();
        Told::work(&untroubled, durability);
        for nth in 1..=untroubled.operations() {
            let disk = FaultDisk::new();
            disk.fail(nth, true, ErrorKind::Other);
            let told = Told::work(&disk, durability);
            told.check(&disk.killed(), told.answered);
        }
    }
}

#[test]
fn a_failure_of_any_operation_ends_in_an_error_or_success_and_never_in_loss() {
    for durability in [Durability::Sync, INTERVAL] {
        let untroubled = FaultDisk::new();
        Told::work(&untroubled, durability);
        for kind in [
            ErrorKind::Other,
            ErrorKind::StorageFull,
            ErrorKind::Interrupted,
        ] {
            for for_ever in [false, true] {
                // For ever interrupted is a disk that hangs.
                let last = if for_ever && kind == ErrorKind::Interrupted {
                    0
                } else {
                    untroubled.operations()
                };
                for nth in 1..=last {
                    let disk = FaultDisk::new();
                    disk.fail(nth, for_ever, kind);
                    let told = Told::work(&disk, durability);
                    disk.mend(None);
                    told.check(&disk.power_off(false, &mut |_| 0), told.flushed);
                    let mut dice = Dice::new(nth);
                    told.check(
                        &disk.power_off(true, &mut |count| dice.below(count)),
                        told.flushed,
                    );
                    told.check(&disk.killed(), told.answered);
                }
            }
        }
    }
}

#[test]
fn a_failed_flush_is_final_though_the_next_would_succeed() {
    let disk = FaultDisk::new();
    let mut log = open(&disk, Durability::Sync).unwrap();
    suite::append(&mut log, 3).unwrap();
    // A write, then the flush.
    disk.fail(2, false, ErrorKind::Other);
    assert!(matches!(
        suite::append(&mut log, 1),
        Err(AppendError::Failed(_))
    ));
    assert_eq!(
        suite::check_from(&*log.reader(), CommitSeq::FIRST),
        CommitSeq(4),
        "reads go on"
    );
    assert!(log.flush().is_err());
    check_final(log);
}

#[test]
fn a_failed_flush_behind_the_answers_is_final_too() {
    let disk = FaultDisk::new();
    let mut log = open(&disk, Durability::Interval(Duration::from_millis(1))).unwrap();
    suite::append(&mut log, 1).unwrap();
    let flushes = disk.flushes();
    while disk.flushes() == flushes {
        std::thread::yield_now();
    }
    disk.stop_before_flush(0);
    let failure = loop {
        if let Err(failure) = suite::append(&mut log, 1) {
            break failure;
        }
    };
    assert!(matches!(failure, AppendError::Failed(_)), "{failure:?}");
    check_final(log);
}

#[test]
fn the_flusher_makes_durable_what_was_answered() {
    let disk = FaultDisk::new();
    let mut log = open(&disk, Durability::Interval(Duration::from_millis(1))).unwrap();
    suite::append(&mut log, 1).unwrap();
    loop {
        let after_a_cut = open(&disk.power_off(false, &mut |_| 0), INTERVAL).unwrap();
        if after_a_cut.next() == log.next() {
            break;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_full_disk_refuses_whole_groups_and_service_resumes_with_the_room() {
    for durability in [Durability::Sync, INTERVAL] {
        for room in (0..9000).step_by(97) {
            let disk = FaultDisk::new();
            let mut log = open(&disk, durability).unwrap();
            suite::append(&mut log, 3).unwrap();
            disk.mend(Some(disk.used() + room));
            let (next, before) = fill(&disk, &mut log);
            assert_eq!(log.next(), next);
            assert!(contents(&disk) == before, "a refused group leaves a trace");
            assert_eq!(
                suite::check_from(&*log.reader(), CommitSeq::FIRST),
                next,
                "reads go on"
            );
            check_opens_with(&disk.killed(), durability, next);
            disk.mend(None);
            suite::append(&mut log, 5).unwrap();
            log.flush().unwrap();
            check_opens_with(&disk.power_off(false, &mut |_| 0), durability, next.plus(5));
        }
    }
}

/// Appends until the disk is full; returns the next sequence and all files from before the append that found it so.
fn fill(disk: &FaultDisk, log: &mut SegmentLog) -> (CommitSeq, Vec<Vec<u8>>) {
    loop {
        let (next, before) = (log.next(), contents(disk));
        match suite::append(log, 5) {
            Ok(()) => {}
            Err(AppendError::Full) => return (next, before),
            Err(other) => panic!("{other}"),
        }
    }
}

fn contents(disk: &FaultDisk) -> Vec<Vec<u8>> {
    disk.files().iter().map(|path| disk.content(path)).collect()
}

fn check_opens_with(disk: &FaultDisk, durability: Durability, next: CommitSeq) {
    let log = open(disk, durability).unwrap();
    assert_eq!(log.next(), next);
    assert_eq!(suite::check_from(&*log.reader(), CommitSeq::FIRST), next);
}

#[test]
fn what_goes_bad_while_the_log_is_open_is_found_when_it_is_read() {
    let disk = FaultDisk::new();
    let mut log = open(&disk, Durability::Sync).unwrap();
    suite::append(&mut log, 3).unwrap();
    check_from_first(&log);
    let path = disk.files().remove(0);
    let mut bytes = disk.content(&path);
    // In the content of the first entry.
    bytes[64 + 40 + 16 + 5] ^= 1;
    disk.put(&path, bytes);
    let result = log.reader().read(CommitSeq::FIRST, 1000);
    assert!(
        matches!(&result, Err(TailError::Damaged(damage)) if damage.seq == CommitSeq::FIRST),
        "{result:?}"
    );
}

#[test]
fn on_a_full_disk_the_stop_is_a_clean_one() {
    let disk = FaultDisk::new();
    let mut log = open(&disk, Durability::Sync).unwrap();
    disk.mend(Some(disk.used() + 5000));
    while suite::append(&mut log, 1).is_ok() {}
    disk.mend(Some(disk.used()));
    let next = log.next();
    Box::new(log).close().unwrap();
    disk.mend(None);
    let log = open(&disk, Durability::Sync).unwrap();
    assert!(log.opening().clean);
    assert_eq!(log.next(), next);
}

#[test]
fn dropping_the_past_makes_room_on_a_full_disk() {
    let disk = FaultDisk::new();
    let mut log = open(&disk, Durability::Sync).unwrap();
    disk.mend(Some(40_000));
    while suite::append(&mut log, 5).is_ok() {}
    log.retain(keep(20_000), log.next().previous()).unwrap();
    suite::append(&mut log, 5).unwrap();
    check_from_first(&log);
}

fn check_from_first(log: &SegmentLog) {
    let reader = log.reader();
    assert_eq!(suite::check_from(&*reader, reader.first()), log.next());
}

#[test]
fn the_past_goes_by_age_too_but_never_what_the_engine_lacks() {
    let disk = FaultDisk::new();
    let mut log = open(&disk, Durability::Sync).unwrap();
    while disk.files().len() < 3 {
        suite::append(&mut log, 5).unwrap();
    }
    let second = second_segment(&disk);
    disk.set_time(Duration::from_secs(1000));
    while disk.files().len() < 5 {
        suite::append(&mut log, 5).unwrap();
    }
    let by_age = |seconds| Retention {
        bytes_max: u64::MAX,
        age_max: Duration::from_secs(100),
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
    };
    log.retain(by_age(1000), second.previous().previous())
        .unwrap();
    assert_eq!(
        log.reader().first(),
        CommitSeq::FIRST,
        "a commit of it is not in the engine"
    );
    log.retain(by_age(1000), second.previous()).unwrap();
    assert_eq!(log.reader().first(), second);
    log.retain(by_age(1100), log.next()).unwrap();
    assert!(
        log.reader().first() > second && disk.files().len() >= 3,
        "the younger ones stay"
    );
    log.retain(by_age(2000), log.next()).unwrap();
    assert_eq!(disk.files().len(), 1, "the newest stays always");
    check_from_first(&log);
}

#[test]
fn a_log_that_the_engine_holds_back_by_many_segments_says_so() {
    let disk = FaultDisk::new();
    let mut log = open(&disk, Durability::Sync).unwrap();
    while disk.files().len() < 3 {
        suite::append(&mut log, 5).unwrap();
    }
    assert!(
        !log.is_held_back(keep(1), CommitSeq(0)),
        "it is not worth it"
    );
    while disk.files().len() < 12 {
        suite::append(&mut log, 5).unwrap();
    }
    assert!(log.is_held_back(keep(1), CommitSeq(0)));
    assert!(!log.is_held_back(keep(1), log.next().previous()));
    assert!(!log.is_held_back(keep(u64::MAX), CommitSeq(0)));
}

fn second_segment(disk: &FaultDisk) -> CommitSeq {
    let name = disk.files()[1]
        .file_stem()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    CommitSeq(name.parse().unwrap())
}

#[test]
fn the_id_changes_with_an_unclean_stop_unless_every_answer_was_flushed() {
    let cases = [
        (Durability::Sync, false, true),
        (Durability::Sync, true, true),
        (INTERVAL, false, false),
        (INTERVAL, true, true),
    ];
    for (durability, clean, same) in cases {
        let disk = FaultDisk::new();
        let mut log = open(&disk, durability).unwrap();
        suite::append(&mut log, 3).unwrap();
        let id = log.id();
        if clean {
            Box::new(log).close().unwrap();
        }
        let log = open(&disk.killed(), durability).unwrap();
        assert_eq!(log.id() == id, same, "{durability:?}, clean: {clean}");
        assert_eq!(log.next(), CommitSeq(4));
    }
}

#[test]
fn the_id_changes_when_all_since_a_clean_stop_is_lost() {
    let disk = FaultDisk::new();
    let mut log = open(&disk, Durability::Sync).unwrap();
    suite::append(&mut log, 3).unwrap();
    let id = log.id();
    Box::new(log).close().unwrap();
    let mut log = open(&disk, INTERVAL).unwrap();
    assert_eq!(log.id(), id);
    suite::append(&mut log, 3).unwrap();
    let log = open(&disk.power_off(false, &mut |_| 0), INTERVAL).unwrap();
    assert_eq!(log.next(), CommitSeq(4), "answered at interval, and gone");
    assert_ne!(log.id(), id);
}

#[test]
fn a_level_is_judged_by_what_was_written_not_by_what_is_asked_for_now() {
    let disk = FaultDisk::new();
    let mut log = open(&disk, INTERVAL).unwrap();
    suite::append(&mut log, 3).unwrap();
    let id = log.id();
    let mut log = open(&disk.killed(), Durability::Sync).unwrap();
    assert_ne!(log.id(), id);
    suite::append(&mut log, 3).unwrap();
    check_from_first(&log);
}

#[test]
fn a_log_begins_where_it_is_told() {
    let disk = FaultDisk::new();
    let settings = SegmentSettings {
        start: CommitSeq(1000),
        ..settings(Durability::Sync)
    };
    let mut log = SegmentLog::open(Arc::new(disk), Path::new(DIR), settings).unwrap();
    assert_eq!(
        (log.reader().first(), log.reader().last(), log.next()),
        (CommitSeq(1000), CommitSeq(999), CommitSeq(1000))
    );
    suite::append(&mut log, 3).unwrap();
    check_from_first(&log);
}

#[test]
fn a_group_larger_than_a_segment_gets_one_that_fits() {
    let disk = FaultDisk::new();
    let mut log = open(&disk, Durability::Sync).unwrap();
    suite::append(&mut log, 1).unwrap();
    let large = Bytes::from(vec![7; 500_000]);
    log.append(CommitSeq(2), &[large.clone(), large.clone()])
        .unwrap();
    log.append(CommitSeq(4), std::slice::from_ref(&large))
        .unwrap();
    let log = open(&disk.killed(), Durability::Sync).unwrap();
    let read = log.reader().read(CommitSeq(2), usize::MAX).unwrap();
    assert!(read.len() == 3 && read.iter().all(|(_, bytes)| *bytes == large));
}

#[test]
fn what_does_not_belong_to_the_log_is_left_alone() {
    let disk = FaultDisk::new();
    for name in ["notes.txt", "1.seg", "x.seg", "notes.new"] {
        disk.put(&Path::new(DIR).join(name), b"mine".to_vec());
    }
    let mut log = open(&disk, Durability::Sync).unwrap();
    suite::append(&mut log, 1).unwrap();
    check_opens_with(&disk.killed(), Durability::Sync, CommitSeq(2));
    assert_eq!(disk.content(&Path::new(DIR).join("notes.new")), b"mine");
}
