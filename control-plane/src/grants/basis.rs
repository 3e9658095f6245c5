//! What decisions rest on, held still while they are made.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use authguardian_proto::{
    ids::{AgentId, ApiKeyId, MachineId, ResourceTypeName},
    reason::{Problem, Reason},
    zone::Zone,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Ask;
use crate::{
    error::{Error, Result},
    identity::{self, ApiKey, Machine, Session},
    policy::{
        self, ResourceType, Suspensions,
        engine::{Engine, PolicySet},
        facts::{self, Facts},
    },
    registry,
};

/// Everything that decisions rest on, share-locked: whoever changes any of it
/// waits for this transaction, or this one sees the change.
pub(super) struct Basis {
    agents: HashMap<AgentId, u32>,
    api_keys: HashMap<ApiKeyId, ApiKey>,
    machines: HashMap<MachineId, Machine>,
    resource_types: HashMap<ResourceTypeName, ResourceType>,
    suspensions: Suspensions,
    pub(super) policies: Arc<PolicySet>,
}

impl Basis {
    /// Locks what these calls rest on, in this order and each in key order, so
    /// that batches cannot deadlock.
    pub(super) async fn lock<'a>(
        connection: &mut PgConnection,
        engine: &Engine,
        calls: impl Iterator<Item = (&'a Session, &'a AgentId, &'a ResourceTypeName)> + Clone,
    ) -> Result<Self> {
        let agents = distinct(calls.clone().map(|(_, agent, _)| agent.clone()));
        let keys = distinct(calls.clone().map(|(session, ..)| session.api_key_id));
        let machines = distinct(calls.clone().map(|(session, ..)| session.machine));
        let types = distinct(calls.map(|(.., resource_type)| resource_type.clone()));
        let agents = registry::lock_agents(connection, &agents).await?;
        let api_keys = identity::api_key::lock_api_keys(connection, &keys).await?;
        let machines = identity::machine::lock_machines(connection, &machines).await?;
        let resource_types = policy::lock_resource_types(connection, &types).await?;
        let of_names = of_names(connection, &types, &resource_types).await?;
        let in_force = policy::lock_active(connection, engine).await?;
        Ok(Self {
            agents: agents
                .into_iter()
                .map(|agent| (agent.id, agent.trust))
                .collect(),
            api_keys: api_keys.into_iter().map(|key| (key.id, key)).collect(),
            machines: machines
                .into_iter()
                .map(|machine| (machine.id, machine))
                .collect(),
            resource_types: resource_types
                .into_iter()
                .chain(of_names)
                .map(|kind| (kind.name.clone(), kind))
                .collect(),
            suspensions: in_force.suspensions,
            policies: in_force.policies,
        })
    }

    /// Whether the session's key and machine still count, for this agent.
    pub(super) fn check_session(
        &self,
        session: &Session,
        agent: &AgentId,
        now: OffsetDateTime,
    ) -> Result<()> {
        self.api_keys
            .get(&session.api_key_id)
            .ok_or_else(|| Error::new(Reason::ApiKeyUnknown, "this API key is not known here"))?
            .check(now)?;
        let machine = self.machines.get(&session.machine).ok_or_else(|| {
            Error::new(Reason::Unauthenticated, "this machine is not enrolled here")
        })?;
        machine.state.check()?;
        machine.may_serve(agent)
    }

    /// Where a session's calls come from, as far as its machine counts now.
    pub(super) fn zone(&self, session: &Session) -> Zone {
        let machine = self.machines.get(&session.machine);
        machine.map_or(Zone::External, |machine| {
            session.zone.min(machine.terms.max_zone)
        })
    }

    /// Gathers what an ask is judged by.
    pub(super) fn judge(&self, ask: &Ask, session: &Session, now: OffsetDateTime) -> Result<Facts> {
        let kind = self.resource_type(&ask.resource_type)?;
        let ttl = ask.ttl_seconds.unwrap_or(kind.default_ttl_seconds);
        if ttl > kind.max_ttl_seconds {
            return Err(Problem::new(
                Reason::TtlTooLong,
                format!(
                    "grants for `{}` live {} seconds at most",
                    kind.name, kind.max_ttl_seconds
                ),
            )
            .at("ttl_seconds")
            .into());
        }
        Ok(Facts::gather(&facts::Ask {
            agent_id: &ask.agent_id,
            agent_trust: self.agents.get(&ask.agent_id).copied(),
            suspended: self
                .suspensions
                .cover(&ask.agent_id, session.machine, &ask.resource_type),
            zone: self.zone(session),
            machine_id: session.machine,
            resource_type: &ask.resource_type,
            base_risk: kind.base_risk,
            scope: ask.scope.as_deref(),
            ttl_seconds: ttl,
            justification: &ask.justification,
            at: now,
        }))
    }

    /// A type that exists.
    pub(super) fn resource_type(&self, name: &ResourceTypeName) -> Result<&ResourceType> {
        self.resource_types.get(name).ok_or_else(|| {
            if let Some(agent) = name.agent() {
                return Problem::new(
                    Reason::UnknownAgent,
                    format!("there is no agent `{agent}`, neither registered nor on record"),
                )
                .at("resource_type")
                .into();
            }
            Problem::new(
                Reason::UnknownResourceType,
                format!("there is no resource type `{name}`"),
            )
            .at("resource_type")
            .into()
        })
    }
}

/// Agents that are asked to be called and boards that are asked for, as types,
/// where no type of their name says more of them. Agents have to be registered or
/// on record; boards need not be there, as the grant alone opens nothing.
async fn of_names(
    connection: &mut PgConnection,
    asked: &[ResourceTypeName],
    there: &[ResourceType],
) -> Result<Vec<ResourceType>> {
    let own = |name: &&ResourceTypeName| there.iter().all(|kind| kind.name != **name);
    let agents: Vec<AgentId> = asked
        .iter()
        .filter(own)
        .filter_map(ResourceTypeName::agent)
        .collect();
    let boards = asked.iter().filter(own).filter_map(ResourceTypeName::board);
    let mut kinds: Vec<ResourceType> = boards.map(|board| ResourceType::of_board(&board)).collect();
    if !agents.is_empty() {
        let known = registry::known_among(connection, &agents).await?;
        kinds.extend(known.iter().map(ResourceType::of_agent));
    }
    Ok(kinds)
}

fn distinct<T: Hash + Eq>(items: impl Iterator<Item = T>) -> Vec<T> {
    items
        .collect::<std::collections::HashSet<_>>()
        .into_iter()
        .collect()
}
