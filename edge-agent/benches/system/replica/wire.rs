//! A wire whose bytes are counted: TCP from an edge to a control plane and back, as it is
//! after TLS.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::Result;
use edge_agent::dial::ServerAddress;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::oneshot,
};

/// Forwards connections until it is dropped.
pub(super) struct Wire {
    address: SocketAddr,
    count: Arc<AtomicU64>,
    _stop: oneshot::Sender<()>,
}

impl Wire {
    /// To where edges would go.
    pub(super) fn to(server: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let count = Arc::<AtomicU64>::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let counter = count.clone();
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = accept(listener, server, counter) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self {
            address,
            count,
            _stop: stop,
        })
    }

    /// Where the edge goes instead.
    pub(super) fn server(&self) -> Result<ServerAddress> {
        Ok(format!("https://{}", self.address).parse()?)
    }

    /// Bytes that went either way.
    pub(super) fn bytes(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

async fn accept(
    listener: std::net::TcpListener,
    server: SocketAddr,
    count: Arc<AtomicU64>,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (near, _) = listener.accept().await?;
        let far = TcpStream::connect(server).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let (near, far) = (near.into_split(), far.into_split());
        tokio::spawn(forward(near.0, far.1, count.clone()));
        tokio::spawn(forward(far.0, near.1, count.clone()));
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: Arc<AtomicU64>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut bytes).await {
        if read == 0 || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
}
