//! The MQTT door: 3.1, 3.1.1 and 5.0.
//!
//! What is here does no I/O: [`codec`] turns bytes into packets and back, [`topic`] topics into paths, and [`machine`] is
//! one connection's state.
//! Section numbers such as `3.1.2-22` are those of the normative statements of MQTT 5.0; those of 3.1.1 say so.

pub mod codec;
pub mod machine;
pub mod topic;
