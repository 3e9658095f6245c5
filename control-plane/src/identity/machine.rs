//! Enrolled machines.

use std::str::FromStr;

use authguardian_proto::{
    ids::{AgentId, MachineId, MachineName},
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{
    Identity, Terms, TermsChange,
    ca::{MachineNames, RequestedKey},
    store,
};
use crate::{
    audit::{self, Context, Entry},
    error::{Error, Result},
};

/// For how long after its end a certificate may still be renewed, and nothing
/// else.
pub const RENEWABLE: Duration = Duration::days(30);

/// An enrolled machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its id, as in its certificates.
    pub id: MachineId,
    /// Its name, unique among machines that are not evicted.
    pub name: String,
    /// Whether its calls count.
    pub state: MachineState,
    /// What it is for.
    pub terms: Terms,
    /// Its sessions of a lower generation have ended.
    pub session_generation: i64,
    /// When it joined.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When its newest certificate ends.
    #[serde(with = "time::serde::rfc3339")]
    pub certificate_expires_at: OffsetDateTime,
}

/// Whether a machine's calls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// They do.
    Active,
    /// They do not, until it is unbanned.
    Banned,
    /// They never will again.
    Evicted,
}

impl MachineState {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Banned => "banned",
            Self::Evicted => "evicted",
        }
    }

    /// Reads the stable name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Banned, Self::Evicted]
            .into_iter()
            .find(|state| state.as_str() == text)
    }

    /// Whether calls count.
    ///
    /// # Errors
    /// `MACHINE_BANNED`, `MACHINE_EVICTED`.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Active => Ok(()),
            Self::Banned => Err(Error::new(
                Reason::MachineBanned,
                "this machine is banned; ask an operator",
            )),
            Self::Evicted => Err(Error::new(
                Reason::MachineEvicted,
                "this machine was evicted; it has to join again, as another",
            )),
        }
    }
}

/// How an operator names a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum MachineRef {
    /// By its id.
    Id(MachineId),
    /// By its name: the machine that has it, else the one that was evicted with
    /// it last.
    Name(MachineName),
}

impl FromStr for MachineRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text.parse(), text.parse()) {
            (Ok(id), _) => Ok(Self::Id(id)),
            (_, Ok(name)) => Ok(Self::Name(name)),
            _ => Err(Error::invalid(
                "machine",
                "expected `mch_…` or a machine name",
            )),
        }
    }
}

impl MachineRef {
    pub(super) fn unknown(&self) -> Error {
        let detail = match self {
            Self::Id(id) => format!("no machine `{id}` is enrolled"),
            Self::Name(name) => format!("no machine `{name}` is enrolled"),
        };
        Error::invalid("machine", detail)
    }
}

/// What can be done to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Ban,
    Unban,
    Evict,
    Update(TermsChange),
}

impl Machine {
    /// Carries out an act; tells whether that changed anything. Acts that end
    /// what the machine could do before raise its generation of sessions.
    ///
    /// # Errors
    /// `MACHINE_EVICTED` (`machine`): such a one only stays so.
    pub(super) fn undergo(&mut self, act: &Act) -> Result<bool> {
        let before = self.clone();
        match (act, self.state) {
            (Act::Ban | Act::Unban | Act::Update(_), MachineState::Evicted) => {
                let detail = "this machine was evicted, which is for good; it has to join again";
                return Err(Problem::new(Reason::MachineEvicted, detail)
                    .at("machine")
                    .into());
            }
            (Act::Ban, MachineState::Active) => {
                self.state = MachineState::Banned;
                self.session_generation += 1;
            }
            (Act::Evict, MachineState::Active | MachineState::Banned) => {
                self.state = MachineState::Evicted;
                self.session_generation += 1;
            }
            (Act::Unban, _) => self.state = MachineState::Active,
            (Act::Update(change), _) => {
                if self.terms.take(change) {
                    self.session_generation += 1;
                }
            }
            (Act::Ban, MachineState::Banned) | (Act::Evict, MachineState::Evicted) => {}
        }
        Ok(*self != before)
    }

    /// Whether it may serve an agent.
    ///
    /// # Errors
    /// `AGENT_MISMATCH` (`agent_id`).
    pub fn may_serve(&self, agent: &AgentId) -> Result<()> {
        if self.terms.agents.includes(agent) {
            return Ok(());
        }
        Err(Problem::new(
            Reason::AgentMismatch,
            format!("this machine may not serve agent `{agent}`"),
        )
        .at("agent_id")
        .into())
    }
}

/// A certificate and what it rests on, DER.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// Leaf first.
    pub chain: Vec<Vec<u8>>,
    /// Every CA certificate that peers are to trust.
    pub ca_certificates: Vec<Vec<u8>>,
    /// When the leaf ends.
    pub expires_at: OffsetDateTime,
}

impl Identity {
    /// Lists machines by name and id, after a name and an id; evicted ones only
    /// where `evicted` says so.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_machines(
        &self,
        after: Option<(&str, MachineId)>,
        evicted: bool,
        limit: i64,
    ) -> Result<Vec<Machine>> {
        store::list_machines(&mut *self.db.read().await?, after, evicted, limit).await
    }

    /// One machine by id or name.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` (`machine`) when there is none.
    pub async fn find_machine(&self, id_or_name: &str) -> Result<Machine> {
        let named: MachineRef = id_or_name.parse()?;
        let found = store::machine_named(&mut *self.db.read().await?, &named).await?;
        found.ok_or_else(|| named.unknown())
    }

    /// The machine that calls.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when it is unknown, `MACHINE_BANNED`, `MACHINE_EVICTED`.
    pub async fn own_machine(&self, id: MachineId) -> Result<Machine> {
        read_active(&mut *self.db.read().await?, id).await
    }

    /// How many machines are enrolled and active.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn count_machines(&self) -> Result<i64> {
        store::count_machines(&mut *self.db.read().await?).await
    }

    /// Issues the next certificate of an enrolled machine.
    ///
    /// # Errors
    /// `MACHINE_BANNED`, `MACHINE_EVICTED`, `UNAUTHENTICATED` (the machine is
    /// unknown).
    pub async fn renew_certificate(
        &self,
        context: Context,
        machine: MachineId,
        key: &RequestedKey,
    ) -> Result<IssuedCertificate> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        // not share-locked first: two renewals at once would then wait for each other
        let terms = counted(store::machine_for_update(&mut tx, machine).await?)?.terms;
        let issued = self.certify(machine, &terms, key, now)?;
        store::set_machine_certificate(&mut tx, machine, &key.spki(), issued.expires_at).await?;
        audit::append(
            &mut tx,
            now,
            &[Entry::ok(context, "machine.renew", machine.to_string())],
        )
        .await?;
        self.db.commit(tx).await?;
        Ok(issued)
    }

    pub(super) fn certify(
        &self,
        machine: MachineId,
        terms: &Terms,
        key: &RequestedKey,
        now: OffsetDateTime,
    ) -> Result<IssuedCertificate> {
        let until = now + self.settings.certificate_ttl;
        let keyring = self.keyring();
        let names = MachineNames {
            trust_domain: &self.settings.trust_domain,
            machine,
            server_names: &terms.server_names,
        };
        let chain = keyring
            .ca()
            .certify_machine(&names, key, &self.ambient.entropy, now, until)?;
        Ok(IssuedCertificate {
            chain: chain
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
            ca_certificates: keyring
                .ca_certificates()
                .iter()
                .map(|ca| ca.to_vec())
                .collect(),
            expires_at: until,
        })
    }
}

/// A machine whose calls count, as the connection sees it now.
///
/// # Errors
/// `UNAUTHENTICATED` when it is unknown, `MACHINE_BANNED`, `MACHINE_EVICTED`.
pub(super) async fn read_active(connection: &mut PgConnection, id: MachineId) -> Result<Machine> {
    counted(store::machine_named(connection, &MachineRef::Id(id)).await?)
}

/// A machine whose calls count, share-locked until the transaction ends; who
/// locks API keys as well, locks them first.
///
/// # Errors
/// `UNAUTHENTICATED` when it is unknown, `MACHINE_BANNED`, `MACHINE_EVICTED`.
pub async fn active_machine(connection: &mut PgConnection, id: MachineId) -> Result<Machine> {
    counted(store::machines_for_share(connection, &[id]).await?.pop())
}

fn counted(found: Option<Machine>) -> Result<Machine> {
    let machine = found.ok_or_else(|| {
        Error::new(
            Reason::Unauthenticated,
            "this machine is not enrolled here; let it join again",
        )
    })?;
    machine.state.check()?;
    Ok(machine)
}

/// Machines by id, as the connection sees them now.
///
/// # Errors
/// When the database refuses.
pub async fn machines(connection: &mut PgConnection, ids: &[MachineId]) -> Result<Vec<Machine>> {
    store::machines(connection, ids).await
}

/// Machines by id, share-locked until the transaction ends, in key order; who
/// locks API keys as well, locks them first.
///
/// # Errors
/// When the database refuses.
pub async fn lock_machines(
    connection: &mut PgConnection,
    ids: &[MachineId],
) -> Result<Vec<Machine>> {
    store::machines_for_share(connection, ids).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Serves;

    fn machine() -> Machine {
        Machine {
            id: "mch_0000000000000000000007".parse().unwrap(),
            name: "build-7".to_owned(),
            state: MachineState::Active,
            terms: Terms::default(),
            session_generation: 0,
            created_at: OffsetDateTime::UNIX_EPOCH,
            certificate_expires_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_ban_ends_sessions_and_an_unban_does_not_bring_them_back() {
        let mut machine = machine();
        assert!(!machine.undergo(&Act::Unban).unwrap());
        assert!(machine.undergo(&Act::Ban).unwrap());
        assert!(!machine.undergo(&Act::Ban).unwrap(), "twice");
        assert_eq!(
            machine.state.check().unwrap_err().reason(),
            Reason::MachineBanned
        );
        assert!(machine.undergo(&Act::Unban).unwrap());
        machine.state.check().unwrap();
        assert_eq!(machine.session_generation, 1);
    }

    #[test]
    fn an_evicted_machine_stays_so() {
        let mut machine = machine();
        machine.undergo(&Act::Ban).unwrap();
        assert!(machine.undergo(&Act::Evict).unwrap());
        assert!(!machine.undergo(&Act::Evict).unwrap(), "twice");
        for act in [Act::Ban, Act::Unban, Act::Update(TermsChange::default())] {
            let error = machine.undergo(&act).unwrap_err();
            assert_eq!(error.reason(), Reason::MachineEvicted, "{act:?}");
        }
        assert_eq!(machine.state, MachineState::Evicted);
        assert_eq!(machine.session_generation, 2);
    }

    #[test]
    fn other_agents_end_sessions_and_other_names_do_not() {
        let mut machine = machine();
        let agents = Act::Update(TermsChange {
            agents: Some(Serves::only(vec!["a".parse().unwrap()]).unwrap()),
            ..TermsChange::default()
        });
        assert!(machine.undergo(&agents).unwrap());
        assert_eq!(machine.session_generation, 1);
        machine.may_serve(&"a".parse().unwrap()).unwrap();
        let error = machine.may_serve(&"b".parse().unwrap()).unwrap_err();
        assert_eq!(error.reason(), Reason::AgentMismatch);
        let names = Act::Update(TermsChange {
            server_names: Some(Vec::new()),
            ..TermsChange::default()
        });
        assert!(!machine.undergo(&names).unwrap());
        assert_eq!(machine.session_generation, 1);
    }
}
