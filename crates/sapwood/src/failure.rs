//! Why the server did not start or did not end well, and the exit code that says so.

use std::{net::SocketAddr, process::ExitCode};

use sapwood_net::SocketError;

use crate::config::ConfigError;

/// Why `sapwood` ends with an exit code other than 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The command line or the configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `dev` is open to all, and so stays on this machine.
    #[error(
        "{origin}: dev lets everybody read and write, so it listens on this machine only, not on {address}\n  \
         to serve other machines: sapwood serve --open {flag} {address}"
    )]
    DevBeyondLoopback {
        /// What it was to listen on.
        address: SocketAddr,
        /// The flag that says where.
        flag: &'static str,
        /// Who said so.
        origin: String,
    },
    /// `serve` was not told that it is open.
    #[error(
        "there are no rules yet, so everybody could read and write everything\n  \
         if that is what you want: sapwood serve --open"
    )]
    NotOpen,
    /// The port can't be had.
    #[error("{}", in_use(address, flag, source))]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// The flag that says where.
        flag: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The Unix socket can't be had.
    #[error("{}", no_socket(.0))]
    Socket(SocketError),
    /// An argument of a command is wrong.
    #[error("{0}")]
    Usage(String),
    /// What another broker has retained could not be taken over.
    #[error("{0}")]
    Import(String),
    /// The data can't be opened.
    #[error("{}", with_causes(.0.as_ref()))]
    Data(Box<dyn std::error::Error + Send + Sync>),
    /// The process can't have what it needs from the system.
    #[error("{what}: {source}")]
    System {
        /// What it tried.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Failure {
    /// 2: the command line or the configuration; 3: the address; 4: the data; 1: anything else.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) | Self::DevBeyondLoopback { .. } | Self::NotOpen | Self::Usage(_) => 2,
            Self::Listen { .. } | Self::Socket(_) => 3,
            Self::Data(_) => 4,
            Self::Import(_) | Self::System { .. } => 1,
        })
    }
}

fn in_use(address: &SocketAddr, flag: &str, source: &std::io::Error) -> String {
    let port = address.port();
    match source.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "port {port} on {} is in use by another program\n  \
             choose another with {flag} :{}, or let the system choose with {flag} :0",
            address.ip(),
            port.checked_add(1).unwrap_or(9000)
        ),
        std::io::ErrorKind::PermissionDenied => format!(
            "port {port} may not be used by this user\n  choose one above 1023, such as {flag} :9000"
        ),
        _ => format!(
            "can't listen on {address}: {source}\n  choose another address with {flag} ADDR"
        ),
    }
}

fn no_socket(error: &SocketError) -> String {
    let hint = match error {
        SocketError::InUse(_) => "end it, or choose another path with mqtt.unix",
        SocketError::NoSocket(_) => "move it away, or choose another path with mqtt.unix",
        SocketError::System { .. } => "choose another path with mqtt.unix",
    };
    format!("{error}\n  {hint}")
}

/// An error with its causes, one sentence. A cause that its parent has quoted already is left out.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text += ": ";
            text += &cause_text;
        }
        next = cause.source();
    }
    text
}
