//! The whole: all databases of a server, opened from one folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use sapwood_store::format::{Format, FormatError};
use sapwood_store::lock::{FolderLock, LockError};
use sapwood_store::log::disk::RealDisk;
use sapwood_store::log::{self, CommitLog, CommitSeq, MemoryLog, SegmentLog, SegmentSettings};
use sapwood_store::rows::View;
use sapwood_store::rows::{self, RowStore};
use sapwood_tree::{Declared, Op, OpKind, Path, Pattern, RowsError, Settings};
use sapwood_value::Text;

use crate::codec;
use crate::commit;
use crate::database::{Database, Parts};
use crate::decode_room::DecodeRoom;
use crate::lease::{DECLARED_KEY, Effect};
use crate::replay::Replay;
use crate::settings::{CoreSettings, DatabaseSettings, Durability};

/// How long a write may be lost at [`Durability::Interval`].
const FLUSH_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// All databases of a server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Core(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    databases: BTreeMap<String, Database>,
    /// Held as long as anything may write to it.
    _folder: Option<Folder>,
}

/// The data folder, locked.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    format: Format,
    _lock: FolderLock,
}

/// Why the server could not open its data. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Somebody else has the folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The folder's format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A database's name that can't be one.
    #[error(
        "a database's name has 1 to 64 small letters, digits, - and _, is no number and not localhost, and {name:?} is none"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A declared resource that is none.
    #[error("database {database}: {pattern:?} is no resource")]
    Resource {
        /// The database.
        database: String,
        /// The pattern.
        pattern: String,
        /// Why.
        source: sapwood_tree::PatternError,
    },
    /// The commit log.
    #[error("database {database}: {source}")]
    Log {
        /// The database.
        database: String,
        /// Why.
        source: log::OpenError,
    },
    /// The rows.
    #[error("database {database}: {source}")]
    Rows {
        /// The database.
        database: String,
        /// Why.
        source: rows::OpenError,
    },
    /// The rows don't fit the log.
    #[error("database {database}: the rows in {} are at commit {applied}, and the log begins after it, at {first}: restore a backup", dir.display())]
    Apart {
        /// The database.
        database: String,
        /// The rows' folder.
        dir: PathBuf,
        /// The commit that the rows have.
        applied: u64,
        /// The first commit in the log.
        first: u64,
    },
    /// The log ends before the rows do.
    #[error("database {database}: the commit log in {} ends at {last}, and the rows have commits up to {applied}: a file of the log is missing or was cut; put it back, or restore a backup", dir.display())]
    Short {
        /// The database.
        database: String,
        /// The log's folder.
        dir: PathBuf,
        /// The last commit in the log.
        last: u64,
        /// The commit that the rows have.
        applied: u64,
    },
    /// A commit could not be replayed.
    #[error("database {database}: commit {seq} could not be replayed: {reason}")]
    Replay {
        /// The database.
        database: String,
        /// The commit.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// The system.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// What it said.
        source: std::io::Error,
    },
}

impl Core {
    /// Opens all databases. The state of each is that of its whole log; the sessions of before have ended.
    ///
    /// # Errors
    /// [`OpenError`], with a text that says what to do.
    pub fn open(settings: CoreSettings) -> Result<Self, OpenError> {
        let data = settings
            .data
            .clone()
            .filter(|_| settings.durability != Durability::Memory);
        let folder = match &data {
            Some(data) => {
                std::fs::create_dir_all(data).map_err(|source| no_folder(data, source))?;
                let lock = FolderLock::take(data)?;
                let format = Format::open(&RealDisk, data)?;
                Some(Folder {
                    path: data.clone(),
                    format,
                    _lock: lock,
                })
            }
            None => None,
        };
        let mut databases = BTreeMap::new();
        let decoding = DecodeRoom::new(&settings.limits);
        let default = DatabaseSettings {
            name: "default".to_owned(),
            declared: Vec::new(),
        };
        let named = settings
            .databases
            .iter()
            .any(|database| database.name == default.name);
        for database in settings
            .databases
            .iter()
            .chain((!named).then_some(&default))
        {
            let opened = open_database(&settings, folder.as_ref(), database, decoding.clone())?;
            databases.insert(database.name.clone(), opened);
        }
        Ok(Self(Arc::new(Inner {
            databases,
            _folder: folder,
        })))
    }

    /// A database by its name.
    pub fn database(&self, name: &str) -> Option<Database> {
        self.0.databases.get(name).cloned()
    }

    /// All databases, by name.
    pub fn databases(&self) -> impl Iterator<Item = &Database> {
        self.0.databases.values()
    }

    /// Whether every database takes writes.
    pub fn is_ready(&self) -> bool {
        self.databases().all(Database::is_writable)
    }

    /// Stops all databases; everything that was answered is on disk when this returns. Blocking; to be called
    /// when the doors have closed.
    pub fn close(&self) {
        self.databases().for_each(Database::stop);
    }
}

fn open_database(
    settings: &CoreSettings,
    folder: Option<&Folder>,
    database: &DatabaseSettings,
    decoding: DecodeRoom,
) -> Result<Database, OpenError> {
    let name = &database.name;
    if !is_name(name) {
        return Err(OpenError::Name { name: name.clone() });
    }
    let tree = tree_settings(settings, database)?;
    let (mut log, store) = match folder {
        Some(folder) => open_files(settings, folder, name, &tree)?,
        None => {
            let store = RowStore::memory(settings.rows)
                .map_err(|source| io("cannot start a thread".to_owned(), source))?;
            let log: Box<dyn CommitLog> = Box::new(MemoryLog::new(settings.log.recent_bytes * 4));
            (log, store)
        }
    };
    declare(&mut *log, &store, &tree, settings, name)?;
    let parts = Parts {
        name: name.clone(),
        log,
        store,
        gate: settings.gate.clone(),
        tree,
        limits: settings.limits,
        retention: settings.log,
        clock: Arc::clone(&settings.clock),
        decoding,
    };
    Database::start(parts).map_err(|source| io(format!("cannot start database {name}"), source))
}

fn tree_settings(
    settings: &CoreSettings,
    database: &DatabaseSettings,
) -> Result<Settings, OpenError> {
    let limits = sapwood_tree::Limits {
        depth: settings.limits.depth_max,
        segment_bytes: settings.limits.segment_bytes_max,
        value_bytes: settings.limits.value_bytes_max,
        string_bytes: settings.limits.string_bytes_max,
    };
    let patterns = database.declared.iter().map(|pattern| {
        Pattern::parse(pattern, &limits).map_err(|source| OpenError::Resource {
            database: database.name.clone(),
            pattern: pattern.clone(),
            source,
        })
    });
    let declared = Declared::new(patterns.collect::<Result<Vec<_>, _>>()?);
    Ok(Settings {
        split_bytes: settings.split_bytes,
        declared,
        limits,
        ..Settings::default()
    })
}

/// Opens log and rows of a database, and brings the rows up to the log.
fn open_files(
    settings: &CoreSettings,
    folder: &Folder,
    name: &str,
    tree: &Settings,
) -> Result<(Box<dyn CommitLog>, RowStore), OpenError> {
    let dir = folder.path.join("databases").join(name);
    let rows_dir = dir.join("rows");
    let log_dir = dir.join("log");
    std::fs::create_dir_all(&rows_dir)
        .map_err(|source| io(format!("cannot make {}", rows_dir.display()), source))?;
    let in_log = |source| OpenError::Log {
        database: name.to_owned(),
        source,
    };
    let of_rows = |source| OpenError::Rows {
        database: name.to_owned(),
        source,
    };
    let durability = match settings.durability {
        Durability::Sync | Durability::Memory => log::Durability::Sync,
        Durability::Interval => log::Durability::Interval(FLUSH_EVERY),
    };
    let log_settings = SegmentSettings {
        durability,
        segment_bytes: settings.log.segment_bytes,
        ..SegmentSettings::new(folder.format.database(name))
    };
    let disk = Arc::new(RealDisk);
    let mut log = SegmentLog::open(disk.clone(), &log_dir, log_settings).map_err(in_log)?;
    let store = match RowStore::open(&rows_dir, settings.rows) {
        // What the log has from its first commit on, it can make again.
        Err(rows::OpenError::Damaged { dir, what }) if log.reader().first() == CommitSeq::FIRST => {
            tracing::warn!(dir = %dir.display(), what, "the rows are damaged; they are made again from the commit log");
            rows::wipe(&rows_dir)
                .map_err(|source| io(format!("cannot empty {}", rows_dir.display()), source))?;
            RowStore::open(&rows_dir, settings.rows).map_err(of_rows)?
        }
        opened => opened.map_err(of_rows)?,
    };
    if store.applied() >= log.next().0 && !log.opening().renewed {
        return Err(OpenError::Short {
            database: name.to_owned(),
            dir: log_dir,
            last: log.next().0 - 1,
            applied: store.applied(),
        });
    }
    if store.applied() >= log.next().0 {
        // Only a power cut at level interval can do this: it took the newest commits from the log, but not their rows.
        // The rows are whole, and nobody was promised more; a new log goes on behind them.
        tracing::warn!(
            rows = store.applied(),
            log = log.next().0,
            "the log lost commits that the rows have; a new log goes on behind them"
        );
        let aside = dir.join(format!("log.before-{}", store.applied() + 1));
        drop(log);
        std::fs::rename(&log_dir, &aside)
            .map_err(|source| io(format!("cannot rename {}", log_dir.display()), source))?;
        let log_settings = SegmentSettings {
            start: CommitSeq(store.applied() + 1),
            ..log_settings
        };
        log = SegmentLog::open(disk, &log_dir, log_settings).map_err(in_log)?;
    }
    Replay {
        database: name,
        dir: &rows_dir,
        tree: tree.clone(),
    }
    .run(&log, &store)?;
    Ok((Box::new(log), store))
}

/// Makes records of what a newly declared resource covers, in one commit.
fn declare(
    log: &mut dyn CommitLog,
    store: &RowStore,
    tree: &Settings,
    settings: &CoreSettings,
    name: &str,
) -> Result<(), OpenError> {
    let failed = |reason: String| OpenError::Replay {
        database: name.to_owned(),
        seq: log_next(store),
        reason,
    };
    let view = store.view();
    let known = view
        .private(DECLARED_KEY)
        .map_err(|error| failed(error.to_string()))?
        .unwrap_or_default();
    let now: Vec<&str> = tree
        .declared
        .patterns()
        .iter()
        .map(Pattern::as_str)
        .collect();
    let now = now.join("\n");
    if known == now.as_bytes() {
        return Ok(());
    }
    let known: Vec<&str> = std::str::from_utf8(&known)
        .unwrap_or_default()
        .lines()
        .collect();
    let mut ops = Vec::new();
    for pattern in tree
        .declared
        .patterns()
        .iter()
        .filter(|pattern| !known.contains(&pattern.as_str()))
    {
        let paths = covered(&view, pattern).map_err(|error| failed(error.to_string()))?;
        ops.extend(paths.into_iter().map(|path| Op {
            path,
            kind: OpKind::Mark,
        }));
    }
    let commit = commit::Commit {
        seq: log.next().0,
        at_ms: settings.clock.now_ms(),
        origin: None,
        ops,
        effects: vec![Effect::Declared { patterns: now }],
        weight: 0,
    };
    let (changes, private, _) =
        commit::apply(tree, &view, &commit, false).map_err(|error| failed(error.to_string()))?;
    drop(view);
    let mut working = store.begin();
    working.apply(commit.seq, &changes, &private);
    log.append(log.next(), &[codec::encode(&commit)])
        .map_err(|error| OpenError::Replay {
            database: name.to_owned(),
            seq: commit.seq,
            reason: error.to_string(),
        })?;
    store.publish(working);
    Ok(())
}

fn log_next(store: &RowStore) -> u64 {
    store.view().seq() + 1
}

/// The paths with a value that a resource's pattern matches.
fn covered(view: &View, pattern: &Pattern) -> Result<Vec<Path>, RowsError> {
    let mut paths = vec![Path::root()];
    for level in 0..pattern.len() {
        let mut deeper = Vec::new();
        for path in paths {
            match pattern.segment(level).flatten() {
                Some(literal) => deeper.push(path.child_unchecked(literal)),
                None => each_child(view, &path, |child| {
                    deeper.push(path.child_unchecked(child));
                })?,
            }
        }
        paths = deeper;
    }
    let mut covered = Vec::new();
    for path in paths {
        if sapwood_tree::exists(view, &path)? {
            covered.push(path);
        }
    }
    Ok(covered)
}

/// Calls `each` with the name of every child of a path that can be addressed.
fn each_child(view: &View, path: &Path, mut each: impl FnMut(&str)) -> Result<(), RowsError> {
    const CHILDREN: usize = 1024;
    let mut after: Option<Text> = None;
    loop {
        let names = sapwood_tree::children(view, path, after.as_deref(), CHILDREN)?;
        names
            .iter()
            .filter(|name| sapwood_tree::is_segment(name))
            .for_each(|name| each(name));
        if names.len() < CHILDREN {
            return Ok(());
        }
        after = names.last().cloned();
    }
}

/// A database's name is the first label of a host, which has no case; what a bare host could be is none.
fn is_name(name: &str) -> bool {
    let of_label = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    let is_host = name == "localhost" || name.bytes().all(|byte| byte.is_ascii_digit());
    (1..=64).contains(&name.len()) && name.bytes().all(of_label) && !is_host
}

/// The data folder could not be made: says what to do about it.
fn no_folder(data: &std::path::Path, source: std::io::Error) -> OpenError {
    use std::io::ErrorKind;
    let hint = match source.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            "a file of that name, or of a folder's above it, is in the way: move it, or name another folder with --data"
        }
        ErrorKind::PermissionDenied => {
            "let this user write there, or name another folder with --data"
        }
        _ => "name another folder with --data",
    };
    let what = format!(
        "cannot make the data folder {}: {source}; {hint}",
        data.display()
    );
    io(what, source)
}

fn io(what: String, source: std::io::Error) -> OpenError {
    OpenError::Io { what, source }
}
