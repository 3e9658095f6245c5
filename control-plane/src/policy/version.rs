//! Versions of the policy set: the highest is in force.

use std::sync::Arc;

use authguardian_proto::reason::{Problem, Reason};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    Policies, Suspensions,
    engine::{DEFAULT_POLICIES, Engine, PolicySet, PolicyText},
    store,
    validation::{self, Validation},
};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
    events::{self, ChangeBody, Stream},
};

/// One version of the policy set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyVersion {
    /// Number and text.
    pub text: PolicyText,
    /// Whether it is in force.
    pub active: bool,
    /// When it was put.
    pub created_at: OffsetDateTime,
    /// Who put it: `adm_…`, or `system` for the shipped one.
    pub created_by: String,
}

/// What decisions are made by.
#[derive(Debug)]
pub struct InForce {
    /// The policies.
    pub policies: Arc<PolicySet>,
    /// What is suspended.
    pub suspensions: Suspensions,
}

/// What is put, and what makes a repeat the same.
#[derive(Debug, Serialize)]
struct Put<'a> {
    source: &'a str,
    if_version: Option<u64>,
}

/// The outcome of a put. The source is not in it: a repeat brings its own.
#[derive(Debug, Serialize, Deserialize)]
struct WasPut {
    version: u64,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    created_by: String,
}

impl Policies {
    /// The version in force (`None`), or another one.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` (`version`) when there is no such version.
    pub async fn get(&self, version: Option<u64>) -> Result<PolicyVersion> {
        let mut connection = self.db.read().await?;
        store::policy_version(&mut connection, version)
            .await?
            .ok_or_else(|| no_version(version))
    }

    /// What [`Policies::put`] would say of a source.
    ///
    /// # Errors
    /// `INTERNAL` when validation itself fails.
    pub async fn validate(&self, source: String) -> Result<Validation> {
        // a mebibyte takes a second or so
        tokio::task::spawn_blocking(move || validation::validate(&source))
            .await
            .map_err(Error::internal)
    }

    /// Validates a source and puts it in force as the next version.
    /// `if_version` is the version that the caller saw in force; `None`:
    /// whatever is.
    ///
    /// # Errors
    /// `TOO_LARGE`; `INVALID_ARGUMENT` (`source`) with every finding;
    /// `REVISION_CONFLICT`; `REQUEST_ID_REUSED`.
    pub async fn put(
        &self,
        context: Context,
        source: String,
        if_version: Option<u64>,
    ) -> Result<PolicyVersion> {
        self.check_source(&source).await?;
        let now = self.ambient.clock.now();
        let key = context.request_key(
            &self.ambient,
            "policy.put",
            &Put {
                source: &source,
                if_version,
            },
        )?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(was_put) => return Ok(put_version(was_put, &source)),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        let active = store::lock_active_version(connection).await?;
        if if_version.is_some_and(|seen| i64::try_from(seen) != Ok(active)) {
            return Err(conflict(active));
        }
        let version = active + 1;
        let created_by = context.principal();
        store::insert_policy(connection, version, &source, now, &created_by).await?;
        store::activate(connection, version).await?;
        record(connection, now, context, version).await?;
        let was_put = WasPut {
            version: version.unsigned_abs(),
            created_at: now,
            created_by,
        };
        request.finish(&was_put).await?;
        Ok(put_version(was_put, &source))
    }

    /// Which version is in force.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn active_version(&self) -> Result<u64> {
        Ok(store::active_version(&mut *self.db.read().await?)
            .await?
            .unsigned_abs())
    }

    async fn check_source(&self, source: &str) -> Result<()> {
        if source.len() > validation::MAX_SOURCE_BYTES {
            let detail = format!("expected at most {} bytes", validation::MAX_SOURCE_BYTES);
            return Err(Problem::new(Reason::TooLarge, detail).at("source").into());
        }
        let found = self.validate(source.to_owned()).await?;
        if found.is_valid() {
            Ok(())
        } else {
            Err(Error::invalid("source", found.errors.join("; ")))
        }
    }
}

/// Policies and suspensions in force, share-locked until the transaction ends:
/// neither changes while a decision by them is being committed. The policies'
/// text is read and parsed only where `engine` has another version.
///
/// # Errors
/// When the database refuses.
pub async fn lock_active(connection: &mut PgConnection, engine: &Engine) -> Result<InForce> {
    let (version, suspensions) = store::in_force_for_share(&mut *connection).await?;
    let policies = match engine.version(version.unsigned_abs()) {
        Some(known) => known,
        None => engine.at(&store::policy_text(connection, version).await?)?,
    };
    Ok(InForce {
        policies,
        suspensions,
    })
}

/// Puts the shipped policies in force as version 1, where there are none yet;
/// returns whether it did. Two control planes may do so at the same time.
///
/// # Errors
/// When the database refuses.
pub async fn ensure_default(connection: &mut PgConnection, now: OffsetDateTime) -> Result<bool> {
    let first = store::insert_first_policy(connection, DEFAULT_POLICIES, now).await?;
    if first {
        store::activate_first(connection).await?;
        record(connection, now, Context::system(), 1).await?;
    }
    Ok(first)
}

async fn record(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    context: Context,
    version: i64,
) -> Result<()> {
    audit::append(
        connection,
        now,
        &[Entry::ok(context, "policy.put", version.to_string())],
    )
    .await?;
    events::append(
        connection,
        Stream::Policy,
        now,
        &[ChangeBody::PolicyChanged {
            policy_version: version,
        }],
    )
    .await?;
    Ok(())
}

fn put_version(was_put: WasPut, source: &str) -> PolicyVersion {
    PolicyVersion {
        text: PolicyText {
            version: was_put.version,
            source: source.into(),
        },
        active: true,
        created_at: was_put.created_at,
        created_by: was_put.created_by,
    }
}

fn conflict(active: i64) -> Error {
    let detail = format!("version {active} is in force; look at it, then put again");
    Problem::new(Reason::RevisionConflict, detail)
        .at("if_version")
        .into()
}

fn no_version(version: Option<u64>) -> Error {
    match version {
        Some(version) => Error::invalid("version", format!("there is no policy version {version}")),
        None => Error::internal("no policy is in force"),
    }
}
