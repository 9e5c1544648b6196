//! Data folders that can't be opened, and what is said about them.

#![allow(clippy::unwrap_used, reason = "a test fails where it does")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{done, put};
use sapwood_core::{Core, CoreSettings, OpenError};

/// Writes so many commits, and leaves the folder in good order.
async fn used(data: &Path, commits: usize) {
    let core = Core::open(CoreSettings::folder(data.to_owned())).unwrap();
    let database = core.database("default").unwrap();
    for n in 0..commits {
        done(&database, [put(&format!("/a/{n}"), "1")]).await;
    }
    drop(database);
    core.close();
}

fn refused(data: &Path) -> OpenError {
    match Core::open(CoreSettings::folder(data.to_owned())) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_log_that_ends_before_its_rows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    used(&data, 3).await;
    let log = data.join("databases/default/log");
    let older = folder.path().join("older");
    let copied = Command::new("cp").arg("-r").args([&log, &older]).status();
    assert!(copied.unwrap().success());
    used(&data, 5).await;
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::rename(&older, &log).unwrap();
    let error = refused(&data);
    let OpenError::Short { last, applied, .. } = &error else {
        panic!("{error}");
    };
    assert!(last < applied, "{error}");
    let text = error.to_string();
    assert!(
        text.contains(log.to_str().unwrap()) && text.contains("restore a backup"),
        "{text}"
    );
}

#[test]
fn a_file_in_the_way_of_the_data_folder_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    std::fs::write(&file, "").unwrap();
    for data in [file.clone(), file.join("below")] {
        let text = refused(&data).to_string();
        assert!(
            text.contains(data.to_str().unwrap())
                && text.contains("in the way")
                && text.contains("--data"),
            "{text}"
        );
    }
}
