//! A library that makes every flush cost a given time: preloaded, it stands between the server and the disk.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

/// The variable that says how many milliseconds a flush takes.
pub const FLUSH_MS_VARIABLE: &str = "SLOW_FLUSH_MS";

const SOURCE: &str = include_str!("slow_flush.c");

/// Compiles the library into `folder` with the machine's C compiler. Name it in `LD_PRELOAD`.
///
/// # Errors
/// There is no C compiler, or it refused.
pub fn slow_flush_library(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("slow_flush.c"), folder.join("libslow_flush.so"));
    std::fs::write(&source, SOURCE)?;
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status()?;
    if !status.success() {
        bail!("cc refused {}", source.display());
    }
    Ok(library)
}
