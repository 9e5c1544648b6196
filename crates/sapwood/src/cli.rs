//! The command line.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::Sources;

/// One live tree of data that every client speaks to in its own protocol.
#[derive(Debug, Parser)]
#[command(name = "sapwood", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve this machine's programs, open to all of them, without any configuration
    Dev(Options),
    /// Serve other machines too
    Serve(Serve),
    /// Print every setting with its value and where it came from
    Config(Options),
}

/// `serve`'s own options and the common ones.
#[derive(Debug, Args)]
pub struct Serve {
    /// Let everybody read and write everything: there are no rules yet
    #[arg(long)]
    pub open: bool,
    /// What every command takes.
    #[command(flatten)]
    pub options: Options,
}

/// What every command takes.
#[derive(Debug, Default, Args)]
pub struct Options {
    /// The data folder (default: .sapwood)
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    data: Option<PathBuf>,
    /// Keep everything in memory, and nothing after the end
    #[arg(long)]
    memory: bool,
    /// Where HTTP listens: a port, or an address with one; port 0 takes a free one (default: 127.0.0.1:9000)
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Where MQTT listens: like --http, unix:/path, or «off» (default: 127.0.0.1:1883 in dev, off in serve)
    #[arg(long, value_name = "ADDR")]
    mqtt: Option<String>,
    /// The configuration file (default: sapwood.toml, if it is there)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Take over where MQTT listens from a configuration of Harper's, in its older form (serverModules)
    #[arg(long, value_name = "FILE")]
    harper_config: Option<PathBuf>,
    /// Set one key; as often as you like
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A folder whose files are served (default: public, whenever it is there)
    #[arg(long, value_name = "DIR")]
    public: Option<PathBuf>,
}

impl Options {
    /// The sources of configuration that these options and the environment make.
    pub fn sources(&self, environment: impl Iterator<Item = (OsString, OsString)>) -> Sources {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let flags = [
            ("--data", "store.data", self.data.as_ref().map(text)),
            (
                "--memory",
                "store.durability",
                self.memory.then(|| "memory".to_owned()),
            ),
            ("--http", "http.listen", self.http.clone()),
            ("--mqtt", "mqtt.listen", self.mqtt.clone()),
            ("--public", "http.public", self.public.as_ref().map(text)),
        ];
        Sources {
            file: self.config.clone(),
            harper: self.harper_config.clone(),
            environment: environment
                .filter_map(|(name, value)| {
                    Some((
                        name.into_string().ok()?,
                        value.to_string_lossy().into_owned(),
                    ))
                })
                .collect(),
            set: self.set.clone(),
            flags: flags
                .into_iter()
                .filter_map(|(flag, key, value)| Some((flag, key, value?)))
                .collect(),
        }
    }
}
