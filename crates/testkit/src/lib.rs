//! What tests need around the real server: the binary on a free port with a folder of its own, ways to end it well
//! and badly, a small HTTP client, a disk that is slow, one that is full, and a count of the limits that were met.
//!
//! Nothing here is part of the server, and nothing in the server depends on it.

pub mod http;
mod limits_met;
mod server;
mod slow_flush;
mod small_disk;

pub use http::{Client, EventStream, Response};
pub use limits_met::LimitsMet;
pub use server::{Server, ServerBuilder};
pub use slow_flush::{FLUSH_MS_VARIABLE, slow_flush_library};
pub use small_disk::SmallDisk;
