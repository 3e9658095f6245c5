//! A round: clients and watchers at work while something goes wrong, and what
//! they were told judged when it is over.

use std::{fmt, path::PathBuf, time::Duration};

use authguardian_history::check::Report;

use super::{
    beside::{Beside, Judged},
    dice::Dice,
    fault::{BACK_WITHIN, Fault},
    load::{Load, cleared, now},
    system::System,
    way::Way,
};

/// Acknowledged writes before a fault, during it, and after it.
const WRITES: usize = 100;

/// How long after a fault Patroni had another primary, that one's writes were
/// confirmed by a standby, and a call that had begun later than the first of
/// these was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outage {
    primary: Duration,
    confirmed: Duration,
    back: Duration,
}

impl Outage {
    /// How much longer strong work was away than PostgreSQL and Patroni were.
    pub(super) fn late(&self) -> Duration {
        self.back.saturating_sub(self.primary.max(self.confirmed))
    }
}

/// What a round has come to.
pub(super) struct Figures {
    pub(super) fault: Fault,
    pub(super) report: Report,
    pub(super) unknown_attempts: usize,
    pub(super) resolved: usize,
    pub(super) outage: Option<Outage>,
    pub(super) took: Duration,
    pub(super) beside: Judged,
    /// Where the history of one that was away for too long is.
    kept: Option<PathBuf>,
}

/// Lets it go wrong once.
pub(super) async fn run(system: &mut System, fault: Fault, name: &str, dice: &mut Dice) -> Figures {
    let began = now();
    let position = cleared(&Way::Grpc(system.grpc())).await;
    let load = Load::start(
        &system.ways(),
        system.watchers(position),
        name,
        position,
        dice,
    );
    let beside = Beside::start(system, name);
    load.progress.writes(WRITES).await;

    let which = usize::try_from(dice.below(6)).unwrap();
    let primary = system.cluster.primary().await.unwrap();
    let broke = now();
    super::reason::take_unknown();
    fault.begin(system, primary, which).await;
    let outage = if fault.moves_the_primary() {
        Some(outage(system, &load, primary, broke).await)
    } else {
        load.progress.writes(WRITES).await;
        None
    };
    fault.end(system, primary, which).await;
    load.progress.writes(WRITES).await;
    system.cluster.until_whole().await;

    let beside = beside.judge().await;
    let told = load.end(&Way::Grpc(system.grpc())).await;
    let kept = outage
        .filter(|outage| outage.late() > BACK_WITHIN)
        .map(|_| told.keep(name));
    Figures {
        beside,
        kept,
        fault,
        report: told.judge(name),
        unknown_attempts: told.progress.heard().unknown,
        resolved: told.resolved,
        outage,
        took: now().saturating_sub(began),
    }
}

/// Waits until another primary takes writes, by Patroni, by PostgreSQL and by
/// the control planes.
async fn outage(system: &System, load: &Load, primary: usize, broke: Duration) -> Outage {
    let probing = load.probe(system.ways());
    let cluster = &system.cluster;
    let back = async {
        cluster.until_primary_is_not(primary).await;
        let promoted = now();
        let first = load.progress.first_write_since(promoted).await;
        let after = promoted.saturating_sub(broke);
        (after, after + first)
    };
    let confirmed = async {
        cluster.until_writes_are_confirmed(primary).await;
        now().saturating_sub(broke)
    };
    let ((primary, back), confirmed) = tokio::join!(back, confirmed);
    probing.cancel();
    Outage {
        primary,
        confirmed,
        back,
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: {}; {} attempts unknown, {} calls resolved by request id at the end",
            self.fault, self.report, self.unknown_attempts, self.resolved
        )?;
        if let Some(outage) = self.outage {
            write!(
                f,
                "; another primary after {} ms, its writes confirmed after {} ms, strong work back after {} ms",
                outage.primary.as_millis(),
                outage.confirmed.as_millis(),
                outage.back.as_millis()
            )?;
        }
        let Judged { sessions, merged } = self.beside;
        write!(
            f,
            "; beside it {sessions} calls of sessions, {merged} writes that merged"
        )?;
        write!(f, "; {} s in all", self.took.as_secs())?;
        self.kept
            .as_ref()
            .map_or(Ok(()), |kept| write!(f, "; see {}", kept.display()))
    }
}

impl Figures {
    /// Strong work is back soon after Patroni has another primary.
    pub(super) fn is_back_in_time(&self) -> bool {
        self.outage
            .is_none_or(|outage| outage.late() <= BACK_WITHIN)
    }
}
