//! Who may do what on which board: as its lists say, for agents that are trusted
//! enough and not suspended, and under a live grant where the board wants one.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use authguardian_proto::{
    board::Level,
    ids::{AdminTokenId, AgentId, ApiKeyId, BoardName, GrantId, MachineId, ResourceTypeName},
    reason::{Problem, Reason},
    zone::Zone,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::board::{Board, not_found};
use crate::{
    audit::{Actor, Context},
    error::{Error, Result},
    grants::{self, LiveGrant},
    identity::{self, ApiKey, Machine, Serves, Session},
    policy::{self, Suspensions, score},
    registry,
};

/// Who calls.
#[derive(Debug, Clone)]
pub enum Who {
    /// An agent through its edge.
    Agent {
        /// Its session.
        session: Arc<Session>,
        /// On whose behalf; `None`: the first agent of the session that the
        /// board lets.
        agent: Option<AgentId>,
    },
    /// An operator, who is held to no board's lists.
    Operator(Option<AdminTokenId>),
    /// A machine, handing over what was written to its replica.
    Machine(MachineId),
    /// The control plane, ending what has come to its end.
    System,
}

impl Who {
    /// An agent of a session.
    ///
    /// # Errors
    /// `AGENT_MISMATCH` where the session does not speak for it.
    pub fn agent(session: Arc<Session>, agent: Option<AgentId>) -> Result<Self> {
        if let Some(agent) = &agent {
            session.speaks_for(agent)?;
        }
        Ok(Self::Agent { session, agent })
    }

    /// Who it is for a request's key.
    pub(super) fn session(&self) -> Option<&Session> {
        match self {
            Self::Agent { session, .. } => Some(session),
            Self::Operator(_) | Self::Machine(_) | Self::System => None,
        }
    }
}

/// What somebody wants with a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Read,
    Write,
}

/// Who writes, as it is put on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Writer {
    /// `agent:<id>` or `admin:adm_…`.
    pub(super) name: String,
    /// The agent alone.
    pub(super) agent: Option<AgentId>,
    pub(super) machine: Option<MachineId>,
    pub(super) grant: Option<GrantId>,
}

impl Writer {
    /// Whose act it is in the audit log.
    pub(super) fn context(&self, mut context: Context) -> Context {
        if let Actor::Agent(_, key) = context.actor {
            context.actor = Actor::Agent(self.agent.clone(), key);
        }
        context
    }
}

/// What judging a batch of calls rests on, as one connection saw it.
pub(super) struct Rights {
    keys: HashMap<ApiKeyId, ApiKey>,
    suspensions: Suspensions,
    trust: HashMap<AgentId, u32>,
    grants: Vec<LiveGrant>,
    machines: HashMap<MachineId, Machine>,
    now: OffsetDateTime,
}

impl Rights {
    /// Reads what these calls rest on; of agents and grants only what a board
    /// asks for.
    pub(super) async fn read<'a>(
        connection: &mut PgConnection,
        calls: impl Iterator<Item = (&'a Who, Option<&'a Board>)>,
        now: OffsetDateTime,
    ) -> Result<Self> {
        let (mut keys, mut trusted) = (BTreeSet::new(), BTreeSet::new());
        let (mut granted, mut boards) = (BTreeSet::new(), BTreeSet::new());
        let mut machines = BTreeSet::new();
        for (who, board) in calls {
            if let Who::Machine(machine) = who {
                machines.insert(*machine);
            }
            let (Some(session), Some(board)) = (who.session(), board) else {
                continue;
            };
            keys.insert(session.api_key_id);
            if board.terms.min_trust > 0 {
                trusted.extend(session.agents.iter().cloned());
            }
            if board.terms.requires_grant {
                granted.extend(session.agents.iter().cloned());
                boards.insert(ResourceTypeName::of_board(&board.name));
            }
        }
        if keys.is_empty() && machines.is_empty() {
            return Ok(Self::of_operators(now));
        }
        let keys: Vec<ApiKeyId> = keys.into_iter().collect();
        let trusted: Vec<AgentId> = trusted.into_iter().collect();
        let (granted, boards): (Vec<_>, Vec<_>) =
            (granted.into_iter().collect(), boards.into_iter().collect());
        let machines: Vec<MachineId> = machines.into_iter().collect();
        Ok(Self {
            keys: if keys.is_empty() {
                HashMap::new()
            } else {
                let keys = identity::api_key::api_keys(connection, &keys).await?;
                keys.into_iter().map(|key| (key.id, key)).collect()
            },
            machines: if machines.is_empty() {
                HashMap::new()
            } else {
                let found = identity::machine::machines(connection, &machines).await?;
                found.into_iter().map(|one| (one.id, one)).collect()
            },
            suspensions: policy::suspensions(connection).await?,
            trust: if trusted.is_empty() {
                HashMap::new()
            } else {
                registry::trust_of(connection, &trusted).await?
            },
            grants: if boards.is_empty() {
                Vec::new()
            } else {
                grants::live(connection, &granted, &boards, now).await?
            },
            now,
        })
    }

    fn of_operators(now: OffsetDateTime) -> Self {
        Self {
            keys: HashMap::new(),
            suspensions: Suspensions::default(),
            trust: HashMap::new(),
            grants: Vec::new(),
            machines: HashMap::new(),
            now,
        }
    }

    /// Whether somebody may; who it is then.
    ///
    /// # Errors
    /// `BOARD_NOT_FOUND` (also for a board that is not for the caller at all),
    /// `PERMISSION_DENIED`, `TRUST_TOO_LOW`, `SUSPENDED`, `ZONE_FORBIDS`, and
    /// those of the key.
    pub(super) fn check(
        &self,
        who: &Who,
        board: Option<&Board>,
        name: &BoardName,
        want: Want,
    ) -> Result<Writer> {
        let board = board.ok_or_else(|| not_found(name))?;
        let (session, agent) = match who {
            Who::Agent { session, agent } => (session, agent),
            Who::Operator(admin) => {
                return Ok(Writer::other(admin.map_or_else(
                    || "admin".to_owned(),
                    |admin| format!("admin:{admin}"),
                )));
            }
            // each of its writes is judged by itself
            Who::Machine(machine) => return Ok(Writer::other(format!("machine:{machine}"))),
            Who::System => return Ok(Writer::system()),
        };
        self.keys
            .get(&session.api_key_id)
            .ok_or_else(|| Error::new(Reason::ApiKeyUnknown, "this API key is not known here"))?
            .check(self.now)?;
        if want == Want::Write && session.zone == Zone::External {
            return Err(Error::new(
                Reason::ZoneForbids,
                "from outside of the configured networks boards can be read, and not written",
            ));
        }
        if let Some(agent) = agent {
            return self.check_agent(session, agent, board, want);
        }
        let mut first = None;
        for agent in &session.agents {
            match self.check_agent(session, agent, board, want) {
                Ok(writer) => return Ok(writer),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| not_found(name)))
    }

    /// Whether an agent of a machine may have written to its replica of a board.
    ///
    /// # Errors
    /// As [`Rights::check`], and `AGENT_MISMATCH` where the machine may not serve the
    /// agent.
    pub(super) fn check_pushed(
        &self,
        who: &Who,
        agent: &AgentId,
        board: Option<&Board>,
        name: &BoardName,
    ) -> Result<()> {
        let board = board.ok_or_else(|| not_found(name))?;
        let Who::Machine(id) = who else {
            return Err(Error::internal("only machines hand writes over"));
        };
        let machine = self.machines.get(id).ok_or_else(|| {
            Error::new(Reason::Unauthenticated, "this machine is not enrolled here")
        })?;
        machine.state.check()?;
        machine.may_serve(agent)?;
        if !is_replicated(board, machine) {
            return Err(not_found(name));
        }
        check_named(board, agent, Want::Write)?;
        self.check_suspended(board, agent, *id)
    }

    fn check_suspended(&self, board: &Board, agent: &AgentId, machine: MachineId) -> Result<()> {
        let resource = ResourceTypeName::of_board(&board.name);
        if !self.suspensions.cover(agent, machine, &resource) {
            return Ok(());
        }
        Err(Error::new(
            Reason::Suspended,
            "an operator has suspended this agent, its machine, the board or everything",
        ))
    }

    fn check_agent(
        &self,
        session: &Session,
        agent: &AgentId,
        board: &Board,
        want: Want,
    ) -> Result<Writer> {
        check_named(board, agent, want)?;
        self.check_suspended(board, agent, session.machine)?;
        let trust = score::effective_trust(self.trust.get(agent).copied(), session.zone);
        if trust < board.terms.min_trust {
            let detail = format!(
                "board `{}` wants a trust of {}, and agent `{agent}` has {trust} from where it calls",
                board.name, board.terms.min_trust
            );
            return Err(Error::new(Reason::TrustTooLow, detail));
        }
        let grant = board
            .terms
            .requires_grant
            .then(|| self.grant(agent, &ResourceTypeName::of_board(&board.name), want))
            .transpose()?;
        Ok(Writer {
            name: format!("agent:{agent}"),
            agent: Some(agent.clone()),
            machine: Some(session.machine),
            grant,
        })
    }

    fn grant(&self, agent: &AgentId, resource: &ResourceTypeName, want: Want) -> Result<GrantId> {
        let fits = |grant: &&LiveGrant| {
            grant.agent_id == *agent
                && grant.resource_type == *resource
                && (want == Want::Read || lets_write(grant.scope.as_deref()))
        };
        let found = self.grants.iter().find(fits).map(|grant| grant.id);
        found.ok_or_else(|| {
            let scope = match want {
                Want::Read => "",
                Want::Write => " whose scope has `write`",
            };
            Problem::new(
                Reason::PermissionDenied,
                format!(
                    "agent `{agent}` needs a live grant{scope} for this board: ask for one with `request_permission` and resource_type `{resource}`"
                ),
            )
            .at("board")
            .into()
        })
    }
}

impl Writer {
    /// The control plane, ending what has come to its end.
    pub(super) fn system() -> Self {
        Self::other("system".to_owned())
    }

    fn other(name: String) -> Self {
        Self {
            name,
            agent: None,
            machine: None,
            grant: None,
        }
    }
}

/// Whether a board's lists name an agent for this.
fn check_named(board: &Board, agent: &AgentId, want: Want) -> Result<()> {
    if !board.terms.lets_read(agent) {
        return Err(not_found(&board.name));
    }
    if want == Want::Read || board.terms.lets_write(agent) {
        return Ok(());
    }
    let detail = format!(
        "agent `{agent}` may read board `{}`, and not write",
        board.name
    );
    Err(Error::new(Reason::PermissionDenied, detail))
}

/// Whether a machine has a replica of a board: some agent that it may serve reads
/// it, and whether it may is known there without asking.
pub(super) fn is_replicated(board: &Board, machine: &Machine) -> bool {
    let terms = &board.terms;
    let is_known_there = terms.min_trust == 0 && !terms.requires_grant;
    is_known_there
        && board.level < Level::Strong
        && match &machine.terms.agents {
            Serves::Any => !(terms.readers.is_empty() && terms.writers.is_empty()),
            Serves::Only(agents) => agents.iter().any(|agent| terms.lets_read(agent)),
        }
}

/// Whether a grant's scope is for writing: `write` among its words, or all.
fn lets_write(scope: Option<&str>) -> bool {
    let Some(scope) = scope.map(str::trim).filter(|scope| !scope.is_empty()) else {
        return true;
    };
    scope
        .split(|c: char| !(c.is_alphanumeric() || c == '*'))
        .any(|word| ["*", "all", "write"].contains(&&*word.to_ascii_lowercase()))
}

/// Whether the board's level serves what is wanted.
///
/// # Errors
/// `UNSUPPORTED_FOR_LEVEL`, naming what to use instead.
pub(super) fn check_level(board: &Board, least: Level, what: &str) -> Result<()> {
    if board.level >= least {
        return Ok(());
    }
    Err(Error::new(
        Reason::UnsupportedForLevel,
        format!(
            "{what} on board `{}`, which is `{}`: use one that is `{least}`",
            board.name, board.level
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_for_writing_where_it_says_so_or_says_nothing() {
        for good in [
            None,
            Some(""),
            Some("*"),
            Some("read,write"),
            Some("Write"),
            Some("all"),
        ] {
            assert!(lets_write(good), "{good:?}");
        }
        for bad in [Some("read"), Some("overwrite"), Some("q4")] {
            assert!(!lets_write(bad), "{bad:?}");
        }
    }
}
