//! The folder of files beside the tree: which one it is, what it holds, and what it hides.

use std::{
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use sapwood_core::{Claims, Core};
use sapwood_http::Folder;
use sapwood_tree::{Limits, Path};
use tracing::{info, warn};

use crate::{Failure, config::Loaded};

/// So many names are listed at most; of more, the number must do.
const NAMES_LISTED_MAX: usize = 50;

/// The folder of files: the one that was named, which must be there; else `public` beside the configuration file or in
/// the working folder, whenever it is.
pub(crate) fn open(loaded: &Loaded) -> Result<Arc<Folder>, Failure> {
    let named = &loaded.config.http.public;
    let (folder, opened) = if named.is_empty() {
        let beside = loaded.file.as_deref().and_then(FilePath::parent);
        let folder = beside.unwrap_or(FilePath::new("")).join("public");
        let opened = Folder::awaited(&folder);
        (folder, opened)
    } else {
        let folder = PathBuf::from(named);
        let opened = Folder::open(&folder);
        (folder, opened)
    };
    let refused = |error: std::io::Error| {
        loaded.refuse(
            &["http", "public"],
            format!("{}: {error}", folder.display()),
        )
    };
    Ok(Arc::new(opened.map_err(refused)?))
}

/// Tells what the folder holds, now and whenever that changes, until it is aborted.
pub(crate) async fn follow(folder: Arc<Folder>, core: Core) {
    if folder.root().is_dir() {
        list(&folder, &core);
    }
    if let Err(error) = folder.follow(|folder| list(folder, &core)).await {
        warn!(%error, "can't watch the folder of files: what is added to it is served after a new start");
    }
}

fn list(folder: &Folder, core: &Core) {
    let names = folder.names();
    let shown = names.get(..NAMES_LISTED_MAX).unwrap_or(&names).join(" ");
    info!(folder = %folder.root().display(), files = names.len(), names = shown, "serving files");
    for name in names.iter().filter(|name| is_hidden(name, core)) {
        warn!(
            path = name,
            "this file hides what the tree holds there from GET"
        );
    }
}

/// Whether the default database has something at this path.
fn is_hidden(name: &str, core: &Core) -> bool {
    let path = Path::parse(name, &Limits::default()).ok();
    let database = core.database("default");
    path.zip(database).is_some_and(|(path, database)| {
        let reading = database.read(&Claims::anonymous(), &path);
        reading.is_ok_and(|reading| reading.exists().unwrap_or(false))
    })
}
