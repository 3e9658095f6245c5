//! Where the processes of a cluster listen, as `deploy/ha/cluster` reads it.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use serde::Serialize;
use serde_json::{Value, json};

use super::NODES;

pub(super) struct Layout {
    pub(super) nodes: Vec<Node>,
    pub(super) etcd: Vec<Etcd>,
}

pub(super) struct Node {
    pub(super) postgres: u16,
    pub(super) patroni: u16,
    /// How others, and it others, are reached instead.
    pub(super) via: Option<Via>,
}

#[derive(Serialize)]
pub(super) struct Via {
    pub(super) postgres: u16,
    pub(super) patroni: u16,
    /// Each member of etcd, from this node.
    pub(super) etcd: Vec<u16>,
}

pub(super) struct Etcd {
    pub(super) client: u16,
    peer: u16,
}

impl Layout {
    pub(super) fn on_free_ports() -> Self {
        let mut ports = free_ports(4 * NODES).into_iter();
        let mut next = || ports.next().unwrap();
        let nodes = (0..NODES).map(|_| Node {
            postgres: next(),
            patroni: next(),
            via: None,
        });
        let nodes = nodes.collect();
        let etcd = (0..NODES).map(|_| Etcd {
            client: next(),
            peer: next(),
        });
        let etcd = etcd.collect();
        Self { nodes, etcd }
    }

    pub(super) fn write(&self, at: &Path) {
        let nodes = self.nodes.iter().enumerate().map(|(number, node)| {
            let mut told = json!({"postgres": node.postgres, "patroni": node.patroni});
            if let Some(via) = &node.via {
                told["via"] = serde_json::to_value(via).unwrap();
            }
            (format!("node{}", number + 1), told)
        });
        let etcd = self.etcd.iter().enumerate().map(|(number, etcd)| {
            let told = json!({"client": etcd.client, "peer": etcd.peer});
            (format!("etcd{}", number + 1), told)
        });
        let told = json!({
            "nodes": nodes.collect::<serde_json::Map<String, Value>>(),
            "etcd": etcd.collect::<serde_json::Map<String, Value>>(),
            "passwords": {"postgres": "p-own", "replicator": "r-own", "authguardian": "a-own"},
        });
        std::fs::write(at, told.to_string()).unwrap();
    }
}

/// Below those that the kernel gives to outgoing connections: one of them could
/// take the place of a server that is just being started again.
fn free_ports(count: usize) -> Vec<u16> {
    let first = 12_000 + u16::try_from(std::process::id().wrapping_mul(37) % 8_000).unwrap();
    let all = (first..20_000).chain(12_000..first);
    let free = all.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let held: Vec<_> = free.take(count).collect();
    let ports = held.iter().map(|held| held.local_addr().unwrap().port());
    ports.collect()
}
