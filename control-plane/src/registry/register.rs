//! Registering an agent.

use std::sync::Arc;

use authguardian_proto::{
    ids::AgentId,
    liveness::Liveness,
    reason::{Problem, Reason},
    zone::Zone,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    AgentChange, NewRegistration, Registration, Registry, What, change,
    fate::{self, Fate},
    lease::Lease,
    registration::effective_trust,
    store,
};
use crate::{
    audit::{self, Actor, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
    identity::{self, Session},
    policy::score,
};

const METHOD: &str = "registry.register_agent";

/// An agent as it was registered.
#[derive(Debug, Clone)]
pub struct Registered {
    /// What is in the registry.
    pub registration: Registration,
    /// The same, signed.
    pub signed_record: String,
}

impl Registry {
    /// Registers an agent through the session's machine, or replaces what it has
    /// registered.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` or `TOO_LARGE` with the field; `AGENT_MISMATCH`,
    /// `TRUST_TOO_LOW`, `ZONE_FORBIDS`, `RESOURCE_EXHAUSTED`,
    /// `REQUEST_ID_REUSED`, `OUTCOME_UNKNOWN`, and those of key and machine.
    pub async fn register(
        &self,
        context: Context,
        session: Arc<Session>,
        new: NewRegistration,
    ) -> Result<Registered> {
        new.check()?;
        session.speaks_for(&new.agent_id)?;
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, METHOD, &new)?;
        let mut request = match self.db.begin_request::<Registration>(key, now).await? {
            Begun::Told(registration) => return self.registered(registration),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        let holder = Holder::lock(connection, &session, &new.agent_id, now).await?;
        let asked = new.trust.unwrap_or_default();
        if asked > holder.operators.unwrap_or(score::UNKNOWN_AGENT_TRUST) {
            return Err(Problem::new(
                Reason::TrustTooLow,
                "operators do not trust this agent so far; ask for less, or for nothing",
            )
            .at("trust_level")
            .into());
        }
        let (lease, mut changes) = self.hear(connection, &session, now).await?;
        let before =
            store::lock_registrations(connection, std::slice::from_ref(&new.agent_id), &[])
                .await?
                .pop();
        if let Some(before) = &before
            && !before.belongs_to(session.machine, session.api_key_id)
        {
            self.check_takeover(connection, before, now).await?;
        }
        self.check_quotas(connection, &session, before.as_ref())
            .await?;
        let draft = self.draft(&session, &holder, lease, new, now);
        let (registration, told) = settle(connection, draft, before.as_ref()).await?;
        changes.retain(|change| change.agent_id != registration.agent_id);
        if let Some(what) = told {
            changes.push(AgentChange::of(&registration, what));
            if !matches!(what, What::Is(_)) {
                let entry = entry(context, &session, &registration.agent_id, "agent.register");
                audit::append(connection, now, &[entry]).await?;
            }
        }
        change::append(connection, now, &changes).await?;
        request.finish(&registration).await?;
        self.registered(registration)
    }

    fn registered(&self, registration: Registration) -> Result<Registered> {
        Ok(Registered {
            signed_record: self.sign_at(&registration, registration.updated_at)?,
            registration,
        })
    }

    /// A call through a machine is a sign of life of its edge.
    async fn hear(
        &self,
        connection: &mut PgConnection,
        session: &Session,
        now: OffsetDateTime,
    ) -> Result<(Lease, Vec<AgentChange>)> {
        let mut lease = store::ensure_edge(connection, session.machine, now).await?;
        if lease.liveness == Liveness::Live {
            lease.hear(now);
            store::write_edges(connection, &[&lease]).await?;
            return Ok((lease, Vec::new()));
        }
        let agents = store::registrations(connection, &[], &[session.machine.as_uuid()]).await?;
        lease.hear(now);
        store::write_edges(connection, &[&lease]).await?;
        let fates = agents
            .iter()
            .map(|agent| (agent, Fate::of(agent).under(Liveness::Live)));
        Ok((lease, fate::write(connection, now, fates).await?))
    }

    /// Whether another machine or key may take a registration over.
    async fn check_takeover(
        &self,
        connection: &mut PgConnection,
        held: &Registration,
        now: OffsetDateTime,
    ) -> Result<()> {
        if held.ended || held.liveness == Liveness::Gone {
            return Ok(());
        }
        let keys = identity::api_key::lock_api_keys(connection, &[held.api_key_id]).await?;
        if keys.iter().all(|key| key.check(now).is_err()) {
            return Ok(());
        }
        let machines = identity::machine::lock_machines(connection, &[held.machine_id]).await?;
        let evicted = identity::machine::MachineState::Evicted;
        if machines.iter().all(|machine| machine.state == evicted) {
            return Ok(());
        }
        let until = match held.liveness {
            Liveness::Suspect => {
                let left = held.last_seen + self.timing.gone_after - now;
                format!(
                    "when nothing is heard of it for {} more seconds",
                    left.whole_seconds().max(1)
                )
            }
            Liveness::Live | Liveness::Gone => format!(
                "when nothing has been heard of it for {} seconds",
                self.timing.gone_after.as_secs()
            ),
        };
        let detail = format!(
            "agent `{}` is registered by another machine or key; its id can be taken {until}, or when an operator releases it (`control-plane agent release`)",
            held.agent_id
        );
        Err(Problem::new(Reason::AgentMismatch, detail)
            .at("agent_id")
            .into())
    }

    async fn check_quotas(
        &self,
        connection: &mut PgConnection,
        session: &Session,
        before: Option<&Registration>,
    ) -> Result<()> {
        let most = self.timing.max_agents_per_key;
        let counted =
            |before: &Registration| before.api_key_id == session.api_key_id && !before.ended;
        if !before.is_some_and(counted)
            && store::count_of_key(connection, session.api_key_id, most).await? >= i64::from(most)
        {
            return Err(Error::new(
                Reason::ResourceExhausted,
                format!("this API key has {most} agents registered, the most that one may have"),
            ));
        }
        let most = self.timing.max_agents_per_machine;
        if before.is_none_or(|before| before.machine_id != session.machine)
            && store::count_of_machine(connection, session.machine, most).await? >= i64::from(most)
        {
            return Err(Error::new(
                Reason::ResourceExhausted,
                format!("{most} agents are registered through this machine, the most that may be"),
            ));
        }
        Ok(())
    }

    /// What is to be in the registry, if it is all new.
    fn draft(
        &self,
        session: &Session,
        holder: &Holder,
        lease: Lease,
        new: NewRegistration,
        now: OffsetDateTime,
    ) -> Registration {
        let configured = u32::try_from(self.timing.agent_ttl.as_secs()).unwrap_or(u32::MAX);
        Registration {
            agent_id: new.agent_id,
            epoch: 0,
            machine_id: session.machine,
            api_key_id: session.api_key_id,
            endpoint: new.endpoint,
            capabilities: new.capabilities,
            labels: new.labels,
            trust: effective_trust(holder.operators, new.trust, holder.zone),
            trust_asked: new.trust,
            zone: holder.zone,
            ttl_seconds: new.ttl_seconds.unwrap_or(configured),
            own_liveness: Liveness::Live,
            liveness: Liveness::Live,
            ended: false,
            last_seen: now,
            registered_at: now,
            updated_at: now,
            peer_address: lease.peer_address,
        }
    }
}

/// What a registration rests on, locked until the transaction ends.
pub(super) struct Holder {
    /// How far operators trust the agent; `None`: they say nothing of it.
    pub(super) operators: Option<u32>,
    /// Where the agent calls from.
    pub(super) zone: Zone,
}

impl Holder {
    /// Locks agent, key and machine, in this order, and checks that they count.
    pub(super) async fn lock(
        connection: &mut PgConnection,
        session: &Session,
        agent: &AgentId,
        now: OffsetDateTime,
    ) -> Result<Self> {
        store::lock_agent_id(connection, agent).await?;
        store::lock_key_of_registrations(connection, session.api_key_id).await?;
        let operators = store::agents_for_share(connection, std::slice::from_ref(agent)).await?;
        let keys = identity::api_key::lock_api_keys(connection, &[session.api_key_id]).await?;
        keys.first()
            .ok_or_else(|| Error::new(Reason::ApiKeyUnknown, "this API key is not known here"))?
            .check(now)?;
        let machine = identity::machine::active_machine(connection, session.machine).await?;
        machine.may_serve(agent)?;
        let zone = session.zone.min(machine.terms.max_zone);
        if zone == Zone::External {
            return Err(Error::new(
                Reason::ZoneForbids,
                "from outside of the configured networks agents can be discovered, and not registered",
            ));
        }
        Ok(Self {
            operators: operators.first().map(|agent| agent.trust),
            zone,
        })
    }
}

pub(super) fn entry(
    mut context: Context,
    session: &Session,
    agent: &AgentId,
    action: &'static str,
) -> Entry {
    context.actor = Actor::Agent(Some(agent.clone()), session.api_key_id);
    Entry::ok(context, action, agent.to_string()).about(agent.clone())
}

/// Puts a draft in the place of what was there before; returns what is there
/// now, and what has become of it, if anything.
async fn settle(
    connection: &mut PgConnection,
    draft: Registration,
    before: Option<&Registration>,
) -> Result<(Registration, Option<What>)> {
    let own = before
        .filter(|before| before.belongs_to(draft.machine_id, draft.api_key_id))
        .filter(|before| before.liveness != Liveness::Gone && !before.ended);
    let (settled, what) = match own {
        Some(before) if says_the_same(before, &draft) => {
            let kept = Registration {
                epoch: before.epoch,
                registered_at: before.registered_at,
                ..draft
            };
            let is_live = before.liveness == Liveness::Live;
            (kept, (!is_live).then_some(What::Is(Liveness::Live)))
        }
        Some(before) => {
            let updated = Registration {
                epoch: store::next_epoch(connection).await?,
                registered_at: before.registered_at,
                ..draft
            };
            (updated, Some(What::Updated))
        }
        None => {
            let registered = Registration {
                epoch: store::next_epoch(connection).await?,
                ..draft
            };
            (registered, Some(What::Registered))
        }
    };
    store::put_registration(connection, &settled).await?;
    if what.is_some() {
        store::put_terms(connection, &settled).await?;
    }
    Ok((settled, what))
}

fn says_the_same(before: &Registration, draft: &Registration) -> bool {
    let said = |of: &Registration| {
        (
            of.endpoint.clone(),
            of.capabilities.clone(),
            of.labels.clone(),
            (of.trust, of.trust_asked, of.zone, of.ttl_seconds),
        )
    };
    said(before) == said(draft)
}
