//! A disk that fills up: a small tmpfs, mounted where the machine allows it.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};
use tempfile::TempDir;

/// A folder with room for so many bytes and no more. Dropping it unmounts it.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts a tmpfs of this size.
    ///
    /// # Errors
    /// Mounting is not allowed here: the test that needs it says so and is skipped.
    pub fn mount(bytes: u64) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sapwood-disk-").tempdir()?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(folder.path())
            .output()?;
        if !output.status.success() {
            bail!(
                "mounting a small tmpfs is not allowed here: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(Self { folder })
    }

    /// Takes the right to write away.
    ///
    /// # Errors
    /// The system refused.
    pub fn make_read_only(&self) -> Result<()> {
        let status = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(self.path())
            .status()?;
        if !status.success() {
            bail!("the small disk could not be made read-only");
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(
            Command::new("umount")
                .arg("--lazy")
                .arg(self.folder.path())
                .status(),
        );
    }
}
