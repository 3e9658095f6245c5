//! The servers that the URL names, each asked several times a second by a task
//! of its own, so that one that hangs holds up none of the others. Which of
//! them can be written to is known without trying one after the other.

use std::time::Duration;

use authguardian_proto::reason::Reason;
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// SQL: which timeline the server writes. It is that of the WAL being written: the
/// control file still shows the old one until the first checkpoint after a
/// promotion.
macro_rules! timeline {
    () => {
        "('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint"
    };
}

/// SQL: whether the server is a standby, whose data it has, and its timeline; 0 for
/// a standby.
macro_rules! server {
    () => {
        concat!(
            "SELECT pg_is_in_recovery(),
    (SELECT system_identifier::text FROM pg_control_system()),
    CASE WHEN pg_is_in_recovery() THEN 0 ELSE ",
            $crate::db::servers::timeline!(),
            " END"
        )
    };
}

/// SQL: how many standbys of the quorum stream.
macro_rules! streaming {
    () => {
        "(SELECT count(*) FROM pg_stat_get_wal_senders() WHERE state = 'streaming' AND sync_state = 'quorum')"
    };
}

pub(super) use {server, streaming, timeline};

/// Between two questions to a server, and as long as no commit would be
/// confirmed by another.
const PERIOD: Duration = Duration::from_millis(250);
const HURRY: Duration = Duration::from_millis(50);

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);

/// How long a connected server may take to answer before it is away. A busy
/// one may be slow; calling it away ends all that waits for it.
const ANSWER: Duration = Duration::from_secs(3);

/// How a server stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was not asked yet, or does not answer: why.
    Away(String),
    /// It follows another.
    Standby,
    /// It can be written to.
    Primary {
        /// Of its data; standbys have the same.
        identifier: String,
        /// Counts promotions.
        timeline: i64,
        /// Nodes that would flush a commit made now, it included.
        copies: u32,
    },
}

impl Standing {
    /// Whether both are primaries with nothing between them: no other server,
    /// no promotion, no restore.
    pub(super) fn is_same_server(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (
                Self::Primary { identifier, timeline, .. },
                Self::Primary { identifier: other, timeline: theirs, .. },
            ) if identifier == other && timeline == theirs
        )
    }

    fn is_confirmed(&self) -> bool {
        matches!(self, Self::Primary { copies: 2.., .. })
    }

    pub(super) fn timeline(&self) -> Option<i64> {
        match self {
            Self::Primary { timeline, .. } => Some(*timeline),
            _ => None,
        }
    }
}

/// How all servers stand, in the order of the URL.
#[derive(Debug, Clone)]
pub(super) struct Standings {
    places: std::sync::Arc<[(String, u16)]>,
    seen: watch::Receiver<Vec<Standing>>,
}

impl Standings {
    /// The one to write to. Where several think so, a promotion has happened
    /// that not all have heard of: the one with the latest timeline.
    pub(super) fn primary(&mut self) -> Option<(usize, Standing)> {
        let seen = self.seen.borrow_and_update();
        let primaries = seen.iter().enumerate();
        primaries
            .filter(|(_, standing)| standing.timeline().is_some())
            .max_by_key(|(_, standing)| standing.timeline())
            .map(|(server, standing)| (server, standing.clone()))
    }

    /// Nodes that would flush a commit made on the primary now; 0 without one.
    pub(super) fn copies(&mut self) -> u32 {
        match self.primary() {
            Some((_, Standing::Primary { copies, .. })) => copies,
            _ => 0,
        }
    }

    /// Waits until a server stands differently.
    pub(super) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.seen.changed().await
    }

    /// See `Pools::timeline_of`.
    pub(super) fn timeline_of(&self, host: &str, port: u16) -> Option<i64> {
        let server = self
            .places
            .iter()
            .position(|place| (place.0.as_str(), place.1) == (host, port))?;
        self.seen.borrow()[server].timeline()
    }

    /// Why there is nothing to connect to.
    pub(super) fn none_is_writable(&self) -> Error {
        let seen = self.seen.borrow();
        let told: Vec<_> = self
            .places
            .iter()
            .zip(&*seen)
            .map(|((host, port), standing)| match standing {
                Standing::Away(why) => format!("`{host}:{port}`: {why}"),
                Standing::Standby => format!("`{host}:{port}` is a standby"),
                Standing::Primary { .. } => format!("`{host}:{port}` has just become the primary"),
            })
            .collect();
        let cause = std::io::Error::other(told.join("; "));
        Error::new(
            Reason::Unavailable,
            "no database server can be written to; try again",
        )
        .caused_by(cause)
    }
}

/// Watches all servers until `stop`.
pub(super) fn watch(options: &[PgConnectOptions], stop: &CancellationToken) -> Standings {
    let unknown = vec![Standing::Away("not asked yet".to_owned()); options.len()];
    let (sender, seen) = watch::channel(unknown);
    for (server, options) in options.iter().enumerate() {
        let (options, sender) = (options.clone(), sender.clone());
        let watching = stop
            .clone()
            .run_until_cancelled_owned(ask_again(server, options, sender));
        tokio::spawn(watching);
    }
    let places = options
        .iter()
        .map(|options| (options.get_host().to_owned(), options.get_port()));
    Standings {
        places: places.collect(),
        seen,
    }
}

async fn ask_again(server: usize, options: PgConnectOptions, sender: watch::Sender<Vec<Standing>>) {
    let mut connection = None;
    loop {
        let now = match ask(&mut connection, &options).await {
            Ok(standing) => standing,
            Err(why) => {
                connection = None;
                Standing::Away(why)
            }
        };
        sender.send_if_modified(|all| {
            let changed = all[server] != now;
            all[server] = now;
            changed
        });
        let settled = sender.borrow().iter().any(Standing::is_confirmed);
        tokio::time::sleep(if settled { PERIOD } else { HURRY }).await;
    }
}

/// Asks on the connection there is, or on a new one.
async fn ask(
    connection: &mut Option<PgConnection>,
    options: &PgConnectOptions,
) -> Result<Standing, String> {
    if connection.is_none() {
        let connected = tokio::time::timeout(CONNECT, options.connect()).await;
        let connected = connected.map_err(|_| "does not let anybody connect".to_owned())?;
        *connection = Some(connected.map_err(|error| error.to_string())?);
    }
    let Some(connection) = connection else {
        return Err("is not connected".to_owned());
    };
    let asked = sqlx::query_as(QUESTION).fetch_one(connection);
    let (standby, identifier, timeline, names, streaming): (bool, String, i64, String, i64) =
        tokio::time::timeout(ANSWER, asked)
            .await
            .map_err(|_| "does not answer".to_owned())?
            .map_err(|error| error.to_string())?;
    if standby {
        return Ok(Standing::Standby);
    }
    Ok(Standing::Primary {
        identifier,
        timeline,
        copies: super::quorum::copies(&names, streaming),
    })
}

const QUESTION: &str = concat!(
    server!(),
    ", current_setting('synchronous_standby_names'), ",
    streaming!()
);
