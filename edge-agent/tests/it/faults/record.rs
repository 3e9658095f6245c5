//! What the database holds after a load.

use authguardian_proto::ids::GrantId;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// All that grants leave behind.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    pub(super) grants: Vec<Grant>,
    pub(super) outcomes: Vec<Outcome>,
    /// The stream `grants`, by revision.
    pub(super) changes: Vec<Change>,
    /// The head of that stream.
    pub(super) head: i64,
    pub(super) audit: Vec<Audit>,
}

/// A row of `permission_grant`.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) id: String,
    pub(super) granted: bool,
    pub(super) revision: i64,
    /// Where its revocation stands; `None`: not revoked.
    pub(super) revoked_revision: Option<i64>,
}

/// A row of `request_outcome`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Outcome {
    pub(super) method: String,
    pub(super) request_id: String,
    pub(super) grant_id: String,
}

/// A row of `change`.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Change {
    pub(super) revision: i64,
    pub(super) kind: String,
    pub(super) grant_id: String,
}

/// A row of `audit_trail` that tells of a grant.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Audit {
    pub(super) action: String,
    pub(super) grant_id: String,
    pub(super) outcome: String,
    pub(super) request_id: Option<String>,
    pub(super) count: i64,
}

impl Record {
    /// Reads it all.
    pub(super) async fn read(url: &str) -> sqlx::Result<Self> {
        let mut connection = PgConnection::connect(url).await?;
        let grants: Vec<(Uuid, String, i64, Option<i64>)> = sqlx::query_as(
            "SELECT id, decision, revision, revoked_revision FROM permission_grant ORDER BY id",
        )
        .fetch_all(&mut connection)
        .await?;
        let outcomes = sqlx::query_as(
            "SELECT method, request_id, outcome->>'grant_id' AS grant_id
             FROM request_outcome WHERE method LIKE 'grants.%'",
        )
        .fetch_all(&mut connection)
        .await?;
        let changes = sqlx::query_as(
            "SELECT revision, body->>'kind' AS kind, coalesce(body->>'grant_id', '') AS grant_id
             FROM change WHERE stream = 'grants' ORDER BY revision",
        )
        .fetch_all(&mut connection)
        .await?;
        let head = sqlx::query_scalar("SELECT revision FROM stream_head WHERE stream = 'grants'")
            .fetch_one(&mut connection)
            .await?;
        let audit = sqlx::query_as(
            "SELECT action, subject AS grant_id, outcome, request_id, count
             FROM audit_trail WHERE action IN ('grant.request', 'grant.revoke')",
        )
        .fetch_all(&mut connection)
        .await?;
        connection.close().await?;
        Ok(Self {
            grants: grants.into_iter().map(Grant::from).collect(),
            outcomes,
            changes,
            head,
            audit,
        })
    }
}

impl From<(Uuid, String, i64, Option<i64>)> for Grant {
    fn from((id, decision, revision, revoked_revision): (Uuid, String, i64, Option<i64>)) -> Self {
        Self {
            id: GrantId::from_uuid(id).to_string(),
            granted: decision == "granted",
            revision,
            revoked_revision,
        }
    }
}
