//! The other servers of `dev --replicas`: standbys whose quorum confirms every
//! commit. Nothing is promoted here; what they show is what a quorum does.

use futures::future::{join_all, select_all, try_join_all};

use super::directory::Directory;
use crate::{
    cli::failure::Failure,
    db::private_postgres::{Options, PrivatePostgres},
};

/// Standbys that run. Dropping them ends them.
pub(super) struct Standbys {
    running: Vec<PrivatePostgres>,
}

impl Standbys {
    /// Starts all but the primary of `replicas` servers, and has a majority of
    /// all confirm every commit from then on.
    pub(super) async fn start(
        primary: &PrivatePostgres,
        directory: &Directory,
        replicas: u16,
    ) -> Result<Self, Failure> {
        let names: Vec<_> = (1..replicas)
            .map(|number| format!("standby{number}"))
            .collect();
        let starting = names.iter().map(|name| start(primary, directory, name));
        let running = try_join_all(starting).await?;
        let confirming = usize::from(write_quorum(replicas) - 1);
        let confirmed = primary.confirmed_by(confirming, &names).await;
        confirmed.map_err(|error| Failure::internal(error.to_string()))?;
        Ok(Self { running })
    }

    /// Waits until one has ended, and starts it again; for ever, without any.
    pub(super) async fn keep_running(
        &mut self,
        primary: &PrivatePostgres,
        directory: &Directory,
    ) -> Result<(), Failure> {
        if self.running.is_empty() {
            return std::future::pending().await;
        }
        let ends = self
            .running
            .iter()
            .map(|standby| Box::pin(standby.exited()));
        let (_, ended, _) = select_all(ends).await;
        let name = format!("standby{}", ended + 1);
        super::progress(&format!("{name} ended; starting it again"));
        self.running[ended] = start(primary, directory, &name).await?;
        Ok(())
    }

    /// Ends them.
    pub(super) async fn stop(self) {
        join_all(self.running.into_iter().map(PrivatePostgres::stop)).await;
    }
}

/// A majority of these servers.
pub(super) fn write_quorum(replicas: u16) -> u16 {
    replicas / 2 + 1
}

async fn start(
    primary: &PrivatePostgres,
    directory: &Directory,
    name: &str,
) -> Result<PrivatePostgres, Failure> {
    let options = Options {
        follows: Some(primary.followed_as(name)),
        ..Options::new(directory.standby(name))
    };
    PrivatePostgres::start(options)
        .await
        .map_err(|error| Failure::internal(error.to_string()))
}
