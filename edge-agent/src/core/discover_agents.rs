//! `discover_agents`: everything that is known of agents, from wherever, as one
//! answer. The control plane's word wins; while it is away, what is known here.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use authguardian_proto::{
    capability::{Capability, CapabilityQuery},
    endpoint::Endpoint,
    ids::{AgentId, MachineId},
    liveness::Liveness,
    reason::{Problem, Reason},
    registry::v1::DiscoverAgentsRequest,
    zone::Zone,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Caller, Core,
    agent_result::{AgentResult, CapabilityResult},
    decision::given,
    form::{Field, Form, Kind},
};
use crate::{
    neighbours::{self, Query},
    upstream::Timing,
};

const PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;

/// Most agents that can be asked of by id at once.
const MAX_IDS: usize = 100;

/// A cursor of what only this edge knows begins so, behind all that the control
/// plane has told …
const HERE_CURSOR: &str = "here:";
/// … and so where it was away when the first answer was given.
const AWAY_CURSOR: &str = "away:";
/// One of the control plane's pages.
const CENTRAL_CURSOR: &str = "central:";

pub(super) const FIELDS: &[Field] = &[
    Field::optional(
        "capability",
        Kind::CapabilityQuery,
        "What they can do: a name such as `finance.invoices.read`, with a version as `…@1.2`, or everything below \
         a namespace as `finance.*`",
    ),
    Field::optional(
        "min_trust",
        Kind::Whole(0, 1000),
        "Trusted no less than this, 0 to 1000",
    ),
    Field::optional(
        "live_only",
        Kind::Flag,
        "Only those that can be expected to answer",
    ),
    Field::optional(
        "zone",
        Kind::OneOf(&["local_machine", "trusted_network", "external"]),
        "Registered from there",
    ),
    Field::optional("machine_id", Kind::Machine, "Only those of this machine"),
    Field::optional(
        "labels",
        Kind::Labels,
        "Only those with all of these labels",
    ),
    Field::optional(
        "limit",
        Kind::Whole(1, MAX_PAGE),
        "How many at most, 1 to 1,000; default 100",
    ),
    Field::optional(
        "cursor",
        Kind::Text(1024),
        "`next_cursor` of the answer before",
    ),
];

/// What is known of agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DiscoverAgentsResult {
    /// The best first; those that the control plane knows before others.
    pub agents: Vec<FoundAgent>,
    /// Who was asked.
    pub sources: Vec<SourceResult>,
    /// Whether the control plane has answered: else there may be agents that nobody
    /// here knows of.
    pub complete: bool,
    /// Where the next answer begins; missing when there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// An agent that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FoundAgent {
    /// What is known of it.
    #[serde(flatten)]
    pub agent: AgentResult,
    /// Who says so: `central`, `local` (registered through this edge), `gossip`, `mdns` or `static`.
    pub source: String,
    /// How old that is, milliseconds.
    pub age_ms: u64,
}

/// A source that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SourceResult {
    /// `central`, `local`, `gossip`, `mdns` or `static`.
    pub source: String,
    /// Whether it has answered.
    pub available: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An agent that this machine's operator has written into the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticAgent {
    /// Which.
    pub agent_id: AgentId,
    /// Where; `None`: nobody says.
    pub machine_id: Option<MachineId>,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// Its MCP server.
    pub endpoint: Option<Endpoint>,
    /// 0 to 1000.
    pub trust_level: u32,
    /// For choosing among agents.
    pub labels: BTreeMap<String, String>,
}

/// What has to fit.
pub(super) struct Asked {
    pub(super) capability: Option<CapabilityQuery>,
    pub(super) min_trust: u32,
    pub(super) worst: Liveness,
    pub(super) zone: Option<Zone>,
    pub(super) machine: Option<MachineId>,
    pub(super) labels: BTreeMap<String, String>,
    /// Only these; none: all.
    pub(super) ids: Vec<AgentId>,
}

/// How one that only this edge knows is ordered; a smaller one is better.
type Rank = (Liveness, bool, u32, String);

/// One that only this edge knows.
struct Known {
    rank: Rank,
    found: FoundAgent,
}

impl Core {
    pub(super) async fn discover_agents(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<DiscoverAgentsResult, Problem> {
        let asked = Asked::read(form)?;
        let limit = form.number("limit").unwrap_or(PAGE);
        self.find_agents(caller, &asked, limit, form.text("cursor"))
            .await
    }

    /// One page of everything that fits.
    pub(super) async fn find_agents(
        &self,
        caller: &Caller,
        asked: &Asked,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<DiscoverAgentsResult, Problem> {
        let mut answer = Answer::default();
        let (mut central, here_after) = match Place::read(cursor)? {
            Place::Central(page_token) => {
                let central = self.ask_central(caller, asked, limit, page_token).await?;
                (central, None)
            }
            Place::Here(after) => (Central::Told, Some(after)),
            // it may be back: who began without it would miss what it tells
            Place::Away(after) => (Central::Silent, Some(after)),
        };
        match &mut central {
            Central::Page { agents, next } => {
                answer.agents = std::mem::take(agents);
                if let Some(next) = next.take() {
                    answer.next_cursor = Some(format!("{CENTRAL_CURSOR}{next}"));
                }
            }
            Central::Away(_) | Central::Told | Central::Silent => {}
        }
        if answer.next_cursor.is_none() {
            self.add_known_here(caller, asked, limit, here_after, &central, &mut answer)
                .await?;
        }
        let (available, reason) = match central {
            Central::Away(problem) => (false, Some(problem.reason.to_string())),
            Central::Silent => (false, Some(Reason::Unavailable.to_string())),
            Central::Page { .. } | Central::Told => (true, None),
        };
        let mut sources = vec![SourceResult {
            source: "central".to_owned(),
            available,
            reason,
        }];
        sources.extend(self.sources_here().into_iter().map(|source| SourceResult {
            source: source.to_owned(),
            available: true,
            reason: None,
        }));
        Ok(DiscoverAgentsResult {
            agents: answer.agents,
            sources,
            complete: available,
            next_cursor: answer.next_cursor,
        })
    }

    async fn ask_central(
        &self,
        caller: &Caller,
        asked: &Asked,
        limit: u32,
        page_token: String,
    ) -> Result<Central, Problem> {
        let begun = self.ambient.clock.since_boot();
        let request = asked.message(limit, page_token);
        let page = match self
            .upstream
            .discover_agents_soon(caller.login(), request)
            .await
        {
            Ok(page) => page,
            Err(problem) if problem.reason == Reason::Unavailable => {
                return Ok(Central::Away(problem));
            }
            Err(mut problem) => {
                if problem.field.as_deref() == Some("page_token") {
                    problem.field = Some("cursor".to_owned());
                }
                return Err(problem);
            }
        };
        let age = self.ambient.clock.since_boot().saturating_sub(begun);
        let agents = page.agents.into_iter().map(|agent| FoundAgent {
            agent: agent.into(),
            source: "central".to_owned(),
            age_ms: millis(age),
        });
        Ok(Central::Page {
            agents: agents.collect(),
            next: given(page.next_page_token),
        })
    }

    /// Adds what only this edge knows, as far as there is room.
    async fn add_known_here(
        &self,
        caller: &Caller,
        asked: &Asked,
        limit: u32,
        after: Option<Rank>,
        central: &Central,
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        let with_hearsay = !central.has_told();
        let mut known = self.known_here(asked, with_hearsay);
        if central.has_told() {
            let ids: Vec<AgentId> = known
                .iter()
                .filter_map(|known| known.found.agent.agent_id.parse().ok())
                .collect();
            let there = self.registered_among(caller, &ids).await?;
            known.retain(|known| !there.contains(&known.found.agent.agent_id));
        }
        known.sort_by(|a, b| a.rank.cmp(&b.rank));
        if let Some(after) = after {
            known.retain(|known| known.rank > after);
        }
        let room = usize::try_from(limit)
            .unwrap_or(usize::MAX)
            .saturating_sub(answer.agents.len());
        let has_more = known.len() > room;
        known.truncate(room);
        if has_more {
            let prefix = if central.has_told() {
                HERE_CURSOR
            } else {
                AWAY_CURSOR
            };
            // with no room at all the next answer begins with the first
            let rank = known.last().map(|known| write_rank(&known.rank));
            answer.next_cursor = Some(format!("{prefix}{}", rank.unwrap_or_default()));
        }
        answer
            .agents
            .extend(known.into_iter().map(|known| known.found));
        Ok(())
    }

    /// Those of these agents that the control plane knows, whatever fits; asked
    /// within the patience of one look.
    async fn registered_among(
        &self,
        caller: &Caller,
        ids: &[AgentId],
    ) -> Result<HashSet<String>, Problem> {
        let mut there = HashSet::new();
        for some in ids.chunks(MAX_IDS) {
            let request = DiscoverAgentsRequest {
                agent_ids: some.iter().map(ToString::to_string).collect(),
                page_size: MAX_PAGE,
                ..DiscoverAgentsRequest::default()
            };
            match self
                .upstream
                .discover_agents_soon(caller.login(), request)
                .await
            {
                Ok(page) => there.extend(page.agents.into_iter().map(|agent| agent.agent_id)),
                // gone in between: nobody is left out for that
                Err(problem) if problem.reason == Reason::Unavailable => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(there)
    }

    /// Everything that fits of what this edge knows by itself. What it knows of the
    /// registry's agents counts only while the registry itself cannot be asked.
    fn known_here(&self, asked: &Asked, with_hearsay: bool) -> Vec<Known> {
        let mut known = Vec::new();
        if with_hearsay {
            known.extend(self.own_agents(asked));
            known.extend(self.neighbours_agents(asked));
        }
        known.extend(self.static_agents(asked));
        let mut seen = HashSet::new();
        known.retain(|known| seen.insert(known.found.agent.agent_id.clone()));
        known
    }

    fn own_agents(&self, asked: &Asked) -> Vec<Known> {
        let now = self.ambient.clock.since_boot();
        let fitting = self.agents.all().into_iter().filter(|own| {
            let registered = &own.registered;
            asked.fits(
                &registered.agent_id,
                &registered.capabilities,
                &registered.labels,
                registered.trust_level,
                Some(registered.zone),
                Some(registered.machine_id),
                own.liveness(now),
            )
        });
        fitting
            .map(|own| {
                let (liveness, age) = (own.liveness(now), own.silence(now));
                Known::new(self.told(own), liveness, true, "local", age)
            })
            .collect()
    }

    fn static_agents(&self, asked: &Asked) -> Vec<Known> {
        let statics = self.statics.load();
        let age = self
            .ambient
            .clock
            .since_boot()
            .saturating_sub(statics.read_at);
        let fitting = statics.agents.iter().filter(|agent| {
            asked.fits(
                &agent.agent_id,
                &agent.capabilities,
                &agent.labels,
                agent.trust_level,
                None,
                agent.machine_id,
                Liveness::Live,
            )
        });
        fitting
            .map(|agent| {
                let is_here = agent.machine_id == Some(self.machine_id);
                let told = AgentResult::from(agent.clone());
                Known::new(told, Liveness::Live, is_here, "static", age)
            })
            .collect()
    }

    /// What other edges have told. What they told of an agent that is gone from the
    /// registry goes when the registry says so.
    fn neighbours_agents(&self, asked: &Asked) -> Vec<Known> {
        let query = Query {
            capability: asked.capability.clone(),
            min_trust: asked.min_trust,
            zone: asked.zone,
            machine: asked.machine,
            worst_liveness: asked.worst,
            labels: asked.labels.clone(),
            agents: (!asked.ids.is_empty()).then(|| asked.ids.iter().cloned().collect()),
        };
        let now = self.unix();
        let found = self.neighbours.find(&query, now).into_iter();
        found
            .map(|neighbour| {
                let heard = now - i64::try_from(neighbour.age.as_secs()).unwrap_or_default();
                let told = AgentResult::of_record(&neighbour.record, neighbour.liveness, heard);
                let (source, age) = (neighbour.source.as_str(), neighbour.age);
                Known::new(told, neighbour.liveness, false, source, age)
            })
            .collect()
    }

    /// The machine of an agent, and where its edge is reached; `None`: nobody knows.
    pub(super) async fn locate(
        &self,
        caller: &Caller,
        agent: &AgentId,
    ) -> Result<Option<(MachineId, Option<String>)>, Problem> {
        let request = Asked::one(agent).message(1, String::new());
        let asked = self.upstream.discover_agents_soon(caller.login(), request);
        match asked.await {
            Ok(page) => Ok(page.agents.into_iter().next().and_then(|found| {
                let machine = found.machine_id.parse().ok()?;
                Some((machine, given(found.peer_address)))
            })),
            Err(problem) if problem.reason == Reason::Unavailable => {
                let query = Query {
                    agents: Some(HashSet::from([agent.clone()])),
                    ..Query::default()
                };
                let known = self.neighbours.find(&query, self.unix()).into_iter().next();
                Ok(known.map(|known| (known.record.machine, known.record.peer_address.clone())))
            }
            Err(problem) => Err(problem),
        }
    }

    fn sources_here(&self) -> Vec<&'static str> {
        let mut sources = vec!["local"];
        sources.extend(self.hearsay.load().iter().map(|source| source.as_str()));
        sources.push("static");
        sources
    }

    /// Finds these from now on, besides those of the registry.
    pub fn set_static_agents(&self, agents: Vec<StaticAgent>) {
        let read_at = self.ambient.clock.since_boot();
        self.statics.store(Arc::new(Statics { agents, read_at }));
    }

    /// Other edges are listened to in these ways.
    pub fn set_hearsay(&self, sources: Vec<neighbours::Source>) {
        self.hearsay.store(Arc::new(sources));
    }

    pub(super) fn neighbours_timing(&self, timing: Timing) {
        self.neighbours.set_timing(neighbours::Timing {
            suspect_after: timing.suspect_after,
            gone_after: timing.gone_after,
        });
    }
}

/// The agents of the configuration.
#[derive(Default)]
pub(super) struct Statics {
    agents: Vec<StaticAgent>,
    /// Since boot.
    read_at: Duration,
}

/// Where an answer begins.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// At one of the control plane's pages.
    Central(String),
    /// Behind all of its pages, after this one of those that only this edge knows.
    Here(Rank),
    /// The same where the control plane was away from the beginning.
    Away(Rank),
}

impl Place {
    fn read(cursor: Option<&str>) -> Result<Self, Problem> {
        let Some(cursor) = cursor else {
            return Ok(Self::Central(String::new()));
        };
        let rank = |prefix| cursor.strip_prefix(prefix).and_then(read_rank);
        let central = cursor.strip_prefix(CENTRAL_CURSOR);
        central
            .map(|page_token| Self::Central(page_token.to_owned()))
            .or_else(|| rank(HERE_CURSOR).map(Self::Here))
            .or_else(|| rank(AWAY_CURSOR).map(Self::Away))
            .ok_or_else(|| {
                let detail = "expected `next_cursor` of an earlier answer";
                Problem::invalid("cursor", detail)
            })
    }
}

/// What the control plane has said.
enum Central {
    /// One page of those that fit, and where the next begins.
    Page {
        agents: Vec<FoundAgent>,
        next: Option<String>,
    },
    /// All of its pages before.
    Told,
    /// It did not answer.
    Away(Problem),
    /// It was not asked, having been away when the first answer was given.
    Silent,
}

impl Central {
    fn has_told(&self) -> bool {
        matches!(self, Self::Page { .. } | Self::Told)
    }
}

#[derive(Default)]
struct Answer {
    agents: Vec<FoundAgent>,
    next_cursor: Option<String>,
}

impl Asked {
    fn read(form: &Form) -> Result<Self, Problem> {
        Ok(Self {
            capability: form.parsed("capability")?,
            min_trust: form.message_number("min_trust"),
            worst: if form.flag("live_only") {
                Liveness::Live
            } else {
                Liveness::Gone
            },
            zone: form.text("zone").and_then(Zone::parse),
            machine: form.parsed("machine_id")?,
            labels: form.labels("labels")?,
            ids: Vec::new(),
        })
    }

    /// Everybody.
    pub(super) fn anybody() -> Self {
        Self {
            capability: None,
            min_trust: 0,
            worst: Liveness::Gone,
            zone: None,
            machine: None,
            labels: BTreeMap::new(),
            ids: Vec::new(),
        }
    }

    /// One agent.
    pub(super) fn one(agent: &AgentId) -> Self {
        Self {
            ids: vec![agent.clone()],
            ..Self::anybody()
        }
    }

    fn message(&self, limit: u32, page_token: String) -> DiscoverAgentsRequest {
        DiscoverAgentsRequest {
            capability: self
                .capability
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            min_trust: self.min_trust,
            zone: self.zone.map_or(0, |zone| zone.to_proto().into()),
            machine_id: self
                .machine
                .map(|machine| machine.to_string())
                .unwrap_or_default(),
            worst_liveness: self.worst.to_proto().into(),
            labels: self.labels.clone().into_iter().collect(),
            agent_ids: self.ids.iter().map(ToString::to_string).collect(),
            page_size: limit,
            page_token,
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what is known of an agent has as many forms as sources"
    )]
    fn fits(
        &self,
        agent: &AgentId,
        capabilities: &[Capability],
        labels: &BTreeMap<String, String>,
        trust: u32,
        zone: Option<Zone>,
        machine: Option<MachineId>,
        liveness: Liveness,
    ) -> bool {
        let has_label = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        (self.ids.is_empty() || self.ids.contains(agent))
            && self
                .capability
                .as_ref()
                .is_none_or(|asked| asked.matches(capabilities))
            && trust >= self.min_trust
            && self.zone.is_none_or(|asked| zone == Some(asked))
            && self.machine.is_none_or(|asked| machine == Some(asked))
            && self.labels.iter().all(has_label)
            && liveness <= self.worst
    }
}

impl Known {
    fn new(
        agent: AgentResult,
        liveness: Liveness,
        is_here: bool,
        source: &str,
        age: Duration,
    ) -> Self {
        let distrust = 1000_u32.saturating_sub(agent.trust_level);
        Self {
            rank: (liveness, !is_here, distrust, agent.agent_id.clone()),
            found: FoundAgent {
                agent,
                source: source.to_owned(),
                age_ms: millis(age),
            },
        }
    }
}

impl From<StaticAgent> for AgentResult {
    fn from(agent: StaticAgent) -> Self {
        Self {
            agent_id: agent.agent_id.to_string(),
            machine_id: agent.machine_id.map(|machine| machine.to_string()),
            capabilities: agent
                .capabilities
                .into_iter()
                .map(CapabilityResult::from)
                .collect(),
            trust_level: agent.trust_level,
            zone: None,
            // nobody watches it: its operator says that it is there
            liveness: Liveness::Live.as_str().to_owned(),
            last_seen: None,
            endpoint: agent.endpoint.map(String::from),
            labels: agent.labels,
            registered_at: None,
            epoch: None,
            ttl_seconds: None,
        }
    }
}

fn write_rank((liveness, elsewhere, distrust, id): &Rank) -> String {
    format!(
        "{}.{}.{distrust}.{id}",
        liveness.number(),
        u8::from(*elsewhere)
    )
}

/// Empty is before everything.
fn read_rank(text: &str) -> Option<Rank> {
    if text.is_empty() {
        return Some((Liveness::Live, false, 0, String::new()));
    }
    let mut parts = text.splitn(4, '.');
    let liveness = Liveness::from_number(parts.next()?.parse().ok()?)?;
    let elsewhere = parts.next()? == "1";
    Some((
        liveness,
        elsewhere,
        parts.next()?.parse().ok()?,
        parts.next()?.to_owned(),
    ))
}

fn millis(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_reads_back_and_an_empty_one_is_before_all() {
        let rank: Rank = (Liveness::Suspect, true, 200, "team.a/b:c".to_owned());
        assert_eq!(read_rank(&write_rank(&rank)), Some(rank.clone()));
        assert!(read_rank("").is_some_and(|first| first < rank));
        for bad in ["x", "9.0.1.a", "0.0.a.b", "0"] {
            assert_eq!(read_rank(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_cursor_says_whether_the_control_plane_was_there() {
        let rank: Rank = (Liveness::Live, true, 200, "a".to_owned());
        let read = |text: &str| Place::read(Some(text));
        assert_eq!(Place::read(None), Ok(Place::Central(String::new())));
        assert_eq!(read("central:x:y"), Ok(Place::Central("x:y".to_owned())));
        let text = write_rank(&rank);
        assert_eq!(read(&format!("here:{text}")), Ok(Place::Here(rank.clone())));
        assert_eq!(read(&format!("away:{text}")), Ok(Place::Away(rank)));
        for bad in ["", "x", "here", "here:x", "away:9.0.1.a"] {
            let problem = read(bad).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("cursor"), "{bad}");
        }
    }

    #[test]
    fn all_that_is_asked_has_to_fit() {
        let agent: AgentId = "a".parse().unwrap();
        let capabilities = ["finance.invoices@1.2".parse().unwrap()];
        let labels = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
        let machine = "mch_0000000000000000000007".parse().unwrap();
        let fits = |asked: &Asked| {
            asked.fits(
                &agent,
                &capabilities,
                &labels,
                700,
                Some(Zone::LocalMachine),
                Some(machine),
                Liveness::Suspect,
            )
        };
        let anybody = Asked::anybody;
        assert!(fits(&anybody()) && fits(&Asked::one(&agent)));
        let other = "mch_0000000000000000000008".parse().unwrap();
        for narrow in [
            Asked {
                capability: Some("mail".parse().unwrap()),
                ..anybody()
            },
            Asked {
                min_trust: 701,
                ..anybody()
            },
            Asked {
                worst: Liveness::Live,
                ..anybody()
            },
            Asked {
                zone: Some(Zone::External),
                ..anybody()
            },
            Asked {
                machine: Some(other),
                ..anybody()
            },
            Asked {
                labels: BTreeMap::from([("region".into(), "us".into())]),
                ..anybody()
            },
            Asked::one(&"b".parse().unwrap()),
        ] {
            assert!(!fits(&narrow));
        }
    }
}
