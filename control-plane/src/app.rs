//! All services of one control plane, put together.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    audit::{self, Refusals, seal::Sealer},
    backup::fence,
    blackboard::Blackboard,
    budgets::{self, Budgets},
    clock::Ambient,
    config::Config,
    db::{self, Db, MIGRATOR, Pools},
    error::{Error, Result},
    events::{self, Publisher},
    grants::Grants,
    grpc::connections::Connections,
    identity::{
        self, Identity,
        reseal::{Resealed, reseal},
        seal::{MasterKeyId, MasterKeys},
    },
    jobs::Jobs,
    policy::Policies,
    registry::{Agents, Registry, Timing},
};

/// Until a broken subscription is begun anew.
const AGAIN: Duration = Duration::from_millis(200);

/// The services, running.
#[derive(Debug)]
pub struct App {
    /// The database.
    pub db: Db,
    /// Time and randomness.
    pub ambient: Ambient,
    /// Who is who.
    pub identity: Identity,
    /// Rules and resource types.
    pub policies: Policies,
    /// Agents.
    pub agents: Agents,
    /// Which agents are there.
    pub registry: Registry,
    /// Grants.
    pub grants: Grants,
    /// Boards.
    pub blackboard: Blackboard,
    /// Budgets.
    pub budgets: Budgets,
    /// Change streams.
    pub publisher: Arc<Publisher>,
    /// Refused calls on their way to the log.
    pub refusals: Arc<Refusals>,
    /// Open connections of both gRPC listeners.
    pub connections: Arc<Connections>,
    /// When it was opened.
    pub started_at: OffsetDateTime,
    /// Ends background work and streams.
    pub stop: CancellationToken,
    tasks: TaskTracker,
}

/// Brings the schema up to date; several control planes may do so at the same
/// time. Returns how many migrations there are.
///
/// # Errors
/// When the database cannot be reached or a migration fails.
pub async fn migrate(url: &str) -> Result<usize> {
    let pools = Pools::connect(url, 1).await?;
    MIGRATOR
        .run(&pools.reads().await?)
        .await
        .map_err(Error::internal)?;
    pools.close().await;
    Ok(MIGRATOR.iter().count())
}

/// Seals our own keys under the first master key of the configuration's file.
///
/// # Errors
/// When the database cannot be reached or is not migrated, or a key is sealed
/// under a master key that the file does not have.
pub async fn rewrap_keys(config: &Config, ambient: &Ambient) -> Result<(MasterKeyId, Resealed)> {
    let master = MasterKeys::from_file(&config.identity.master_key_file)?;
    let db = open_database(config, ambient).await?;
    let resealed = reseal(&db, ambient, &master).await?;
    db.pools.close().await;
    Ok((master.first().clone(), resealed))
}

impl App {
    /// Opens everything on a migrated database and starts background work.
    ///
    /// # Errors
    /// When the database cannot be reached or is not migrated, or the master
    /// key does not open the stored keys.
    pub async fn open(config: &Config, ambient: Ambient) -> Result<Self> {
        let db = open_database(config, &ambient).await?;
        let installation =
            events::epoch::open(&db, &ambient, &config.identity.trust_domain).await?;
        fence_restores(&db, &ambient, &installation.trust_domain).await?;
        let settings = identity::Settings {
            trust_domain: installation.trust_domain.clone(),
            server_names: config.identity.server_names.clone(),
            certificate_ttl: time::Duration::seconds(i64::from(
                config.identity.certificate_ttl_seconds,
            )),
            key_publication: time::Duration::seconds(i64::from(
                config.identity.key_publication_seconds,
            )),
        };
        let master = MasterKeys::from_file(&config.identity.master_key_file)?;
        let identity = Identity::open(db.clone(), ambient.clone(), settings, master).await?;
        open_log(&db, &ambient, &installation).await?;
        let sealer = Sealer::new(db.clone(), ambient.clone(), Arc::new(identity.clone()));
        let policies = Policies::open(db.clone(), ambient.clone()).await?;
        let agents = Agents::new(db.clone(), ambient.clone());
        let timing = Timing::from(&config.registry);
        let registry = Registry::start(db.clone(), ambient.clone(), identity.clone(), timing);
        let grants = Grants::start(db.clone(), ambient.clone(), identity.clone());

        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let publisher = Publisher::start(db.clone(), &tasks, &stop);
        let blackboard = Blackboard::start(
            db.clone(),
            ambient.clone(),
            Arc::clone(&publisher),
            stop.clone(),
        );
        tasks.spawn(follow_identity(
            identity.clone(),
            ambient.clone(),
            Arc::clone(&publisher),
            stop.clone(),
        ));
        let settings = budgets::Settings::from(&config.budgets);
        let budgets = Budgets::start(db.clone(), ambient.clone(), settings);
        let refusals = Arc::new(Refusals::new(db.clone(), ambient.clone()));
        let jobs = Jobs {
            db: db.clone(),
            ambient: ambient.clone(),
            identity: identity.clone(),
            grants: grants.clone(),
            registry: registry.clone(),
            blackboard: blackboard.clone(),
            budgets: budgets.clone(),
            refusals: Arc::clone(&refusals),
            sealer: Arc::new(sealer),
        };
        jobs.start(&tasks, &stop);
        let started_at = ambient.clock.now();
        Ok(Self {
            db,
            ambient,
            identity,
            policies,
            agents,
            registry,
            grants,
            blackboard,
            budgets,
            publisher,
            refusals,
            connections: Arc::default(),
            started_at,
            stop,
            tasks,
        })
    }

    /// Ends background work and closes the connections.
    pub async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // the last second's, which the job has not written any more
        if let Err(error) = self.refusals.flush().await {
            tracing::warn!(%error, "the last refused calls are not in the audit log");
        }
        self.db.pools.close().await;
    }
}

/// Lets this process know the keys and machines of now, whoever has changed them.
async fn follow_identity(
    identity: Identity,
    ambient: Ambient,
    publisher: Arc<Publisher>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            // an end is no harm: all of it is also read at a slow beat
            Err(error) = identity.follow(&publisher) => {
                tracing::debug!(%error, "changes of keys and machines are not heard now");
            }
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN.mul_f64(ambient.entropy.jitter())) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// A migrated database, whose promise has been looked at; with the task that
/// keeps looking who leads, where that is configured.
async fn open_database(config: &Config, ambient: &Ambient) -> Result<Db> {
    let db = db::open(&config.database, Arc::clone(&ambient.clock)).await?;
    let mut connection = db.read().await?;
    db::refuse_old_schema(&mut connection).await?;
    db.quorum.observe(&mut connection).await?;
    drop(connection);
    Ok(db)
}

/// Lets nothing be served from a database that was restored before it is fenced:
/// neither from this server nor from one that becomes the primary.
async fn fence_restores(db: &Db, ambient: &Ambient, trust_domain: &str) -> Result<()> {
    fence::arrive(&mut *db.read().await?, ambient, trust_domain).await?;
    let (ambient, trust_domain) = (ambient.clone(), trust_domain.to_owned());
    db.pools.on_arrival(move |connection| {
        let (ambient, trust_domain) = (ambient.clone(), trust_domain.clone());
        Box::pin(async move { fence::arrive(connection, &ambient, &trust_domain).await })
    });
    Ok(())
}

/// Sees to it that there is a log to seal into.
async fn open_log(
    db: &Db,
    ambient: &Ambient,
    installation: &events::epoch::Installation,
) -> Result<()> {
    let mut tx = db.begin().await?;
    let (domain, epoch) = (&installation.trust_domain, installation.epoch);
    audit::log::open(&mut tx, ambient, domain, epoch).await?;
    db.commit(tx).await
}
