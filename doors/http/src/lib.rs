//! The HTTP door: REST on every path, server-sent events, WebSockets, files, and the demo page.
//!
//! Parsing is in pure modules ([`url`], [`body`], [`negotiate`], [`etag`], [`command`], [`event`]); every error that a client can
//! get is in [`problem`]. The door decides nothing: it turns requests into reads, writes and watches of the core.

pub mod body;
pub mod command;
mod config;
mod door;
pub mod etag;
pub mod event;
mod files;
pub mod negotiate;
mod pages;
mod plain;
pub mod problem;
mod push_id;
mod read;
mod request;
mod respond;
mod socket;
mod stream;
pub mod url;
mod watch;
mod write;

pub use config::HttpConfig;
pub use door::{HttpDoor, Options};
pub use files::Folder;
pub use plain::{parse as parse_plain_path, text as plain_path};
