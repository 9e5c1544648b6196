//! The command line.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use sapwood_mqtt::Address;

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
    /// Take over what another MQTT broker has retained into a server that runs
    Import(Import),
}

/// What `import` takes.
#[derive(Debug, Args)]
pub struct Import {
    /// The broker that has it: mqtt://HOST:PORT (port 1883 unless said)
    #[arg(value_name = "URL")]
    pub from: Address,
    /// The server that is to have it
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    pub to: Address,
    /// Which topics, with + and #; as often as you like
    #[arg(long, value_name = "FILTER", default_value = "#")]
    pub filter: Vec<String>,
    /// What to put in front of each topic
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prefix: String,
    /// The user name at the broker that has it
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// A file with the password there
    #[arg(long, value_name = "FILE", requires = "username")]
    pub password_file: Option<PathBuf>,
    /// The user name at the server that is to have it; NAME/ chooses the database NAME
    #[arg(long, value_name = "NAME")]
    pub to_username: Option<String>,
    /// A file with the password there
    #[arg(long, value_name = "FILE", requires = "to_username")]
    pub to_password_file: Option<PathBuf>,
    /// Seconds without a new topic after which it is taken to be all
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub quiet: u64,
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
