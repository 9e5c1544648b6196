//! What the rows cost: `cargo run --release -p sapwood-store --example rows [rows [folder]]`.
//!
//! With 0 rows it only opens the folder: what a run that was killed has left, for instance.
//!
//! Prints wall and CPU time per operation (all threads of the process, the engine's included) and the resident set.

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sapwood_store::rows::{PersistError, RowSettings, RowStore};
use sapwood_tree::{Path, Row, RowChanges, RowKind, Rows, Skip};
use sapwood_value::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(1_000_000), |text| text.parse())?;
    let temporary = || std::env::temp_dir().join(format!("sapwood-rows-{}", std::process::id()));
    let dir = std::env::args()
        .nth(2)
        .map_or_else(temporary, PathBuf::from);
    let settings = RowSettings::default();
    say(&format!("before: {} KiB resident", resident_kib()));
    let store = timed("open", 1, || RowStore::open(&dir, settings))?;
    say(&format!(
        "at commit {}: {} KiB resident, {} threads",
        store.applied(),
        resident_kib(),
        status("Threads")
    ));
    if rows == 0 {
        return Ok(());
    }

    let mut seq = write(&store, rows)?;
    read(&store, rows)?;
    timed("shut down", 1, || store.shutdown())?;
    let store = timed("open with all rows", 1, || RowStore::open(&dir, settings))?;
    say(&format!("opened: {} KiB resident", resident_kib()));
    timed("cut everything: the commit", 1, || {
        seq += 1;
        let mut working = store.begin();
        working.apply(
            seq,
            &RowChanges {
                rows: Vec::new(),
                cuts: vec![Path::root()],
            },
            &[],
        );
        store.publish(working);
        black_box(store.view().scan(&Path::root(), None, 10).is_ok());
    });
    timed("  until it is swept, per row", rows, || {
        while store.stats().cuts > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    drop(store);
    fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Gives the sequence of the last commit.
fn write(store: &RowStore, rows: u64) -> Result<u64, PersistError> {
    let mut seq = 0;
    timed(
        "apply, a commit of one new row each, published one by one",
        rows,
        || {
            for n in 0..rows {
                seq += 1;
                commit(store, seq, n);
            }
        },
    );
    timed("  until all of it is in tables", 1, || store.persist())?;
    say(&format!("loaded: {} KiB resident", resident_kib()));
    timed("apply, the same row again and again", rows, || {
        for _ in 0..rows {
            seq += 1;
            commit(store, seq, 7);
        }
    });
    timed(
        "apply, commits of one of 1000 rows, published by 64",
        rows,
        || {
            for _ in 0..rows / 64 {
                let mut working = store.begin();
                for n in 0..64 {
                    seq += 1;
                    working.apply(seq, &changes(seq, (seq * 64 + n) % 1000), &[]);
                }
                store.publish(working);
            }
        },
    );
    Ok(seq)
}

fn read(store: &RowStore, rows: u64) -> Result<(), PersistError> {
    let view = store.view();
    let found = |n: u64| view.row(&path(n)).is_ok_and(|row| row.is_some());
    timed("(making a path)", rows, || {
        (0..rows)
            .map(|n| path(n % 1000))
            .filter(Path::is_root)
            .count()
    });
    let recent = timed("get, among recent rows", rows, || {
        (0..rows).filter(|n| found(n % 1000)).count()
    });
    drop(view);
    store.persist()?;
    let view = store.view();
    let found = |n: u64| view.row(&path(n)).is_ok_and(|row| row.is_some());
    let absent = |n: u64| view.row(&path(n + rows)).is_ok_and(|row| row.is_none());
    timed(
        "get, the first time: engine and decoding",
        rows / 10,
        || (0..rows / 10).filter(|n| found(n * 7919 % rows)).count(),
    );
    timed("get, cached", rows, || {
        (0..rows).filter(|n| found(n % 1000)).count()
    });
    timed("get, not there, the first time", rows / 10, || {
        (0..rows / 10).filter(|n| absent(*n)).count()
    });
    timed("get, not there, cached", rows, || {
        (0..rows).filter(|n| absent(n % 1000)).count()
    });
    let under = Path::root().child_unchecked("rooms").child_unchecked("5");
    timed("scan of 20 rows", 10_000, || {
        for _ in 0..10_000 {
            black_box(view.scan(&under, None, 20).is_ok());
        }
    });
    timed("scan of everything, per row", rows, || {
        let mut last: Option<Path> = None;
        loop {
            let after = last.as_ref().map(|path| (path, Skip::Row));
            let some = view.scan(&Path::root(), after, 256).unwrap_or_default();
            match some.last() {
                Some((path, _)) => last = Some(path.clone()),
                None => break,
            }
        }
    });
    say(&format!(
        "read: {} KiB resident, {recent} found",
        resident_kib()
    ));
    drop(view);

    Ok(())
}

fn path(n: u64) -> Path {
    let room = n % 1000;
    Path::root()
        .child_unchecked("rooms")
        .child_unchecked(&room.to_string())
        .child_unchecked(&format!("m{n:07}"))
}

fn changes(seq: u64, n: u64) -> RowChanges {
    let value = Value::String(
        format!("a message of some length, number {n} of commit {seq}, as they are in rooms")
            .into(),
    );
    let row = Row::new(RowKind::Record, value, seq);
    RowChanges {
        rows: vec![(path(n), Some(Arc::new(row)))],
        cuts: Vec::new(),
    }
}

fn commit(store: &RowStore, seq: u64, n: u64) {
    let mut working = store.begin();
    working.apply(seq, &changes(seq, n), &[]);
    store.publish(working);
}

fn timed<T>(what: &str, times: u64, run: impl FnOnce() -> T) -> T {
    let (begin, cpu) = (Instant::now(), cpu_ns());
    let out = run();
    let wall = begin.elapsed();
    let each = |ns: u128| ns / u128::from(times);
    say(&format!(
        "{what}: {wall:.1?}, {} ns each, {} ns CPU each",
        each(wall.as_nanos()),
        each(u128::from(cpu_ns() - cpu))
    ));
    out
}

/// CPU time of all threads, in nanoseconds.
fn cpu_ns() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    // User and system time, in ticks of 10 ms.
    fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum::<u64>()
        * 10_000_000
}

fn resident_kib() -> String {
    status("VmRSS")
}

fn status(field: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next())
        .unwrap_or("?")
        .to_owned()
}

#[expect(clippy::print_stdout, reason = "it is what the program is for")]
fn say(line: &str) {
    println!("{line}");
}
