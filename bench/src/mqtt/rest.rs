//! What a connection takes that says nothing.

use anyhow::Result;

use super::{Broker, client, opening};
use crate::{Plan, report, resting};

/// Resident memory of each of many connections that have been let in and say nothing.
///
/// # Errors
/// A server didn't start, or took not so many connections.
pub fn idle(plan: &Plan, count: usize) -> Result<()> {
    for broker in Broker::all(plan)? {
        // What the first connections bring along for all is no connection's.
        drop(connect(&broker, "early", 100)?);
        let before = resting::settled(broker.id)?;
        let held = connect(&broker, "idle", count)?;
        let after = resting::settled(broker.id)?;
        let each = after.saturating_sub(before) / count as u64;
        report::figure(
            &format!("{}: {count} idle connections, each", broker.name),
            &format!("{} KiB", resting::tenths(each, 1 << 10)),
        );
        drop(held);
    }
    Ok(())
}

fn connect(broker: &Broker, name: &str, count: usize) -> Result<Vec<std::net::TcpStream>> {
    (0..count)
        .map(|n| client::open(broker.address, &opening(format!("{name}{n}"))))
        .collect()
}
