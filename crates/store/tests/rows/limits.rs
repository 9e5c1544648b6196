//! What happens where there is no more room.

use sapwood_store::rows::PersistError;

use super::*;

#[test]
fn a_full_disk_stops_writes_but_no_reads() {
    let dir = tempfile::tempdir().unwrap();
    let settings = RowSettings {
        reserve_bytes: u64::MAX,
        backlog_bytes_max: 20_000,
        ..eager()
    };
    let store = RowStore::open(dir.path(), settings).unwrap();
    let mut seq = 0;
    while store.check().is_ok() {
        seq += 1;
        commit(&store, seq, &put(seq, &format!("/{seq}"), 1));
        assert!(store.stats().backlog_bytes < 30_000);
    }
    assert!(matches!(store.check(), Err(PersistError::Full)));
    assert!(matches!(store.persist(), Err(PersistError::Full)));
    assert_eq!(
        store.view().scan(&Path::root(), None, 1000).unwrap().len() as u64,
        seq
    );
    // A committer that goes on all the same is not held up for ever.
    commit(&store, seq + 1, &put(seq + 1, "/more", 1));
    assert!(store.view().row(&path("/more")).unwrap().is_some());
}

#[test]
fn rows_in_memory_stay_within_the_bound_while_the_disk_keeps_up() {
    let dir = tempfile::tempdir().unwrap();
    let settings = RowSettings {
        freeze_bytes: 50_000,
        backlog_bytes_max: 100_000,
        ..eager()
    };
    let store = RowStore::open(dir.path(), settings).unwrap();
    for seq in 1..=5_000 {
        commit(&store, seq, &put(seq, &format!("/{seq}"), 1));
        assert!(store.stats().backlog_bytes <= 101_000);
    }
    assert_eq!(
        store
            .view()
            .scan(&Path::root(), None, usize::MAX)
            .unwrap()
            .len(),
        5_000
    );
}

#[test]
fn writing_a_row_again_and_again_keeps_one_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let settings = RowSettings {
        freeze_after: Duration::from_secs(3600),
        ..RowSettings::default()
    };
    let store = RowStore::open(dir.path(), settings).unwrap();
    commit(&store, 1, &put(1, "/one", 1));
    let once = store.stats().backlog_bytes;
    for seq in 2..1000 {
        commit(&store, seq, &put(seq, "/one", 1));
    }
    assert_eq!(store.stats().backlog_bytes, once);
}

#[test]
fn flushed_follows_persist() {
    let dir = tempfile::tempdir().unwrap();
    let store = RowStore::open(
        dir.path(),
        RowSettings {
            reserve_bytes: 0,
            ..RowSettings::default()
        },
    )
    .unwrap();
    assert_eq!(store.flushed(), 0);
    for seq in 1..=10 {
        commit(&store, seq, &put(seq, "/one", 1));
    }
    store.persist().unwrap();
    assert_eq!(store.flushed(), 10);
    store.shutdown().unwrap();
    let store = RowStore::open(dir.path(), RowSettings::default()).unwrap();
    assert_eq!((store.applied(), store.flushed()), (10, 10));
}

/// On a volume of some 100 MiB whose folder `SAPWOOD_SMALL_DISK` names (T-D5); without one there is nothing to fill.
#[test]
fn a_disk_that_gets_room_again_takes_writes_again() {
    let Some(disk) = std::env::var_os("SAPWOOD_SMALL_DISK") else {
        return;
    };
    let dir = tempfile::tempdir_in(&disk).unwrap();
    let filler = dir.path().join("filler");
    let store = RowStore::open(&dir.path().join("rows"), RowSettings::default()).unwrap();
    let mut seq = 0;
    while store.check().is_ok() {
        seq += 1;
        commit(&store, seq, &put(seq, &format!("/{seq}"), 1));
        if seq == 100_000 {
            std::fs::write(&filler, vec![1; 40 << 20]).unwrap();
        }
    }
    assert!(seq >= 100_000, "there was room for more than {seq} commits");
    assert!(matches!(store.persist(), Err(PersistError::Full)));
    assert!(store.view().row(&path("/1")).unwrap().is_some());
    std::fs::remove_file(&filler).unwrap();
    while store.check().is_err() {
        std::thread::yield_now();
    }
    commit(&store, seq + 1, &put(seq + 1, "/more", 1));
    store.persist().unwrap();
    assert_eq!(store.flushed(), seq + 1);
}

#[test]
fn many_small_batches_get_to_tables_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = RowStore::open(dir.path(), eager()).unwrap();
    for seq in 1..=1_100 {
        commit(&store, seq, &put(seq, "/one", 1));
        while store.stats().engine_applied < seq {
            std::thread::yield_now();
        }
    }
    while store.flushed() == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_row_written_over_gets_to_tables_when_that_is_asked_for_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let settings = RowSettings {
        reserve_bytes: 0,
        freeze_after: Duration::from_secs(3600),
        ..RowSettings::default()
    };
    let store = RowStore::open(dir.path(), settings).unwrap();
    for seq in 1..=100 {
        commit(&store, seq, &put(seq, "/one", 1));
    }
    assert_eq!(store.flushed(), 0);
    store.persist_soon();
    while store.flushed() < 100 {
        std::thread::yield_now();
    }
}

#[test]
fn a_scan_holds_few_large_rows_at_once_and_misses_none() {
    let dir = tempfile::tempdir().unwrap();
    let settings = RowSettings {
        reserve_bytes: 0,
        ..RowSettings::default()
    };
    let store = RowStore::open(dir.path(), settings).unwrap();
    for seq in 1..=20 {
        let many = Value::Array(vec![Value::Int(7); 20_000]);
        let row = Arc::new(Row::new(RowKind::Record, many, seq));
        let changes = RowChanges {
            rows: vec![(path(&format!("/many/{seq:02}")), Some(row))],
            cuts: Vec::new(),
        };
        commit(&store, seq, &changes);
    }
    let under = path("/many");
    for persisted in [false, true] {
        if persisted {
            store.persist().unwrap();
        }
        let view = store.view();
        let (mut count, mut last) = (0, None::<Path>);
        loop {
            let after = last.as_ref().map(|last| (last, Skip::Row));
            let rows = view.scan(&under, after, 100).unwrap();
            assert!(rows.len() < 5, "{}", rows.len());
            count += rows.len();
            last = rows.last().map(|(path, _)| path.clone()).or(last);
            if sapwood_tree::is_end(&rows, 100) {
                break;
            }
        }
        assert_eq!(count, 20);
    }
}
