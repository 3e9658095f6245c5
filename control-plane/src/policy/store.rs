//! All SQL of policy.

use authguardian_proto::ids::ResourceTypeName;
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{Suspensions, engine::PolicyText, resource_type::ResourceType, version::PolicyVersion};
use crate::{
    error::{Error, Result},
    events::SuspensionTarget,
};

// --- resource types

struct ResourceTypeRow {
    name: String,
    base_risk: i32,
    restrictions: Vec<String>,
    default_ttl_seconds: i32,
    max_ttl_seconds: i32,
    description: String,
}

impl TryFrom<ResourceTypeRow> for ResourceType {
    type Error = Error;

    fn try_from(row: ResourceTypeRow) -> Result<Self> {
        Ok(Self {
            name: row.name.parse().map_err(Error::internal)?,
            // constraints of the table keep these positive
            base_risk: row.base_risk.unsigned_abs(),
            restrictions: row.restrictions,
            default_ttl_seconds: row.default_ttl_seconds.unsigned_abs(),
            max_ttl_seconds: row.max_ttl_seconds.unsigned_abs(),
            description: row.description,
        })
    }
}

pub(super) async fn put_resource_type(
    connection: &mut PgConnection,
    new: &ResourceType,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO resource_type (name, base_risk, restrictions, default_ttl_seconds, max_ttl_seconds, description, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (name) DO UPDATE SET
             base_risk = excluded.base_risk, restrictions = excluded.restrictions,
             default_ttl_seconds = excluded.default_ttl_seconds, max_ttl_seconds = excluded.max_ttl_seconds,
             description = excluded.description, updated_at = excluded.updated_at",
        new.name.as_str(),
        int(new.base_risk)?,
        &new.restrictions,
        int(new.default_ttl_seconds)?,
        int(new.max_ttl_seconds)?,
        new.description,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn resource_type(
    connection: &mut PgConnection,
    name: &ResourceTypeName,
) -> Result<Option<ResourceType>> {
    sqlx::query_as!(
        ResourceTypeRow,
        "SELECT name, base_risk, restrictions, default_ttl_seconds, max_ttl_seconds, description
         FROM resource_type WHERE name = $1",
        name.as_str(),
    )
    .fetch_optional(connection)
    .await?
    .map(ResourceType::try_from)
    .transpose()
}

pub(super) async fn list_resource_types(
    connection: &mut PgConnection,
    after: Option<&ResourceTypeName>,
    limit: i64,
) -> Result<Vec<ResourceType>> {
    sqlx::query_as!(
        ResourceTypeRow,
        "SELECT name, base_risk, restrictions, default_ttl_seconds, max_ttl_seconds, description
         FROM resource_type WHERE name > $1 ORDER BY name LIMIT $2",
        after.map_or("", ResourceTypeName::as_str),
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(ResourceType::try_from)
    .collect()
}

pub(super) async fn resource_types_for_share(
    connection: &mut PgConnection,
    names: &[ResourceTypeName],
) -> Result<Vec<ResourceType>> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    sqlx::query_as!(
        ResourceTypeRow,
        "SELECT name, base_risk, restrictions, default_ttl_seconds, max_ttl_seconds, description
         FROM resource_type WHERE name = ANY ($1) ORDER BY name FOR SHARE",
        &names,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(ResourceType::try_from)
    .collect()
}

// --- versions of the policy set

struct PolicyRow {
    version: i64,
    source: String,
    active: bool,
    created_at: OffsetDateTime,
    created_by: String,
}

impl From<PolicyRow> for PolicyVersion {
    fn from(row: PolicyRow) -> Self {
        Self {
            text: PolicyText {
                version: row.version.unsigned_abs(),
                source: row.source.into(),
            },
            active: row.active,
            created_at: row.created_at,
            created_by: row.created_by,
        }
    }
}

/// `None`: the one in force.
pub(super) async fn policy_version(
    connection: &mut PgConnection,
    version: Option<u64>,
) -> Result<Option<PolicyVersion>> {
    let Ok(version) = version.map(i64::try_from).transpose() else {
        return Ok(None);
    };
    let row = sqlx::query_as!(
        PolicyRow,
        r#"SELECT p.version, p.source, p.version = a.version AS "active!", p.created_at, p.created_by
           FROM policy_set p CROSS JOIN active_policy a
           WHERE p.version = coalesce($1, a.version)"#,
        version,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(PolicyVersion::from))
}

pub(super) async fn active_version(connection: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar!("SELECT version FROM active_policy")
        .fetch_one(connection)
        .await?)
}

/// Which policies are in force, and what is suspended. Both rows are locked,
/// so that each is read as its last writer left it, waited for or not.
///
/// The policies' text is another statement's affair: one that joins would wait
/// for a writer, and then find the new version's number, but not its row, which
/// it did not see at first.
pub(super) async fn in_force_for_share(
    connection: &mut PgConnection,
) -> Result<(i64, Suspensions)> {
    let row = sqlx::query!(
        r#"SELECT version, targets AS "targets: Json<Vec<SuspensionTarget>>"
           FROM active_policy CROSS JOIN active_suspensions FOR SHARE"#
    )
    .fetch_one(connection)
    .await?;
    Ok((row.version, row.targets.0.into_iter().collect()))
}

/// What is suspended, as the connection sees it.
pub(super) async fn suspensions(connection: &mut PgConnection) -> Result<Suspensions> {
    let targets = sqlx::query_scalar!(
        r#"SELECT targets AS "targets: Json<Vec<SuspensionTarget>>" FROM active_suspensions"#
    )
    .fetch_one(connection)
    .await?;
    Ok(targets.0.into_iter().collect())
}

pub(super) async fn lock_suspensions(connection: &mut PgConnection) -> Result<()> {
    sqlx::query!("LOCK TABLE active_suspensions IN EXCLUSIVE MODE")
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn set_suspensions(
    connection: &mut PgConnection,
    targets: &[SuspensionTarget],
) -> Result<()> {
    sqlx::query!(
        "UPDATE active_suspensions SET targets = $1",
        Json(targets) as _
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn policy_text(connection: &mut PgConnection, version: i64) -> Result<PolicyText> {
    let source = sqlx::query_scalar!("SELECT source FROM policy_set WHERE version = $1", version)
        .fetch_one(connection)
        .await?;
    Ok(PolicyText {
        version: version.unsigned_abs(),
        source: source.into(),
    })
}

pub(super) async fn lock_active_version(connection: &mut PgConnection) -> Result<i64> {
    Ok(
        sqlx::query_scalar!("SELECT version FROM active_policy FOR UPDATE")
            .fetch_one(connection)
            .await?,
    )
}

pub(super) async fn insert_policy(
    connection: &mut PgConnection,
    version: i64,
    source: &str,
    now: OffsetDateTime,
    created_by: &str,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO policy_set (version, source, created_at, created_by) VALUES ($1, $2, $3, $4)",
        version,
        source,
        now,
        created_by,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn activate(connection: &mut PgConnection, version: i64) -> Result<()> {
    sqlx::query!("UPDATE active_policy SET version = $1", version)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether there was none yet.
pub(super) async fn insert_first_policy(
    connection: &mut PgConnection,
    source: &str,
    now: OffsetDateTime,
) -> Result<bool> {
    let inserted = sqlx::query!(
        "INSERT INTO policy_set (version, source, created_at, created_by) VALUES (1, $1, $2, 'system')
         ON CONFLICT DO NOTHING",
        source,
        now,
    )
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

pub(super) async fn activate_first(connection: &mut PgConnection) -> Result<()> {
    sqlx::query!("INSERT INTO active_policy (version) VALUES (1)")
        .execute(connection)
        .await?;
    Ok(())
}

fn int(figure: u32) -> Result<i32> {
    i32::try_from(figure).map_err(Error::internal)
}
