//! What was written where: each source of configuration as a tree of entries that remember their origin.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::ConfigError;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the configuration file.
    File {
        /// The file as it was named.
        path: Arc<PathBuf>,
        /// Counted from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Environment(String),
    /// `--set key=value`.
    Set(String),
    /// The flag of this name.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Set(text) => write!(f, "--set {text}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) node: Node,
    pub(super) origin: Origin,
}

/// A value as it was written.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    /// From a place that knows no types (environment, `--set`): read as what the key expects.
    Bare(String),
    List(Vec<Entry>),
    Table(BTreeMap<String, Entry>),
}

impl Entry {
    pub(super) fn empty() -> Self {
        Self {
            node: Node::Table(BTreeMap::new()),
            origin: Origin::Default,
        }
    }

    /// Lays `over` on top: what it says wins, key by key.
    pub(super) fn overlay(&mut self, over: Self) {
        match (&mut self.node, over.node) {
            (Node::Table(mine), Node::Table(theirs)) => {
                for (key, entry) in theirs {
                    match mine.get_mut(&key) {
                        Some(below) => below.overlay(entry),
                        None => drop(mine.insert(key, entry)),
                    }
                }
            }
            (mine, theirs) => {
                *mine = theirs;
                self.origin = over.origin;
            }
        }
    }

    /// The entry at `path`, if someone wrote one there. An item of a list is named by its number, from 0 on.
    pub(super) fn at<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Self> {
        path.into_iter()
            .try_fold(self, |entry, key| match &entry.node {
                Node::Table(table) => table.get(key),
                Node::List(items) => items.get(key.parse::<usize>().ok()?),
                _ => None,
            })
    }

    /// A single value under nested tables.
    pub(super) fn nested(path: &[String], node: Node, origin: &Origin) -> Self {
        let leaf = Self {
            node,
            origin: origin.clone(),
        };
        path.iter().rev().fold(leaf, |inner, key| Self {
            node: Node::Table(BTreeMap::from([(key.clone(), inner)])),
            origin: origin.clone(),
        })
    }
}

/// Reads a configuration file's text.
pub(super) fn file(path: &Path, text: &str) -> Result<Entry, ConfigError> {
    let path = Arc::new(path.to_owned());
    let origin_at = |at: usize| Origin::File {
        path: Arc::clone(&path),
        line: line_of(text, at),
    };
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        origin: origin_at(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    from_table(table.get_ref(), &origin_at(0), &origin_at)
}

/// Reads one `key=value` of `--set`. The value may be any TOML; what is none is text.
pub(super) fn set(argument: &str) -> Result<Entry, ConfigError> {
    let origin = Origin::Set(argument.to_owned());
    let syntax = || ConfigError::Syntax {
        origin: origin.clone(),
        message: "expected key=value".to_owned(),
    };
    let (key, value) = split_key(argument).ok_or_else(syntax)?;
    let path = key_path(key).ok_or_else(syntax)?;
    Ok(Entry::nested(&path, Node::Bare(value.to_owned()), &origin))
}

/// Reads the text of a value that came without a type, as TOML where it is that.
pub(super) fn bare(text: &str, origin: &Origin) -> Option<Node> {
    let document = format!("value = {text}");
    let table = DeTable::parse(&document).ok()?;
    if table.get_ref().len() != 1 {
        return None;
    }
    let value = table.get_ref().get("value")?;
    from_value(value.get_ref(), origin, &|_| origin.clone()).ok()
}

/// Splits at the first `=` outside quotes, as a resource's name may hold one.
fn split_key(argument: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let at = argument.bytes().position(|byte| {
        quoted ^= byte == b'"';
        byte == b'=' && !quoted
    })?;
    Some((argument.get(..at)?.trim(), argument.get(at + 1..)?.trim()))
}

/// The segments of a dotted TOML key, with quotes taken off.
fn key_path(key: &str) -> Option<Vec<String>> {
    if key.contains('\n') {
        return None;
    }
    let document = format!("{key} = 0");
    let table = DeTable::parse(&document).ok()?;
    let (mut path, mut table) = (Vec::new(), table.get_ref());
    loop {
        let (segment, value) = table.iter().next()?;
        path.push(segment.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return Some(path),
        }
    }
}

fn from_table(
    table: &DeTable<'_>,
    origin: &Origin,
    origin_at: &dyn Fn(usize) -> Origin,
) -> Result<Entry, ConfigError> {
    let mut entries = BTreeMap::new();
    for (key, value) in table {
        let origin = origin_at(key.span().start);
        let node = from_value(value.get_ref(), &origin, origin_at)?;
        entries.insert(key.get_ref().to_string(), Entry { node, origin });
    }
    Ok(Entry {
        node: Node::Table(entries),
        origin: origin.clone(),
    })
}

fn from_value(
    value: &DeValue<'_>,
    origin: &Origin,
    origin_at: &dyn Fn(usize) -> Origin,
) -> Result<Node, ConfigError> {
    let refused = |message: &str| ConfigError::Syntax {
        origin: origin.clone(),
        message: message.to_owned(),
    };
    Ok(match value {
        DeValue::Boolean(value) => Node::Bool(*value),
        DeValue::String(text) => Node::String(text.to_string()),
        DeValue::Integer(digits) => Node::Int(
            i64::from_str_radix(digits.as_str(), digits.radix())
                .map_err(|_| refused("this whole number is beyond 64 bits"))?,
        ),
        DeValue::Float(digits) => Node::Float(
            digits
                .as_str()
                .parse()
                .map_err(|_| refused("this is no number that can be kept"))?,
        ),
        DeValue::Datetime(_) => return Err(refused("no key here takes a date")),
        DeValue::Array(items) => Node::List(
            items
                .iter()
                .map(|item: &Spanned<DeValue<'_>>| {
                    let origin = origin_at(item.span().start);
                    Ok(Entry {
                        node: from_value(item.get_ref(), &origin, origin_at)?,
                        origin,
                    })
                })
                .collect::<Result<_, ConfigError>>()?,
        ),
        DeValue::Table(table) => from_table(table, origin, origin_at)?.node,
    })
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
