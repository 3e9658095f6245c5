//! Who may call what: one table for every RPC of both listeners, enforced by
//! one layer before any service sees a request. What is not in the table is
//! refused.

mod lasting;
mod layer;
mod table;

use std::sync::Arc;

use authguardian_proto::ids::{AdminTokenId, MachineId, RequestId};
pub use layer::{AuthLayer, AuthService};
pub use table::{Access, TABLE};
use tonic::Request;

use super::{convert, peer::Peer};
use crate::{
    audit::{Actor, Context},
    error::{Error, Result},
    identity::{Role, Session},
};

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
    /// A user of this machine, by uid, at the admin socket.
    Local(u32),
}

impl Caller {
    /// Who calls from where, for the audit log.
    fn context(&self, peer: Option<Peer>) -> Context {
        let (actor, machine_id, zone) = match self {
            Self::Machine(machine) => (Actor::Machine(*machine), Some(*machine), None),
            Self::Session(session) => (
                Actor::Agent(None, session.api_key_id),
                Some(session.machine),
                Some(session.zone),
            ),
            Self::Admin(id, _) => (Actor::Admin(*id), None, None),
            Self::Local(uid) => (Actor::Local(*uid), None, None),
            Self::Anonymous => (Actor::Anonymous, peer.and_then(|peer| peer.machine), None),
        };
        Context {
            actor,
            machine_id,
            peer: peer.map(|peer| peer.address),
            zone,
            request_id: None,
            trace_id: None,
        }
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
    let peer = request.extensions().get::<Peer>().copied();
    let caller = request
        .extensions()
        .get::<Caller>()
        .unwrap_or(&Caller::Anonymous);
    Ok(Context {
        request_id,
        trace_id: trace_id(request),
        ..caller.context(peer)
    })
}

/// The trace id of a `traceparent` (W3C Trace Context §3.2).
fn trace_id<T>(request: &Request<T>) -> Option<String> {
    let value = request.metadata().get("traceparent")?.to_str().ok()?;
    let id = value.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_ascii_lowercase())
}
