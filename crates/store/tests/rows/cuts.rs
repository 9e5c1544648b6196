//! Large subtrees that go at once.

use super::*;

const ROWS: u64 = 50_000;

fn load(store: &RowStore, at: &str, seqs: std::ops::RangeInclusive<u64>) {
    let under = path(at);
    for seq in seqs {
        let mut rows: Vec<_> = (0..1000_u64)
            .map(|n| {
                (
                    under.child_unchecked(&format!("k{:07}", seq * 1000 + n)),
                    Some(row(seq, 0)),
                )
            })
            .collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let mut working = store.begin();
        working.apply(
            seq,
            &RowChanges {
                rows,
                cuts: Vec::new(),
            },
            &Vec::new(),
        );
        store.publish(working);
    }
}

#[test]
fn a_cut_is_one_small_commit_and_the_rows_go_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = RowSettings {
        reserve_bytes: 0,
        ..RowSettings::default()
    };
    let store = RowStore::open(dir.path(), settings).unwrap();
    let commits = ROWS / 1000;
    commit(&store, 1, &put(1, "/keep", 1));
    load(&store, "/many", 2..=commits + 1);
    store.persist().unwrap();
    let before = store.view();
    assert_eq!(store.stats().backlog_bytes, 0);

    let seq = commits + 2;
    let mut working = store.begin();
    working.apply(seq, &cut("/many"), &Vec::new());
    let after = working.view().clone();
    working.apply(seq + 1, &put(seq + 1, "/many/new", 2), &Vec::new());
    let ahead = working.view().clone();
    store.publish(working);
    assert!(store.stats().backlog_bytes < 1_000);
    assert!(after.scan(&path("/many"), None, 1).unwrap().is_empty());
    let alive = |view: &View| {
        all_below(view, &Path::root(), 100)
            .into_iter()
            .map(|(path, _)| path)
            .collect::<Vec<_>>()
    };
    assert_eq!(alive(&ahead), [path("/keep"), path("/many/new")]);

    store.persist().unwrap();
    swept(&store);
    assert_eq!(alive(&store.view()), [path("/keep"), path("/many/new")]);
    assert_eq!(store.stats().backlog_bytes, 0);
    assert_eq!(
        before.scan(&path("/many"), None, usize::MAX).unwrap().len() as u64,
        ROWS
    );

    drop((before, after, ahead));
    store.shutdown().unwrap();
    let store = RowStore::open(dir.path(), settings).unwrap();
    assert_eq!(alive(&store.view()), [path("/keep"), path("/many/new")]);
    assert_eq!(store.stats().cuts, 0);
}

#[test]
fn a_cut_is_swept_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let settings = RowSettings {
        sweep_rows: 1,
        ..eager()
    };
    let store = RowStore::open(dir.path(), settings).unwrap();
    load(&store, "/many", 1..=3);
    commit(&store, 4, &cut("/many"));
    commit(&store, 5, &put(5, "/many/new", 2));
    store.persist().unwrap();
    assert!(
        store.stats().cuts > 0,
        "three thousand batches are not written yet"
    );
    drop(store);

    let store = RowStore::open(dir.path(), eager()).unwrap();
    assert_eq!(store.applied(), 5);
    assert_eq!(store.view().scan(&Path::root(), None, 10).unwrap().len(), 1);
    assert!(store.view().row(&path("/many/k0001000")).unwrap().is_none());
    commit(&store, 6, &cut("/many"));
    assert!(
        store
            .view()
            .scan(&Path::root(), None, 10)
            .unwrap()
            .is_empty()
    );
    store.persist().unwrap();
    swept(&store);
    assert!(
        store
            .view()
            .scan(&Path::root(), None, 10)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn an_idle_store_in_memory_sweeps_by_itself() {
    let store = RowStore::memory(RowSettings {
        sweep_rows: 10,
        ..RowSettings::default()
    })
    .unwrap();
    load(&store, "/many", 1..=5);
    commit(&store, 6, &cut(""));
    assert!(
        store
            .view()
            .scan(&Path::root(), None, 10)
            .unwrap()
            .is_empty()
    );
    swept(&store);
    assert_eq!(store.stats().backlog_bytes, 0);
}

#[test]
fn a_table_that_went_and_came_again_is_read_as_fast_as_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let settings = RowSettings {
        reserve_bytes: 0,
        freeze_after: std::time::Duration::from_secs(3600),
        ..RowSettings::default()
    };
    let store = RowStore::open(dir.path(), settings).unwrap();
    let commits = ROWS / 1000;
    load(&store, "/many", 2..=commits + 1);
    store.persist().unwrap();
    commit(&store, commits + 2, &cut("/many"));
    store.persist().unwrap();
    swept(&store);
    // The engine has a note of removal for each old row now; the new ones are in memory.
    let mut again = store.begin();
    let under = path("/many");
    let seq = commits + 3;
    let rows = (0..ROWS)
        .map(|n| {
            (
                under.child_unchecked(&format!("k{:07}", 2000 + n)),
                Some(row(seq, 0)),
            )
        })
        .collect();
    let changes = RowChanges {
        rows,
        cuts: Vec::new(),
    };
    again.apply(seq, &changes, &Vec::new());
    store.publish(again);
    // One by one, as whoever reads a table of documents does: quadratic, this takes minutes.
    let view = store.view();
    let (mut count, mut last) = (0, None::<Path>);
    loop {
        let after = last.as_ref().map(|last| (last, Skip::Subtree));
        let Some((path, _)) = view.scan(&under, after, 1).unwrap().pop() else {
            break;
        };
        count += 1;
        last = Some(path);
    }
    assert_eq!(count, ROWS);
}
