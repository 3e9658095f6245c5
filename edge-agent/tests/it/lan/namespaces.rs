//! A local network of the test's own: two network namespaces, a cable between
//! them, and no way out.

use std::{
    fs::File,
    io::Error,
    net::Ipv4Addr,
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::JoinHandle,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps them.
const DIRECTORY: &str = "/run/netns";

/// One end of the cable.
pub(crate) struct Host {
    namespace: String,
    pub(crate) interface: String,
    pub(crate) address: Ipv4Addr,
}

/// Two hosts; gone when this is dropped.
pub(crate) struct Lan {
    pub(crate) left: Host,
    pub(crate) right: Host,
}

impl Lan {
    /// Builds it; `None`, with the reason on stderr, where that is not allowed.
    pub(crate) fn build() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let host = |side: &str, last| Host {
            namespace: format!("ag-{}-{number}-{side}", std::process::id()),
            interface: format!("ag{side}0"),
            address: Ipv4Addr::new(10, 213, 0, last),
        };
        // dropped, it takes down what was built
        let lan = Self {
            left: host("l", 1),
            right: host("r", 2),
        };
        match lan.connect() {
            Ok(()) => Some(lan),
            Err(error) => {
                #[expect(clippy::print_stderr, reason = "whoever runs the tests has to see it")]
                {
                    eprintln!("skipped: network namespaces cannot be made here: {error}");
                }
                None
            }
        }
    }

    fn connect(&self) -> Result<(), Error> {
        for host in [&self.left, &self.right] {
            ip(&["netns", "add", &host.namespace])?;
        }
        let (left, right) = (&self.left, &self.right);
        // made inside: the host's own namespace never has an end of it
        ip(&[
            "-n",
            &left.namespace,
            "link",
            "add",
            &left.interface,
            "type",
            "veth",
            "peer",
            "name",
            &right.interface,
            "netns",
            &right.namespace,
        ])?;
        for host in [left, right] {
            let address = format!("{}/24", host.address);
            let at = ["-n", &host.namespace];
            for step in [
                &["addr", "add", &address, "dev", &host.interface][..],
                &["link", "set", "lo", "up"],
                &["link", "set", &host.interface, "up"],
            ] {
                ip(&[&at, step].concat())?;
            }
        }
        Ok(())
    }
}

impl Host {
    /// A program that runs here.
    pub(crate) fn command(&self, program: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// Runs something here, on a thread of its own with a runtime of its own, to
    /// its end.
    pub(crate) fn run<F>(&self, begin: impl FnOnce() -> F + Send + 'static) -> JoinHandle<()>
    where
        F: Future<Output = ()>,
    {
        let namespace = Path::new(DIRECTORY).join(&self.namespace);
        std::thread::spawn(move || {
            let file = File::open(namespace).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(begin());
        })
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in [&self.left, &self.right] {
            if Path::new(DIRECTORY).join(&host.namespace).exists() {
                let _ = ip(&["netns", "del", &host.namespace]);
            }
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), Error> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::other(format!(
        "`ip {}`: {}",
        arguments.join(" "),
        said.trim()
    )))
}
