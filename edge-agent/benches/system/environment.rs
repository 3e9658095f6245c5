//! Where it was measured: figures of two machines do not compare, nor do those
//! of a machine that has other work.

use std::{fmt, fs, io::Write, path::Path, time::Duration};

use anyhow::Result;
use serde::Serialize;
use tokio::time::Instant;

use crate::args::Args;

/// `f_type` of a file system in memory, see statfs(2).
const TMPFS: i64 = 0x0102_1994;
/// How many blocks are synced to find out what that costs.
const SYNCS: u32 = 100;

/// Machine and settings.
#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    /// Cores, for servers and load generator together.
    pub(crate) cpus: usize,
    /// As the kernel calls it.
    pub(crate) cpu_model: String,
    /// Version.
    pub(crate) kernel: String,
    /// Other work of the machine when the bench began: load average of the
    /// last minute.
    pub(crate) load_before: f64,
    /// One `fdatasync` of 8 KiB where the databases lie, µs.
    pub(crate) fdatasync_us: f64,
    /// Whether that is memory, so that durable writes cost nothing.
    pub(crate) databases_in_memory: bool,
    /// How many rounds.
    pub(crate) rounds: usize,
    /// How long each measurement took.
    pub(crate) seconds: f64,
}

impl Environment {
    /// Looks at this machine.
    pub(crate) fn look(args: &Args) -> Result<Self> {
        let dir = std::env::temp_dir();
        let load = fs::read_to_string("/proc/loadavg")?;
        let cpu_info = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpu_info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("", |(_, name)| name.trim());
        Ok(Self {
            cpus: std::thread::available_parallelism()?.get(),
            cpu_model: model.to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            load_before: load.split(' ').next().unwrap_or_default().parse()?,
            fdatasync_us: fdatasync(&dir)?.as_secs_f64() * 1e6,
            databases_in_memory: rustix::fs::statfs(&dir)?.f_type == TMPFS,
            rounds: args.rounds(),
            seconds: args.duration().as_secs_f64(),
        })
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} CPUs ({}), Linux {}, load before {:.2}, fdatasync {:.0} µs; {} round(s) of {} s each",
            self.cpus,
            self.cpu_model,
            self.kernel,
            self.load_before,
            self.fdatasync_us,
            self.rounds,
            self.seconds
        )?;
        if self.databases_in_memory {
            write!(
                f,
                "\nwarning: the databases lie in memory, durable writes cost nothing; set TMPDIR to a disk"
            )?;
        }
        Ok(())
    }
}

/// Appends and syncs as a database log does.
fn fdatasync(dir: &Path) -> Result<Duration> {
    let mut file = tempfile::tempfile_in(dir)?;
    let began = Instant::now();
    for _ in 0..SYNCS {
        file.write_all(&[0; 8192])?;
        file.sync_data()?;
    }
    Ok(began.elapsed() / SYNCS)
}
