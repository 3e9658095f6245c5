//! Who the server runs as. PostgreSQL refuses to run as root, so root needs
//! another account for it, and a data directory that this account can reach.

use std::{
    env, fs,
    os::unix::fs::{MetadataExt, lchown},
    path::Path,
    process::{Command, Stdio},
};

use super::Error;

/// Accounts that root runs the server as, in order of preference.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// Refuses to go on when the parent died before its death signal was set up,
/// since then that signal will never come. `$0` is the parent's process id.
const GUARD: &str = r#"[ "$PPID" = "$0" ] || exit 1; exec "$@""#;

/// What the server and initdb get to see of our environment; the rest may hold
/// secrets, or `PG…` variables that change what they do.
const ENVIRONMENT: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "TMPDIR"];

/// Who the server runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// We are not root: as ourselves.
    Own,
    /// We are root: as somebody else.
    Other {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// We are root, and nobody else can reach the directory (say, one below
    /// `/root`): in a user namespace where root's files and processes appear
    /// to belong to an ordinary user, which satisfies PostgreSQL.
    Mapped,
}

impl Account {
    /// Finds an account that can use the directory and execute the program. A
    /// cluster that exists keeps its owner where possible: a normal user's
    /// directory that root starts once must still be that user's afterwards.
    pub(super) fn choose(dir: &Path, cluster: &Path, program: &Path) -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Own);
        }
        let owner = fs::metadata(cluster).ok().filter(|meta| meta.uid() != 0);
        owner
            .map(|meta| Self::Other {
                uid: meta.uid(),
                gid: meta.gid(),
            })
            .into_iter()
            .chain(CANDIDATES.iter().filter_map(|name| Self::named(name)))
            .chain([Self::Mapped])
            .find(|account| account.can_use(dir, program))
            .ok_or_else(|| Error::Unreachable(dir.into()))
    }

    fn named(name: &str) -> Option<Self> {
        // `id` asks the name service, which /etc/passwd is only one part of
        let id = |flag| {
            let output = Command::new("id").args([flag, name]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        Some(Self::Other {
            uid: id("-u")?,
            gid: id("-g")?,
        })
    }

    /// Tried rather than computed from mode bits, which are not all there is
    /// to permission.
    fn can_use(self, dir: &Path, program: &Path) -> bool {
        self.command(Path::new("sh"))
            .args(["-c", r#"cd "$0" && [ -x "$1" ]"#])
            .args([dir, program])
            .stdin(Stdio::null())
            .output()
            .is_ok_and(|output| output.status.success())
    }

    /// A command that runs as this account and receives SIGINT, PostgreSQL's
    /// fast shutdown, when the **thread** that spawns it ends. Three traps:
    ///
    /// - The kernel forgets the death signal when credentials change, so
    ///   `setpriv` sets it after the user (it does, whatever the order of its
    ///   options), and in a user namespace it has to be the inner of the two.
    /// - The parent may die before the signal is set: [`GUARD`] checks.
    /// - A terminal's Ctrl-C goes to the whole process group. The server gets
    ///   one of its own, so that it outlives the draining of those who use it.
    pub(super) fn command(self, program: &Path) -> Command {
        let mut command = match self {
            Self::Own | Self::Other { .. } => Command::new("setpriv"),
            Self::Mapped => {
                let mut unshare = Command::new("unshare");
                unshare.args(["--user", "--map-user=1000", "--map-group=1000", "setpriv"]);
                unshare
            }
        };
        if let Self::Other { uid, gid } = self {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
            command.arg("--clear-groups");
        }
        command.args(["--pdeathsig", "INT", "sh", "-c", GUARD]);
        command.arg(std::process::id().to_string()).arg(program);
        command.env_clear().envs(
            ENVIRONMENT
                .iter()
                .filter_map(|name| Some((name, env::var_os(name)?))),
        );
        command.env("LC_ALL", "C"); // messages that we can read
        command.current_dir("/"); // ours may be closed to that account
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }

    /// Gives a file or a whole directory to the account. The top comes last:
    /// its owner tells the next start whether this was finished.
    pub(super) fn own(self, path: &Path) -> Result<(), Error> {
        let (uid, gid) = match self {
            Self::Own => return Ok(()),
            Self::Other { uid, gid } => (uid, gid),
            Self::Mapped => (0, 0),
        };
        let meta = fs::symlink_metadata(path).map_err(Error::io("look at", path))?;
        if (meta.uid(), meta.gid()) == (uid, gid) {
            return Ok(());
        }
        if meta.is_dir() {
            for entry in fs::read_dir(path).map_err(Error::io("read", path))? {
                self.own(&entry.map_err(Error::io("read", path))?.path())?;
            }
        }
        lchown(path, Some(uid), Some(gid)).map_err(Error::io("change the owner of", path))
    }
}
