//! The `sapwood` binary's parts: configuration, commands, and the wiring of core and doors.

pub mod config;
