//! What making something durable costs where a replica lies.

use std::{io::Write, path::Path};

use anyhow::Result;
use tokio::time::Instant;

/// A page, as databases write.
const PAGE: [u8; 4096] = [7; 4096];
/// Enough for a median.
const SYNCS: usize = 300;

/// The median of appending 4 KiB and one `fdatasync`, ms.
pub(super) fn append(dir: &Path) -> Result<f64> {
    let mut file = tempfile::tempfile_in(dir)?;
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&PAGE)?;
        file.sync_data()?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok(took[SYNCS / 2].as_secs_f64() * 1e3)
}
