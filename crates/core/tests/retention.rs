//! That the change log gets small again.

#![allow(clippy::unwrap_used, reason = "a test fails where it does")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{done, put};
use sapwood_core::{Core, CoreSettings, Durability, LogSettings};

fn segments(log: &Path) -> usize {
    std::fs::read_dir(log).unwrap().count()
}

#[tokio::test]
async fn a_log_of_values_written_over_shrinks_to_what_is_to_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = CoreSettings::folder(folder.path().to_owned());
    settings.durability = Durability::Interval;
    settings.log = LogSettings {
        segment_bytes: 64 << 10,
        keep_bytes: 128 << 10,
        ..LogSettings::default()
    };
    let core = Core::open(settings).unwrap();
    let database = core.database("default").unwrap();
    let text = format!("\"{}\"", "x".repeat(30_000));
    for _ in 0..300 {
        done(&database, [put("/a", &text)]).await;
    }
    let log = folder.path().join("databases/default/log");
    assert!(segments(&log) > 100);
    let began = Instant::now();
    while segments(&log) > 8 {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(database);
    core.close();
}
