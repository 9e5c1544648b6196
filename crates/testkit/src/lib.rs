//! What tests need around the real server: the binary on a free port with a folder of its own, ways to end it well
//! and badly, a small HTTP client, a disk that is slow, and one that is full.
//!
//! Nothing here is part of the server, and nothing in the server depends on it.

pub mod http;
mod server;
mod slow_flush;
mod small_disk;

pub use http::{Client, EventStream, Response};
pub use server::{Server, ServerBuilder};
pub use slow_flush::{FLUSH_MS_VARIABLE, slow_flush_library};
pub use small_disk::SmallDisk;
