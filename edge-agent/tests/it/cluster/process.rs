//! One kind of process of a node, found by where it works.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};

/// Nodes are counted from 0, as in `Cluster::primary`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    /// Patroni alone.
    Patroni(usize),
    /// The postmaster with all its children.
    Postgres(usize),
    /// A member of etcd.
    Etcd(usize),
}

impl Process {
    /// What `deploy/ha/cluster` calls it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Patroni(node) | Self::Postgres(node) => format!("node{}", node + 1),
            Self::Etcd(member) => format!("etcd{}", member + 1),
        }
    }

    /// Its processes; none when it has ended.
    pub(super) fn find(self, cluster: &Path) -> Vec<Pid> {
        let mut place = cluster.canonicalize().unwrap().join(self.name());
        if matches!(self, Self::Postgres(_)) {
            place = place.join("data");
        }
        let all = fs::read_dir("/proc").unwrap();
        let ids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        ids.filter(|id: &i32| {
            // of a zombie it cannot be read
            fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|at| at == place)
        })
        .filter_map(Pid::from_raw)
        .collect()
    }

    /// Reaches those, too, that were forked in between.
    pub(super) fn signal(self, cluster: &Path, signal: Signal) {
        let mut reached = Vec::new();
        loop {
            let found = self.find(cluster);
            let new: Vec<_> = found.iter().filter(|pid| !reached.contains(*pid)).collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                // it may just have ended
                let _ = kill_process(*pid, signal);
            }
            reached = found;
        }
        assert!(!reached.is_empty(), "{self:?} does not run");
    }
}
