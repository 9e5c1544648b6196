//! One process per data folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::log::hint;

/// The file that is locked; it stays when the lock goes.
pub const LOCK_FILE: &str = "lock";

/// Holds a data folder for this process, until dropped or until the process ends, however it does.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Why the folder was not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error(
        "the data folder {} is in use by another sapwood{}: stop that one first, or choose another folder",
        dir.display(), process.map(|id| format!(" (process {id})")).unwrap_or_default()
    )]
    Taken {
        /// The data folder.
        dir: PathBuf,
        /// Its process id, if it has told.
        process: Option<u32>,
    },
    /// The disk did not let us.
    #[error("cannot lock the data folder {}{}", dir.display(), hint(source))]
    Disk {
        /// The data folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FolderLock {
    /// Locks the folder `dir`, which exists.
    ///
    /// # Errors
    /// [`LockError`]
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Disk {
            dir: dir.to_owned(),
            source,
        };
        let path = dir.join(LOCK_FILE);
        // Not truncated on opening: it may be another's, and says whose.
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let mut file = options.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Taken {
                    dir: dir.to_owned(),
                    process: owner(&mut file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        match note_owner(&mut file) {
            // The number is a help to people; a full disk does not stop a start.
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "the lock file does not say whose it is"),
        }
        Ok(Self { _file: file })
    }
}

fn note_owner(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_once_and_the_second_is_told_by_whom() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        let error = FolderLock::take(folder.path()).unwrap_err();
        let sentence = error.to_string();
        assert!(
            sentence.contains(&folder.path().display().to_string()),
            "{sentence}"
        );
        assert!(
            sentence.contains(&format!("process {}", std::process::id())),
            "{sentence}"
        );
        drop(lock);
        FolderLock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = FolderLock::take(Path::new("/no/such/folder")).unwrap_err();
        assert!(error.to_string().contains("/no/such/folder"), "{error}");
    }
}
