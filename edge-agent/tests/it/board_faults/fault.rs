//! What goes wrong, and how it is put right.

use std::time::Duration;

use rustix::process::Signal;

use super::system::System;
use crate::{cluster::Process, proxy::Proxy};

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    ControlPlaneKilled,
    ControlPlaneStopped,
    EdgeKilled,
    EdgeStopped,
    /// One edge from all control planes.
    EdgeCutOff,
    PrimaryKilled,
    PrimaryStopped,
    StandbyKilled,
    StandbyStopped,
    PatroniOfPrimaryKilled,
    PatroniOfPrimaryStopped,
    PatroniOfStandbyKilled,
    PatroniOfStandbyStopped,
    NodeOfPrimaryKilled,
    EtcdKilled,
    EtcdStopped,
    /// One control plane from all database nodes.
    DatabaseCutOff,
    /// A database node from everybody.
    PrimaryCutOff,
    StandbyCutOff,
    Switchover,
}

pub(super) const ALL: [Fault; 20] = [
    Fault::ControlPlaneKilled,
    Fault::ControlPlaneStopped,
    Fault::EdgeKilled,
    Fault::EdgeStopped,
    Fault::EdgeCutOff,
    Fault::PrimaryKilled,
    Fault::StandbyKilled,
    Fault::StandbyStopped,
    Fault::PatroniOfStandbyKilled,
    Fault::PatroniOfStandbyStopped,
    Fault::EtcdKilled,
    Fault::EtcdStopped,
    Fault::DatabaseCutOff,
    Fault::StandbyCutOff,
    Fault::Switchover,
    Fault::PrimaryStopped,
    Fault::PrimaryCutOff,
    Fault::PatroniOfPrimaryKilled,
    Fault::PatroniOfPrimaryStopped,
    Fault::NodeOfPrimaryKilled,
];

impl Fault {
    /// Whether another node becomes the primary.
    pub(super) fn moves_the_primary(self) -> bool {
        matches!(
            self,
            Self::PrimaryKilled
                | Self::PrimaryStopped
                | Self::PrimaryCutOff
                | Self::PatroniOfPrimaryKilled
                | Self::PatroniOfPrimaryStopped
                | Self::NodeOfPrimaryKilled
                | Self::Switchover
        )
    }

    /// Makes it. `primary` is the node that is it; `which` chooses among equals.
    pub(super) async fn begin(self, system: &mut System, primary: usize, which: usize) {
        let standby = (primary + 1 + which % 2) % crate::cluster::NODES;
        let cluster = &system.cluster;
        match self {
            Self::ControlPlaneKilled => system.control_planes[which % 2].kill().await,
            Self::ControlPlaneStopped => system.control_planes[which % 2].signal(Signal::STOP),
            Self::EdgeKilled => system.edges[which % 3].kill().await,
            Self::EdgeStopped => system.edges[which % 3].signal(Signal::STOP),
            Self::EdgeCutOff => system.links[which % 3].iter().for_each(Proxy::cut),
            Self::PrimaryKilled => cluster.kill(Process::Postgres(primary)).await,
            Self::PrimaryStopped => cluster.pause(Process::Postgres(primary)),
            Self::StandbyKilled => cluster.kill_node(standby).await,
            Self::StandbyStopped => cluster.pause(Process::Postgres(standby)),
            Self::PatroniOfPrimaryKilled => cluster.kill(Process::Patroni(primary)).await,
            Self::PatroniOfPrimaryStopped => cluster.pause(Process::Patroni(primary)),
            Self::PatroniOfStandbyKilled => cluster.kill(Process::Patroni(standby)).await,
            Self::PatroniOfStandbyStopped => cluster.pause(Process::Patroni(standby)),
            Self::NodeOfPrimaryKilled => cluster.kill_node(primary).await,
            Self::EtcdKilled => cluster.kill(Process::Etcd(which % 3)).await,
            Self::EtcdStopped => cluster.pause(Process::Etcd(which % 3)),
            Self::DatabaseCutOff => cluster.let_pass_apart(false),
            Self::PrimaryCutOff => cluster.cut(primary),
            Self::StandbyCutOff => cluster.cut(standby),
            Self::Switchover => cluster.switch_over(primary),
        }
    }

    /// Puts it right; what was killed is started again.
    pub(super) async fn end(self, system: &mut System, primary: usize, which: usize) {
        let standby = (primary + 1 + which % 2) % crate::cluster::NODES;
        let cluster = &system.cluster;
        match self {
            Self::ControlPlaneKilled => system.control_planes[which % 2].start_again().await,
            Self::ControlPlaneStopped => system.control_planes[which % 2].signal(Signal::CONT),
            Self::EdgeKilled => system.edges[which % 3].start_again().await,
            Self::EdgeStopped => system.edges[which % 3].signal(Signal::CONT),
            Self::EdgeCutOff => system.links[which % 3].iter().for_each(Proxy::mend),
            Self::PrimaryStopped => cluster.resume(Process::Postgres(primary)),
            Self::StandbyKilled | Self::PatroniOfStandbyKilled => {
                cluster.start_again(Process::Patroni(standby)).await;
            }
            Self::StandbyStopped => cluster.resume(Process::Postgres(standby)),
            Self::PatroniOfPrimaryKilled | Self::NodeOfPrimaryKilled => {
                cluster.start_again(Process::Patroni(primary)).await;
            }
            Self::PatroniOfPrimaryStopped => cluster.resume(Process::Patroni(primary)),
            Self::PatroniOfStandbyStopped => cluster.resume(Process::Patroni(standby)),
            Self::EtcdKilled => cluster.start_again(Process::Etcd(which % 3)).await,
            Self::EtcdStopped => cluster.resume(Process::Etcd(which % 3)),
            Self::DatabaseCutOff => cluster.let_pass_apart(true),
            Self::PrimaryCutOff => cluster.mend(primary),
            Self::StandbyCutOff => cluster.mend(standby),
            // Patroni starts the postmaster again, as a primary or a standby
            Self::PrimaryKilled | Self::Switchover => {}
        }
    }
}

/// How much longer than PostgreSQL and Patroni strong work may be away.
pub(super) const BACK_WITHIN: Duration = Duration::from_secs(1);
