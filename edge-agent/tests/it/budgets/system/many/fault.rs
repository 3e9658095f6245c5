//! What goes wrong, and how it is put right.

use authguardian_proto::ids::RequestId;
use control_plane::audit::Context;
use futures::future::join_all;
use rustix::process::Signal;

use super::{tally::Tally, task, world::World};
use crate::{board_faults::dice::Dice, proxy::Proxy, wait::until_async};

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    EdgesKilled,
    /// Until their leases have ended.
    EdgesStopped,
    /// From both control planes, until their leases have ended.
    EdgesCutOff,
    /// What edges are answered is lost, until their leases have ended; what they say is not.
    AnswersLost,
    /// One, until the other hears all edges.
    ControlPlaneKilled,
    /// Likewise.
    ControlPlaneStopped,
    /// Both, until leases have ended.
    ControlPlanesKilled,
    /// Likewise.
    PostgresKilled,
    /// Of an edge, with all that it knew of budgets.
    DiskDestroyed,
    /// Budgets are raised, recalled, frozen and thawed.
    Operators,
}

pub(super) const ALL: [Fault; 10] = [
    Fault::EdgesKilled,
    Fault::EdgesStopped,
    Fault::EdgesCutOff,
    Fault::AnswersLost,
    Fault::ControlPlaneKilled,
    Fault::ControlPlaneStopped,
    Fault::ControlPlanesKilled,
    Fault::PostgresKilled,
    Fault::DiskDestroyed,
    Fault::Operators,
];

/// What is acknowledged while something is away.
const MEANWHILE: usize = 60;

impl Fault {
    /// Lets it go wrong, and puts it right again.
    pub(super) async fn pass(self, world: &mut World, tally: &Tally, dice: &mut Dice) {
        let edges = some(world, dice);
        let which = usize::try_from(dice.below(2)).unwrap();
        match self {
            Self::EdgesKilled => {
                kill(world, &edges).await;
                tally.acknowledges(MEANWHILE).await;
                start_again(world, &edges).await;
            }
            Self::EdgesStopped => {
                signal(world, &edges, Signal::STOP);
                let unleased = async || world.are_unleased(&edges).await;
                until_async("their leases have ended", unleased).await;
                signal(world, &edges, Signal::CONT);
            }
            Self::EdgesCutOff => {
                each_way(world, &edges, Proxy::cut);
                let unleased = async || world.are_unleased(&edges).await;
                until_async("their leases have ended", unleased).await;
                tally.lapses(&edges).await;
                each_way(world, &edges, Proxy::hang_up);
                each_way(world, &edges, Proxy::mend);
            }
            Self::AnswersLost => {
                each_way(world, &edges, Proxy::hold_answers);
                tally.lapses(&edges).await;
                each_way(world, &edges, Proxy::hang_up);
                each_way(world, &edges, Proxy::mend);
            }
            Self::ControlPlaneKilled => {
                world.control_planes[which].kill().await;
                all_are_heard(world).await;
                world.control_planes[which].start_again().await;
            }
            Self::ControlPlaneStopped => {
                world.control_planes[which].signal(Signal::STOP);
                all_are_heard(world).await;
                world.control_planes[which].signal(Signal::CONT);
            }
            Self::ControlPlanesKilled => {
                for control_plane in &mut world.control_planes {
                    control_plane.kill().await;
                }
                tally.lapses(&edges).await;
                for control_plane in &mut world.control_planes {
                    control_plane.start_again().await;
                }
            }
            Self::PostgresKilled => {
                world.postgres.kill().await;
                tally.lapses(&edges).await;
                world.postgres.start_again().await;
            }
            Self::DiskDestroyed => {
                let edges = &edges[..1];
                kill(world, edges).await;
                // the journal of one disk alone is known to be an earlier one
                if !world.destroyed.contains(&edges[0]) {
                    world.destroy_disk(edges[0]);
                    tally.replace_disk(edges[0]);
                }
                start_again(world, edges).await;
            }
            Self::Operators => operate(world, tally, dice).await,
        }
    }
}

/// Up to a quarter of the edges, and one at least.
fn some(world: &World, dice: &mut Dice) -> Vec<usize> {
    let mut all: Vec<usize> = (0..world.edges.len()).collect();
    let count = 1 + dice.below((all.len() / 4).max(1) as u64);
    let picks = (0..count).map(|_| {
        let at = dice.below(all.len() as u64);
        all.swap_remove(usize::try_from(at).unwrap())
    });
    picks.collect()
}

async fn kill(world: &mut World, edges: &[usize]) {
    for edge in edges {
        world.edges[*edge].kill().await;
    }
}

async fn start_again(world: &mut World, edges: &[usize]) {
    let all = world.edges.iter_mut().enumerate();
    let killed = all.filter(|(number, _)| edges.contains(number));
    join_all(killed.map(|(_, edge)| edge.start_again())).await;
}

fn signal(world: &World, edges: &[usize], signal: Signal) {
    for edge in edges {
        world.edges[*edge].signal(signal);
    }
}

fn each_way(world: &World, edges: &[usize], act: impl Fn(&Proxy)) {
    let ways = edges.iter().flat_map(|edge| &world.links[*edge]);
    ways.for_each(act);
}

/// Waits until each edge has told something from now on.
async fn all_are_heard(world: &World) {
    let before = world.exchanges().await;
    until_async("all edges are heard", async || {
        let now = world.exchanges().await;
        // one may have been on its way
        let mut all = before.iter();
        all.all(|(machine, number)| now.get(machine).is_some_and(|now| *now >= number + 2))
    })
    .await;
}

async fn operate(world: &World, tally: &Tally, dice: &mut Dice) {
    let budgets = &world.app.budgets;
    let context = |number: u64| {
        let id: RequestId = format!("operator-{number}").parse().unwrap();
        Context {
            request_id: Some(id),
            ..Context::system()
        }
    };
    for name in ["scarce", "loose"] {
        let by = 1000 + dice.below(10_000);
        tally.raise(task::at(name), by);
        let raised = budgets.top_up(context(dice.next()), name.parse().unwrap(), by);
        raised.await.unwrap();
    }
    for task in task::ALL {
        let recalled = budgets.rebalance(context(dice.next()), task.name.parse().unwrap());
        recalled.await.unwrap();
    }
    for is_frozen in [true, false] {
        let task = "by/day".parse().unwrap();
        let frozen = budgets.freeze(context(dice.next()), task, is_frozen);
        frozen.await.unwrap();
        tally.acknowledges(MEANWHILE).await;
    }
}
