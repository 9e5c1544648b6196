//! For tests: a disk that fails on demand, and what every commit log must do.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that fails is to panic"
)]

mod fault_disk;
pub mod suite;

pub use fault_disk::{Dice, FaultDisk};
