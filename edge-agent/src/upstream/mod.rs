//! The control plane, as this edge uses it: sessions for presented keys,
//! forwarded calls, and the stream of changes.

use std::{sync::Arc, time::Duration};

use crate::{clock::Ambient, dial::Channel};
use authguardian_proto::{
    audit::v1::{
        ListOwnEntriesRequest, ListOwnEntriesResponse, audit_service_client::AuditServiceClient,
    },
    budgets::v1::{
        GetBudgetRequest, GetBudgetResponse, budget_service_client::BudgetServiceClient,
    },
    grant_token::KeySet,
    grants::v1::{
        GetPermissionRequest, GetPermissionResponse, ListActiveGrantsRequest,
        ListActiveGrantsResponse, ListResourceTypesRequest, ListResourceTypesResponse,
        RenewPermissionRequest, RenewPermissionResponse, RequestPermissionRequest,
        RequestPermissionResponse, RevokeTokenRequest, RevokeTokenResponse, ValidateTokenRequest,
        ValidateTokenResponse, grant_service_client::GrantServiceClient,
    },
    identity::v1::{
        EndSessionRequest, EndSessionResponse, GetJwksRequest, RenewSessionRequest,
        RenewSessionResponse, key_service_client::KeyServiceClient,
        session_service_client::SessionServiceClient,
    },
    reason::{Problem, Reason},
    registry::v1::{
        DeregisterAgentRequest, DeregisterAgentResponse, DiscoverAgentsRequest,
        DiscoverAgentsResponse, RegisterAgentRequest, RegisterAgentResponse,
        registry_service_client::RegistryServiceClient,
    },
    status::from_status,
};

mod boards;
mod call;
mod change;
mod credential;
mod events;
mod exchange;
mod feed;
mod held;
mod in_time;
mod login;
mod rates;
mod registry;
mod replica;
mod report;
mod session;
mod slices;
mod standing;
mod witness;

pub use boards::{BoardFollow, BoardNews};
pub use change::{AgentNews, BudgetNews, Change, Target};
pub use credential::Credential;
pub use events::{Event, EventId, EventLog, EventName, Heard, ParseEventIdError, Subject};
pub use exchange::SignedNonce;
pub use feed::{Feed, Follower, Guard};
pub use held::Held;
pub use login::Login;
pub use registry::Timing;
pub use replica::ReplicaFollow;
pub use session::{Session, Sessions};
pub use standing::Standing;

use call::Effect;
use held::Holds;

/// For reading the public keys.
const KEYS_TIMEOUT: Duration = Duration::from_secs(2);

/// The control plane through one channel.
#[derive(Clone)]
pub struct Upstream {
    channel: Channel,
    ambient: Ambient,
    sessions: Arc<Sessions>,
    feed: Feed,
    holds: Arc<Holds>,
}

macro_rules! forwarded {
    ($($(#[$doc:meta])* $name:ident: $client:ident.$rpc:ident, $effect:ident, $request:ty => $response:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// As the RPC; `UNAVAILABLE` when nothing was done, `OUTCOME_UNKNOWN`
        /// when a change may have been made.
        pub async fn $name(&self, login: &Login, request: $request) -> Result<$response, Problem> {
            self.forward(login, Effect::$effect, request, |channel, request| async move {
                $client::new(channel).$rpc(request).await
            })
            .await
        }
    )*};
}

impl Upstream {
    /// Puts it together; the feed runs on its own.
    pub fn new(channel: Channel, ambient: Ambient, sessions: Arc<Sessions>, feed: Feed) -> Self {
        Self {
            holds: Arc::default(),
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

    /// The public keys of grant tokens, as they are now.
    ///
    /// # Errors
    /// `UNAVAILABLE`, and `INTERNAL` when they cannot be read.
    pub async fn grant_keys(&self) -> Result<KeySet, Problem> {
        let mut request = tonic::Request::new(GetJwksRequest {});
        request.set_timeout(KEYS_TIMEOUT);
        let jwks = KeyServiceClient::new(self.channel.clone())
            .get_jwks(request)
            .await
            .map_err(|status| from_status(&status))?
            .into_inner();
        KeySet::from_jwks(&jwks.jwks_json)
            .ok_or_else(|| Problem::new(Reason::Internal, "the public keys cannot be read"))
    }

    forwarded! {
        /// Asks for a grant.
        request_permission: GrantServiceClient.request_permission, Change, RequestPermissionRequest => RequestPermissionResponse;
        /// Reads an earlier decision.
        get_permission: GrantServiceClient.get_permission, Read, GetPermissionRequest => GetPermissionResponse;
        /// Extends a grant.
        renew_permission: GrantServiceClient.renew_permission, Change, RenewPermissionRequest => RenewPermissionResponse;
        /// Checks a token.
        validate_token: GrantServiceClient.validate_token, Read, ValidateTokenRequest => ValidateTokenResponse;
        /// Checks a token, once and within two seconds.
        validate_token_soon: GrantServiceClient.validate_token, Glance, ValidateTokenRequest => ValidateTokenResponse;
        /// Ends a grant.
        revoke_token: GrantServiceClient.revoke_token, Change, RevokeTokenRequest => RevokeTokenResponse;
        /// Lists one page of active grants.
        list_active_grants: GrantServiceClient.list_active_grants, Read, ListActiveGrantsRequest => ListActiveGrantsResponse;
        /// Lists one page of resource types.
        list_resource_types: GrantServiceClient.list_resource_types, Read, ListResourceTypesRequest => ListResourceTypesResponse;
        /// Registers an agent.
        register_agent: RegistryServiceClient.register_agent, Change, RegisterAgentRequest => RegisterAgentResponse;
        /// Takes a registration back.
        deregister_agent: RegistryServiceClient.deregister_agent, Change, DeregisterAgentRequest => DeregisterAgentResponse;
        /// Lists one page of registered agents, once and within two seconds.
        discover_agents_soon: RegistryServiceClient.discover_agents, Glance, DiscoverAgentsRequest => DiscoverAgentsResponse;
        /// Reads a budget, once and within two seconds.
        get_budget_soon: BudgetServiceClient.get_budget, Glance, GetBudgetRequest => GetBudgetResponse;
        /// Makes another token of the caller's session.
        renew_session: SessionServiceClient.renew_session, Change, RenewSessionRequest => RenewSessionResponse;
        /// Ends the caller's session.
        end_session: SessionServiceClient.end_session, Change, EndSessionRequest => EndSessionResponse;
        /// Lists one page of audit entries.
        list_own_entries: AuditServiceClient.list_own_entries, Read, ListOwnEntriesRequest => ListOwnEntriesResponse;
    }
}
