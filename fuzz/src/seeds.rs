//! Where the inputs begin: files, by folder.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use sapwood_store::log::{
    CommitLog, CommitSeq, DatabaseId, SegmentLog, SegmentSettings, disk::RealDisk,
};

use crate::targets::Target;

/// Larger seeds would make each step slow and find nothing more.
const SEED_BYTES_MAX: u64 = 8 << 10;

/// The seeds of a target, in the order of their names, and the empty input.
pub fn of(target: &Target) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seeds = vec![Vec::new()];
    for folder in target.seeds {
        collect(&root.join(folder), &mut seeds);
    }
    if target.name == "segment" {
        seeds.push(segment());
    }
    assert!(seeds.len() > 1, "no seeds for {}", target.name);
    seeds
}

fn collect(folder: &Path, seeds: &mut Vec<Vec<u8>>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, seeds);
        } else if path
            .metadata()
            .is_ok_and(|file| file.len() <= SEED_BYTES_MAX)
        {
            seeds.extend(fs::read(&path));
        }
    }
}

/// A real segment, without the zeros behind it.
fn segment() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = SegmentSettings::new(DatabaseId(7));
    let mut log = SegmentLog::open(Arc::new(RealDisk), folder.path(), settings).expect("a log");
    let entry = |bytes: &'static [u8]| Bytes::from_static(bytes);
    for group in [
        vec![entry(b"one")],
        vec![entry(b"two"), entry(b"three")],
        vec![entry(&[0; 300])],
    ] {
        log.append(log.next(), &group).expect("room");
    }
    assert!(log.next() > CommitSeq::FIRST);
    let file = fs::read_dir(folder.path())
        .expect("files")
        .map(|entry| entry.expect("an entry").path());
    let segment = file
        .filter(|path| path.extension().is_some_and(|ending| ending == "seg"))
        .next()
        .expect("a segment");
    let mut bytes = fs::read(segment).expect("its bytes");
    bytes.truncate(
        bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1),
    );
    bytes
}
