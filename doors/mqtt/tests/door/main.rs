//! The door, through its socket.
#![allow(
    clippy::unwrap_used,
    reason = "a test that can't go on has failed, and its helpers with it"
)]

mod answers;
mod authenticating;
mod bridge;
mod connecting;
mod expiry;
mod forms;
mod limits;
mod old;
mod publishing;
mod queries;
mod server;
mod sessions;
mod shared;
mod subscribing;
mod wills;
