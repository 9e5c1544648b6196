//! The door, through its socket.
#![allow(
    clippy::unwrap_used,
    reason = "a test that can't go on has failed, and its helpers with it"
)]

mod batch;
mod bodies;
mod conditions;
mod framing;
mod rest;
mod server;
mod streams;
mod websocket;
