//! The version of a data folder: newer ones are refused, older ones brought up to date.
//!
//! The file `FORMAT` is three lines of text (`docs/file-format.md`), so that a person can read it, too.
#![warn(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::io;
use std::path::{Path, PathBuf};

use crate::lock::LOCK_FILE;
use crate::log::disk::{CreateError, Disk, DiskFile, UNFINISHED, create_durably};
use crate::log::{DatabaseId, LogId, hint};

/// The version that this build writes, and the newest that it reads. Counted up when an older build would misread.
pub const VERSION: u32 = 1;

const NAME: &str = "FORMAT";
const TITLE: &str = "sapwood data folder";
/// No `FORMAT` file is longer.
const BYTES_MAX: usize = 4096;

/// What a data folder says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The version of all that is in it.
    pub version: u32,
    /// Tells this folder from others; drawn at random.
    pub folder: LogId,
}

/// Why a data folder is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A newer version has written it.
    #[error(
        "the data folder {} has format {version}, and this sapwood reads up to {VERSION}: run the sapwood that wrote \
         it, or a newer one",
        dir.display()
    )]
    Newer {
        /// The data folder.
        dir: PathBuf,
        /// Its version.
        version: u32,
    },
    /// There are files, and none that says they are ours.
    #[error(
        "{} is no data folder of sapwood: it has no file {NAME}, and is not empty (there is {found:?}). Choose another \
         folder, or put {NAME} back if it was lost",
        dir.display()
    )]
    NotOurs {
        /// The folder.
        dir: PathBuf,
        /// Something in it.
        found: String,
    },
    /// The file is not what any version writes.
    #[error("{} does not read as sapwood writes it: put it back from a copy of the data folder", file.display())]
    Damaged {
        /// The file `FORMAT`.
        file: PathBuf,
    },
    /// The disk did not let us.
    #[error("cannot {action} {}{}", path.display(), hint(source))]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Format {
    /// Reads what the folder `dir` says of itself. An empty folder, or none, is made a data folder.
    ///
    /// # Errors
    /// [`FormatError`]; the folder is as it was.
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, FormatError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| FormatError::Disk {
                action,
                path,
                source,
            }
        };
        disk.create_dir(dir)
            .map_err(failed("make the data folder", dir))?;
        let path = dir.join(NAME);
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Self::create(disk, dir);
            }
            Err(source) => return Err(failed("open", &path)(source)),
        };
        let text = read(&*file).map_err(failed("read", &path))?;
        match Self::parse(&text) {
            Some(format) if format.version > VERSION => Err(FormatError::Newer {
                dir: dir.to_owned(),
                version: format.version,
            }),
            // Version 1 is the first: there is nothing older to bring up to date.
            Some(format) if format.version == VERSION => Ok(format),
            Some(_) | None => Err(FormatError::Damaged { file: path }),
        }
    }

    fn create(disk: &dyn Disk, dir: &Path) -> Result<Self, FormatError> {
        let failed = |source| FormatError::Disk {
            action: "make a data folder of",
            path: dir.to_owned(),
            source,
        };
        let unfinished = format!("{NAME}{UNFINISHED}");
        let ours = [LOCK_FILE, "lost+found", &unfinished];
        let names = disk.list(dir).map_err(failed)?;
        if let Some(found) = names
            .into_iter()
            .find(|name| !ours.contains(&name.as_str()))
        {
            return Err(FormatError::NotOurs {
                dir: dir.to_owned(),
                found,
            });
        }
        let format = Self {
            version: VERSION,
            folder: LogId::random(),
        };
        let made = create_durably(disk, dir, NAME, format.encode().as_bytes());
        made.map_err(CreateError::into_source).map_err(failed)?;
        Ok(format)
    }

    /// The id of the folder's database of this name (FNV-1a over the folder's id and the name).
    #[must_use]
    pub fn database(&self, name: &str) -> DatabaseId {
        let bytes = self
            .folder
            .as_u64()
            .to_le_bytes()
            .into_iter()
            .chain(name.bytes());
        let id = bytes.fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
        DatabaseId(id)
    }

    fn encode(&self) -> String {
        format!("{TITLE}\nversion {}\nid {}\n", self.version, self.folder)
    }

    /// A newer version may say more behind these lines.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let version = lines.next()?.strip_prefix("version ")?.parse().ok()?;
        let folder = lines
            .next()
            .and_then(|line| line.strip_prefix("id ")?.parse().ok());
        match folder {
            Some(folder) => Some(Self { version, folder }),
            None if version > VERSION => Some(Self {
                version,
                folder: LogId::from_u64(0),
            }),
            None => None,
        }
    }
}

fn read(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut text = vec![0; BYTES_MAX];
    let mut filled = 0;
    while let Some(rest) = text.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    text.truncate(filled);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Dice, FaultDisk};

    fn open(disk: &FaultDisk) -> Result<Format, FormatError> {
        Format::open(disk, Path::new("data"))
    }

    fn refused(text: &str) -> String {
        let disk = FaultDisk::new();
        disk.put(Path::new("data/FORMAT"), text.as_bytes().to_vec());
        let error = open(&disk).unwrap_err();
        assert_eq!(
            disk.content(Path::new("data/FORMAT")),
            text.as_bytes(),
            "a refusal changes nothing"
        );
        error.to_string()
    }

    #[test]
    fn a_data_folder_is_known_again() {
        let disk = FaultDisk::new();
        let format = open(&disk).unwrap();
        assert_eq!(format.version, VERSION);
        assert_eq!(open(&disk).unwrap(), format);
        assert_eq!(
            format.database("default"),
            open(&disk).unwrap().database("default")
        );
        assert_ne!(format.database("default"), format.database("other"));
        assert_ne!(
            format.database("default"),
            open(&FaultDisk::new()).unwrap().database("default")
        );
    }

    #[test]
    fn a_newer_format_is_refused_by_a_sentence() {
        for rest in [
            "",
            "id 00000000001\nmore to say\n",
            "another idea of an id\n",
        ] {
            let sentence = refused(&format!("sapwood data folder\nversion 2\n{rest}"));
            assert!(
                sentence.contains("has format 2, and this sapwood reads up to 1"),
                "{sentence}"
            );
        }
    }

    #[test]
    fn what_no_version_wrote_is_refused() {
        for text in [
            "",
            "x",
            "sapwood data folder\nversion 1\n",
            "sapwood data folder\nversion 0\nid 00000000001\n",
        ] {
            assert!(
                refused(text).contains("does not read as sapwood writes it"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn somebody_elses_folder_is_left_alone() {
        let disk = FaultDisk::new();
        disk.put(Path::new("data/thesis.txt"), Vec::new());
        let sentence = open(&disk).unwrap_err().to_string();
        assert!(sentence.contains("thesis.txt"), "{sentence}");
        assert_eq!(disk.files(), [Path::new("data/thesis.txt")]);
    }

    #[test]
    fn a_folder_whose_making_was_cut_short_is_made_again() {
        for flush in 0..2 {
            for seed in 0..50 {
                let disk = FaultDisk::new();
                disk.stop_before_flush(flush);
                assert!(open(&disk).is_err());
                let mut dice = Dice::new(seed);
                open(&disk.power_off(true, &mut |count| dice.below(count))).unwrap();
            }
        }
    }
}
