//! Folders that are not as they were left.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path as FsPath, PathBuf};

use sapwood_store::rows::{OpenError, wipe};

use super::*;

const COMMITS: u64 = 60;

/// What commit `seq` does.
fn history(seq: u64) -> RowChanges {
    match seq % 7 {
        0 => cut(&format!("/{}", seq % 3)),
        _ => put(seq, &format!("/{}/{seq}", seq % 3), seq.cast_signed()),
    }
}

fn model_at(seq: u64) -> Model {
    let mut model = Model::default();
    for seq in 1..=seq {
        model.apply(seq, &history(seq), &Vec::new());
    }
    model
}

fn fill(store: &RowStore, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        commit(store, seq, &history(seq));
    }
}

fn files(dir: &FsPath) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn copy(from: &FsPath, to: &FsPath) {
    for file in files(from) {
        let copied = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(copied.parent().unwrap()).unwrap();
        fs::copy(&file, copied).unwrap();
    }
}

/// Opens what is there: it is refused, or it is the rows of some commit.
fn opens_right_or_not_at_all(dir: &FsPath) -> Option<u64> {
    let store = RowStore::open(dir, eager()).ok()?;
    let seq = store.applied();
    let read = catch_unwind(AssertUnwindSafe(|| {
        store.view().scan(&Path::root(), None, 1000)
    }));
    let rows = read.expect("damage is an error, no panic").ok()?;
    let wanted = all_below(&model_at(seq).rows, &Path::root(), 1000);
    let spell = |rows: Vec<(Path, Arc<Row>)>| {
        rows.into_iter()
            .map(|(path, row)| (path, said(&row)))
            .collect::<Vec<_>>()
    };
    assert_eq!(spell(rows), spell(wanted), "at {seq}");
    Some(seq)
}

#[test]
fn a_damaged_journal_costs_nothing_that_the_log_has_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = RowStore::open(dir.path(), eager()).unwrap();
    fill(&store, 1..=COMMITS / 2);
    store.persist().unwrap();
    fill(&store, COMMITS / 2 + 1..=COMMITS);
    while store.stats().engine_applied < COMMITS {
        std::thread::yield_now();
    }
    drop(store);
    let journal = files(dir.path())
        .into_iter()
        .find(|file| file.extension().is_some_and(|ext| ext == "jnl"))
        .unwrap();
    let written = fs::read(&journal).unwrap();
    let used = written.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for at in (0..used).step_by(used / 40 + 1) {
        let broken = tempfile::tempdir().unwrap();
        copy(dir.path(), broken.path());
        let mut bytes = written[..used].to_vec();
        bytes[at] ^= 0x10;
        fs::write(broken.path().join(journal.file_name().unwrap()), &bytes).unwrap();
        let seq = opens_right_or_not_at_all(broken.path()).expect("the tables are whole");
        assert!(seq >= COMMITS / 2, "at {at}: what was flushed is there");
    }
}

#[test]
fn damage_of_any_file_is_refused_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let store = RowStore::open(dir.path(), eager()).unwrap();
    fill(&store, 1..=COMMITS);
    store.shutdown().unwrap();
    for file in files(dir.path()) {
        let written = fs::read(&file).unwrap();
        for at in (0..written.len()).step_by(written.len() / 10 + 1) {
            let broken = tempfile::tempdir().unwrap();
            copy(dir.path(), broken.path());
            let mut bytes = written.clone();
            bytes[at] ^= 0x10;
            fs::write(
                broken.path().join(file.strip_prefix(dir.path()).unwrap()),
                &bytes,
            )
            .unwrap();
            opens_right_or_not_at_all(broken.path());
        }
    }
}

#[test]
fn a_missing_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = RowStore::open(dir.path(), eager()).unwrap();
    fill(&store, 1..=COMMITS);
    store.shutdown().unwrap();
    for file in files(dir.path()) {
        let broken = tempfile::tempdir().unwrap();
        copy(dir.path(), broken.path());
        let missing = broken.path().join(file.strip_prefix(dir.path()).unwrap());
        fs::remove_file(&missing).unwrap();
        let seq = opens_right_or_not_at_all(broken.path());
        assert!(
            matches!(seq, None | Some(COMMITS)),
            "{}: {seq:?}",
            missing.display()
        );
        assert!(
            seq.is_some() || missing.extension().is_none_or(|ext| ext != "jnl"),
            "the journal is not needed"
        );
    }
}

#[test]
fn a_copy_taken_while_writing_opens_right_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = RowStore::open(dir.path(), eager()).unwrap();
    for round in 0..10 {
        fill(&store, round * 6 + 1..=round * 6 + 6);
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        opens_right_or_not_at_all(copied.path());
    }
}

#[test]
fn rows_of_a_newer_format_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    RowStore::open(dir.path(), eager())
        .unwrap()
        .shutdown()
        .unwrap();
    raw(dir.path(), |rows| {
        rows.insert([0x06, b'f'], 9_u32.to_be_bytes()).unwrap();
    });
    let error = RowStore::open(dir.path(), eager()).err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::Newer {
                found: 9,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_hole_in_the_journal_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = RowStore::open(dir.path(), eager()).unwrap();
    fill(&store, 1..=10);
    store.persist().unwrap();
    for seq in 11..=20 {
        commit(&store, seq, &history(seq));
        while store.stats().engine_applied < seq {
            std::thread::yield_now();
        }
    }
    drop(store);
    // As if one batch of those had gone with its bit of the journal.
    raw(dir.path(), |rows| {
        let links: Vec<_> = rows
            .prefix([0x06, b'b'])
            .map(|link| link.key().unwrap())
            .collect();
        rows.remove(links[links.len() - 3].clone()).unwrap();
    });
    let seq = opens_right_or_not_at_all(dir.path()).unwrap();
    assert!((10..20).contains(&seq), "{seq}");
}

#[test]
fn a_wiped_folder_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = RowStore::open(dir.path(), eager()).unwrap();
    fill(&store, 1..=10);
    store.shutdown().unwrap();
    wipe(dir.path()).unwrap();
    assert_eq!(opens_right_or_not_at_all(dir.path()), Some(0));
}

#[test]
fn a_folder_whose_making_was_interrupted_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("0.jnl"), b"").unwrap();
    fs::write(dir.path().join("lock"), b"").unwrap();
    assert_eq!(opens_right_or_not_at_all(dir.path()), Some(0));
}

#[test]
fn two_stores_do_not_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let _store = RowStore::open(dir.path(), eager()).unwrap();
    assert!(matches!(
        RowStore::open(dir.path(), eager()).err(),
        Some(OpenError::Locked { .. })
    ));
}

fn raw(dir: &FsPath, change: impl FnOnce(&fjall::Keyspace)) {
    let database = fjall::Database::builder(dir).open().unwrap();
    let rows = database
        .keyspace("rows", fjall::KeyspaceCreateOptions::default)
        .unwrap();
    change(&rows);
}
