//! The commit logs keep the trait's promises.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sapwood_store::log::disk::RealDisk;
use sapwood_store::log::{DatabaseId, Durability, MemoryLog, SegmentLog, SegmentSettings};
use sapwood_store::testing::{FaultDisk, suite};

fn small(durability: Durability) -> SegmentSettings {
    let settings = SegmentSettings::new(DatabaseId(7));
    SegmentSettings {
        durability,
        segment_bytes: 20_000,
        preallocate_bytes: 4096,
        ..settings
    }
}

#[test]
fn the_log_in_memory_keeps_the_promises() {
    suite::run(&|| Box::new(MemoryLog::new(1 << 20)));
}

#[test]
fn the_log_in_files_keeps_the_promises() {
    for durability in [
        Durability::Sync,
        Durability::Interval(Duration::from_millis(1)),
    ] {
        suite::run(&|| {
            let disk = Arc::new(FaultDisk::new());
            Box::new(SegmentLog::open(disk, Path::new("log"), small(durability)).unwrap())
        });
    }
}

#[test]
fn the_log_on_a_real_disk_keeps_the_promises() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    suite::run(&|| {
        count.set(count.get() + 1);
        let dir = folder.path().join(count.get().to_string());
        Box::new(SegmentLog::open(Arc::new(RealDisk), &dir, small(Durability::Sync)).unwrap())
    });
}
