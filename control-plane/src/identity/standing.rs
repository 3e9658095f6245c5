//! What this process keeps in memory of machines whose calls are not simply
//! good: it is asked for every call that comes with a machine's certificate,
//! and whoever holds their connections closes those when it changes for the
//! worse.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use authguardian_proto::{ids::MachineId, reason::Reason};

use tokio::sync::watch;

use super::{Identity, Session, machine::MachineState, store};
use crate::{
    db::{
        Db,
        batch::{self, Served},
    },
    error::{Error, Result},
};

/// How a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: MachineState,
    /// Sessions of a lower generation have ended.
    pub(super) session_generation: i64,
}

/// One of which nothing is known here: its calls are good.
const GOOD: Standing = Standing {
    state: MachineState::Active,
    session_generation: 0,
};

impl Standing {
    /// Whether what was let through before must not go on.
    fn is_worse_than(self, before: Self) -> bool {
        let refused = self.state != MachineState::Active && self.state != before.state;
        refused || self.session_generation > before.session_generation
    }
}

/// All that are not simply good, as they were read once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Standings {
    machines: HashMap<MachineId, Standing>,
    /// Sessions and grants of a lower epoch ended with the newest restore.
    restored_epoch: i64,
}

impl Standings {
    fn of(&self, machine: MachineId) -> Standing {
        self.machines.get(&machine).copied().unwrap_or(GOOD)
    }

    /// As read together with the epoch of the newest restore.
    pub(super) fn since(self, restored_epoch: i64) -> Self {
        Self {
            restored_epoch,
            ..self
        }
    }

    /// Machines of which nothing that was let through before may go on.
    pub fn worse_than(&self, before: &Self) -> HashSet<MachineId> {
        let worse = self
            .machines
            .iter()
            .filter(|(machine, standing)| standing.is_worse_than(before.of(**machine)));
        worse.map(|(machine, _)| *machine).collect()
    }
}

impl FromIterator<(MachineId, Standing)> for Standings {
    fn from_iter<T: IntoIterator<Item = (MachineId, Standing)>>(read: T) -> Self {
        Self {
            machines: read.into_iter().collect(),
            restored_epoch: 0,
        }
    }
}

impl Identity {
    /// Whether a machine's calls count.
    ///
    /// # Errors
    /// `MACHINE_BANNED`, `MACHINE_EVICTED`.
    pub fn check_machine(&self, machine: MachineId) -> Result<()> {
        self.standing(machine).state.check()
    }

    /// Whether a session was made under what its machine is for now, and in the
    /// database that there is now.
    ///
    /// # Errors
    /// `SESSION_EXPIRED`, `MACHINE_BANNED`, `MACHINE_EVICTED`.
    pub(super) fn check_standing(&self, session: &Session) -> Result<()> {
        let standings = self.standings.load();
        let standing = standings.of(session.machine);
        standing.state.check()?;
        if session.epoch < standings.restored_epoch {
            return Err(Error::new(
                Reason::SessionExpired,
                "this session has ended with a restore of the database; log in again",
            ));
        }
        if session.machine_generation < standing.session_generation {
            return Err(Error::new(
                Reason::SessionExpired,
                "this session has ended with a change of its machine; log in again",
            ));
        }
        Ok(())
    }

    fn standing(&self, machine: MachineId) -> Standing {
        self.standings.load().of(machine)
    }

    /// The epoch that the newest restore has begun, as it was read last: what was
    /// given in lower ones has ended. 0: there was none.
    pub fn restored_epoch(&self) -> i64 {
        self.standings.load().restored_epoch
    }

    /// How machines stand, as it was read last.
    pub fn standings(&self) -> Arc<Standings> {
        self.standings.load_full()
    }

    /// Tells when [`Identity::standings`] are others.
    pub fn standing_changes(&self) -> watch::Receiver<()> {
        self.standings_changed.subscribe()
    }

    /// Reads how machines stand again, and takes it if it has changed; returns
    /// whether anything had. Calls at the same time share a reading that begins
    /// after them.
    ///
    /// # Errors
    /// When the database cannot be read; everything stays as it was.
    pub async fn reload_standings(&self) -> Result<bool> {
        self.standing_reloads.call(()).await
    }

    /// Acts on a change that this process has just committed. It is done
    /// whatever comes of this: a failure leaves it to the next reading.
    pub(crate) async fn machines_changed(&self) {
        if let Err(error) = self.reload_standings().await {
            tracing::warn!(%error, "a changed machine stands here as before until the next reading");
        }
    }
}

/// Reads all standings: one reading at a time, so that none overtakes a later one.
pub(super) struct Reload {
    pub(super) db: Db,
    pub(super) standings: Arc<ArcSwap<Standings>>,
    pub(super) changed: watch::Sender<()>,
}

impl batch::Operation for Reload {
    type Request = ();
    /// Whether anything had changed.
    type Reply = bool;

    fn db(&self) -> Option<&Db> {
        Some(&self.db)
    }

    #[tracing::instrument(name = "identity.reload_standings", skip_all)]
    async fn run(&self, requests: &[()]) -> Result<Served<bool>> {
        let mut connection = self.db.read().await?;
        let now = store::standings(&mut connection).await?;
        let changed = now != **self.standings.load();
        if changed {
            // nobody is told of what a failover could undo
            self.db.barrier(&mut connection).await?;
            self.standings.store(Arc::new(now));
            self.changed.send_replace(());
        }
        Ok(Served::now(requests.iter().map(|()| Ok(changed)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_sessions_or_calls_is_worse_and_an_unban_is_not() {
        let of = |state, session_generation| Standing {
            state,
            session_generation,
        };
        let (active, banned, evicted) = (
            MachineState::Active,
            MachineState::Banned,
            MachineState::Evicted,
        );
        assert!(of(banned, 1).is_worse_than(GOOD));
        assert!(of(evicted, 1).is_worse_than(of(banned, 1)));
        assert!(of(active, 2).is_worse_than(of(active, 1)));
        assert!(!of(active, 1).is_worse_than(of(banned, 1)));
        assert!(of(active, 2).is_worse_than(of(banned, 1)));

        let machine = |number| MachineId::from_uuid(uuid::Uuid::from_u128(number));
        let before =
            Standings::from_iter([(machine(1), of(banned, 1)), (machine(2), of(active, 1))]);
        let now = Standings::from_iter([
            (machine(1), of(active, 1)),
            (machine(2), of(active, 3)),
            (machine(3), of(banned, 1)),
        ]);
        assert_eq!(now.worse_than(&before), [machine(2), machine(3)].into());
    }
}
