//! A process that is killed while it writes (T-D1's part in the rows).

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// Names the folder, in the process that is to be killed.
const FOLDER: &str = "SAPWOOD_ROWS_KILL";

/// How often to kill: for a release, a thousand times.
const ROUNDS: &str = "SAPWOOD_KILL_ROUNDS";

/// What commit `seq` does: any process can work it out.
fn history(seq: u64) -> (RowChanges, Private) {
    let at = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let (group, place) = (at % 5, at / 5 % 200);
    let private = vec![(
        Bytes::copy_from_slice(&[7, (at % 11) as u8]),
        (!at.is_multiple_of(3)).then(|| Bytes::from(seq.to_string())),
    )];
    let changes = match at % 50 {
        0 => cut(&format!("/{group}")),
        1..10 => RowChanges {
            rows: vec![(path(&format!("/{group}/{place}")), None)],
            cuts: Vec::new(),
        },
        _ => put(seq, &format!("/{group}/{place}"), seq.cast_signed()),
    };
    (changes, private)
}

/// Not a test of its own: what the killed process does.
#[test]
fn write_until_killed() {
    let Some(dir) = std::env::var_os(FOLDER) else {
        return;
    };
    let settings = RowSettings {
        memtable_bytes: 200_000,
        sweep_rows: 20,
        ..eager()
    };
    let store = RowStore::open(dir.as_ref(), settings).unwrap();
    println!("open");
    for seq in store.applied() + 1.. {
        let (changes, private) = history(seq);
        let mut working = store.begin();
        working.apply(seq, &changes, &private);
        store.publish(working);
        if seq % 5_000 == 0 {
            store.persist().unwrap();
        }
    }
}

#[test]
fn a_killed_process_leaves_the_rows_of_some_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let rounds = std::env::var(ROUNDS).map_or(8, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::write_until_killed", "--nocapture"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(output.any(|line| line.unwrap().ends_with("open")));
        // The moment is what is varied here, not waited for.
        std::thread::sleep(Duration::from_millis(20 + 37 * round % 400));
        child.kill().unwrap();
        child.wait().unwrap();

        let store = RowStore::open(dir.path(), eager()).unwrap();
        assert!(store.applied() >= model.seq, "what was there stays there");
        for seq in model.seq + 1..=store.applied() {
            let (changes, private) = history(seq);
            model.apply(seq, &changes, &private);
        }
        assert_same(&store.view(), &model);
    }
    assert!(model.seq > 0, "something was written");
}
