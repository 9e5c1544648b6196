//! Configuration: a file, the environment, `--set` and flags; later wins, and each value remembers where it came from.
//!
//! Each component owns its struct with its defaults; this module nests them, merges what was written, and hands
//! the result on. What a struct doesn't know is an error that names the nearest key it does.

mod check;
mod harper;
mod layers;
mod nearest;
mod read;
mod report;
mod store;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use self::layers::{Entry, Node};
pub use sapwood_core::Limits;
pub use sapwood_http::HttpConfig;
pub use sapwood_mqtt::{BridgeConfig as Bridge, BridgeTopic, MqttConfig};

pub use self::{
    layers::Origin,
    store::{Durability, StoreConfig},
};

/// The file that is read from the working folder where `--config` names none.
pub const DEFAULT_FILE: &str = "sapwood.toml";

/// Everything that can be configured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP door.
    pub http: HttpConfig,
    /// The MQTT door.
    pub mqtt: MqttConfig,
    /// Where and how data is kept.
    pub store: StoreConfig,
    /// What one value, one session and one database may take.
    pub limits: Limits,
    /// What the server writes about itself.
    pub log: LogConfig,
    /// The databases besides `default`, and what is declared about any.
    pub databases: BTreeMap<String, DatabaseConfig>,
}

/// `[log]` in sapwood.toml.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, also per module (`info,sapwood_core=debug`).
    pub filter: String,
    /// `"human"`, `"json"`, or `"auto"`: for humans on a terminal, else JSON. One line each, on standard error.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Words and colours.
    Human,
    /// One JSON object a line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Auto,
        }
    }
}

/// `[databases.NAME]` in sapwood.toml.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// The declared resources, by path: `"sensors/{id}"`. What lies at such a path is a record, whoever wrote it.
    pub resources: BTreeMap<String, ResourceConfig>,
}

/// `[databases.NAME.resources."sensors/{id}"]` in sapwood.toml. The empty table declares the resource.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceConfig {
    /// Not there yet.
    #[serde(skip_serializing)]
    pub key: Option<Written>,
    /// Not there yet.
    #[serde(skip_serializing)]
    pub indexes: Option<Written>,
    /// Not there yet.
    #[serde(skip_serializing)]
    pub expires: Option<Written>,
    /// Not there yet.
    #[serde(skip_serializing)]
    pub history: Option<Written>,
}

/// That a key was written, whatever its value.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "serde::de::IgnoredAny")]
pub struct Written;

impl From<serde::de::IgnoredAny> for Written {
    fn from(_: serde::de::IgnoredAny) -> Self {
        Self
    }
}

/// Why there is no configuration. It names the place, and what to write there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file that was named can't be read.
    #[error("can't read the configuration file {}", path.display())]
    File {
        /// As it was named.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// Not TOML, or not `key=value`.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What was expected.
        message: String,
    },
    /// A key that no component has.
    #[error("{origin}: unknown key {key}; {}", hint(nearest.as_deref(), known))]
    Unknown {
        /// Where.
        origin: Origin,
        /// The whole key.
        key: String,
        /// The known key that was probably meant.
        nearest: Option<String>,
        /// All keys that are known there.
        known: String,
    },
    /// A value of a wrong type, or out of its range.
    #[error("{origin}: {key}: {message}")]
    Value {
        /// Where.
        origin: Origin,
        /// The whole key.
        key: String,
        /// What was expected, and what was there.
        message: String,
    },
    /// A value that is wrong in itself; the reader gives it its place.
    #[error("{0}")]
    Unplaced(String),
}

fn hint(nearest: Option<&str>, known: &str) -> String {
    match nearest {
        Some(name) => format!("did you mean {name}?"),
        None => format!("known here: {known}"),
    }
}

/// The sources of configuration, as the command line gives them.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`; without it [`DEFAULT_FILE`] is read if it is there.
    pub file: Option<PathBuf>,
    /// `--harper-config`.
    pub harper: Option<PathBuf>,
    /// The environment's variables.
    pub environment: Vec<(String, String)>,
    /// The arguments of `--set`, in order.
    pub set: Vec<String>,
    /// What a flag says, as (flag, key, value).
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// A configuration, and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the program runs with.
    pub config: Config,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// What was written and is not heeded, for the log.
    pub notices: Vec<String>,
    written: Entry,
}

impl Loaded {
    /// Reads and merges all sources. File, Harper's file, environment, `--set`, flags: later wins.
    ///
    /// # Errors
    /// A [`ConfigError`] for the first thing that is wrong.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let (mut written, file) = match read_file(sources.file.as_deref())? {
            Some((path, text)) => (layers::file(&path, &text)?, Some(path)),
            None => (Entry::empty(), None),
        };
        // Each layer is read by itself first: what is wrong in it is wrong, also where a later one hides it.
        read::read::<Config>(&written)?;
        let notices = match &sources.harper {
            Some(path) => overlay_harper(&mut written, path)?,
            None => Vec::new(),
        };
        for entry in environment(&sources.environment)? {
            written.overlay(entry);
        }
        for argument in &sources.set {
            let entry = layers::set(argument)?;
            read::read::<Config>(&entry)?;
            written.overlay(entry);
        }
        for (flag, key, value) in &sources.flags {
            let path: Vec<_> = key.split('.').map(str::to_owned).collect();
            written.overlay(Entry::nested(
                &path,
                Node::String(value.clone()),
                &Origin::Flag(flag),
            ));
        }
        let loaded = Self {
            config: read::read(&written)?,
            file,
            notices,
            written,
        };
        loaded.check()?;
        Ok(loaded)
    }

    /// Reads one configuration file's text alone, as a fuzzer and tests want it.
    ///
    /// # Errors
    /// As [`Loaded::load`].
    pub fn from_text(text: &str) -> Result<Self, ConfigError> {
        let written = layers::file(Path::new(DEFAULT_FILE), text)?;
        let loaded = Self {
            config: read::read(&written)?,
            file: None,
            notices: Vec::new(),
            written,
        };
        loaded.check()?;
        Ok(loaded)
    }

    /// Reads one file of Harper's alone, as a fuzzer wants it.
    ///
    /// # Errors
    /// As [`Loaded::load`].
    pub fn from_harper_text(text: &str) -> Result<Self, ConfigError> {
        let harper = harper::read(Path::new("harper.yaml"), text)?;
        Ok(Self {
            config: read::read(&harper.entry)?,
            file: None,
            notices: harper.notices,
            written: harper.entry,
        })
    }

    /// Where the value of a key came from.
    pub fn origin(&self, key: &[&str]) -> Origin {
        self.written
            .at(key.iter().copied())
            .map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// Every effective value, one a line, with its origin: what `sapwood config` prints.
    pub fn report(&self) -> String {
        report::report(self)
    }

    /// A value is wrong in itself: names its place.
    pub fn refuse(&self, key: &[&str], message: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            origin: self.origin(key),
            key: key
                .iter()
                .map(|segment| read::quoted(segment))
                .collect::<Vec<_>>()
                .join("."),
            message: message.into(),
        }
    }
}

fn read_file(named: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Lays a file of Harper's on top: what it says that nobody heeds.
fn overlay_harper(written: &mut Entry, path: &Path) -> Result<Vec<String>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })?;
    let harper = harper::read(path, &text)?;
    written.overlay(harper.entry);
    Ok(harper.notices)
}

/// `SAPWOOD_HTTP_LISTEN` is `http.listen`. What a database declares belongs into the file or into `--set`.
fn environment(variables: &[(String, String)]) -> Result<Vec<Entry>, ConfigError> {
    let keys = report::keys();
    let names: BTreeMap<String, &Vec<String>> =
        keys.iter().map(|path| (variable(path), path)).collect();
    let mut entries = Vec::new();
    for (name, value) in variables
        .iter()
        .filter(|(name, _)| name.starts_with("SAPWOOD_"))
    {
        let origin = Origin::Environment(name.clone());
        let Some(path) = names.get(name) else {
            return Err(ConfigError::Unknown {
                nearest: nearest::nearest(name, names.keys().map(String::as_str))
                    .map(str::to_owned),
                known: "`sapwood config` lists every key".to_owned(),
                key: name.clone(),
                origin,
            });
        };
        let entry = Entry::nested(path, Node::Bare(value.clone()), &origin);
        read::read::<Config>(&entry)?;
        entries.push(entry);
    }
    Ok(entries)
}

fn variable(path: &[String]) -> String {
    format!("SAPWOOD_{}", path.join("_").to_uppercase())
}

#[cfg(test)]
mod tests;
