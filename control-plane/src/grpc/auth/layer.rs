//! The layer that enforces the table before any service sees a request.

use std::{
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use authguardian_proto::{
    credential,
    ids::{AdminTokenId, MachineId},
    reason::Reason,
};
use futures::future::BoxFuture;
use http::{Request as HttpRequest, Response as HttpResponse};
use http_body_util::Limited;
use time::OffsetDateTime;
use tonic::{Status, body::Body, transport::server::UdsConnectInfo};
use tower::{Layer, Service};
use zeroize::Zeroizing;

use super::{
    Caller,
    lasting::{while_certified, while_good},
    table::{self, Access},
};
use crate::{
    error::{Error, Result},
    grpc::{peer::Peer, record::Recorder},
    identity::{Identity, Role},
};

/// How long a caller without a credential may take to send its request.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);

/// What a request shows of its caller; the request itself cannot be held
/// across an await.
struct Shown {
    peer: Option<Peer>,
    token: Option<Zeroizing<String>>,
    /// At the admin socket: who is at its other end.
    uid: Option<u32>,
}

impl Shown {
    fn by(request: &HttpRequest<Body>) -> Self {
        let socket = request.extensions().get::<UdsConnectInfo>();
        Self {
            peer: request.extensions().get::<Peer>().copied(),
            token: bearer(request).map(|token| Zeroizing::new(token.to_owned())),
            uid: socket.and_then(|socket| Some(socket.peer_cred?.uid())),
        }
    }

    /// The machine whose certificate counts now: a connection outlives it.
    fn machine(&self, now: OffsetDateTime) -> Result<MachineId> {
        let (peer, machine) = self.enrolled()?;
        if peer.expired(now) {
            return Err(ended_certificate());
        }
        Ok(machine)
    }

    /// The machine whose certificate may be renewed.
    fn renewing_machine(&self, now: OffsetDateTime) -> Result<MachineId> {
        let (peer, machine) = self.enrolled()?;
        if !peer.renewable(now) {
            return Err(Error::new(
                Reason::Unauthenticated,
                "this machine's certificate has ended too long ago; let it join again",
            ));
        }
        Ok(machine)
    }

    fn enrolled(&self) -> Result<(Peer, MachineId)> {
        let machine = self.peer.and_then(|peer| Some((peer, peer.machine?)));
        machine.ok_or_else(|| {
            Error::new(
                Reason::Unauthenticated,
                "a client certificate of an enrolled machine is needed",
            )
        })
    }
}

async fn authenticate(identity: &Identity, access: Option<Access>, shown: Shown) -> Result<Caller> {
    let access = access
        .ok_or_else(|| Error::new(Reason::PermissionDenied, "there is no such method here"))?;
    // whatever the call is: of a machine whose calls do not count, none does
    if let Some(machine) = shown.peer.and_then(|peer| peer.machine) {
        identity.check_machine(machine)?;
    }
    match access {
        Access::Open => Ok(Caller::Anonymous),
        Access::Renewal => {
            let machine = shown.renewing_machine(identity.now())?;
            Ok(Caller::Machine(machine))
        }
        Access::Machine => shown.machine(identity.now()).map(Caller::Machine),
        Access::Session => {
            let machine = shown.machine(identity.now())?;
            let token = shown
                .token
                .ok_or_else(|| Error::new(Reason::Unauthenticated, "a session is needed"))?;
            let session = identity.authenticate(&token, machine).await?;
            Ok(Caller::Session(session))
        }
        Access::Socket => local(&shown).map(Caller::Local),
        Access::Role(needed) => {
            let (id, role) = admin(identity, shown).await?;
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

/// The admin that a certificate or a token names. Both together are refused:
/// they are two credentials, and the log would have to say whose act it was.
async fn admin(identity: &Identity, shown: Shown) -> Result<(AdminTokenId, Role)> {
    let refused = |detail: &str| Err(Error::new(Reason::Unauthenticated, detail));
    let peer = shown.peer;
    let (certificate, machine) = peer.map_or((None, None), |peer| (peer.admin, peer.machine));
    match (certificate, machine, shown.token) {
        (Some(certificate), None, None) => {
            identity.authenticate_admin_certificate(certificate).await
        }
        (Some(_), _, Some(_)) => {
            refused("show a client certificate or an admin token, not both together")
        }
        (_, Some(_), _) => refused("the certificate of a machine is no admin's"),
        (None, None, Some(token)) => match token.parse::<credential::AdminToken>() {
            Ok(token) => {
                let address = peer.map(|peer| peer.address);
                identity.authenticate_admin_from(&token, address).await
            }
            Err(_) => refused("an admin token is needed"),
        },
        (None, None, None) => {
            refused("an admin token or the client certificate of an admin is needed")
        }
    }
}

/// The user at the other end of the admin socket.
fn local(shown: &Shown) -> Result<u32> {
    let uid = shown.uid.ok_or_else(|| {
        Error::new(
            Reason::Unauthenticated,
            "this is served at the admin socket of the control plane's own machine alone",
        )
    })?;
    if uid == 0 || uid == rustix::process::geteuid().as_raw() {
        return Ok(uid);
    }
    Err(Error::new(
        Reason::PermissionDenied,
        "only root and the user of the control plane may do this",
    ))
}

/// What is told of a certificate that counts no more.
pub(super) fn ended_certificate() -> Error {
    Error::new(
        Reason::Unauthenticated,
        "this machine's certificate has ended; renew it and connect again",
    )
}

/// Bytes of a request at the most: what is known of its caller decides.
fn largest_request(access: Access) -> usize {
    match access {
        Access::Open => 64 << 10,
        Access::Renewal | Access::Machine | Access::Socket => 1 << 20,
        // a transaction on a board: a mebibyte of keys and values, and what they are told by
        Access::Session => 2 << 20,
        // policies
        Access::Role(_) => 4 << 20,
    }
}

/// Lets a service answer; for callers without a credential only for so long,
/// as many of them could hold what they have sent in memory.
async fn answered<E>(
    access: Access,
    answer: impl Future<Output = std::result::Result<HttpResponse<Body>, E>>,
) -> std::result::Result<HttpResponse<Body>, E> {
    if access != Access::Open {
        return answer.await;
    }
    tokio::time::timeout(OPEN_PATIENCE, answer)
        .await
        .unwrap_or_else(|_| {
            let slow = Error::new(Reason::Unavailable, "the request did not arrive in time");
            Ok(Status::from(slow).into_http())
        })
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
    recorder: Recorder,
}

impl AuthLayer {
    /// Authenticates with this identity service and writes down what came of it.
    pub fn new(identity: Identity, recorder: Recorder) -> Self {
        Self { identity, recorder }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService {
            identity: self.identity.clone(),
            recorder: self.recorder.clone(),
            inner,
        }
    }
}

/// See [`AuthLayer`].
#[derive(Debug, Clone)]
pub struct AuthService<S> {
    identity: Identity,
    recorder: Recorder,
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
        let (identity, recorder) = (self.identity.clone(), self.recorder.clone());
        let shown = Shown::by(&request);
        let (path, access) = table::find(request.uri().path()).unzip();
        let peer = request.extensions().get::<Peer>().copied();
        Box::pin(async move {
            let began = identity.since_boot();
            let (caller, answer) = match authenticate(&identity, access, shown).await {
                Ok(caller) => {
                    // who is let through stands in the table
                    let access = access.unwrap_or(Access::Open);
                    request.extensions_mut().insert(caller.clone());
                    let request =
                        request.map(|body| Body::new(Limited::new(body, largest_request(access))));
                    let answer = answered(access, inner.call(request)).await?;
                    let answer = match (&caller, access, peer) {
                        (Caller::Admin(id, _), ..) => {
                            answer.map(|body| while_good(body, identity.clone(), *id))
                        }
                        (_, Access::Machine, Some(peer)) => {
                            answer.map(|body| while_certified(body, identity.clone(), peer))
                        }
                        _ => answer,
                    };
                    (caller, answer)
                }
                Err(error) => (Caller::Anonymous, Status::from(error).into_http()),
            };
            let took = identity.since_boot().saturating_sub(began);
            recorder.record(
                path.unwrap_or("unknown"),
                caller.context(peer),
                &answer,
                took,
            );
            Ok(answer)
        })
    }
}
