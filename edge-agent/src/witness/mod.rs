//! This machine as a witness of the audit log: it keeps the newest checkpoint
//! that it has seen, and takes a newer one only with the proof that the log of
//! the kept one is its beginning (RFC 6962, 2.1.2). So the log cannot be cut,
//! nor written anew, without that every witness sees it, whatever happens to
//! the control plane's database.
//!
//! The first checkpoint is taken on trust, if a key has signed it that the
//! control plane names. A log that has ended by a restore is left for the one
//! after it; its last checkpoint stays, as evidence.

mod archive;
mod ended;
mod files;
mod judge;
mod kept;
mod refusal;
mod refused;
mod status;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use authguardian_proto::{
    audit::v1::{WitnessCheckpointRequest, WitnessCheckpointResponse},
    checkpoint::{Checkpoint, VerifierKey},
    ids::MachineId,
    reason::Reason,
};

pub use archive::Archive;
pub use ended::{Left, Why};
pub use kept::Kept;
pub use refusal::Refusal;
pub use status::Status;

use files::{Files, Found};
use judge::{End, Verdict, judge};
use refused::Refused;

use crate::clock::Ambient;

/// Logs that were left whose last checkpoints stay.
const MAX_ENDED: usize = 16;

/// A witness of the audit log.
#[derive(Debug)]
pub struct Witness {
    machine_id: MachineId,
    ambient: Ambient,
    files: Files,
    state: Mutex<State>,
    /// Held by whoever judges and writes.
    judging: Mutex<()>,
}

/// What the audit log is to be told: it is not what this machine has seen, or
/// what was seen is lost here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// Why.
    pub reason: Reason,
}

/// What is on disk, and what was said of it.
#[derive(Debug, Default)]
struct State {
    kept: Option<Kept>,
    /// In the order in which they were left.
    ended: Vec<Left>,
    refused: Option<Refused>,
    /// Whether this process has seen that it is on disk, with its evidence.
    is_refused_kept: bool,
    /// What was told to be refused by what is kept.
    told: Vec<Refused>,
    /// Of what was found at the start.
    opening: Option<Alarm>,
    /// The disk refused the last time.
    is_unwritable: bool,
}

impl Witness {
    /// Opens what is kept in the edge's directory; reads and writes files.
    ///
    /// # Errors
    /// When a file is there and cannot be read, or what has to be kept aside
    /// cannot be. One that is damaged is kept aside, and an alarm of it follows.
    pub fn open(data_dir: &Path, machine_id: MachineId, ambient: Ambient) -> io::Result<Arc<Self>> {
        let files = Files::of(data_dir);
        let mut state = State::default();
        let newest = state.undamaged(files.newest()?)?;
        state.ended = state.undamaged(files.ended()?)?.unwrap_or_default();
        state.refused = state.undamaged(files.refused()?)?;
        let (own, foreign) = match newest {
            Some((keeper, kept)) if keeper != machine_id => (None, Some(kept)),
            newest => (newest.map(|(_, kept)| kept), None),
        };
        state.kept = own;
        let witness = Self {
            machine_id,
            ambient,
            files,
            state: Mutex::new(state),
            judging: Mutex::default(),
        };
        if let Some(kept) = foreign {
            tracing::info!(
                origin = kept.checkpoint.origin,
                size = kept.checkpoint.size,
                "this machine has joined anew: what it had kept of the audit log is kept aside"
            );
            witness.leave(kept, Why::Joined)?;
        }
        if let Some(refused) = &witness.state().refused {
            tracing::error!(kind = refused.kind, "{}", refused.detail);
        }
        Ok(Arc::new(witness))
    }

    /// What is to be told of what was found at the start, once.
    pub fn opening(&self) -> Option<Alarm> {
        self.state().opening.take()
    }

    /// What to ask with.
    pub fn request(&self) -> WitnessCheckpointRequest {
        let kept = self.state().kept.as_ref().map(|kept| kept.note.clone());
        WitnessCheckpointRequest {
            kept: kept.unwrap_or_default(),
        }
    }

    /// Judges an answer, and keeps its checkpoint when it is on disk.
    pub async fn take(self: &Arc<Self>, told: WitnessCheckpointResponse) -> Option<Alarm> {
        self.on_disk(move |witness| witness.take_now(&told)).await
    }

    /// The control plane does not know what it was shown.
    pub async fn disowned(self: &Arc<Self>) -> Option<Alarm> {
        self.on_disk(|witness| {
            let origin = witness.kept()?.checkpoint.origin;
            let nothing = WitnessCheckpointResponse::default();
            witness.refuse(&Refusal::Disowned(origin), &nothing)
        })
        .await
    }

    /// How it stands; `None`: nothing is kept, and nothing refused.
    pub fn status(&self) -> Option<Status> {
        self.state().status()
    }

    fn take_now(&self, told: &WitnessCheckpointResponse) -> Option<Alarm> {
        let kept = self.kept();
        let verdict = {
            let state = self.state();
            let has_ended = |origin: &str| state.has_ended(origin);
            judge(kept.as_ref().map(|kept| &kept.checkpoint), has_ended, told)
        };
        let outcome = match verdict {
            Err(refusal) => return self.refuse(&refusal, told),
            Ok(Verdict::Nothing) => Ok(None),
            Ok(Verdict::Take(checkpoint, key)) => {
                self.keep(checkpoint, key, &told.checkpoint).map(|()| None)
            }
            Ok(Verdict::GoOver(checkpoint, key, end)) => {
                let keep = || self.keep(checkpoint, key, &told.checkpoint);
                self.go_over(kept, end, keep)
            }
        };
        // what was seen is told also where it cannot be kept that all fits again
        let (alarm, kept) = match outcome {
            Ok(alarm) => (alarm, self.accept()),
            Err(error) => (None, Err(error)),
        };
        self.told_of_disk(kept);
        alarm
    }

    /// Keeps a checkpoint.
    fn keep(&self, checkpoint: Checkpoint, key: VerifierKey, note: &str) -> io::Result<()> {
        let kept = Kept {
            checkpoint,
            note: note.to_owned(),
            key,
            kept_at: self.ambient.clock.now(),
        };
        self.files.keep(self.machine_id, &kept)?;
        let mut state = self.state();
        if state.kept.is_none() {
            tracing::info!(origin = kept.checkpoint.origin, size = kept.checkpoint.size, root = %kept.checkpoint.root, key = %kept.key,
                "the first checkpoint of the audit log is kept");
        }
        state.kept = Some(kept);
        Ok(())
    }

    /// Leaves the log that is kept for the one after it, of which `keep` keeps a checkpoint.
    fn go_over(
        &self,
        kept: Option<Kept>,
        end: End,
        keep: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Option<Alarm>> {
        let Some(kept) = kept else { return Ok(None) };
        let Checkpoint { origin, size, .. } = kept.checkpoint.clone();
        let why = if end.is_lossy {
            Why::Lost { size: end.size }
        } else {
            Why::Restored
        };
        self.leave(kept, why)?;
        keep()?;
        if !end.is_lossy {
            tracing::info!(
                origin,
                size,
                ended_at_size = end.size,
                "the audit log has ended by a restore, and goes on in another"
            );
            return Ok(None);
        }
        tracing::warn!(
            origin,
            kept_size = size,
            ended_at_size = end.size,
            lost = size - end.size,
            "the audit log has ended by a restore with fewer entries than were seen here: they are lost; the last checkpoint is kept as evidence"
        );
        Ok(Some(Alarm {
            reason: Reason::Stale,
        }))
    }

    /// Puts a checkpoint among those of logs that were left.
    fn leave(&self, kept: Kept, why: Why) -> io::Result<()> {
        let mut ended = self.state().ended.clone();
        // a try before this one may have come as far
        if ended.iter().any(|left| left.kept == kept) {
            return Ok(());
        }
        ended.push(Left {
            kept,
            left_at: self.ambient.clock.now(),
            why,
        });
        let too_many = ended.len().saturating_sub(MAX_ENDED);
        ended.drain(..too_many);
        self.files.keep_ended(&ended)?;
        self.state().ended = ended;
        Ok(())
    }

    /// Says what is refused, unless that was said last; an alarm, unless there ever was one
    /// that is like it.
    fn refuse(&self, refusal: &Refusal, told: &WitnessCheckpointResponse) -> Option<Alarm> {
        let kept = self.kept().map(|kept| kept.note);
        let refused = Refused::new(refusal, self.ambient.clock.now(), kept, told);
        let (last, is_kept) = {
            let state = self.state();
            (state.refused.clone(), state.is_refused_kept)
        };
        if let Some(last) = last.filter(|last| refused.is_like(last)) {
            if !is_kept {
                self.keep_refused(&last);
            }
            return None;
        }
        tracing::error!(
            kind = refusal.kind(),
            "{refusal}: what is kept stays; run `control-plane audit verify --checkpoint` with what `edge-agent checkpoint` prints"
        );
        let was_known = self.keep_refused(&refused);
        let mut state = self.state();
        state
            .told
            .retain(|told| told.is_by_what_was_kept_for(&refused));
        let was_told = state.told.iter().any(|told| refused.is_like(told));
        if !was_told {
            state.told.push(refused.clone());
        }
        state.refused = Some(refused);
        (!was_known && !was_told).then_some(Alarm {
            reason: refusal.reason(),
        })
    }

    /// Keeps a refusal, and as evidence; whether there was evidence that is like it.
    fn keep_refused(&self, refused: &Refused) -> bool {
        let evidence = self.files.keep_evidence(refused);
        let current = self.files.keep_refused(refused);
        self.state().is_refused_kept = evidence.is_ok() && current.is_ok();
        let was_known = matches!(evidence, Ok(true));
        if let Err(error) = evidence.and(current) {
            tracing::warn!(%error, "the checkpoint that is refused is not kept as evidence yet");
        }
        was_known
    }

    /// What is told fits.
    fn accept(&self) -> io::Result<()> {
        if self.state().refused.is_none() {
            return Ok(());
        }
        self.files.end_refused()?;
        self.state().refused = None;
        tracing::info!("the audit log is again what was seen of it here");
        Ok(())
    }

    /// Says once that nothing can be kept.
    fn told_of_disk(&self, kept: io::Result<()>) {
        let was_unwritable = std::mem::replace(&mut self.state().is_unwritable, kept.is_err());
        if let (Err(error), false) = (kept, was_unwritable) {
            tracing::error!(%error, "what was seen of the audit log cannot be kept: what was kept before stays");
        }
    }

    /// Does work that waits for the disk, one at a time.
    async fn on_disk(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Option<Alarm> + Send + 'static,
    ) -> Option<Alarm> {
        let witness = self.clone();
        let working = tokio::task::spawn_blocking(move || {
            let judging = witness.judging.lock();
            let _turn = judging.unwrap_or_else(PoisonError::into_inner);
            work(&witness)
        });
        working.await.ok().flatten()
    }

    fn kept(&self) -> Option<Kept> {
        self.state().kept.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a restore has ended it. One that was left by joining anew may go on.
    fn has_ended(&self, origin: &str) -> bool {
        let restored = self.ended.iter().filter(|left| left.why != Why::Joined);
        restored
            .map(|left| &left.kept.checkpoint.origin)
            .any(|ended| ended == origin)
    }

    /// What a file has; a damaged one is set aside, which is to be told.
    fn undamaged<T>(&mut self, found: Found<T>) -> io::Result<Option<T>> {
        match found {
            Found::Nothing => Ok(None),
            Found::Whole(found) => Ok(Some(found)),
            Found::Damaged(path) => {
                let aside = Files::set_aside(&path)?;
                tracing::error!(path = %path.display(), aside = %aside.display(),
                    "a file of what was kept of the audit log is damaged, and set aside: without a checkpoint the next one is taken on trust");
                self.opening = Some(Alarm {
                    reason: Reason::Internal,
                });
                Ok(None)
            }
        }
    }
}
