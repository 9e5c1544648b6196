//! The parts of the `sapwood` binary: configuration, commands, and the wiring of core and doors.

pub mod address;
mod banner;
pub mod cli;
pub mod config;
mod doors;
mod failure;
pub mod import;
mod listen;
mod logs;
mod monitor;
mod public;
pub mod run;

pub use failure::Failure;
