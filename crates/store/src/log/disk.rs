//! The few file operations that the log is made of, so that tests can put a faulty disk in their place.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Something with bytes at offsets.
pub trait ReadAt {
    /// Reads into `buffer` from `offset`: some bytes at least, none only at the end.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// How many bytes there are.
    ///
    /// # Errors
    /// The system's.
    fn size(&self) -> io::Result<u64>;
}

/// An open file.
pub trait DiskFile: ReadAt + fmt::Debug + Send + Sync {
    /// Writes some of `bytes` at `offset`, and says how many.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Cuts the file off, or fills it up with zeros.
    ///
    /// # Errors
    /// The system's.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes the content and the size durable, but not the name.
    ///
    /// # Errors
    /// The system's; afterwards nobody knows what of the content is durable, whatever a second call says.
    fn sync(&self) -> io::Result<()>;

    /// When the file was last written.
    ///
    /// # Errors
    /// The system's.
    fn modified(&self) -> io::Result<SystemTime>;
}

/// A place for files. Names become durable with [`sync_dir`](Disk::sync_dir) only.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes a folder, and those above it, where they are missing.
    ///
    /// # Errors
    /// The system's.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes an empty file, in the place of one that was there.
    ///
    /// # Errors
    /// The system's.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file to read and write.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, in the place of a file that had it.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a file's name away.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The machine's own disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(dir)?;
        dir.parent().map_or(Ok(()), |above| self.sync_dir(above))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        std::fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(
            OpenOptions::new().read(true).write(true).open(path)?,
        ))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // The folder above `data` is the empty path, which is to say this one.
        let dir = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        File::open(dir)?.sync_all()
    }
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.metadata()?.modified()
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// Writes all of `bytes`. After an error some of them may be there.
pub(crate) fn write_all_at(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match file.write_at(rest, offset + (bytes.len() - rest.len()) as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What failed of [`create_durably`].
#[derive(Debug)]
pub(crate) enum CreateError {
    /// There is no such file; all is as before.
    Nothing(io::Error),
    /// A flush or the renaming failed: nobody knows what is there.
    Unknown(io::Error),
}

impl CreateError {
    pub(crate) fn into_source(self) -> io::Error {
        match self {
            Self::Nothing(source) | Self::Unknown(source) => source,
        }
    }
}

/// How a file is called until it is whole.
pub(crate) const UNFINISHED: &str = ".new";

/// Makes a file that is there whole or not at all, whenever the power goes: write, flush, rename, flush the folder.
pub(crate) fn create_durably(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    content: &[u8],
) -> Result<Arc<dyn DiskFile>, CreateError> {
    let unfinished = dir.join(format!("{name}{UNFINISHED}"));
    let file = disk.create(&unfinished).map_err(CreateError::Nothing)?;
    if let Err(stopped) = write_all_at(&*file, content, 0) {
        if let Err(error) = disk.remove(&unfinished) {
            tracing::warn!(file = %unfinished.display(), %error, "cannot remove an unfinished file");
        }
        return Err(CreateError::Nothing(stopped));
    }
    file.sync().map_err(CreateError::Unknown)?;
    disk.rename(&unfinished, &dir.join(name))
        .map_err(CreateError::Unknown)?;
    disk.sync_dir(dir).map_err(CreateError::Unknown)?;
    Ok(file)
}

/// Whether the error says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
