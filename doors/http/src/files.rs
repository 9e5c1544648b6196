//! The folder of files that GET serves.
//!
//! Names are listed at start and as they change; no request ever makes a file name. What begins with a dot and what
//! is a symbolic link is not listed. The folder itself may come later, go, and come again.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::stream;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use percent_encoding::percent_decode_str;
use sapwood_net::http::Body;
use tokio::sync::mpsc;

use crate::etag::TagList;
use crate::respond;

/// Most files that are listed; a folder with more is a mistake.
const FILES_MAX: usize = 100_000;

/// A folder whose files are served.
pub struct Folder {
    root: PathBuf,
    names: ArcSwap<Names>,
}

/// The files by the path of their URL, decoded.
type Names = HashMap<String, Arc<Listed>>;

/// A file that was listed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    path: PathBuf,
    media_type: String,
}

impl Folder {
    /// Lists a folder.
    ///
    /// # Errors
    /// If it is not there, or can't be read.
    pub fn open(root: &FsPath) -> io::Result<Self> {
        fs::read_dir(root)?;
        Self::awaited(root)
    }

    /// The same of a folder that may not be there yet: then it has no files.
    ///
    /// # Errors
    /// If it is there, and can't be read.
    pub fn awaited(root: &FsPath) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        let names = list(&root)?;
        Ok(Self {
            root,
            names: ArcSwap::from_pointee(names),
        })
    }

    /// The folder.
    pub fn root(&self) -> &FsPath {
        &self.root
    }

    /// The URL paths of its files, decoded, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.load().keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Follows the folder's changes until the task is dropped; tells `listed` each time that the list is new.
    ///
    /// # Errors
    /// If the system can't watch it. The list stays as it was then.
    pub async fn follow(&self, mut listed: impl FnMut(&Self)) -> io::Result<()> {
        /// How often the folder itself is looked for: nothing tells that it comes.
        const LOOK: Duration = Duration::from_secs(1);
        const SETTLE: Duration = Duration::from_millis(100);
        let mut watch: Option<Watch> = None;
        loop {
            let there = self.blocking(identity).await?;
            if there != watch.as_ref().and_then(Watch::identity) {
                watch = match there {
                    Some(identity) => Watch::begin(&self.root, identity)?,
                    None => None,
                };
                self.list_again(&mut listed).await?;
            }
            let Some(watch) = &mut watch else {
                tokio::time::sleep(LOOK).await;
                continue;
            };
            match tokio::time::timeout(LOOK, watch.changes.recv()).await {
                Ok(Some(())) => {
                    tokio::time::sleep(SETTLE).await; // several files change together, most often
                    while watch.changes.try_recv().is_ok() {}
                    self.list_again(&mut listed).await?;
                }
                Ok(None) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(_) => {}
            }
        }
    }

    async fn list_again(&self, listed: &mut impl FnMut(&Self)) -> io::Result<()> {
        match self.blocking(list).await? {
            Ok(names) if names != **self.names.load() => {
                self.names.store(Arc::new(names));
                listed(self);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, folder = %self.root.display(), "cannot list the folder of files, the list stays");
            }
        }
        Ok(())
    }

    /// Looks at the disk where that holds up nobody.
    async fn blocking<T: Send + 'static>(
        &self,
        look: impl FnOnce(&FsPath) -> T + Send + 'static,
    ) -> io::Result<T> {
        let root = self.root.clone();
        tokio::task::spawn_blocking(move || look(&root))
            .await
            .map_err(io::Error::other)
    }

    /// The file at a URL's path. For a path that ends in a slash that is its `index.html`, if a page is wanted.
    pub(crate) fn find(
        &self,
        url_path: &str,
        wants_page: impl FnOnce() -> bool,
    ) -> Option<Arc<Listed>> {
        let names = self.names.load();
        if names.is_empty() {
            return None;
        }
        let decoded = percent_decode_str(url_path).decode_utf8().ok()?;
        if decoded.ends_with('/') {
            let file = names.get(&format!("{decoded}index.html"))?;
            return wants_page().then(|| Arc::clone(file));
        }
        names.get(&*decoded).cloned()
    }
}

/// Which folder this is, if there is one: another of the same name is not.
fn identity(root: &FsPath) -> Option<(u64, u64)> {
    let metadata = fs::metadata(root).ok().filter(Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

/// The system's word that something changes in a folder that is there.
struct Watch {
    identity: (u64, u64),
    /// The folder has gone, or has another name: the watch hears no more of it.
    over: Arc<AtomicBool>,
    changes: mpsc::Receiver<()>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// None if the folder has gone again.
    fn begin(root: &FsPath, identity: (u64, u64)) -> io::Result<Option<Self>> {
        let (changed, changes) = mpsc::channel(1);
        let over = Arc::new(AtomicBool::new(false));
        let (sign, folder) = (Arc::clone(&over), root.to_owned());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            if event.is_ok_and(|event| is_end_of(&folder, &event)) {
                sign.store(true, Ordering::Relaxed);
            }
            // One that waits already stands for this one, too.
            let _waits_already = changed.try_send(());
        })
        .map_err(io::Error::other)?;
        match watcher.watch(root, RecursiveMode::Recursive) {
            Ok(()) => Ok(Some(Self {
                identity,
                over,
                changes,
                _watcher: watcher,
            })),
            Err(_) if !root.is_dir() => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn identity(&self) -> Option<(u64, u64)> {
        (!self.over.load(Ordering::Relaxed)).then_some(self.identity)
    }
}

/// Whether the folder itself was removed or renamed.
fn is_end_of(folder: &FsPath, event: &Event) -> bool {
    let ends = matches!(
        event.kind,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
    );
    ends && event.paths.iter().any(|path| path == folder)
}

/// The files of a folder; none if there is no folder.
fn list(root: &FsPath) -> io::Result<Names> {
    let mut names = Names::new();
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, url)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let url = format!("{url}/{name}");
            if kind.is_dir() {
                folders.push((entry.path(), url));
            } else if kind.is_file() && names.len() < FILES_MAX {
                let media_type = media_type(&name);
                names.insert(
                    url,
                    Arc::new(Listed {
                        path: entry.path(),
                        media_type,
                    }),
                );
            }
        }
    }
    Ok(names)
}

fn media_type(name: &str) -> String {
    let guess = mime_guess::from_path(name).first_or_octet_stream();
    let is_text = guess.type_() == "text"
        || matches!(
            guess.essence_str(),
            "application/json" | "application/javascript" | "image/svg+xml"
        );
    if is_text {
        format!("{guess}; charset=utf-8")
    } else {
        guess.to_string()
    }
}

impl Listed {
    /// Answers a GET or a HEAD with the file.
    pub(crate) async fn answer(self: Arc<Self>, headers: &HeaderMap) -> Response<Body> {
        let listed = Arc::clone(&self);
        let opened = tokio::task::spawn_blocking(move || open(&listed.path)).await;
        let Ok(Ok(opened)) = opened else {
            // It went between the listing and now.
            return respond::problem(&crate::problem::Problem::new(
                &crate::problem::NOT_FOUND,
                "the file is gone",
            ));
        };
        let tag = tag(&opened.metadata);
        let mut response = if is_known(headers, &tag) {
            respond::empty(StatusCode::NOT_MODIFIED)
        } else {
            let mut response = respond::empty(StatusCode::OK);
            *response.body_mut() = opened.body;
            response.headers_mut().insert(
                header::CONTENT_LENGTH,
                HeaderValue::from(opened.metadata.len()),
            );
            respond::set(&mut response, header::CONTENT_TYPE, self.media_type.clone());
            response
        };
        respond::set(&mut response, header::ETAG, format!("\"{tag}\""));
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(modified) = opened.metadata.modified() {
            respond::set(
                &mut response,
                header::LAST_MODIFIED,
                httpdate::fmt_http_date(modified),
            );
        }
        response
    }
}

struct Opened {
    metadata: Metadata,
    body: Body,
}

const PIECE_BYTES: usize = 64 * 1024;

fn open(path: &FsPath) -> io::Result<Opened> {
    // What was listed may have become something else since.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() > PIECE_BYTES as u64 {
        return Ok(Opened {
            body: pieces(file, metadata.len()),
            metadata,
        });
    }
    let mut bytes = Vec::new();
    file.by_ref().take(metadata.len()).read_to_end(&mut bytes)?;
    let body = if bytes.len() as u64 == metadata.len() {
        Body::from(bytes)
    } else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    Ok(Opened { metadata, body })
}

/// A large file, piece by piece: as many bytes as were promised.
fn pieces(file: File, length: u64) -> Body {
    Body::stream(stream::unfold(Some((file, length)), |state| async move {
        let (mut file, left) = state.filter(|(_, left)| *left > 0)?;
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![
                0;
                usize::try_from(left)
                    .unwrap_or(PIECE_BYTES)
                    .min(PIECE_BYTES)
            ];
            file.read_exact(&mut bytes)?;
            Ok((Bytes::from(bytes), file))
        });
        match read.await {
            Ok(Ok((bytes, file))) => {
                let left = left - bytes.len() as u64;
                Some((Ok(bytes), Some((file, left))))
            }
            Ok(Err(error)) => Some((Err(error), None)),
            Err(error) => Some((Err(io::Error::other(error)), None)),
        }
    }))
}

fn tag(metadata: &Metadata) -> String {
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    format!("f{:x}-{:x}", modified.as_nanos(), metadata.len())
}

fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let fields = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .map(|field| field.as_bytes());
    match TagList::parse("If-None-Match", fields) {
        Ok(Some(TagList::Any)) => true,
        Ok(Some(TagList::Tags(tags))) => tags.iter().any(|given| given.opaque == tag),
        Ok(None) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `change`; gives the names once the follower has told of new ones.
    fn told(names: &std::sync::mpsc::Receiver<Vec<String>>, change: impl FnOnce()) -> Vec<String> {
        change();
        names.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    #[test]
    fn a_folder_that_comes_later_goes_and_comes_again_is_followed() {
        let dir = std::env::temp_dir().join(format!("sapwood-late-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let root = dir.join("public");
        assert!(Folder::open(&root).is_err());
        let folder = Folder::awaited(&root).unwrap();
        assert!(folder.names().is_empty());
        let (tell, names) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let listed = |folder: &Folder| drop(tell.send(folder.names()));
            folder.follow(listed).await
        });
        let make = || {
            fs::create_dir(&root).unwrap();
            fs::write(root.join("a.txt"), "a").unwrap();
        };
        assert_eq!(told(&names, make), ["/a.txt"]);
        let add = || fs::write(root.join("b.txt"), "b").unwrap();
        assert_eq!(told(&names, add), ["/a.txt", "/b.txt"]);
        let away = || fs::rename(&root, dir.join("away")).unwrap();
        assert_eq!(told(&names, away), [""; 0]);
        assert_eq!(told(&names, make), ["/a.txt"]);
        // Another one under the same name, at once: the system may give it the same number.
        fs::remove_dir_all(&root).unwrap();
        make();
        let mut seen = told(&names, || fs::write(root.join("c.txt"), "c").unwrap());
        while seen.len() < 2 {
            seen = told(&names, || ());
        }
        assert_eq!(seen, ["/a.txt", "/c.txt"]);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_what_is_listed_is_found() {
        let dir = std::env::temp_dir().join(format!("sapwood-files-{}", std::process::id()));
        fs::create_dir_all(dir.join("sub")).unwrap();
        for name in ["a b.txt", "index.html", "sub/x.js", ".secret"] {
            fs::write(dir.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", dir.join("link")).unwrap();
        let folder = Folder::open(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(folder.names(), ["/a b.txt", "/index.html", "/sub/x.js"]);
        assert!(folder.find("/a%20b.txt", || false).is_some());
        assert!(folder.find("/", || true).is_some());
        assert!(folder.find("/", || false).is_none());
        for path in [
            "/.secret",
            "/link",
            "/sub",
            "/sub/../index.html",
            "/sub/%2e%2e/index.html",
            "//index.html",
            "/../etc/passwd",
            "/%00",
        ] {
            assert!(folder.find(path, || true).is_none(), "{path}");
        }
    }
}
