//! Machines as witnesses: each keeps the newest checkpoint that it has seen,
//! and says so when it asks for a newer one. What it has kept tells what the
//! log was, whatever happens to the database.

use authguardian_proto::{
    checkpoint::{Checkpoint, CheckpointError, VerifierKey},
    ids::MachineId,
    merkle::{self, Hash, ProofError},
    reason::Reason,
};
use sqlx::PgConnection;

use super::{
    Context, Entry, Outcome,
    log::{Head, Log, Witness, verifier_keys},
    store,
};
use crate::{
    clock::Ambient,
    db::Db,
    error::{Error, Result},
};

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
    /// One sentence.
    pub fn sentence(&self, witness: &Witness) -> String {
        let kept = format!(
            "machine {} has kept a checkpoint of {} entries of `{}`",
            witness.machine_id, witness.head.size, witness.origin
        );
        match self {
            Self::Cut { size } => format!("{kept}, and the log has {size}"),
            Self::Other => format!("{kept}, and the log's root at that size is another"),
            Self::NoLog => format!("{kept}, and there is no such log"),
        }
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
    let witness = read(kept, machine_id, public_keys, ambient)?;
    let found = contradiction(&mut connection, &logs, &witness).await?;
    let log = logs.iter().find(|log| log.origin == witness.origin);
    if let (None, Some(log)) = (&found, log) {
        let from = witness.head.size.unsigned_abs();
        if log.ended_at.is_none() {
            // a head may be sealed and not signed yet: what is told is the signed one
            if let Some(signed) = signed.filter(|signed| signed.head.size >= witness.head.size) {
                let to = signed.head.size.unsigned_abs();
                answer.proof = prove(&mut connection, log, from, to).await?;
            }
        }
    }
    if let Some(log) = log
        && log.ended_at.is_some()
    {
        answer.ended = Some(ended(&mut connection, &logs, log, &witness).await?);
    }
    db.barrier(&mut connection).await?;
    drop(connection);
    note(db, ambient, context, &witness, found).await?;
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
    witness: &Witness,
) -> Result<Option<Contradiction>> {
    let Some(log) = logs.iter().find(|log| log.origin == witness.origin) else {
        return Ok(Some(Contradiction::NoLog));
    };
    if log.head.size < witness.head.size {
        return Ok(Some(Contradiction::Cut {
            size: log.head.size,
        }));
    }
    let size = witness.head.size.unsigned_abs();
    let tiles = store::tile::read(connection, log.number, &merkle::root_tiles(size)).await?;
    // a tree with holes has no root, and so not that one
    let root = merkle::root(&tiles, size).ok();
    Ok((root != Some(witness.head.root)).then_some(Contradiction::Other))
}

fn read(
    kept: &str,
    machine_id: MachineId,
    public_keys: &[[u8; 32]],
    ambient: &Ambient,
) -> Result<Witness> {
    let refused = |error: CheckpointError| {
        Error::invalid(
            "kept",
            format!("expected a checkpoint that was signed here: {error}"),
        )
    };
    let origin = Checkpoint::read_unverified(kept).map_err(refused)?.origin;
    let checkpoint =
        Checkpoint::open(kept, &verifier_keys(&origin, public_keys)).map_err(refused)?;
    Ok(Witness {
        machine_id,
        origin: checkpoint.origin,
        head: Head {
            size: i64::try_from(checkpoint.size).map_err(Error::internal)?,
            root: checkpoint.root,
        },
        note: kept.to_owned(),
        seen_at: ambient.clock.now(),
    })
}

async fn ended(
    connection: &mut PgConnection,
    logs: &[Log],
    log: &Log,
    witness: &Witness,
) -> Result<Ended> {
    let next = logs.iter().find(|next| next.number > log.number);
    let (from, to) = (
        witness.head.size.unsigned_abs(),
        log.head.size.unsigned_abs(),
    );
    let proof = if from <= to {
        prove(connection, log, from, to).await?
    } else {
        Vec::new()
    };
    Ok(Ended {
        head: log.head,
        proof,
        next_origin: next.map(|next| next.origin.clone()).unwrap_or_default(),
    })
}

async fn prove(connection: &mut PgConnection, log: &Log, from: u64, to: u64) -> Result<Vec<Hash>> {
    let wanted = merkle::consistency_tiles(from, to);
    let tiles = store::tile::read(connection, log.number, &wanted).await?;
    merkle::prove_consistency(&tiles, from, to).map_err(|error: ProofError| Error::internal(error))
}

/// Keeps what the machine said. What it said of a log that has ended by a
/// restore is no alarm, but stands in the new log: entries were lost.
async fn note(
    db: &Db,
    ambient: &Ambient,
    context: Context,
    witness: &Witness,
    found: Option<Contradiction>,
) -> Result<()> {
    let mut tx = db.begin().await?;
    let known = store::witness::of(&mut tx, witness.machine_id).await?;
    let is_news = known
        .as_ref()
        .is_none_or(|known| (&known.origin, known.head) != (&witness.origin, witness.head));
    store::witness::note(&mut tx, witness).await?;
    if let Some(found) = found {
        let sentence = found.sentence(witness);
        tracing::error!(machine_id = %witness.machine_id, origin = witness.origin, size = witness.head.size,
            "{sentence}: the database was changed or went back in time; run `control-plane audit verify`");
        if is_news {
            let subject = format!(
                "{} {} {}",
                witness.origin, witness.head.size, witness.head.root
            );
            let entry = Entry::ok(context, "audit.contradict", subject)
                .not_ok(Outcome::Failed, Some(Reason::Internal));
            super::append(&mut tx, ambient.clock.now(), &[entry]).await?;
        }
    }
    db.commit(tx).await
}
