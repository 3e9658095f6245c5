//! Whether a checkpoint that is told goes on from the one that is kept.

use authguardian_proto::{
    audit::v1::{EndedLog, WitnessCheckpointResponse},
    checkpoint::{Checkpoint, CheckpointError, VerifierKey},
    merkle::{Hash, hash_of, verify_consistency},
};

use super::Refusal;

/// What to do with what was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: there is no checkpoint yet, or it is the one that is kept.
    Nothing,
    /// To keep it.
    Take(Checkpoint, VerifierKey),
    /// To keep it, as the first one of the log after the one that has ended.
    GoOver(Checkpoint, VerifierKey, End),
}

/// How a log has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// Its last size.
    pub(super) size: u64,
    /// What is kept of it is beyond its end: entries were lost.
    pub(super) is_lossy: bool,
}

/// Judges what was told by what is kept; `has_ended`: logs that were left before.
///
/// # Errors
/// [`Refusal`].
pub(super) fn judge(
    kept: Option<&Checkpoint>,
    has_ended: impl Fn(&str) -> bool,
    answer: &WitnessCheckpointResponse,
) -> Result<Verdict, Refusal> {
    if answer.checkpoint.is_empty() {
        return nothing_told(kept, answer);
    }
    let (told, key) = open(answer)?;
    let Some(kept) = kept else {
        return if has_ended(&told.origin) {
            Err(Refusal::EndedLog(told.origin))
        } else {
            Ok(Verdict::Take(told, key))
        };
    };
    match &answer.ended {
        None if told.origin == kept.origin => follow(kept, told, key, &answer.proof),
        None => Err(Refusal::OtherLog {
            kept: kept.origin.clone(),
            told: told.origin,
        }),
        Some(_) if told.origin == kept.origin => {
            Err(Refusal::Malformed("a log that has ended and goes on"))
        }
        Some(_) if has_ended(&told.origin) => Err(Refusal::EndedLog(told.origin)),
        Some(ended) => Ok(Verdict::GoOver(told, key, end(kept, ended)?)),
    }
}

/// No checkpoint at all: fine for a log that begins, and for no other.
fn nothing_told(
    kept: Option<&Checkpoint>,
    answer: &WitnessCheckpointResponse,
) -> Result<Verdict, Refusal> {
    match (kept, &answer.ended) {
        (None, _) => Ok(Verdict::Nothing),
        // the log after it has no checkpoint yet
        (Some(kept), Some(ended)) => end(kept, ended).map(|_| Verdict::Nothing),
        (Some(kept), None) => Err(Refusal::Cut {
            origin: kept.origin.clone(),
            kept: kept.size,
            told: 0,
        }),
    }
}

/// The checkpoint, and which of the keys that were told has signed it.
fn open(answer: &WitnessCheckpointResponse) -> Result<(Checkpoint, VerifierKey), Refusal> {
    let mut why = CheckpointError::UnknownKey;
    for text in &answer.verifier_keys {
        let key: VerifierKey = text
            .parse()
            .map_err(|_| Refusal::Malformed("a verifier key that is none"))?;
        match Checkpoint::open(&answer.checkpoint, std::slice::from_ref(&key)) {
            Ok(told) if told.size == 0 => {
                return Err(Refusal::Malformed("a checkpoint of no entries"));
            }
            Ok(told) => return Ok((told, key)),
            Err(CheckpointError::UnknownKey) => {}
            Err(error) => why = error,
        }
    }
    // what it is without any key
    Checkpoint::read_unverified(&answer.checkpoint)?;
    Err(why.into())
}

/// A later head of the log that is kept.
fn follow(
    kept: &Checkpoint,
    told: Checkpoint,
    key: VerifierKey,
    proof: &[Vec<u8>],
) -> Result<Verdict, Refusal> {
    if told.size < kept.size {
        return Err(Refusal::Cut {
            origin: kept.origin.clone(),
            kept: kept.size,
            told: told.size,
        });
    }
    let later = (told.size, told.root);
    is_beginning(kept, proof, later)?;
    Ok(if told == *kept {
        Verdict::Nothing
    } else {
        Verdict::Take(told, key)
    })
}

/// How the log that is kept has ended.
fn end(kept: &Checkpoint, ended: &EndedLog) -> Result<End, Refusal> {
    let root = hash_of(&ended.root).ok_or(Refusal::Malformed("a root that is not 32 bytes"))?;
    if ended.next_origin.is_empty() {
        return Err(Refusal::Malformed("a log that has ended and none after it"));
    }
    let is_lossy = kept.size > ended.size;
    if !is_lossy {
        is_beginning(kept, &ended.proof, (ended.size, root))?;
    }
    Ok(End {
        size: ended.size,
        is_lossy,
    })
}

fn is_beginning(kept: &Checkpoint, proof: &[Vec<u8>], later: (u64, Hash)) -> Result<(), Refusal> {
    let proof: Option<Vec<Hash>> = proof.iter().map(|hash| hash_of(hash)).collect();
    let proof = proof.ok_or(Refusal::Malformed("a hash that is not 32 bytes"))?;
    verify_consistency(&proof, (kept.size, kept.root), later).map_err(|_| Refusal::Fork {
        origin: kept.origin.clone(),
        kept: kept.size,
        told: later.0,
    })
}
