//! Memory of processes, from `/proc`.

use std::fs;

use anyhow::{Context, Result};

use crate::cpu::Part;

/// `VmRSS`, bytes.
pub(crate) fn resident(part: Part) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", part.pid))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .context("the process has ended")?
        .parse()?;
    Ok(kib * 1024.0)
}
