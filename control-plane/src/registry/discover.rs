//! Finding registered agents, the best first.

use std::collections::{BTreeMap, HashMap};

use authguardian_proto::{
    capability::{CapabilityQuery, check_labels},
    ids::{AgentId, MachineId},
    liveness::Liveness,
    zone::Zone,
};
use sqlx::PgConnection;

use super::{
    Cursor, Registration, Registry,
    page::distrust,
    registration::label_term,
    store::{self, Place, Range},
};
use crate::{
    error::{Error, Result},
    policy::score,
};

/// Most agents that are asked for by their ids.
const MAX_AGENTS: usize = 100;

/// What has to fit; all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// What they can do.
    pub capability: CapabilityQuery,
    /// 0 to 1000.
    pub min_trust: u32,
    /// Registered from there; `None`: from anywhere.
    pub zone: Option<Zone>,
    /// On this machine; `None`: on any.
    pub machine: Option<MachineId>,
    /// At most as bad as this.
    pub worst: Liveness,
    /// All of them, with these values.
    pub labels: BTreeMap<String, String>,
    /// Only these, at most 100; none: all.
    pub agents: Vec<AgentId>,
    /// Whose agents come before equally live ones of others; `None`: nobody's.
    pub near: Option<MachineId>,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            capability: CapabilityQuery::Any,
            min_trust: 0,
            zone: None,
            machine: None,
            worst: Liveness::Gone,
            labels: BTreeMap::new(),
            agents: Vec::new(),
            near: None,
        }
    }
}

/// Found agents.
#[derive(Debug, Clone)]
pub struct Page {
    /// The best first.
    pub agents: Vec<Registration>,
    /// Where to go on; `None`: there are no more.
    pub next: Option<Cursor>,
}

impl Search {
    fn check(&self) -> Result<()> {
        check_labels(&self.labels)?;
        if self.min_trust > score::MAX {
            return Err(Error::invalid("min_trust", "expected 0 to 1000"));
        }
        if self.agents.len() > MAX_AGENTS {
            return Err(Error::invalid(
                "agent_ids",
                format!("expected at most {MAX_AGENTS}"),
            ));
        }
        Ok(())
    }

    /// Whether an agent is asked for.
    pub fn fits(&self, agent: &Registration) -> bool {
        let labelled = |(key, value): (&String, &String)| agent.labels.get(key) == Some(value);
        self.capability.matches(&agent.capabilities)
            && agent.trust >= self.min_trust
            && self.zone.is_none_or(|zone| agent.zone == zone)
            && self
                .machine
                .is_none_or(|machine| agent.machine_id == machine)
            && agent.liveness <= self.worst
            && self.labels.iter().all(labelled)
            && (self.agents.is_empty() || self.agents.contains(&agent.agent_id))
    }

    /// Where an agent stands among those found.
    pub fn rank(&self, agent: &Registration) -> Cursor {
        Cursor::of(agent, self.near != Some(agent.machine_id))
    }

    /// The parts of the order, in order: liveness, whether elsewhere, and where.
    fn ranges(&self) -> impl Iterator<Item = (Liveness, bool, Place)> {
        let places = match (self.machine, self.near) {
            (Some(machine), near) => {
                vec![(near != Some(machine), Place::On(machine.as_uuid()))]
            }
            (None, Some(near)) => {
                let near = near.as_uuid();
                vec![(false, Place::On(near)), (true, Place::NotOn(near))]
            }
            (None, None) => vec![(true, Place::Anywhere)],
        };
        let worst = self.worst;
        Liveness::ALL
            .into_iter()
            .filter(move |liveness| *liveness <= worst)
            .flat_map(move |liveness| {
                let places = places.clone();
                places
                    .into_iter()
                    .map(move |(elsewhere, place)| (liveness, elsewhere, place))
            })
    }
}

impl Registry {
    /// Finds registered agents: the live before the suspect, those of the near
    /// machine before others, the trusted before the less trusted.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` or `TOO_LARGE` with the field.
    pub async fn discover(
        &self,
        search: &Search,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page> {
        search.check()?;
        let mut connection = self.db.read().await?;
        let mut sight = store::begin_sight(&mut connection).await?;
        // one more than asked for shows whether there are more
        let wanted = limit as usize + 1;
        let mut agents = if search.agents.is_empty() {
            by_range(&mut sight, search, after, wanted).await?
        } else {
            by_id(&mut sight, search, after, wanted).await?
        };
        sight.rollback().await?;
        let more = agents.len() >= wanted;
        agents.truncate(limit as usize);
        let next = agents.last().filter(|_| more).map(|last| search.rank(last));
        Ok(Page { agents, next })
    }
}

async fn by_range(
    connection: &mut PgConnection,
    search: &Search,
    after: Option<&Cursor>,
    wanted: usize,
) -> Result<Vec<Registration>> {
    let label = search.labels.iter().next();
    let label = label.map(|(key, value)| label_term(key, value));
    let mut found: Vec<AgentId> = Vec::new();
    for (liveness, elsewhere, place) in search.ranges() {
        let from = match after {
            Some(at) if (liveness, elsewhere) < (at.liveness, at.elsewhere) => continue,
            Some(at) if (liveness, elsewhere) == (at.liveness, at.elsewhere) => {
                (at.distrust, at.agent_id.as_str())
            }
            _ => (-1, ""),
        };
        let range = Range {
            term: search.capability.term().or(label.as_deref()),
            liveness,
            place,
            distrust: distrust(search.min_trust),
            after: from,
            zone: search.zone,
            labels: &search.labels,
            limit: i64::try_from(wanted - found.len()).map_err(Error::internal)?,
        };
        found.extend(store::find(connection, &range).await?);
        if found.len() >= wanted {
            break;
        }
    }
    let read = store::registrations(connection, &found, &[]).await?;
    let mut read: HashMap<AgentId, Registration> = read
        .into_iter()
        .map(|agent| (agent.agent_id.clone(), agent))
        .collect();
    Ok(found.iter().filter_map(|id| read.remove(id)).collect())
}

async fn by_id(
    connection: &mut PgConnection,
    search: &Search,
    after: Option<&Cursor>,
    wanted: usize,
) -> Result<Vec<Registration>> {
    let mut found = store::registrations(connection, &search.agents, &[]).await?;
    found.retain(|agent| search.fits(agent));
    found.sort_by_cached_key(|agent| search.rank(agent));
    if let Some(after) = after {
        found.retain(|agent| search.rank(agent) > *after);
    }
    found.truncate(wanted);
    Ok(found)
}
