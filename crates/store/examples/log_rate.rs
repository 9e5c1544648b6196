//! How fast the commit log takes groups: `cargo run --release -p sapwood-store --example log_rate -- DIR`.
//!
//! Prints groups and entries per second, and the process's CPU time (user and system, all threads) per group.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool for people"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sapwood_store::log::disk::RealDisk;
use sapwood_store::log::{
    CommitLog, CommitSeq, DatabaseId, Durability, MemoryLog, SegmentLog, SegmentSettings,
};

fn main() {
    let dir = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "log-rate".to_owned());
    let dir = Path::new(&dir);
    let sync = SegmentSettings::new(DatabaseId(1));
    let interval = SegmentSettings {
        durability: Durability::Interval(Duration::from_millis(100)),
        ..sync
    };
    for (step, name) in [
        (1, "no zeros ahead"),
        (64 << 10, "64 KiB"),
        (256 << 10, "256 KiB"),
        (1 << 20, "1 MiB"),
        (4 << 20, "4 MiB"),
    ] {
        for count in [1, 64] {
            let settings = SegmentSettings {
                preallocate_bytes: step,
                ..sync
            };
            measure(
                &format!("sync, {name}"),
                Box::new(segment_log(dir, settings)),
                count,
            );
        }
    }
    for count in [1, 64] {
        measure("interval", Box::new(segment_log(dir, interval)), count);
        measure("memory", Box::new(MemoryLog::new(64 << 20)), count);
    }
    reopen(dir, interval);
    std::fs::remove_dir_all(dir).unwrap();
}

fn segment_log(dir: &Path, settings: SegmentSettings) -> SegmentLog {
    if dir.exists() {
        std::fs::remove_dir_all(dir).unwrap();
    }
    SegmentLog::open(Arc::new(RealDisk), dir, settings).unwrap()
}

fn measure(name: &str, mut log: Box<dyn CommitLog>, count: usize) {
    let entries = vec![Bytes::from(vec![b'x'; 200]); count];
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut groups = 0;
    while start.elapsed() < Duration::from_secs(2) {
        log.append(log.next(), &entries).unwrap();
        groups += 1;
    }
    let (wall, cpu) = (
        start.elapsed().as_secs_f64(),
        (cpu_time() - cpu).as_secs_f64(),
    );
    let rate = f64::from(groups) / wall;
    let per_group = cpu / f64::from(groups) * 1e6;
    let entries = rate * count as f64;
    println!(
        "{name:22} {count:3} x 200 B: {rate:9.0} groups/s {entries:9.0} entries/s, CPU {per_group:6.1} µs per group"
    );
}

/// Times a clean and an unclean start over a gigabyte.
fn reopen(dir: &Path, settings: SegmentSettings) {
    let mut log = segment_log(dir, settings);
    let entries = vec![Bytes::from(vec![b'x'; 200]); 64];
    while log.next() < CommitSeq(5_000_000) {
        log.append(log.next(), &entries).unwrap();
    }
    Box::new(log).close().unwrap();
    for close in [true, false] {
        let start = Instant::now();
        let log = SegmentLog::open(Arc::new(RealDisk), dir, settings).unwrap();
        println!(
            "start over 5,000,000 entries, {:?}: {:?}",
            log.opening(),
            start.elapsed()
        );
        let mut log = Box::new(log);
        log.append(log.next(), &entries).unwrap();
        if !close {
            log.close().unwrap();
        }
    }
}

fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    // Fields 14 and 15, in hundredths of a second (proc(5)).
    let ticks = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum::<u64>();
    Duration::from_millis(ticks * 10)
}
