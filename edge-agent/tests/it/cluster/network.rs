//! What lies between the database nodes, etcd and their clients, where nodes
//! are to be cut off. The machine's own network is left alone.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::layout::{Layout, Via};
use crate::proxy::{Proxy, forward};

pub(super) struct Network {
    nodes: Vec<Node>,
    /// Whether anything passes between those who say [`APART`] and any server.
    apart: watch::Sender<bool>,
}

/// What a client says, as a setting of its sessions, that can be cut off alone.
pub(super) const APART: &str = "authguardian.apart=1";

/// The ways of one node.
struct Node {
    /// Whether anything passes to or from its PostgreSQL.
    open: watch::Sender<bool>,
    /// To its Patroni, and from it to etcd's members.
    others: Vec<Proxy>,
    accepting: JoinHandle<()>,
}

impl Network {
    /// Puts itself between all of them.
    pub(super) async fn between(layout: &mut Layout) -> Self {
        let gates: Vec<_> = layout
            .nodes
            .iter()
            .map(|_| watch::channel(true).0)
            .collect();
        let listening: Vec<_> = gates.iter().map(watch::Sender::subscribe).collect();
        let (apart, apart_gate) = watch::channel(true);
        let mut nodes = Vec::new();
        for (number, (node, open)) in layout.nodes.iter_mut().zip(gates).enumerate() {
            let mut others = vec![Proxy::to(local(node.patroni)).await];
            for member in &layout.etcd {
                others.push(Proxy::to(local(member.client)).await);
            }
            let listener = TcpListener::bind(local(0)).await.unwrap();
            node.via = Some(Via {
                postgres: listener.local_addr().unwrap().port(),
                patroni: others[0].port(),
                etcd: others[1..].iter().map(Proxy::port).collect(),
            });
            let to = local(node.postgres);
            let accepting = tokio::spawn(accept(
                listener,
                to,
                number,
                listening.clone(),
                apart_gate.clone(),
            ));
            nodes.push(Node {
                open,
                others,
                accepting,
            });
        }
        Self { nodes, apart }
    }

    pub(super) fn cut(&self, node: usize) {
        self.nodes[node].open.send_replace(false);
        self.nodes[node].others.iter().for_each(Proxy::cut);
    }

    pub(super) fn mend(&self, node: usize) {
        self.nodes[node].open.send_replace(true);
        self.nodes[node].others.iter().for_each(Proxy::mend);
    }
}

impl Network {
    pub(super) fn let_pass_apart(&self, open: bool) {
        self.apart.send_replace(open);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Takes connections to a node's PostgreSQL.
async fn accept(
    listener: TcpListener,
    to: SocketAddr,
    number: usize,
    gates: Vec<watch::Receiver<bool>>,
    apart: watch::Receiver<bool>,
) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(carry(near, to, number, gates.clone(), apart.clone()));
    }
}

/// Carries one connection as long as neither end is cut off. Whose it is, its
/// first message says: a standby gives its node's name as that of its
/// application.
async fn carry(
    mut near: TcpStream,
    to: SocketAddr,
    number: usize,
    gates: Vec<watch::Receiver<bool>>,
    apart: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let length = near.read_u32().await?;
    let mut start = vec![0; (length as usize).saturating_sub(4).min(16 * 1024)];
    near.read_exact(&mut start).await?;
    let from = (0..gates.len())
        .find(|node| says(&start, &format!("application_name\0node{}\0", node + 1)));
    let [near_end, far_end] = [number, from.unwrap_or(number)].map(|node| gates[node].clone());
    let client = if says(&start, APART) {
        apart
    } else {
        near_end.clone()
    };
    let ends = [near_end, far_end, client];
    for mut gate in ends.clone() {
        if gate.wait_for(|open| *open).await.is_err() {
            return Ok(());
        }
    }
    let mut far = TcpStream::connect(to).await?;
    far.write_u32(length).await?;
    far.write_all(&start).await?;
    let (near_reads, near_writes) = near.into_split();
    let (far_reads, far_writes) = far.into_split();
    tokio::join!(
        forward(near_reads, far_writes, ends.clone()),
        forward(far_reads, near_writes, ends),
    );
    Ok(())
}

fn says(message: &[u8], text: &str) -> bool {
    message
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
