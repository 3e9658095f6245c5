//! `[data]`: what this edge keeps on disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What this edge keeps on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Directory of the machine's key and certificate, and of all else that has to outlast
    /// the process; made when missing, with mode 0700.
    pub dir: PathBuf,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/lib/authguardian/edge"),
        }
    }
}
