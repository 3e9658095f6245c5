//! Writes by the batch: one transaction, which locks the heads of its boards,
//! plans every act on what it then reads, and writes what has come of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use authguardian_proto::{
    board::{Key, Level},
    crdt::VectorClock,
    ids::{AgentId, BoardName},
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    Act, METHOD, Outcome, RefusedWrite, Written,
    plan::{FoundState, Plan},
};
use crate::{
    audit::{self, Context, Entry},
    blackboard::{
        access::{Rights, Want, Who, Writer},
        board::Board,
        store,
    },
    clock::Ambient,
    db::{
        Confirmation, Db, Wake,
        batch::{self, Served},
        request::{self, RequestKey},
    },
    error::{Error, Result},
    events::Position,
};

/// One call in a batch.
pub(in crate::blackboard) struct Request {
    pub(in crate::blackboard) context: Context,
    pub(in crate::blackboard) who: Who,
    pub(in crate::blackboard) board: BoardName,
    pub(in crate::blackboard) act: Act,
    pub(in crate::blackboard) key: RequestKey,
}

impl Request {
    /// Whether a repeat is known by its request id; sweeps and writes of replicas are
    /// known otherwise.
    fn keeps_outcome(&self) -> bool {
        !matches!(self.who, Who::Machine(_) | Who::System)
    }
}

/// What is kept for repeats of a request; a refusal too, since an earlier try of
/// the request may still be under way, and must not do what its caller was told is
/// not done.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    outcome: std::result::Result<Outcome, Refused>,
    position: Position,
}

/// Why an act was not done, by what was on the board.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Refused {
    reason: String,
    detail: String,
    field: Option<String>,
}

impl From<&Problem> for Refused {
    fn from(problem: &Problem) -> Self {
        Self {
            reason: problem.reason.as_str().to_owned(),
            detail: problem.detail.clone(),
            field: problem.field.clone(),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let Some(reason) = Reason::parse(&refused.reason) else {
            return Self::internal("unreadable reason of an outcome");
        };
        let problem = Problem::new(reason, refused.detail);
        Problem {
            field: refused.field,
            ..problem
        }
        .into()
    }
}

/// The batch operation.
pub(in crate::blackboard) struct Batch {
    db: Db,
    ambient: Ambient,
}

impl Batch {
    pub(in crate::blackboard) fn new(db: Db, ambient: Ambient) -> Self {
        Self { db, ambient }
    }
}

impl batch::Operation for Batch {
    type Request = Request;
    type Reply = Written;

    fn db(&self) -> Option<&Db> {
        Some(&self.db)
    }

    #[tracing::instrument(name = "blackboard.write", skip_all, fields(batch = requests.len()))]
    async fn run(&self, requests: &[Request]) -> Result<Served<Written>> {
        // nearly all requests are new: that one is not shows when outcomes are kept
        if let Some(served) = self.attempt(requests, false).await? {
            return Ok(served);
        }
        let served = self.attempt(requests, true).await?;
        served.ok_or_else(|| Error::internal("outcomes were kept, and cannot be read"))
    }
}

impl Batch {
    /// Serves them; `None` where one of them was served before, and what was told
    /// then was not `looked_up`.
    async fn attempt(
        &self,
        requests: &[Request],
        looked_up: bool,
    ) -> Result<Option<Served<Written>>> {
        let mut tx = self.db.begin().await?;
        let names: BTreeSet<&BoardName> = requests.iter().map(|request| &request.board).collect();
        let (boards, at) = store::lock_boards(&mut tx, names).await?;
        // without a board nothing is written
        let at = at.unwrap_or_else(|| self.ambient.clock.now());
        let calls = requests
            .iter()
            .map(|request| (&request.who, boards.get(&request.board)));
        let rights = Rights::read(&mut tx, calls, self.ambient.clock.now()).await?;
        let earlier = if looked_up {
            Earlier::read(&mut tx, requests).await?
        } else {
            Earlier::default()
        };
        let mut open = Open {
            plan: plan(&mut tx, requests, boards, at).await?,
            rights,
            earlier,
            made: HashMap::new(),
            entries: Vec::new(),
        };
        let outcomes: Vec<Result<Kept>> =
            requests.iter().map(|request| open.serve(request)).collect();
        if let Some(repeated) = open.keep(&mut tx, requests, &outcomes, at).await? {
            // on one board nobody else can be at it, so it was for another
            return if looked_up {
                Err(repeated.reused())
            } else {
                Ok(None)
            };
        }
        open.write(&mut tx, at).await?;
        let copies = self.db.quorum.write_quorum();
        let confirmation = if requests.len() == 1 {
            // nobody waits for its locks: one flush does for the commit and its confirmation
            self.db.quorum.commit(tx).await?;
            Confirmation::needless()
        } else {
            self.db.quorum.commit_batch(tx).await?
        };
        self.db.committed.wake(Wake::Boards);
        let replies = outcomes.into_iter().map(|kept| {
            let kept = kept?;
            Ok(Written {
                outcome: kept.outcome?,
                position: kept.position,
                copies,
            })
        });
        Ok(Some(Served {
            replies: replies.collect(),
            confirmation,
        }))
    }
}

/// Reads what the acts are planned on, under the locks.
async fn plan(
    connection: &mut PgConnection,
    requests: &[Request],
    boards: BTreeMap<BoardName, Board>,
    now: OffsetDateTime,
) -> Result<Plan> {
    let mut places: BTreeMap<(&BoardName, &Key), bool> = BTreeMap::new();
    for request in requests {
        for (key, with_value) in request.act.keys() {
            *places.entry((&request.board, key)).or_default() |= with_value;
        }
    }
    let eventual = |name: &BoardName| {
        boards
            .get(name)
            .is_some_and(|board| board.level == Level::Eventual)
    };
    let merged = places.keys().copied().filter(|(board, _)| eventual(board));
    let merged: BTreeSet<_> = merged.collect();
    let mut actors = BTreeSet::new();
    for request in requests {
        if let Act::Merge { actor, writes, .. } = &request.act {
            actors.insert((&request.board, *actor));
            let clocks = writes.iter().map(|write| &write.version.clock);
            let seen = clocks.flat_map(VectorClock::iter);
            actors.extend(seen.map(|(actor, _)| (&request.board, actor)));
        }
    }
    let mut found = FoundState {
        entries: store::entries(connection, &places).await?,
        ..FoundState::default()
    };
    if !merged.is_empty() {
        found.siblings = store::siblings(connection, &merged).await?;
    }
    if !actors.is_empty() {
        found.received = store::received(connection, &actors).await?;
    }
    Ok(Plan::new(boards, found, now))
}

/// A transaction's affairs, in memory.
struct Open {
    plan: Plan,
    rights: Rights,
    earlier: Earlier,
    /// Outcomes of this batch, by request.
    made: HashMap<request::KeyRef, ([u8; 32], Kept)>,
    entries: Vec<Entry>,
}

impl Open {
    fn serve(&mut self, request: &Request) -> Result<Kept> {
        let board = self.plan.boards.get(&request.board);
        let writer = self
            .rights
            .check(&request.who, board, &request.board, Want::Write)?;
        let id = request::KeyRef::of(&request.key);
        if let Some((digest, kept)) = self.earlier.0.get(&id).or_else(|| self.made.get(&id)) {
            if *digest != request.key.digest {
                return Err(request.key.reused());
            }
            return Ok(kept.clone());
        }
        let is_merge = matches!(request.act, Act::Merge { .. });
        let merged_into = board.filter(|_| is_merge).cloned();
        let lets = |agent: &AgentId| {
            let board = merged_into.as_ref();
            self.rights
                .check_pushed(&request.who, agent, board, &request.board)
        };
        let outcome = match self
            .plan
            .perform(&request.board, &request.act, &writer, lets)
        {
            Err(error) if error.reason() == Reason::Internal => return Err(error),
            outcome => outcome.map_err(|error| Refused::from(error.problem())),
        };
        let kept = Kept {
            outcome,
            position: self.plan.board(&request.board)?.position,
        };
        if let Ok(Outcome::Merge { merged, refused }) = &kept.outcome {
            let entries = merged.iter().map(|write| merged_entry(request, write));
            self.entries.extend(entries);
            let entries = refused.iter().map(|write| refused_entry(request, write));
            self.entries.extend(entries);
        } else if request.keeps_outcome() {
            if kept.outcome.is_ok() {
                self.entries.push(entry(request, &writer));
            }
            self.made.insert(id, (request.key.digest, kept.clone()));
        }
        Ok(kept)
    }

    /// Keeps the outcomes for repeats; one of the requests that have been served
    /// before.
    async fn keep<'a>(
        &self,
        connection: &mut PgConnection,
        requests: &'a [Request],
        outcomes: &[Result<Kept>],
        now: OffsetDateTime,
    ) -> Result<Option<&'a RequestKey>> {
        let mut fresh = HashMap::new();
        for (request, outcome) in requests.iter().zip(outcomes) {
            let id = request::KeyRef::of(&request.key);
            if let Ok(kept) = outcome
                && self.made.contains_key(&id)
            {
                fresh.entry(id).or_insert((&request.key, kept));
            }
        }
        let claims: Vec<(&RequestKey, &Kept)> = fresh.into_values().collect();
        let taken = request::insert_outcomes(connection, &claims, now).await?;
        let repeated = claims
            .iter()
            .find(|(key, _)| !taken.contains(&request::KeyRef::of(key)));
        Ok(repeated.map(|(key, _)| *key))
    }

    async fn write(&self, connection: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
        audit::append(connection, now, &self.entries).await?;
        store::write(connection, &self.plan).await?;
        store::write_versions(connection, &self.plan).await
    }
}

/// What is in the audit log of an act; sweeps have none, as they only carry out what
/// was said at the time of writing.
fn entry(request: &Request, writer: &Writer) -> Entry {
    let subject = match &request.act {
        Act::Deed { key, .. } | Act::Lock { key, .. } => format!("{}/{key}", request.board),
        Act::Transact { .. } | Act::Expire { .. } | Act::Merge { .. } => request.board.to_string(),
    };
    let context = writer.context(request.context.clone());
    let entry = Entry::ok(context, request.act.action(), subject);
    match &writer.agent {
        Some(agent) => entry.about(agent.clone()),
        None => entry,
    }
}

/// What is in the audit log of a replica's write.
fn merged_entry(request: &Request, (key, agent): &(Key, AgentId)) -> Entry {
    let subject = format!("{}/{key}", request.board);
    Entry::ok(request.context.clone(), request.act.action(), subject).about(agent.clone())
}

/// As [`merged_entry`], of one that was not taken.
fn refused_entry(request: &Request, refused: &RefusedWrite) -> Entry {
    let subject = format!("{}/{}", request.board, refused.key);
    Entry::ok(request.context.clone(), request.act.action(), subject)
        .not_ok(audit::Outcome::Refused, Some(refused.problem.reason))
}

/// Outcomes of requests that were served before.
#[derive(Default)]
struct Earlier(HashMap<request::KeyRef, ([u8; 32], Kept)>);

impl Earlier {
    async fn read(connection: &mut PgConnection, requests: &[Request]) -> Result<Self> {
        let keys: Vec<&RequestKey> = requests
            .iter()
            .filter(|request| request.keeps_outcome())
            .map(|request| &request.key)
            .collect();
        debug_assert!(keys.iter().all(|key| key.method == METHOD));
        Ok(Self(request::kept(connection, &keys).await?))
    }
}
