//! A Unix socket as a file: made with its permissions, put in the place of one that nobody listens at, and removed at the end.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use tokio::net::{UnixListener, UnixSocket};

/// Where a Unix socket is to be, and who may connect to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFile {
    /// Its path.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
}

/// Why there is no Unix socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A program listens there.
    #[error("another program listens at {}", .0.display())]
    InUse(PathBuf),
    /// What lies there was not put there by a server, and stays.
    #[error("{} is there, and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen at {}: {source}", path.display())]
    System {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// An open Unix socket. Dropping it removes the file, if it still is this one's.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file.
    file: (u64, u64),
}

impl Listening {
    pub(crate) fn open(file: &SocketFile, backlog: u32) -> Result<Self, SocketError> {
        let path = &file.path;
        let failed = |source| SocketError::System {
            path: path.clone(),
            source,
        };
        make_room(path)?;
        let socket = UnixSocket::new_stream().map_err(failed)?;
        // Before there is a file, so that it never lets in more than it is to.
        fchmod(&socket, Mode::from_raw_mode(file.mode)).map_err(|error| failed(error.into()))?;
        socket.bind(path).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => SocketError::InUse(path.clone()), // somebody was faster
            _ => failed(error),
        })?;
        let made = fs::symlink_metadata(path).map_err(failed)?;
        let listener = socket.listen(backlog).map_err(failed)?;
        let listening = Self {
            listener,
            path: path.clone(),
            file: (made.dev(), made.ino()),
        };
        // The process's umask may have taken some of it.
        fs::set_permissions(path, Permissions::from_mode(file.mode)).map_err(failed)?;
        Ok(listening)
    }

    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == self.file);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

/// Removes the socket of a server that is gone, and nothing else.
fn make_room(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::System {
        path: path.to_owned(),
        source,
    };
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !there.file_type().is_socket() {
        return Err(SocketError::NoSocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        // Nobody listens.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // One that may not be entered, is full, or speaks otherwise, is somebody's, too.
        Ok(_) | Err(_) => Err(SocketError::InUse(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir) -> SocketFile {
        SocketFile {
            path: folder.path().join("socket"),
            mode: 0o660,
        }
    }

    #[tokio::test]
    async fn a_socket_has_its_permissions_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let listening = Listening::open(&file, 1).unwrap();
        let mode = fs::metadata(&file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        drop(listening);
        assert!(!file.path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_at_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        // The standard library leaves the file where it is, as a killed process does.
        drop(std::os::unix::net::UnixListener::bind(&file.path).unwrap());
        assert!(file.path.exists());
        let _listening = Listening::open(&file, 1).unwrap();
        assert!(UnixStream::connect(&file.path).is_ok());
    }

    #[tokio::test]
    async fn a_socket_that_somebody_listens_at_is_left_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let first = Listening::open(&file, 1).unwrap();
        let error = Listening::open(&file, 1).unwrap_err();
        assert!(matches!(error, SocketError::InUse(_)), "{error}");
        assert!(UnixStream::connect(&file.path).is_ok());
        drop(first);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        fs::write(&file.path, "a letter").unwrap();
        let error = Listening::open(&file, 1).unwrap_err();
        assert!(matches!(error, SocketError::NoSocket(_)), "{error}");
        assert_eq!(fs::read_to_string(&file.path).unwrap(), "a letter");
        // Also a link, wherever it leads.
        let link = SocketFile {
            path: folder.path().join("link"),
            mode: 0o660,
        };
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &link.path).unwrap();
        let error = Listening::open(&link, 1).unwrap_err();
        assert!(matches!(error, SocketError::NoSocket(_)), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_another_has_replaced_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder);
        let first = Listening::open(&file, 1).unwrap();
        fs::rename(&file.path, folder.path().join("moved")).unwrap();
        let second = Listening::open(&file, 1).unwrap();
        drop(first);
        assert!(UnixStream::connect(&file.path).is_ok());
        drop(second);
    }
}
