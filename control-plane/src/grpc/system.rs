//! `StatusService`.

use std::fmt::Write as _;

use authguardian_proto::status_api::v1::{
    GetStatusRequest, GetStatusResponse, status_service_server::StatusService,
};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use super::{convert::timestamp, event::head, suspension::target_message};
use crate::{
    db::Db, events::Publisher, grants::Grants, identity::Identity, policy::Policies,
    registry::Agents,
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct System {
    /// The database and the write promise.
    pub db: Db,
    /// The trust domain and the CA.
    pub identity: Identity,
    /// The policy set in force.
    pub policies: Policies,
    /// Agents with a record.
    pub agents: Agents,
    /// Grants in force.
    pub grants: Grants,
    /// Heads of the change streams.
    pub publisher: std::sync::Arc<Publisher>,
    /// When this process was ready.
    pub started_at: OffsetDateTime,
}

#[tonic::async_trait]
impl StatusService for System {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let fingerprint = self.identity.keyring().ca().fingerprint();
        let heads = self.publisher.proved_ends().await?.heads;
        let suspensions = self.identity.list_suspensions().await?;
        Ok(Response::new(GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Some(timestamp(self.started_at)),
            trust_domain: self.identity.settings().trust_domain.clone(),
            ca_fingerprint: hexadecimal(&fingerprint),
            postgres_version: self.db.server_version().await?,
            write_quorum: self.db.quorum.write_quorum(),
            write_copies: self.db.quorum.copies(),
            leader_lease_milliseconds: self.db.quorum.lease().map(|lease| {
                let remaining = lease.remaining().unwrap_or_default();
                u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX)
            }),
            heads: heads.into_iter().map(head).collect(),
            machines: self.identity.count_machines().await?.unsigned_abs(),
            agents: self.agents.count().await?.unsigned_abs(),
            active_grants: self.grants.count_active().await?.unsigned_abs(),
            policy_version: self.policies.active_version().await?,
            suspensions: suspensions
                .into_iter()
                .map(|suspension| target_message(suspension.target))
                .collect(),
        }))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(digits, "{byte:02x}"); // a String takes whatever it is given
    }
    digits
}
