//! What the edge can do, free of any transport: every face calls this.

use std::sync::Arc;

use authguardian_proto::{
    blackboard::v1::lock_request::Act,
    ids::MachineId,
    reason::{Problem, Reason},
};
use serde_json::{Map, Value};

pub use crate::journal::Outcome;
pub use crate::upstream::{Credential, Event, EventId, EventName, Heard, Held, ParseEventIdError};
use crate::{
    agents::Agents, clock::Ambient, endpoints::Endpoints, journal::Journal, limits::Limits,
    neighbours::Neighbours, peers::Peers, slices::Slices, upstream::Upstream, verify::Verifier,
    witness::Witness,
};
use arc_swap::ArcSwap;
use attempts::Attempts;
use blackboard::Followed;
use budgets::Spenders;
use discover_agents::Statics;
use interest::Interest;
use offer::Offer;
use ticket::Tickets;

mod agent_call;
mod agent_result;
mod answer_by;
mod attempts;
mod blackboard;
mod budgets;
mod call_scope;
mod caller;
mod candidates;
mod decision;
mod discover_agents;
mod events;
mod exact;
mod follow;
mod form;
#[cfg(test)]
mod fuzz;
mod gossip;
mod hearsay;
mod interest;
mod journal;
mod lan;
mod lease;
mod limit;
mod login;
mod note;
mod offer;
mod peer;
mod permission_status;
mod register_agent;
mod renew_permission;
mod request_permission;
mod resource;
mod revoke_token;
mod schema;
mod slices;
mod subscription;
mod telling;
mod ticket;
mod told;
mod tool;
mod validate_token;
mod watch;
mod witness;

pub use agent_call::{Answer, ShownGrant};
pub use agent_result::{AgentResult, CapabilityResult};
pub use answer_by::AnswerBy;
pub use blackboard::{
    BlackboardDeleteResult, BlackboardListResult, BlackboardReadResult,
    BlackboardTransactionResult, BlackboardWriteResult, BoardEvent, BoardEventId, BoardEventName,
    BoardEventsWanted, BoardSubscription, BoardUri, EntryResult, HeardOfBoard, Here, LockResult,
    OperationResult, ParseBoardEventIdError, SiblingResult,
};
pub use budgets::{
    BudgetFollower, BudgetMachineResult, BudgetStatusResult, BudgetSubscription, BudgetUri,
    ReportSpendingResult, RequestAllocationResult,
};
pub use caller::Caller;
pub use candidates::Candidates;
pub use decision::DecisionResult;
pub use discover_agents::{DiscoverAgentsResult, FoundAgent, SourceResult, StaticAgent};
pub use events::EventsWanted;
pub use exact::exact;
pub use follow::{CertificateFollower, MachineFollower, VerifierFollower};
pub use form::{Field, Kind, check_key, check_prefix};
pub use gossip::{Gossip, GossipParts, Seed};
pub use hearsay::Hearsay;
pub use lan::{Lan, LanParts};
pub use login::{Challenge, SessionInfo};
pub use peer::{Peer, Source};
pub use resource::{ActiveGrants, AuditEntries, AuditEntry, GrantInForce, Readable, Resource};
pub use revoke_token::RevokeTokenResult;
pub use schema::schema_of;
pub use subscription::Subscription;
pub use ticket::Page;
pub use told::Told;
pub use tool::Tool;
pub use validate_token::ValidateTokenResult;
pub use watch::{Changes, Watch};

/// The commands of the edge.
#[derive(Clone)]
pub struct Core {
    upstream: Upstream,
    verifier: Arc<Verifier>,
    limits: Arc<Limits>,
    attempts: Arc<Attempts>,
    tickets: Arc<Tickets>,
    offer: Arc<Offer>,
    followed: Arc<Followed>,
    here: Option<Arc<Here>>,
    slices: Arc<Slices>,
    journal: Arc<Journal>,
    witness: Arc<Witness>,
    spenders: Spenders,
    agents: Arc<Agents>,
    neighbours: Arc<Neighbours>,
    statics: Arc<ArcSwap<Statics>>,
    hearsay: Arc<ArcSwap<Vec<crate::neighbours::Source>>>,
    endpoints: Arc<Endpoints>,
    peers: Peers,
    machine_id: MachineId,
    ambient: Ambient,
}

/// What the commands about agents, boards and budgets work on.
pub struct Rooms {
    /// The agents of this edge.
    pub agents: Arc<Agents>,
    /// What other edges have told.
    pub neighbours: Arc<Neighbours>,
    /// The way to their MCP servers.
    pub endpoints: Arc<Endpoints>,
    /// The way to other edges.
    pub peers: Peers,
    /// The replica of boards; `None`: there is none.
    pub here: Option<Arc<Here>>,
    /// This machine's slices of budgets.
    pub slices: Arc<Slices>,
    /// Calls on their way to the audit log.
    pub journal: Arc<Journal>,
    /// What is kept of the audit log.
    pub witness: Arc<Witness>,
}

impl Core {
    /// Puts it together; the verifier follows the upstream's feed.
    pub fn new(
        upstream: Upstream,
        verifier: Arc<Verifier>,
        rooms: Rooms,
        machine_id: MachineId,
        ambient: Ambient,
    ) -> Arc<Self> {
        Arc::new(Self {
            upstream,
            verifier,
            limits: Limits::new(ambient.clock.clone()),
            attempts: Arc::new(Attempts::new()),
            tickets: Arc::default(),
            offer: Arc::new(Offer::new()),
            followed: Arc::default(),
            here: rooms.here,
            spenders: Spenders::new(rooms.slices.clone()),
            slices: rooms.slices,
            journal: rooms.journal,
            witness: rooms.witness,
            agents: rooms.agents,
            neighbours: rooms.neighbours,
            statics: Arc::default(),
            hearsay: Arc::default(),
            endpoints: rooms.endpoints,
            peers: rooms.peers,
            machine_id,
            ambient,
        })
    }

    /// Finds out who presents a credential from where, on a connection whose answers
    /// can be limited.
    ///
    /// # Errors
    /// `MACHINE_BANNED`, `MACHINE_EVICTED`, `UNAUTHENTICATED` for what is neither key nor session of
    /// this machine, `API_KEY_UNKNOWN`, `API_KEY_EXPIRED`, `API_KEY_REVOKED`, `SESSION_EXPIRED`,
    /// `SIGNATURE_INVALID`, `ZONE_FORBIDS`, `UNAVAILABLE`; `RATE_LIMITED` after too many wrong keys;
    /// `ADDRESS_NOT_ALLOWED` where the key may not be used from; `AGENT_MISMATCH` for a credential
    /// beyond what its user may use here.
    pub async fn authenticate(
        &self,
        credential: Credential,
        peer: Peer,
        answer: AnswerBy,
    ) -> Result<Caller, Problem> {
        self.upstream.feed().standing().check()?;
        let login = self.log_in(credential, &peer).await?;
        Caller::admitted(login, peer, answer)
    }

    /// Calls a tool. A denial and `valid: false` are results.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` where the tool is switched off, `ZONE_FORBIDS`, `INVALID_ARGUMENT` and `TOO_LARGE` with the field at
    /// fault, `RATE_LIMITED`, `AGENT_MISMATCH`, and what the control plane refuses.
    pub async fn call(
        &self,
        caller: &Caller,
        tool: Tool,
        arguments: Map<String, Value>,
    ) -> Result<Told, Problem> {
        if let Err(problem) = self.offer.check(tool) {
            let reason = Some(problem.reason);
            self.note(caller, tool.action(), None, Outcome::Refused, reason);
            return Err(problem);
        }
        let allowed = tool.check_zone(caller.peer.zone());
        let form = match allowed.and_then(|()| form::Form::read(tool.fields(), arguments)) {
            Ok(form) => form,
            Err(problem) => {
                self.note_outcome(caller, || tool.action(), || None, Some(&problem));
                return Err(problem);
            }
        };
        self.admit(caller, Some(tool.name()), || tool.action())
            .await?;
        let outcome = match tool {
            Tool::RequestPermission => self.request_permission(caller, &form).await.map(Told::of),
            Tool::PermissionStatus => self.permission_status(caller, &form).await.map(Told::of),
            Tool::RenewPermission => self.renew_permission(caller, &form).await.map(Told::of),
            Tool::ValidateToken => self.validate_token(caller, &form).await.map(Told::of),
            Tool::RevokeToken => self.revoke_token(caller, &form).await.map(Told::of),
            Tool::RegisterAgent => self.register_agent(caller, &form).await.map(Told::of),
            Tool::DeregisterAgent => self.deregister_agent(caller, &form).await.map(Told::of),
            Tool::Heartbeat => self.heartbeat(caller, &form).map(Told::of),
            Tool::DiscoverAgents => self.discover_agents(caller, &form).await.map(Told::of),
            Tool::BlackboardRead => self.blackboard_read(caller, &form).await.map(Told::of),
            Tool::BlackboardWrite => self.blackboard_write(caller, &form).await.map(Told::of),
            Tool::BlackboardDelete => self.blackboard_delete(caller, &form).await.map(Told::of),
            Tool::BlackboardList => self.blackboard_list(caller, &form).await.map(Told::of),
            Tool::BlackboardTransaction => self
                .blackboard_transaction(caller, &form)
                .await
                .map(Told::of),
            Tool::LockAcquire => self.lock(caller, Act::Acquire, &form).await.map(Told::of),
            Tool::LockRenew => self.lock(caller, Act::Renew, &form).await.map(Told::of),
            Tool::LockRelease => self.lock(caller, Act::Release, &form).await.map(Told::of),
            Tool::RequestAllocation => self.request_allocation(caller, &form).await.map(Told::of),
            Tool::ReportSpending => self.report_spending(caller, &form).await.map(Told::of),
            Tool::BudgetStatus => self.budget_status(caller, &form).await.map(Told::of),
        };
        if tool.shows_life()
            && outcome.is_ok()
            && let Ok(agent) = form.agent()
        {
            self.sign_of_life(caller, &agent);
        }
        let problem = outcome.as_ref().err();
        self.note_outcome(caller, || tool.action(), || form.agent().ok(), problem);
        outcome
    }

    /// Reads a resource as this caller may see it.
    ///
    /// # Errors
    /// `RATE_LIMITED`, and what the control plane refuses.
    pub async fn read(&self, caller: &Caller, what: &Readable) -> Result<Told, Problem> {
        self.admit(caller, None, || "resource.read".to_owned())
            .await?;
        let outcome = match what {
            Readable::Resource(Resource::ActiveGrants) => {
                self.active_grants(caller).await.map(Told::of)
            }
            Readable::Resource(Resource::AuditEntries) => {
                self.audit_entries(caller).await.map(Told::of)
            }
            Readable::Resource(Resource::Registry) => self.registry(caller).await.map(Told::of),
            Readable::Board(uri) => self.read_board(caller, uri).await,
            Readable::Budget(uri) => {
                let status = self.status_of(caller, &uri.task, None).await;
                status.map(Told::of)
            }
        };
        let action = || "resource.read".to_owned();
        self.note_outcome(caller, action, || None, outcome.as_ref().err());
        outcome
    }

    /// Which of the caller's resources change, from now on.
    pub fn watch(&self, caller: &Caller) -> Watch {
        self.watch_from(self.changes(), caller)
    }

    /// All changes from now on, to be looked at later.
    pub fn changes(&self) -> Changes {
        Changes(self.upstream.feed().subscribe())
    }

    /// Which of the caller's resources have changed since, and change.
    pub fn watch_from(&self, Changes(changes): Changes, caller: &Caller) -> Watch {
        let interest = Interest::new(caller.session().agent_ids.clone());
        Watch::new(changes, interest)
    }

    /// How this edge stands with the control plane.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Time and randomness.
    pub fn ambient(&self) -> &Ambient {
        &self.ambient
    }

    /// This machine.
    pub fn machine_id(&self) -> MachineId {
        self.machine_id
    }
}

/// The request id of a changing call: the caller's, else a fresh one.
fn request_id(form: &form::Form, ambient: &Ambient) -> String {
    form.text("request_id")
        .map_or_else(|| ambient.uuid().to_string(), str::to_owned)
}

/// Names the request id where the caller needs it to learn the outcome.
fn name_request_id(mut problem: Problem, request_id: &str) -> Problem {
    if problem.reason == Reason::OutcomeUnknown {
        problem.detail = format!("{} (request id `{request_id}`)", problem.detail);
    }
    problem
}
