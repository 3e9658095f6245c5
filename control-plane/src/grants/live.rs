//! Grants that are good now, for rooms that let nobody in without one.

use authguardian_proto::ids::{AgentId, GrantId, ResourceTypeName};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::store;
use crate::error::Result;

/// A grant that is good now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveGrant {
    /// Which.
    pub id: GrantId,
    /// Whose.
    pub agent_id: AgentId,
    /// For what.
    pub resource_type: ResourceTypeName,
    /// As it was asked for.
    pub scope: Option<String>,
}

/// The live grants of these agents on these resource types, as the connection
/// sees them, the longest-lived first.
///
/// # Errors
/// When the database refuses.
pub async fn live(
    connection: &mut PgConnection,
    agents: &[AgentId],
    resource_types: &[ResourceTypeName],
    now: OffsetDateTime,
) -> Result<Vec<LiveGrant>> {
    store::live(connection, agents, resource_types, now).await
}
