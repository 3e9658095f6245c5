//! The control plane, as this edge uses it: sessions for presented keys,
//! forwarded calls, and the stream of changes.

use std::sync::Arc;

use authguardian_proto::{
    audit::v1::{
        ListOwnEntriesRequest, ListOwnEntriesResponse, audit_service_client::AuditServiceClient,
    },
    grants::v1::{
        GetPermissionRequest, GetPermissionResponse, ListActiveGrantsRequest,
        ListActiveGrantsResponse, RenewPermissionRequest, RenewPermissionResponse,
        RequestPermissionRequest, RequestPermissionResponse, RevokeTokenRequest,
        RevokeTokenResponse, ValidateTokenRequest, ValidateTokenResponse,
        grant_service_client::GrantServiceClient,
    },
    reason::Problem,
};
use tonic::transport::Channel;

use crate::clock::Ambient;

mod call;
mod change;
mod exchange;
mod feed;
mod login;
mod session;

pub use change::{Change, Subject};
pub use feed::Feed;
pub use login::Login;
pub use session::{Session, Sessions};

use call::Effect;

/// The control plane through one channel.
#[derive(Clone)]
pub struct Upstream {
    channel: Channel,
    ambient: Ambient,
    sessions: Arc<Sessions>,
    feed: Feed,
}

macro_rules! forwarded {
    ($($(#[$doc:meta])* $name:ident: $client:ident, $effect:ident, $request:ty => $response:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// As the RPC; `UNAVAILABLE` when nothing was done, `OUTCOME_UNKNOWN`
        /// when a change may have been made.
        pub async fn $name(&self, login: &Login, request: $request) -> Result<$response, Problem> {
            self.forward(login, Effect::$effect, request, |channel, request| async move {
                $client::new(channel).$name(request).await
            })
            .await
        }
    )*};
}

impl Upstream {
    /// Puts it together; the feed runs on its own.
    pub fn new(channel: Channel, ambient: Ambient, feed: Feed) -> Self {
        let sessions = Arc::new(Sessions::new(
            channel.clone(),
            ambient.clone(),
            feed.clone(),
        ));
        Self {
            channel,
            ambient,
            sessions,
            feed,
        }
    }

    /// The change streams.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The sessions of presented keys.
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    forwarded! {
        /// Asks for a grant.
        request_permission: GrantServiceClient, Change, RequestPermissionRequest => RequestPermissionResponse;
        /// Reads an earlier decision.
        get_permission: GrantServiceClient, Read, GetPermissionRequest => GetPermissionResponse;
        /// Extends a grant.
        renew_permission: GrantServiceClient, Change, RenewPermissionRequest => RenewPermissionResponse;
        /// Checks a token.
        validate_token: GrantServiceClient, Read, ValidateTokenRequest => ValidateTokenResponse;
        /// Ends a grant.
        revoke_token: GrantServiceClient, Change, RevokeTokenRequest => RevokeTokenResponse;
        /// Lists one page of active grants.
        list_active_grants: GrantServiceClient, Read, ListActiveGrantsRequest => ListActiveGrantsResponse;
        /// Lists one page of audit entries.
        list_own_entries: AuditServiceClient, Read, ListOwnEntriesRequest => ListOwnEntriesResponse;
    }
}
