//! The MQTT door: 3.1, 3.1.1 and 5.0.
//!
//! [`codec`] turns bytes into packets and back, [`topic`] topics into paths, and [`machine`] is one connection's state:
//! these do no I/O. `map` says what the packets mean to the core, and `serve` runs a connection.
//! Section numbers such as `3.1.2-22` are those of the normative statements of MQTT 5.0; those of 3.1.1 say so.

mod bridge;
mod client;
pub mod codec;
mod config;
mod door;
mod durable;
pub mod fuzz;
pub mod import;
mod joining;
mod link;
pub mod machine;
mod map;
mod registry;
mod reports;
mod rules;
mod serve;
mod shared;
mod subscriptions;
pub mod topic;
mod will;

pub use bridge::{
    Bridge, BridgeConfig, BridgeError, BridgeTopic, BridgeVersion, Direction, Secret, Wrong,
};
pub use client::{Address, AddressError, DialError, Lost};
pub use config::{AwayDrops, MqttConfig};
pub use door::MqttDoor;
pub use rules::{AcceptRule, DataFormat, Form, Listener, NoFilter, PayloadRule, TopicPattern};
