//! Readers on other threads, while everything moves.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const PLACES: usize = 20;

/// Commit `seq` writes its number at every place; every tenth cuts first, so that the rows are new ones.
fn everywhere(seq: u64) -> RowChanges {
    let rows = (0..PLACES)
        .map(|n| {
            (
                path(&format!("/all/{n}")),
                Some(row(seq, seq.cast_signed())),
            )
        })
        .collect();
    RowChanges {
        rows,
        cuts: if seq.is_multiple_of(10) {
            vec![path("/all")]
        } else {
            Vec::new()
        },
    }
}

fn assert_whole(view: &View) {
    let wanted = view.seq();
    let rows = view.scan(&path("/all"), None, 100).unwrap();
    assert_eq!(
        rows.len(),
        if wanted == 0 { 0 } else { PLACES },
        "at {wanted}"
    );
    assert!(
        rows.iter().all(|(_, row)| row.written == wanted),
        "at {wanted}"
    );
    for n in 0..PLACES {
        let row = view.row(&path(&format!("/all/{n}"))).unwrap();
        assert_eq!(row.map_or(0, |row| row.written), wanted, "/all/{n}");
    }
}

#[test]
fn a_view_shows_one_commit_whatever_happens_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = RowStore::open(dir.path(), eager()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let handle = store.handle();
            let done = &done;
            scope.spawn(move || {
                let mut last = 0;
                let mut held = handle.view();
                while !done.load(Ordering::Relaxed) {
                    let view = handle.view();
                    assert!(view.seq() >= last, "views do not go back");
                    last = view.seq();
                    assert_whole(&view);
                    assert_whole(&held);
                    if last > held.seq() + 50 {
                        held = view;
                    }
                }
            });
        }
        for seq in 1..=400 {
            assert_whole(&commit(&store, seq, &everywhere(seq)));
        }
        done.store(true, Ordering::Relaxed);
    });
}
