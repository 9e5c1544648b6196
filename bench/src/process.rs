//! What the kernel says of a process and those it started: CPU time, memory.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// `_SC_CLK_TCK`, 100 on every Linux that we measure on; the kernel exports no other to user space.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time, user and system, of the process and all its living descendants.
///
/// # Errors
/// The process is gone.
pub fn cpu_time(id: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for process in with_descendants(id)? {
        sum += Stat::read(process)?.cpu_time();
    }
    Ok(sum)
}

/// CPU time of this process alone, without the servers that it started.
///
/// # Errors
/// The kernel doesn't say.
pub fn own_cpu_time() -> Result<Duration> {
    Ok(Stat::read(std::process::id())?.cpu_time())
}

/// Resident memory in bytes of the process and all its living descendants.
///
/// # Errors
/// The process is gone.
pub fn resident(id: u32) -> Result<u64> {
    let mut bytes = 0;
    for process in with_descendants(id)? {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        bytes += kib * 1024;
    }
    Ok(bytes)
}

fn with_descendants(id: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(process) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // A process may end between the listing and the reading.
        if let Ok(stat) = Stat::read(process) {
            parents.push((process, stat.parent));
        }
    }
    let mut found = vec![id];
    let mut next = 0;
    while next < found.len() {
        let above = found[next];
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| *parent == above)
                .map(|(process, _)| *process),
        );
        next += 1;
    }
    Ok(found)
}

struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

impl Stat {
    fn cpu_time(&self) -> Duration {
        Duration::from_millis((self.user_ticks + self.system_ticks) * 1000 / TICKS_PER_SECOND)
    }

    /// proc(5): the fields behind the name, which is in parentheses and may hold anything.
    fn read(process: u32) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let (_, behind) = text.rsplit_once(')').context("no name")?;
        let fields: Vec<&str> = behind.split_whitespace().collect();
        let field = |n: usize| fields.get(n - 3).context("too few fields");
        Ok(Self {
            parent: field(4)?.parse()?,
            user_ticks: field(14)?.parse()?,
            system_ticks: field(15)?.parse()?,
        })
    }
}
