//! Measures Sapwood beside its peers: closed loop, the same window for both, rounds in turn, the server's CPU time per
//! operation first. Prints one Markdown table; `README.md` holds the figures of the last full run.

mod closed_loop;
mod exchange;
mod fan_out;
mod mqtt;
mod peers;
mod process;
mod report;
mod resting;
mod scenario;
mod topic;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};

/// What to measure, and for how long.
#[derive(Debug, Parser)]
#[command(about)]
struct Options {
    /// The measurements; all of them unless some are named
    what: Vec<What>,
    /// The binary to measure
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/sapwood"))]
    sapwood: PathBuf,
    /// Seconds of one window
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Windows of each server, in turn; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// MQTT's rows without their peers, as for a profile
    #[arg(long)]
    alone: bool,
    /// MiB of the topic measurement's large prefix
    #[arg(long, default_value_t = 1024)]
    prefix_mib: usize,
    /// Connections of the resting measurement
    #[arg(long, default_value_t = 10_000)]
    resting: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Durable PUT by 64 connections, beside Redis with `appendfsync always`
    Put,
    /// 64 writers against one, with a flush that costs 5 ms
    SlowFlush,
    /// GET of a record in memory, beside nginx answering a constant
    Get,
    /// One PUT to 100 SSE and to 100 WebSocket watchers, beside nchan
    FanOut,
    /// A leaf write that a `+/+` filter is told by a prefix of 64 KiB, and of a large one, at the core
    Topic,
    /// Cold start: time and memory
    Start,
    /// Memory of a resting connection
    Resting,
    /// All of MQTT's that follow
    Mqtt,
    /// One publisher to 100 and 1,000, QoS 0 and 1, 64 B and 1 KiB, beside mosquitto, rumqttd and Redis
    MqttFanOut,
    /// 20,000 deliveries a second to 100, and 2,000 among 50 pairs: CPU and latency
    MqttPaced,
    /// 50 publishers with a receiver each, QoS 0 and 1
    MqttPairs,
    /// Retained puts by 64 clients, beside mosquitto and Redis with `appendfsync always`
    MqttPut,
    /// The first state of 20,000 and of 1,000,000 retained, by `#`
    MqttRead,
    /// 64 pairs whose sessions are kept, QoS 1 and 2
    MqttDurable,
    /// Memory of an idle connection
    MqttIdle,
    /// A publish among 100 and among 100,000 subscriptions with wildcards
    MqttMatch,
}

/// How each measurement is run.
#[derive(Debug, Clone)]
pub struct Plan {
    sapwood: PathBuf,
    window: Duration,
    rounds: usize,
    alone: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let plan = Plan {
        sapwood: options.sapwood.clone(),
        window: Duration::from_secs(options.seconds.clamp(1, 60)),
        rounds: options.rounds.clamp(1, 20),
        alone: options.alone,
    };
    let chosen = chosen(&options.what);
    report::heading();
    let mut failures = 0;
    for what in &chosen {
        if let Err(error) = measure(*what, &options, &plan) {
            eprintln!("{what:?}: {error:#}");
            failures += 1;
        }
    }
    ensure!(failures == 0, "{failures} measurements failed");
    Ok(())
}

/// What is named, or all; `mqtt` names all behind it.
fn chosen(named: &[What]) -> Vec<What> {
    let all = What::value_variants();
    let (_, of_mqtt) = all.split_at(all.iter().position(|what| *what == What::Mqtt).unwrap_or(0));
    match named {
        [] => all.to_vec(),
        named => {
            let each = named.iter().flat_map(|what| match what {
                What::Mqtt => of_mqtt.to_vec(),
                what => vec![*what],
            });
            each.collect()
        }
    }
}

fn measure(what: What, options: &Options, plan: &Plan) -> Result<()> {
    match what {
        What::Put => scenario::put(plan),
        What::SlowFlush => scenario::slow_flush(plan),
        What::Get => scenario::get(plan),
        What::FanOut => scenario::fan_out(plan),
        What::Topic => topic::prefixes(plan, options.prefix_mib << 20),
        What::Start => resting::start(plan),
        What::Resting => resting::connections(plan, options.resting.min(18_000)),
        What::Mqtt => Ok(()), // it stands for the others
        What::MqttFanOut => mqtt::fan_out(plan),
        What::MqttPaced => mqtt::paced(plan),
        What::MqttPairs => mqtt::pairs(plan),
        What::MqttPut => mqtt::put(plan),
        What::MqttRead => mqtt::read(plan),
        What::MqttDurable => mqtt::durable(plan),
        What::MqttIdle => mqtt::idle(plan, options.resting.min(18_000)),
        What::MqttMatch => mqtt::matching(plan),
    }
}
