//! The door, through its socket.

mod batch;
mod conditions;
mod framing;
mod rest;
mod server;
mod streams;
mod websocket;
