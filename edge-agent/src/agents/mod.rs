//! The agents that are registered through this edge: what the registry says of
//! each, and when each was last heard here. Kept in a file, so that an edge that
//! starts while the control plane is away still knows them.

mod file;
mod own;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    ids::{AgentId, ApiKeyId},
    liveness::Liveness,
};
use tokio::sync::watch;

pub use own::{Own, Registered};

/// What this edge says of one of its agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which.
    pub agent_id: AgentId,
    /// Which registration of it.
    pub epoch: u64,
    /// Whether it was heard.
    pub liveness: Liveness,
    /// Whether its signed record has to be made anew.
    pub wants_record: bool,
}

/// The agents of this edge.
#[derive(Debug)]
pub struct Agents {
    table: Mutex<BTreeMap<AgentId, Own>>,
    file: PathBuf,
    /// The version that the file has.
    saved: Mutex<u64>,
    changed: watch::Sender<u64>,
}

impl Agents {
    /// Those that the file names, each as if it were heard `now`; a file that
    /// cannot be read is passed over: the registry knows them too.
    pub fn open(file: PathBuf, now: Duration) -> Self {
        let kept = file::load(&file).unwrap_or_else(|error| {
            tracing::warn!(%error, file = %file.display(), "the agents of this edge are asked for anew");
            Vec::new()
        });
        let table = kept
            .into_iter()
            .map(|registered| (registered.agent_id.clone(), Own::new(registered, now)))
            .collect();
        Self {
            table: Mutex::new(table),
            file,
            saved: Mutex::new(0),
            changed: watch::Sender::new(0),
        }
    }

    /// Takes what the registry says of an agent of this edge, heard `now`. An
    /// older registration than the one that is known changes nothing.
    pub fn take(&self, registered: Registered, now: Duration) {
        let mut table = self.lock();
        match table.get_mut(&registered.agent_id) {
            Some(own) if own.registered.epoch > registered.epoch => return,
            Some(own) => own.replace(registered, now),
            None => {
                let own = Own::new(registered, now);
                table.insert(own.registered.agent_id.clone(), own);
            }
        }
        self.tell();
    }

    /// Takes a newer word of the registry on an agent that is known here, which is
    /// no sign of life; one that is not known is heard `now`.
    pub fn refresh(&self, registered: Registered, now: Duration) {
        let mut table = self.lock();
        match table.get_mut(&registered.agent_id) {
            Some(own) if own.registered.epoch > registered.epoch => return,
            Some(own) if own.registered.epoch == registered.epoch => own.refresh(registered),
            _ => {
                let own = Own::new(registered, now);
                table.insert(own.registered.agent_id.clone(), own);
            }
        }
        self.tell();
    }

    /// Forgets an agent, in the registration of this epoch or an older one.
    pub fn forget(&self, agent: &AgentId, epoch: u64) {
        let mut table = self.lock();
        if table
            .get(agent)
            .is_some_and(|own| own.registered.epoch <= epoch)
        {
            table.remove(agent);
            self.tell();
        }
    }

    /// Notes a sign of life of an agent, by the key that registered it; it is told
    /// when the agent lives again.
    pub fn heard(&self, agent: &AgentId, key: ApiKeyId, now: Duration) {
        let mut table = self.lock();
        let Some(own) = table.get_mut(agent) else {
            return;
        };
        if own.registered.api_key_id != key {
            return;
        }
        let was = own.liveness(now);
        own.heard = now;
        if was != Liveness::Live {
            self.tell();
        }
    }

    /// Asks for a new signed record of an agent: what the registry says of it is
    /// another.
    pub fn renew_record(&self, agent: &AgentId) {
        let mut table = self.lock();
        if let Some(own) = table.get_mut(agent) {
            own.is_outdated = true;
            self.tell();
        }
    }

    /// One agent.
    pub fn get(&self, agent: &AgentId) -> Option<Own> {
        self.lock().get(agent).cloned()
    }

    /// All of them, by id.
    pub fn all(&self) -> Vec<Own> {
        self.lock().values().cloned().collect()
    }

    /// What to say of each `now`; `unix` is the wall clock, seconds since 1970.
    pub fn statuses(&self, now: Duration, unix: i64) -> Vec<Status> {
        let table = self.lock();
        table.values().map(|own| own.status(now, unix)).collect()
    }

    /// Another number when there are other agents or records, or one of them lives
    /// again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Writes the file where it is not as this is. The registry knows what a crash
    /// before that loses.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self) -> std::io::Result<()> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let version = *self.changed.borrow();
        if *saved == version {
            return Ok(());
        }
        let kept: Vec<Registered> = self
            .lock()
            .values()
            .map(|own| own.registered.clone())
            .collect();
        file::store(&self.file, &kept)?;
        *saved = version;
        Ok(())
    }

    fn tell(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AgentId, Own>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(1000);

    fn registered(agent: &str, epoch: u64) -> Registered {
        own::tests::registered(agent, epoch)
    }

    fn agents(dir: &tempfile::TempDir) -> Agents {
        Agents::open(dir.path().join("agents.json"), T)
    }

    fn key() -> ApiKeyId {
        registered("a", 1).api_key_id
    }

    #[test]
    fn agents_survive_a_restart_with_a_time_of_grace() {
        let dir = tempfile::tempdir().unwrap();
        let first = agents(&dir);
        first.take(registered("a", 7), T);
        first.take(registered("b", 8), T);
        first.forget(&"b".parse().unwrap(), 8);
        first.save().unwrap();
        let later = T + Duration::from_secs(10_000);
        let second = Agents::open(dir.path().join("agents.json"), later);
        let all = second.all();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].registered, registered("a", 7));
        assert_eq!(all[0].liveness(later), Liveness::Live);
    }

    #[test]
    fn an_older_registration_changes_nothing_and_forgets_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let agents = agents(&dir);
        agents.take(registered("a", 7), T);
        agents.take(registered("a", 6), T);
        agents.refresh(registered("a", 5), T);
        let id: AgentId = "a".parse().unwrap();
        agents.forget(&id, 6);
        assert_eq!(agents.get(&id).unwrap().registered.epoch, 7);
        agents.forget(&id, 7);
        assert!(agents.get(&id).is_none());
    }

    #[test]
    fn only_the_key_that_registered_an_agent_gives_signs_of_its_life() {
        let dir = tempfile::tempdir().unwrap();
        let agents = agents(&dir);
        agents.take(registered("a", 7), T);
        let id: AgentId = "a".parse().unwrap();
        let late = T + Duration::from_secs(91);
        let other = "apk_0000000000000000000099".parse().unwrap();
        let mut changes = agents.changes();
        agents.heard(&id, other, late);
        assert_eq!(agents.get(&id).unwrap().liveness(late), Liveness::Suspect);
        assert!(!changes.has_changed().unwrap());
        agents.heard(&id, key(), late);
        assert!(changes.has_changed().unwrap(), "it lives again");
        changes.mark_unchanged();
        agents.heard(&id, key(), late);
        assert!(!changes.has_changed().unwrap(), "no news");
        assert_eq!(agents.get(&id).unwrap().liveness(late), Liveness::Live);
        agents.heard(&"b".parse().unwrap(), key(), late);
        assert!(!changes.has_changed().unwrap(), "nobody of that name");
    }

    #[test]
    fn a_refreshed_record_is_no_sign_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let agents = agents(&dir);
        agents.take(registered("a", 7), T);
        let late = T + Duration::from_secs(91);
        agents.refresh(registered("a", 7), late);
        let statuses = agents.statuses(late, 0);
        assert_eq!(statuses[0].liveness, Liveness::Suspect);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("agents.json"), "{").unwrap();
        assert!(agents(&dir).all().is_empty());
    }
}
