//! CPU time of processes, from `/proc`.

use std::{collections::HashMap, fs, time::Duration};

use anyhow::{Context, Result};

/// `/proc` counts in ticks of `USER_HZ`, which is 100 on every Linux that this
/// builds for.
const TICK: Duration = Duration::from_millis(10);

/// A process that has a share in a request, by its name in the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Such as `edge`.
    pub(crate) name: &'static str,
    /// The process; its descendants count too.
    pub(crate) pid: u32,
}

pub(crate) const EDGE: &str = "edge";
pub(crate) const BRIDGES: &str = "bridges";
pub(crate) const CONTROL_PLANE: &str = "control plane";
pub(crate) const POSTGRESQL: &str = "PostgreSQL";
pub(crate) const STANDBY: &str = "standby";
pub(crate) const REDIS: &str = "Redis";
/// A trivial server, as a baseline.
pub(crate) const TRIVIAL: &str = "trivial server";
pub(crate) const LOAD_GENERATOR: &str = "load generator";

/// All names, in the order of the table.
pub(crate) const PARTS: [&str; 8] = [
    EDGE,
    BRIDGES,
    CONTROL_PLANE,
    POSTGRESQL,
    STANDBY,
    REDIS,
    TRIVIAL,
    LOAD_GENERATOR,
];

/// All processes, at one moment.
pub(crate) struct Processes(HashMap<u32, Stat>);

impl Processes {
    /// Looks at all.
    pub(crate) fn look() -> Result<Self> {
        let pid_of = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let pids = fs::read_dir("/proc")?.flatten().filter_map(pid_of);
        // one that has just ended has left its time to its parent
        let stat = |pid| Some((pid, Stat::read(pid)?));
        Ok(Self(pids.filter_map(stat).collect()))
    }

    /// What a process and all of its descendants have used, those that have
    /// ended included: PostgreSQL is one process per connection.
    pub(crate) fn of_tree(&self, root: u32) -> Result<Duration> {
        self.0
            .get(&root)
            .with_context(|| format!("process {root} has ended"))?;
        let in_tree = |mut pid: u32| {
            while pid != root {
                match self.0.get(&pid) {
                    Some(process) => pid = process.parent,
                    None => return false,
                }
            }
            true
        };
        let in_tree = self.0.iter().filter(|(pid, _)| in_tree(**pid));
        let ticks: u32 = in_tree.map(|(_, process)| process.ticks).sum();
        Ok(TICK * ticks)
    }
}

/// What the calling thread has used.
pub(crate) fn of_this_thread() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(used.tv_sec).unwrap_or_default(),
        u32::try_from(used.tv_nsec).unwrap_or_default(),
    )
}

/// A line of `/proc/<pid>/stat`, see proc_pid_stat(5).
struct Stat {
    parent: u32,
    /// Own, and of children that have ended; in user and kernel mode.
    ticks: u32,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // the name, in parentheses, may contain anything
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = fields.get(11..15)?;
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: ticks
                .iter()
                .filter_map(|ticks| ticks.parse::<u32>().ok())
                .sum(),
        })
    }
}
