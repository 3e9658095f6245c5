//! How far the control plane's streams were followed, kept over restarts: one
//! whose database stands behind was put back to an older state, in which what
//! was revoked since is good again. It is not believed until that was fenced.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    common::v1::Position,
    events::v1::StreamPosition,
    ids::MachineId,
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::position::PROVED;
use crate::{dial::Gate, files};

/// The file's name in the data directory.
const FILE: &str = "followed.json";

/// Between writes of what goes on all the time.
const EVERY: Duration = Duration::from_secs(1);

/// The field that a control plane names when it finds out by itself.
const AHEAD: &str = "after";

/// A position. Those of a later epoch are higher: a restore that was fenced has
/// begun one, whatever its revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct At {
    epoch: u64,
    revision: u64,
}

impl From<Position> for At {
    fn from(position: Position) -> Self {
        Self {
            epoch: position.epoch,
            revision: position.revision,
        }
    }
}

/// What had been followed at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Floor(BTreeMap<String, At>);

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Whose control plane it was: another machine id is of another enrolment.
    machine_id: MachineId,
    followed: BTreeMap<String, At>,
    /// Set while no control plane is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    behind: Option<Behind>,
}

/// A control plane was seen whose database had been put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Behind {
    /// Only a restore that began a later epoch ends it.
    epoch: u64,
    /// Why, for people.
    detail: String,
}

impl Behind {
    fn problem(&self) -> Problem {
        Problem::new(Reason::Unavailable, self.detail.clone())
    }
}

struct State {
    kept: Kept,
    is_saved: bool,
}

/// Remembers how far the streams were followed.
pub struct Guard {
    /// `None`: for this process only.
    file: Option<PathBuf>,
    gate: Gate,
    state: Mutex<State>,
    /// Something changed that is to be kept at once: an epoch, or a verdict.
    is_urgent: Notify,
}

impl Guard {
    /// One that forgets with the process.
    pub(super) fn in_memory() -> Self {
        Self::new(
            None,
            Gate::default(),
            MachineId::from_uuid(uuid::Uuid::nil()),
            None,
        )
    }

    /// What is kept in a directory; calls pass the gate while the control plane
    /// is believed.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn open(directory: &Path, machine_id: MachineId, gate: Gate) -> io::Result<Self> {
        let path = directory.join(FILE);
        let text = files::read(&path).map_err(files::about(&path))?;
        let read = text.map(|text| serde_json::from_slice::<Kept>(&text));
        let kept = read.transpose().map_err(|error| {
            let detail = format!(
                "`{}` is damaged ({error}): once it is known that the control plane's database was not put back, move it away",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, detail)
        })?;
        let kept = kept.filter(|kept| kept.machine_id == machine_id);
        Ok(Self::new(Some(path), gate, machine_id, kept))
    }

    fn new(file: Option<PathBuf>, gate: Gate, machine_id: MachineId, kept: Option<Kept>) -> Self {
        let kept = kept.unwrap_or_else(|| Kept {
            machine_id,
            followed: BTreeMap::new(),
            behind: None,
        });
        if let Some(behind) = &kept.behind {
            gate.close(behind.problem());
        }
        let state = State {
            kept,
            is_saved: true,
        };
        Self {
            file,
            gate,
            state: Mutex::new(state),
            is_urgent: Notify::new(),
        }
    }

    /// What was followed until now: heads that are told of a question from now on
    /// cannot stand before it.
    pub(super) fn floor(&self) -> Floor {
        Floor(self.state().kept.followed.clone())
    }

    /// A stream was followed up to here.
    pub(super) fn advance(&self, stream: &str, position: Option<Position>) {
        let (Some(position), true) = (position, PROVED.contains(&stream)) else {
            return;
        };
        let (at, mut state) = (At::from(position), self.state());
        let followed = &mut state.kept.followed;
        let known = followed.get(stream).copied();
        if known.is_none_or(|known| known < at) {
            followed.insert(stream.to_owned(), at);
            state.is_saved = false;
        }
        if known.is_none_or(|known| known.epoch < at.epoch) {
            self.is_urgent.notify_one();
        }
    }

    /// Whether a control plane is believed that ends its streams here, and whose
    /// newest restore has begun this epoch (0: there was none).
    pub(super) fn judge(
        &self,
        floor: &Floor,
        heads: &[StreamPosition],
        restored_epoch: u64,
    ) -> Result<(), Problem> {
        let mut state = self.state();
        let fenced = |behind: &Behind| behind.epoch < restored_epoch;
        if state.kept.behind.as_ref().is_some_and(fenced) {
            state.kept.behind = None;
            state.is_saved = false;
            self.is_urgent.notify_one();
        }
        if let Some(behind) = &state.kept.behind {
            return Err(self.refuse(behind.problem()));
        }
        if let Some((stream, known, head)) = first_behind(floor, heads, restored_epoch) {
            let at = |of: At| format!("{}.{}", of.epoch, of.revision);
            let why = if head.epoch < known.epoch {
                "succeeded by another, or put back without a fence"
            } else {
                "put back without a fence"
            };
            let detail = format!(
                "the control plane's database ends at `{}` in stream `{stream}`, which was followed to `{}` before: it was \
                 {why} and is not believed; where it was put back, run `control-plane restore --in-place`",
                at(head),
                at(known)
            );
            // a server of an earlier epoch was succeeded, and shows no other by itself
            if head.epoch >= known.epoch {
                state.set_behind(&detail);
            }
            return Err(self.refuse(Problem::new(Reason::Unavailable, detail)));
        }
        if self.gate.open() {
            tracing::info!("the control plane is believed again");
        }
        Ok(())
    }

    /// Takes a control plane's word that this edge has seen more than it has.
    pub(super) fn hear(&self, problem: &Problem) {
        if problem.reason == Reason::Unavailable && problem.field.as_deref() == Some(AHEAD) {
            self.state().set_behind(&problem.detail);
            self.refuse(Problem::new(Reason::Unavailable, problem.detail.clone()));
        }
    }

    fn refuse(&self, problem: Problem) -> Problem {
        self.is_urgent.notify_one();
        if self.gate.close(problem.clone()) {
            tracing::error!(detail = problem.detail, "the control plane is not believed");
        }
        problem
    }

    /// Keeps what changes until told to stop, about once a second.
    pub(super) async fn keep_saving(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.is_urgent.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            self.save().await;
        }
    }

    /// Keeps what has changed since it was kept last; what cannot be written is
    /// tried again with the next.
    async fn save(&self) {
        let Some(file) = self.file.clone() else {
            return;
        };
        let kept = {
            let mut state = self.state();
            if std::mem::replace(&mut state.is_saved, true) {
                return;
            }
            state.kept.clone()
        };
        let writing =
            tokio::task::spawn_blocking(move || files::replace(&file, &serde_json::to_vec(&kept)?));
        if let Err(error) = writing.await.map_err(io::Error::other).flatten() {
            tracing::warn!(%error, "what was followed cannot be kept");
            self.state().is_saved = false;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set_behind(&mut self, detail: &str) {
        let followed = self.kept.followed.values();
        let epoch = followed.map(|at| at.epoch).max().unwrap_or(0);
        if self.kept.behind.is_none() {
            let detail = detail.to_owned();
            self.kept.behind = Some(Behind { epoch, detail });
            self.is_saved = false;
        }
    }
}

/// The first stream that ends before it was followed to, although no restore
/// since has been fenced: revisions go on through promotions.
fn first_behind<'a>(
    floor: &'a Floor,
    heads: &[StreamPosition],
    restored_epoch: u64,
) -> Option<(&'a str, At, At)> {
    floor.0.iter().find_map(|(stream, known)| {
        let head = heads.iter().find(|head| head.stream == *stream)?;
        let head = At::from(head.position?);
        let is_behind = head.epoch < known.epoch || head.revision < known.revision;
        (restored_epoch <= known.epoch && is_behind).then_some((stream.as_str(), *known, head))
    })
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guard({:?})", self.state().kept)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn machine(number: u128) -> MachineId {
        MachineId::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn heads(epoch: u64, grants: u64) -> Vec<StreamPosition> {
        [("grants", grants), ("identity", 3)]
            .map(|(stream, revision)| StreamPosition {
                stream: stream.into(),
                position: Some(Position { epoch, revision }),
            })
            .into()
    }

    fn follow(guard: &Guard, epoch: u64, grants: u64) {
        for head in heads(epoch, grants) {
            guard.advance(&head.stream, head.position);
        }
    }

    /// Asked and answered with nothing in between.
    fn judge(guard: &Guard, epoch: u64, grants: u64, restored: u64) -> Result<(), Problem> {
        guard.judge(&guard.floor(), &heads(epoch, grants), restored)
    }

    #[test]
    fn what_goes_on_or_was_promoted_is_believed() {
        let guard = Guard::in_memory();
        judge(&guard, 5, 1, 0).unwrap();
        follow(&guard, 5, 450);
        judge(&guard, 5, 450, 0).unwrap();
        judge(&guard, 6, 450, 0).unwrap();
        judge(&guard, 6, 460, 2).unwrap();
    }

    #[test]
    fn what_was_followed_while_an_answer_was_on_its_way_says_nothing_of_it() {
        let guard = Guard::in_memory();
        follow(&guard, 5, 450);
        let floor = guard.floor();
        follow(&guard, 5, 460);
        guard.judge(&floor, &heads(5, 455), 0).unwrap();
    }

    #[test]
    fn a_database_that_was_put_back_is_not_believed_until_it_was_fenced() {
        for (epoch, grants) in [(5, 400), (6, 400)] {
            let guard = Guard::in_memory();
            follow(&guard, 5, 450);
            let refused = judge(&guard, epoch, grants, 0).unwrap_err();
            assert_eq!(refused.reason, Reason::Unavailable);
            for part in [&format!("{epoch}.400"), "5.450", "restore --in-place"] {
                assert!(refused.detail.contains(part), "{}", refused.detail);
            }
            assert!(!guard.gate.close(refused), "it was open");
            // also when it has come further than what was lost
            judge(&guard, epoch, 500, 0).unwrap_err();
            // the restore before the backup was made is none since
            judge(&guard, epoch, 500, 5).unwrap_err();
            judge(&guard, 1_700_000_000, 401, 1_700_000_000).unwrap();
            assert!(!guard.gate.open(), "it was closed");
            follow(&guard, 1_700_000_000, 401);
            judge(&guard, 1_700_000_000, 401, 1_700_000_000).unwrap();
        }
    }

    #[test]
    fn a_server_of_an_earlier_epoch_is_refused_for_as_long_as_it_is_asked() {
        let guard = Guard::in_memory();
        follow(&guard, 6, 450);
        judge(&guard, 5, 999, 0).unwrap_err();
        judge(&guard, 6, 450, 0).unwrap();
    }

    #[test]
    fn a_control_plane_that_says_so_itself_is_taken_at_its_word() {
        let guard = Guard::in_memory();
        follow(&guard, 5, 450);
        guard.hear(&Problem::new(Reason::Unavailable, "away"));
        judge(&guard, 6, 460, 0).unwrap();
        guard.hear(&Problem::new(Reason::Unavailable, "put back").at(AHEAD));
        assert_eq!(judge(&guard, 6, 460, 0).unwrap_err().detail, "put back");
        judge(&guard, 7, 460, 7).unwrap();
    }

    #[tokio::test]
    async fn it_is_known_again_after_a_restart_and_belongs_to_the_enrolment() {
        let directory = tempfile::tempdir().unwrap();
        let open =
            |number| Guard::open(directory.path(), machine(number), Gate::default()).unwrap();
        let guard = open(1);
        follow(&guard, 5, 450);
        guard.save().await;
        let again = open(1);
        assert_eq!(again.floor(), guard.floor());
        judge(&again, 5, 449, 0).unwrap_err();
        again.save().await;
        let refused = judge(&open(1), 5, 500, 0).unwrap_err();
        assert!(refused.detail.contains("5.449"), "{}", refused.detail);
        judge(&open(2), 1, 1, 0).unwrap();
        fs::write(directory.path().join(FILE), "{").unwrap();
        let unreadable = Guard::open(directory.path(), machine(1), Gate::default());
        let error = unreadable.unwrap_err().to_string();
        for part in [FILE, "damaged", "move it away"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
