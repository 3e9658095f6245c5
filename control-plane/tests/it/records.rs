//! What no service shows, looked up in the database; and what failed calls told.

use std::time::Duration;

use authguardian_proto::{
    ids::{AdminTokenId, AgentId, RequestId},
    reason::Problem,
};
use control_plane::{
    audit::{
        Actor, Context, Record,
        search::{Filter, search},
    },
    error::Result,
    events::Stream,
};
use uuid::Uuid;

use crate::{rig::Rig, wait::DEADLINE};

impl Rig {
    /// How many changes a stream has seen.
    pub(crate) async fn revision(&self, stream: Stream) -> i64 {
        let head = "SELECT revision FROM stream_head WHERE stream = $1";
        sqlx::query_scalar(head)
            .bind(stream.as_str())
            .fetch_one(self.database.pool())
            .await
            .unwrap()
    }

    /// `action subject outcome` of the audit entries about policies, resource
    /// types, agents and grants, oldest first.
    pub(crate) async fn audited(&self) -> Vec<String> {
        let entries = "SELECT concat_ws(' ', action, subject, outcome) FROM audit_trail
                       WHERE action ~ '^(policy|resource_type|agent|grant)[.]' ORDER BY sequence";
        sqlx::query_scalar(entries)
            .fetch_all(self.database.pool())
            .await
            .unwrap()
    }

    /// The newest audit entries about these agents, as `grants://audit` shows them.
    pub(crate) async fn about_agents(&self, agents: &[AgentId]) -> Vec<Record> {
        let filter = Filter {
            agent_ids: Some(agents.to_vec()),
            ..Filter::default()
        };
        search(&self.app.db, &filter, None, 10).await.unwrap()
    }

    /// Waits until some connection to this database waits for a lock.
    pub(crate) async fn until_somebody_waits_for_a_lock(&self) {
        let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock')";
        let waited = tokio::time::timeout(DEADLINE, async {
            while !sqlx::query_scalar::<_, bool>(waiting)
                .fetch_one(self.database.pool())
                .await
                .unwrap()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.expect("nobody waits for a lock");
    }
}

/// An admin's call with this request id; empty: none.
pub(crate) fn request(id: &str) -> Context {
    let request_id = (!id.is_empty()).then(|| id.parse::<RequestId>().unwrap());
    Context {
        actor: Actor::Admin(AdminTokenId::from_uuid(Uuid::from_u128(1))),
        request_id,
        ..Context::system()
    }
}

/// What a failed call told.
pub(crate) fn problem<T: std::fmt::Debug>(result: Result<T>) -> Problem {
    result.unwrap_err().problem().clone()
}

/// The reason and the field that a failed call told.
pub(crate) fn fault<T: std::fmt::Debug>(result: Result<T>) -> (String, String) {
    let problem = problem(result);
    (
        problem.reason.to_string(),
        problem.field.unwrap_or_default(),
    )
}
