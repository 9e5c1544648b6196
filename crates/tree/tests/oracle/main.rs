//! Rows against the design, as the slowest obvious program and as its vectors: whatever is written, they hold the same,
//! and tell the same.
#![expect(clippy::unwrap_used, reason = "a test stops where it can't go on")]
#![allow(unreachable_pub, reason = "the modules of a test")]

mod model;
mod naive;
mod random;
mod rows;
mod told;
mod vectors;
