//! Grants: asked for, judged, issued, checked, renewed, ended.

mod basis;
mod delete_agent;
mod expel_machine;
mod expiry;
mod list;
mod live;
mod record;
mod renew;
mod request;
mod revocations;
mod revoke;
mod revoke_matching;
mod store;
mod suspend;
mod validate;

use std::sync::Arc;

use authguardian_proto::{grant_token::GrantClaims, reason::Reason};
pub use expel_machine::Expelled;
pub use list::{Filter, StateFilter};
pub use live::{LiveGrant, live};
pub use record::{GrantRecord, GrantState};
pub use renew::Renewal;
pub use request::{Ask, Decision};
pub use revocations::{Predicate, Revocations, RevokedGrant};
pub use revoke::Revoked;
pub use revoke_matching::{RevokedMatching, end_all};
pub use suspend::Suspended;
pub use validate::Validation;

use crate::{
    clock::Ambient,
    db::{Db, batch::Batcher},
    error::{Error, Result},
    identity::Identity,
};

/// Longest scope, characters.
pub const MAX_SCOPE: usize = 500;

/// Longest justification, characters.
pub const MAX_JUSTIFICATION: usize = 2000;

/// The grant service.
#[derive(Debug, Clone)]
pub struct Grants {
    db: Db,
    ambient: Ambient,
    identity: Identity,
    requests: Batcher<request::Operation>,
    renewals: Batcher<renew::Operation>,
    revocations: Batcher<revoke::Operation>,
    validations: Batcher<validate::Operation>,
    revocation_lists: Batcher<revocations::Operation>,
}

impl Grants {
    /// Starts the service's batch workers.
    pub fn start(db: Db, ambient: Ambient, identity: Identity) -> Self {
        Self {
            requests: Batcher::spawn(request::Operation::new(db.clone(), ambient.clone())),
            renewals: Batcher::spawn(renew::Operation::new(db.clone(), ambient.clone())),
            revocations: Batcher::spawn(revoke::Operation::new(db.clone(), ambient.clone())),
            validations: Batcher::spawn(validate::Operation::new(db.clone(), ambient.clone())),
            revocation_lists: Batcher::spawn(revocations::Operation {
                db: db.clone(),
                ambient: ambient.clone(),
            }),
            db,
            ambient,
            identity,
        }
    }

    /// A record's token with the given times; the same times give the same token.
    fn sign(&self, record: &GrantRecord, issued: i64, expires: i64) -> Result<String> {
        let claims = record.claims(&self.identity.settings().trust_domain, issued, expires);
        let keyring = self.identity.keyring();
        keyring
            .grant_signer()
            .grants
            .sign(&claims)
            .map_err(Error::internal)
    }

    /// What a token of ours says, whatever its times.
    async fn read_token(&self, token: &str) -> Result<Arc<GrantClaims>> {
        let verified = self.identity.verify_grant(token).await?;
        verified.map(Arc::new).map_err(|reason| {
            let detail = match reason {
                Reason::TokenForeignKey => "this token was signed by a key that is not ours",
                _ => "this is no grant token of this control plane",
            };
            authguardian_proto::reason::Problem::new(reason, detail)
                .at("token")
                .into()
        })
    }
}
