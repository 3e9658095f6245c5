//! Machines as witnesses: each keeps the newest checkpoint that it has seen,
//! and says so when it asks for a newer one. What it has kept tells what the
//! log was, whatever happens to the database.

use authguardian_proto::{
    checkpoint::VerifierKey,
    ids::MachineId,
    merkle::{self, Hash},
    reason::Reason,
};
use sqlx::PgConnection;

use super::{
    Context, Entry, Outcome,
    log::{Head, Kept, Log, Witness, verifier_keys},
    store,
};
use crate::{
    clock::Ambient,
    db::Db,
    error::{Error, Result},
};

/// How old it may be what is written of when a machine was last heard.
const SEEN: time::Duration = time::Duration::minutes(1);

/// What a witness is told.
#[derive(Debug, Default)]
pub struct Answer {
    /// The newest signed head; `None` before the first.
    pub checkpoint: Option<String>,
    /// From what was kept to it.
    pub proof: Vec<Hash>,
    /// What checks it.
    pub verifier_keys: Vec<VerifierKey>,
    /// How the log ended that what was kept is of.
    pub ended: Option<Ended>,
}

/// How a log ended.
#[derive(Debug)]
pub struct Ended {
    /// Its last head.
    pub head: Head,
    /// From what was kept to it; empty where that is beyond its end.
    pub proof: Vec<Hash>,
    /// The log after it.
    pub next_origin: String,
}

/// Why a log is not what a machine has kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contradiction {
    /// The log is shorter.
    Cut {
        /// Its size.
        size: i64,
    },
    /// Its root at that size is another.
    Other,
    /// There is no such log.
    NoLog,
}

impl Contradiction {
    /// One sentence; `whose` begins it and says who has kept it.
    pub fn sentence(&self, whose: &str, kept: &Kept) -> String {
        let kept = format!(
            "{whose} a checkpoint of {} entries of `{}`",
            kept.head.size, kept.origin
        );
        match self {
            Self::Cut { size } => format!("{kept}, and the log has {size}"),
            Self::Other => format!("{kept}, and the log's root at that size is another"),
            Self::NoLog => format!("{kept}, and there is no such log"),
        }
    }
}

impl Witness {
    /// What begins a sentence about what it has kept.
    pub(super) fn subject(&self) -> String {
        format!("machine {} has kept", self.machine_id)
    }
}

/// Takes what a machine has kept, notes it, and proves the newest head to it.
/// What was kept and is not part of the log is told in the log, loudly.
///
/// # Errors
/// `INVALID_ARGUMENT` when `kept` is no checkpoint that was signed here.
pub async fn witness(
    db: &Db,
    ambient: &Ambient,
    (context, machine_id): (Context, MachineId),
    kept: &str,
    public_keys: &[[u8; 32]],
) -> Result<Answer> {
    let mut connection = db.read().await?;
    let logs = store::log::all(&mut connection).await?;
    let Some(current) = logs.iter().find(|log| log.ended_at.is_none()) else {
        return Ok(Answer::default());
    };
    let keys = verifier_keys(&current.origin, public_keys);
    let signed = store::checkpoint::newest(&mut connection, current.number).await?;
    let mut answer = Answer {
        checkpoint: signed.as_ref().map(|signed| signed.note.clone()),
        proof: Vec::new(),
        verifier_keys: keys,
        ended: None,
    };
    if kept.is_empty() {
        db.barrier(&mut connection).await?;
        return Ok(answer);
    }
    let kept = Kept::open("kept", kept, public_keys)?;
    let found = contradiction(&mut connection, &logs, &kept).await?;
    let log = logs.iter().find(|log| log.origin == kept.origin);
    match log {
        Some(log) if log.ended_at.is_some() => {
            answer.ended = Some(ended(&mut connection, &logs, log, &kept).await?);
        }
        // a head may be sealed and not signed yet: what is told is the signed one
        Some(log) if found.is_none() => {
            if let Some(signed) = signed.filter(|signed| signed.head.size >= kept.head.size) {
                answer.proof = prove(&mut connection, log, kept.head, signed.head).await?;
            }
        }
        _ => {}
    }
    let known = store::witness::of(&mut connection, machine_id).await?;
    db.barrier(&mut connection).await?;
    drop(connection);
    let witness = Witness {
        machine_id,
        kept,
        seen_at: ambient.clock.now(),
        contradicts: found.is_some(),
    };
    note(db, context, (&witness, known), found).await?;
    Ok(answer)
}

/// What speaks against a log being what a machine has kept of it; `None` when
/// nothing does.
///
/// # Errors
/// When the database refuses, or the stored tree has holes.
pub async fn contradiction(
    connection: &mut PgConnection,
    logs: &[Log],
    kept: &Kept,
) -> Result<Option<Contradiction>> {
    let Some(log) = logs.iter().find(|log| log.origin == kept.origin) else {
        return Ok(Some(Contradiction::NoLog));
    };
    if log.head.size < kept.head.size {
        return Ok(Some(Contradiction::Cut {
            size: log.head.size,
        }));
    }
    let size = kept.head.size.unsigned_abs();
    let tiles = store::tile::read(connection, log.number, &merkle::root_tiles(size)).await?;
    // a tree with holes has no root, and so not that one
    let root = merkle::root(&tiles, size).ok();
    Ok((root != Some(kept.head.root)).then_some(Contradiction::Other))
}

async fn ended(
    connection: &mut PgConnection,
    logs: &[Log],
    log: &Log,
    kept: &Kept,
) -> Result<Ended> {
    let next = logs.iter().find(|next| next.number > log.number);
    let proof = if kept.head.size <= log.head.size {
        prove(connection, log, kept.head, log.head).await?
    } else {
        Vec::new()
    };
    Ok(Ended {
        head: log.head,
        proof,
        next_origin: next.map(|next| next.origin.clone()).unwrap_or_default(),
    })
}

async fn prove(
    connection: &mut PgConnection,
    log: &Log,
    from: Head,
    to: Head,
) -> Result<Vec<Hash>> {
    let (from, to) = (from.size.unsigned_abs(), to.size.unsigned_abs());
    let wanted = merkle::consistency_tiles(from, to);
    let tiles = store::tile::read(connection, log.number, &wanted).await?;
    merkle::prove_consistency(&tiles, from, to).map_err(Error::internal)
}

/// Keeps what a machine said; the same again only now and then, since every
/// edge says it every few seconds. That it is not part of the log is an entry in
/// it, once.
async fn note(
    db: &Db,
    context: Context,
    (witness, known): (&Witness, Option<Witness>),
    found: Option<Contradiction>,
) -> Result<()> {
    let is_news = known.as_ref().is_none_or(|known| {
        (&known.kept, known.contradicts) != (&witness.kept, witness.contradicts)
    });
    if let Some(found) = &found {
        let sentence = found.sentence(&witness.subject(), &witness.kept);
        tracing::error!(machine_id = %witness.machine_id, origin = witness.kept.origin, size = witness.kept.head.size,
            "{sentence}: the database was changed or went back in time; run `control-plane audit verify`");
    }
    if known.is_some_and(|known| !is_news && witness.seen_at - known.seen_at < SEEN) {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    store::witness::note(&mut tx, witness).await?;
    if found.is_some() && is_news {
        let Head { size, root } = witness.kept.head;
        let subject = format!("{} {size} {root}", witness.kept.origin);
        let entry = Entry::ok(context, "audit.contradict", subject)
            .not_ok(Outcome::Failed, Some(Reason::Internal));
        super::append(&mut tx, witness.seen_at, &[entry]).await?;
    }
    db.commit(tx).await
}
