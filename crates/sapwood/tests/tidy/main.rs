//! The repository's own rules: what may depend on what, what may be built in, and that the manual tells the truth.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod configuration;
mod dependencies;
mod layout;
mod limits;
mod links;

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
