//! A way between edge and control plane that can swallow everything without
//! closing anything, as a broken network does.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Forwards connections to one address until it is cut, and again once it is
/// mended: what was sent meanwhile arrives late.
pub(crate) struct Proxy {
    address: SocketAddr,
    open: watch::Sender<bool>,
    answering: watch::Sender<bool>,
    hung_up: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, gate) = watch::channel(true);
        let (answering, replies) = watch::channel(true);
        let (hung_up, end) = watch::channel(());
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let connection = connect(near, target, gate.clone(), replies.clone());
                let mut end = end.clone();
                end.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        _ = end.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            open,
            answering,
            hung_up,
            accepting,
        }
    }

    /// Where edges find it.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Its port on the loopback address.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Nothing passes any more, and no connection is closed.
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Everything passes again.
    pub(crate) fn mend(&self) {
        self.open.send_replace(true);
        self.answering.send_replace(true);
    }

    /// What the control plane sends passes no more; what it is sent does.
    pub(crate) fn hold_answers(&self) {
        self.answering.send_replace(false);
    }

    /// Closes every connection; what is on its way is lost.
    pub(crate) fn hang_up(&self) {
        self.hung_up.send_replace(());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connect(
    near: TcpStream,
    target: SocketAddr,
    mut gate: watch::Receiver<bool>,
    answers: watch::Receiver<bool>,
) {
    if gate.wait_for(|open| *open).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    let (near_reads, near_writes) = near.into_split();
    let (far_reads, far_writes) = far.into_split();
    tokio::join!(
        forward(near_reads, far_writes, [gate.clone(), gate.clone()]),
        forward(far_reads, near_writes, [gate, answers]),
    );
}

/// Carries what comes while all gates are open; ends with its connection, or
/// with the proxy.
pub(crate) async fn forward<const N: usize>(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut gates: [watch::Receiver<bool>; N],
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        for gate in &mut gates {
            if gate.wait_for(|open| *open).await.is_err() {
                return;
            }
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
