//! What concerns many grants at a time: predicates and expiry.

use authguardian_proto::ids::{AgentId, GrantId, MachineId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::unreadable;
use crate::{
    error::Result,
    events::{Position, RevocationTarget},
    grants::{Predicate, RevokedGrant},
};

/// Records a predicate and counts the active grants that it ends.
#[tracing::instrument(name = "db.grant_revocation.insert", skip_all)]
pub(in crate::grants) async fn revoke_matching(
    connection: &mut PgConnection,
    position: Position,
    target: &RevocationTarget,
    comment: &str,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> Result<i64> {
    let (kind, subject) = columns(target);
    // counted before the predicate is there: those that were ended already do not count
    let ended = count_matching(&mut *connection, target, now).await?;
    sqlx::query!(
        "INSERT INTO grant_revocation (epoch, revision, kind, subject, created_at, expires_at, comment)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        position.epoch,
        position.revision,
        kind,
        subject,
        now,
        expires_at,
        comment,
    )
    .execute(connection)
    .await?;
    Ok(ended)
}

/// How many active grants a predicate would end.
#[tracing::instrument(name = "db.grant.count_matching", skip_all)]
pub(in crate::grants) async fn count_matching(
    connection: &mut PgConnection,
    target: &RevocationTarget,
    now: OffsetDateTime,
) -> Result<i64> {
    let (kind, subject) = columns(target);
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM permission_grant AS g
           WHERE decision = 'granted' AND ended IS NULL AND expires_at > $3
             AND revoked_by_predicate(g) IS NULL AND grant_matches(g, $1, $2)"#,
        kind,
        subject,
        now,
    )
    .fetch_one(connection)
    .await?)
}

fn columns(target: &RevocationTarget) -> (&'static str, String) {
    match target {
        RevocationTarget::Agent(agent) => ("agent", agent.to_string()),
        RevocationTarget::Machine(machine) => ("machine", machine.as_uuid().to_string()),
        RevocationTarget::ResourceType(name) => ("resource_type", name.to_string()),
        RevocationTarget::Policy(id) => ("policy", id.clone()),
        RevocationTarget::Everything => ("everything", String::new()),
    }
}

/// Marks grants whose time is over, passing over those that others hold.
#[tracing::instrument(name = "db.grant.expire", skip_all)]
pub(in crate::grants) async fn expire(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Vec<(GrantId, AgentId)>> {
    let rows = sqlx::query!(
        "UPDATE permission_grant SET ended = 'expired' WHERE id IN (
             SELECT id FROM permission_grant
             WHERE decision = 'granted' AND ended IS NULL AND expires_at <= $1
             ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING id, agent_id",
        now,
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let agent = row
                .agent_id
                .parse()
                .map_err(|_| unreadable("permission_grant.agent_id"))?;
            Ok((GrantId::from_uuid(row.id), agent))
        })
        .collect()
}

/// Grants that were ended one by one and whose tokens could still be alive.
#[tracing::instrument(name = "db.grant.revoked", skip_all)]
pub(in crate::grants) async fn revoked(
    connection: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<Vec<RevokedGrant>> {
    let rows = sqlx::query!(
        r#"SELECT id, agent_id, expires_at AS "expires_at!" FROM permission_grant
           WHERE ended = 'revoked' AND expires_at > $1"#,
        now,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(RevokedGrant {
                grant_id: GrantId::from_uuid(row.id),
                agent_id: row
                    .agent_id
                    .parse()
                    .map_err(|_| unreadable("permission_grant.agent_id"))?,
                expires_at: row.expires_at,
            })
        })
        .collect()
}

/// Predicates that a grant could still match.
#[tracing::instrument(name = "db.grant_revocation.list", skip_all)]
pub(in crate::grants) async fn predicates(
    connection: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<Vec<Predicate>> {
    let rows = sqlx::query!(
        "SELECT epoch, revision, kind, subject, expires_at FROM grant_revocation
         WHERE expires_at > $1 ORDER BY epoch, revision",
        now,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Predicate {
                position: Position {
                    epoch: row.epoch,
                    revision: row.revision,
                },
                target: target(&row.kind, row.subject)
                    .ok_or_else(|| unreadable("grant_revocation.subject"))?,
                expires_at: row.expires_at,
            })
        })
        .collect()
}

fn target(kind: &str, subject: String) -> Option<RevocationTarget> {
    Some(match kind {
        "agent" => RevocationTarget::Agent(subject.parse().ok()?),
        "machine" => RevocationTarget::Machine(MachineId::from_uuid(subject.parse().ok()?)),
        "resource_type" => RevocationTarget::ResourceType(subject.parse().ok()?),
        "policy" => RevocationTarget::Policy(subject),
        "everything" => RevocationTarget::Everything,
        _ => return None,
    })
}

/// Drops predicates that match nothing that could still be good.
pub(in crate::grants) async fn drop_spent_predicates(
    connection: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!("DELETE FROM grant_revocation WHERE expires_at < $1", now)
        .execute(connection)
        .await?;
    Ok(())
}

pub(in crate::grants) async fn count_active(
    connection: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM permission_grant AS g
           WHERE decision = 'granted' AND ended IS NULL AND expires_at > $1 AND revoked_by_predicate(g) IS NULL"#,
        now,
    )
    .fetch_one(connection)
    .await?)
}
