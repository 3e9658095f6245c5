//! Who may call what: one table for every RPC of both listeners, enforced by
//! one layer before any service sees a request. What is not in the table is
//! refused.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use authguardian_proto::{
    credential,
    ids::{AdminTokenId, MachineId, RequestId},
    reason::Reason,
};
use futures::future::BoxFuture;
use http::{Request as HttpRequest, Response as HttpResponse};
use tonic::{Request, Status, body::Body};
use tower::{Layer, Service};
use zeroize::Zeroizing;

use super::{convert, peer::Peer};
use crate::{
    audit::{Actor, Context},
    error::{Error, Result},
    identity::{Identity, Role, Session},
};

/// What a caller has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Edge listener: nothing; the request itself carries its credential.
    Open,
    /// Edge listener: a client certificate of an enrolled machine.
    Machine,
    /// Edge listener: the certificate, and a session made at that machine.
    Session,
    /// Admin listener: an admin token of this role at least.
    Role(Role),
}

/// Every RPC. Paths are `/<package>.<service>/<method>`.
pub const TABLE: &[(&str, Access)] = &[
    (
        "/authguardian.identity.v1.EnrolmentService/Join",
        Access::Open,
    ),
    (
        "/authguardian.identity.v1.EnrolmentService/RenewCertificate",
        Access::Machine,
    ),
    (
        "/authguardian.identity.v1.SessionService/CreateChallenge",
        Access::Machine,
    ),
    (
        "/authguardian.identity.v1.SessionService/CreateSession",
        Access::Machine,
    ),
    (
        "/authguardian.identity.v1.KeyService/GetJwks",
        Access::Machine,
    ),
    (
        "/authguardian.events.v1.EventService/Watch",
        Access::Machine,
    ),
    (
        "/authguardian.events.v1.EventService/GetHeads",
        Access::Machine,
    ),
    (
        "/authguardian.grants.v1.GrantService/RequestPermission",
        Access::Session,
    ),
    (
        "/authguardian.grants.v1.GrantService/GetPermission",
        Access::Session,
    ),
    (
        "/authguardian.grants.v1.GrantService/RenewPermission",
        Access::Session,
    ),
    (
        "/authguardian.grants.v1.GrantService/ValidateToken",
        Access::Session,
    ),
    (
        "/authguardian.grants.v1.GrantService/RevokeToken",
        Access::Session,
    ),
    (
        "/authguardian.grants.v1.GrantService/ListActiveGrants",
        Access::Session,
    ),
    (
        "/authguardian.audit.v1.AuditService/ListOwnEntries",
        Access::Session,
    ),
    (
        "/authguardian.status.v1.StatusService/GetStatus",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.JoinTokenService/CreateJoinToken",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.identity.v1.JoinTokenService/ListJoinTokens",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.MachineService/ListMachines",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.MachineService/GetMachine",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.ApiKeyService/CreateApiKey",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.identity.v1.ApiKeyService/ListApiKeys",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.identity.v1.ApiKeyService/RevokeApiKey",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.identity.v1.AdminTokenService/CreateAdminToken",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.identity.v1.AdminTokenService/ListAdminTokens",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.identity.v1.AdminTokenService/RevokeAdminToken",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.registry.v1.AgentService/PutAgent",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.registry.v1.AgentService/GetAgent",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.registry.v1.AgentService/ListAgents",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.registry.v1.AgentService/DeleteAgent",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.policy.v1.ResourceTypeService/PutResourceType",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.policy.v1.ResourceTypeService/GetResourceType",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.policy.v1.ResourceTypeService/ListResourceTypes",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.policy.v1.PolicyService/GetPolicy",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.policy.v1.PolicyService/PutPolicy",
        Access::Role(Role::Admin),
    ),
    (
        "/authguardian.policy.v1.PolicyService/ValidatePolicy",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.grants.v1.GrantAdminService/ListGrants",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.grants.v1.GrantAdminService/GetGrant",
        Access::Role(Role::Viewer),
    ),
    (
        "/authguardian.grants.v1.GrantAdminService/RevokeGrants",
        Access::Role(Role::Operator),
    ),
    (
        "/authguardian.audit.v1.AuditAdminService/TailEntries",
        Access::Role(Role::Viewer),
    ),
];

/// Services of the gRPC ecosystem that tell nothing of ours: health checks need
/// no credential (load balancers have none), reflection needs the smallest role.
const STANDARD: &[(&str, Access)] = &[
    ("/grpc.health.v1.Health/", Access::Open),
    (
        "/grpc.reflection.v1.ServerReflection/",
        Access::Role(Role::Viewer),
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/",
        Access::Role(Role::Viewer),
    ),
];

/// Who calls, as the layer found out.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Nobody known, where that is allowed.
    Anonymous,
    /// A machine on its own behalf.
    Machine(MachineId),
    /// An agent's session at its machine.
    Session(Arc<Session>),
    /// An admin.
    Admin(AdminTokenId, Role),
}

/// What the table demands of a path.
fn access(path: &str) -> Option<Access> {
    let named = TABLE.iter().find(|(known, _)| *known == path);
    named
        .or_else(|| STANDARD.iter().find(|(prefix, _)| path.starts_with(prefix)))
        .map(|(_, access)| *access)
}

/// What a request shows of its caller; the request itself cannot be held
/// across an await.
struct Shown {
    path: String,
    machine: Option<MachineId>,
    token: Option<Zeroizing<String>>,
}

impl Shown {
    fn by(request: &HttpRequest<Body>) -> Self {
        Self {
            path: request.uri().path().to_owned(),
            machine: request
                .extensions()
                .get::<Peer>()
                .and_then(|peer| peer.machine),
            token: bearer(request).map(|token| Zeroizing::new(token.to_owned())),
        }
    }

    fn machine(&self) -> Result<MachineId> {
        self.machine.ok_or_else(|| {
            Error::new(
                Reason::Unauthenticated,
                "a client certificate of an enrolled machine is needed",
            )
        })
    }
}

async fn authenticate(identity: &Identity, shown: Shown) -> Result<Caller> {
    let access = access(&shown.path)
        .ok_or_else(|| Error::new(Reason::PermissionDenied, "there is no such method here"))?;
    match access {
        Access::Open => Ok(Caller::Anonymous),
        Access::Machine => shown.machine().map(Caller::Machine),
        Access::Session => {
            let machine = shown.machine()?;
            let token = shown
                .token
                .ok_or_else(|| Error::new(Reason::Unauthenticated, "a session is needed"))?;
            identity.authenticate(&token, machine).map(Caller::Session)
        }
        Access::Role(needed) => {
            let token: credential::AdminToken = shown
                .token
                .and_then(|token| token.parse().ok())
                .ok_or_else(|| Error::new(Reason::Unauthenticated, "an admin token is needed"))?;
            let (id, role) = identity.authenticate_admin(&token).await?;
            if role < needed {
                return Err(Error::new(
                    Reason::PermissionDenied,
                    format!(
                        "this needs the role `{}`; yours is `{}`",
                        needed.as_str(),
                        role.as_str()
                    ),
                ));
            }
            Ok(Caller::Admin(id, role))
        }
    }
}

fn bearer<B>(request: &HttpRequest<B>) -> Option<&str> {
    let value = request
        .headers()
        .get(http::header::AUTHORIZATION)?
        .to_str()
        .ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// The layer that enforces the table.
#[derive(Debug, Clone)]
pub struct AuthLayer {
    identity: Identity,
}

impl AuthLayer {
    /// Authenticates with this identity service.
    pub fn new(identity: Identity) -> Self {
        Self { identity }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService {
            identity: self.identity.clone(),
            inner,
        }
    }
}

/// See [`AuthLayer`].
#[derive(Debug, Clone)]
pub struct AuthService<S> {
    identity: Identity,
    inner: S,
}

impl<S> Service<HttpRequest<Body>> for AuthService<S>
where
    S: Service<HttpRequest<Body>, Response = HttpResponse<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = HttpResponse<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: HttpRequest<Body>) -> Self::Future {
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let identity = self.identity.clone();
        let shown = Shown::by(&request);
        Box::pin(async move {
            match authenticate(&identity, shown).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    inner.call(request).await
                }
                Err(error) => Ok(Status::from(error).into_http()),
            }
        })
    }
}

/// The machine that calls.
///
/// # Errors
/// When the table let somebody else through: a fault of ours.
pub fn machine<T>(request: &Request<T>) -> Result<MachineId> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Machine(machine)) => Ok(*machine),
        Some(Caller::Session(session)) => Ok(session.machine),
        _ => Err(Error::internal("a call without a machine was let through")),
    }
}

/// The session that calls.
///
/// # Errors
/// When the table let somebody else through: a fault of ours.
pub fn session<T>(request: &Request<T>) -> Result<Arc<Session>> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Session(session)) => Ok(Arc::clone(session)),
        _ => Err(Error::internal("a call without a session was let through")),
    }
}

/// The role of the admin that calls.
///
/// # Errors
/// When the table let somebody else through: a fault of ours.
pub fn role<T>(request: &Request<T>) -> Result<Role> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Admin(_, role)) => Ok(*role),
        _ => Err(Error::internal("a call without an admin was let through")),
    }
}

/// Who calls from where, for the audit log; `request_id` as in the message,
/// empty when there is none.
///
/// # Errors
/// `INVALID_ARGUMENT` (`request_id`).
pub fn context<T>(request: &Request<T>, request_id: &str) -> Result<Context> {
    let request_id: Option<RequestId> = convert::parse_optional("request_id", request_id)?;
    let peer = request.extensions().get::<Peer>();
    let (actor, machine_id, zone) = match request.extensions().get::<Caller>() {
        Some(Caller::Machine(machine)) => (Actor::Machine(*machine), Some(*machine), None),
        Some(Caller::Session(session)) => (
            Actor::Agent(None, session.api_key_id),
            Some(session.machine),
            Some(session.zone),
        ),
        Some(Caller::Admin(id, _)) => (Actor::Admin(*id), None, None),
        Some(Caller::Anonymous) | None => (Actor::Anonymous, None, None),
    };
    Ok(Context {
        actor,
        machine_id,
        peer: peer.map(|peer| peer.address),
        zone,
        request_id,
        trace_id: trace_id(request),
    })
}

/// The trace id of a `traceparent` (W3C Trace Context §3.2).
fn trace_id<T>(request: &Request<T>) -> Option<String> {
    let value = request.metadata().get("traceparent")?.to_str().ok()?;
    let id = value.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_ascii_lowercase())
}
