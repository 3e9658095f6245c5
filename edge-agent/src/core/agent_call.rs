//! Calls from agent to agent, through the edges of both. The caller's edge shows
//! the other nothing but a grant whose audience is the called agent; the other
//! edge checks it, and shows the agent's server nothing at all.

use std::{pin::Pin, sync::Arc, time::Duration};

use authguardian_proto::{
    endpoint::Endpoint,
    ids::{AgentId, MachineId, ResourceTypeName},
    reason::{Problem, Reason},
    zone::Zone,
};
use futures::Stream;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyDataStream, Full};
use hyper::body::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::{Caller, Core, Outcome, call_scope::CallScope, note::is_refusal};
use crate::{
    endpoints::Message,
    journal::Call,
    trust::PeerAddress,
    verify::{Check, Known},
};

const CALLED: &str = "agent.call";
const SERVED: &str = "agent.serve";

/// How long a grant of an unknown key waits for the keys to be read again.
const KEYS_PATIENCE: Duration = Duration::from_secs(3);

/// How long a grant waits for news of revocations that are new enough, and how
/// often that is looked at; there is nobody to ask on its behalf.
const NEWS_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_FOR_NEWS: Duration = Duration::from_millis(50);

/// For the head of an answer from another edge: the agent's tool may take its time.
const PATIENCE: Duration = Duration::from_mins(5);

/// How often a stream's grant is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A grant to call an agent, as its holder shows it.
#[derive(Clone)]
pub struct ShownGrant(Arc<Zeroizing<String>>);

/// What an agent's server answers.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// All of its headers; whoever passes them on chooses.
    pub headers: HeaderMap,
    /// Bytes as they come; ends early when the grant does.
    pub body: Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>,
}

/// An answer that broke off.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A call that was found in order.
struct Admitted {
    endpoint: Endpoint,
    grant: Arc<Known>,
}

/// Where an agent is.
struct Whereabouts {
    machine: MachineId,
    /// `host:port` of its edge; `None` where other machines do not reach it.
    peer_address: Option<String>,
}

impl ShownGrant {
    /// Takes a token's text.
    pub fn new(text: &str) -> Self {
        Self(Arc::new(Zeroizing::new(text.to_owned())))
    }

    /// The token's text, for the edge of the called agent only.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for ShownGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShownGrant(…)")
    }
}

impl Core {
    /// Sends a message of a caller's agent to another agent's MCP server, wherever
    /// it is registered.
    ///
    /// # Errors
    /// `ZONE_FORBIDS`, `RATE_LIMITED`; `PERMISSION_DENIED` without a grant, and
    /// the grant's own reason where it is not good for this; `AGENT_MISMATCH` when
    /// it is another agent's than the caller's; `UNKNOWN_AGENT`; `UNAVAILABLE` and
    /// what the other edge refuses.
    pub async fn call_agent(
        &self,
        caller: &Caller,
        agent: &AgentId,
        grant: Option<ShownGrant>,
        message: Message,
    ) -> Result<Answer, Problem> {
        let outcome = self.call_agent_unnoted(caller, agent, grant, message).await;
        let (holder, outcome) = match outcome {
            Ok((holder, answer)) => (Some(holder), Ok(answer)),
            Err((holder, problem)) => (holder, Err(problem)),
        };
        let (came_of, reason) = came_of(outcome.as_ref().err());
        self.note(caller, CALLED, holder, came_of, reason);
        outcome
    }

    async fn call_agent_unnoted(
        &self,
        caller: &Caller,
        agent: &AgentId,
        grant: Option<ShownGrant>,
        message: Message,
    ) -> Result<(AgentId, Answer), (Option<AgentId>, Problem)> {
        let nobody = |problem| (None, problem);
        if caller.peer.zone() == Zone::External {
            let detail = "agents cannot be called from outside of the trusted networks";
            return Err(nobody(Problem::new(Reason::ZoneForbids, detail)));
        }
        self.admit(caller, None, || CALLED.to_owned())
            .await
            .map_err(nobody)?;
        let shown = grant.ok_or_else(|| {
            let detail = format!(
                "show a grant for `{}`, from `request_permission`, as `X-AuthGuardian-Grant`",
                ResourceTypeName::of_agent(agent)
            );
            nobody(Problem::new(Reason::PermissionDenied, detail))
        })?;
        let known = self.check_call(agent, &shown).await.map_err(nobody)?;
        let holder = known.terms.agent_id.clone();
        let ours = |problem| (Some(holder.clone()), problem);
        caller.speaks_for(&holder).map_err(ours)?;
        if known.terms.machine_id != self.machine_id {
            let detail = "the grant was asked for through another machine, and is good there only";
            return Err(ours(Problem::new(Reason::PermissionDenied, detail)));
        }
        let there = self.whereabouts(caller, agent).await.map_err(ours)?;
        let answer = if there.machine == self.machine_id {
            self.serve_agent(self.machine_id, agent, &shown, message)
                .await
        } else {
            self.call_there(&there, agent, &shown, message).await
        };
        let answer = answer.map_err(ours)?;
        Ok((holder, self.while_granted(answer, agent, shown)))
    }

    /// Hands a message that came from a machine's edge to the MCP server of an
    /// agent of this one.
    ///
    /// # Errors
    /// As [`Core::call_agent`], for the machine that the message came from.
    pub async fn serve_call(
        &self,
        from: MachineId,
        address: std::net::IpAddr,
        agent: &AgentId,
        grant: Option<ShownGrant>,
        message: Message,
    ) -> Result<Answer, Problem> {
        let outcome = match grant {
            Some(shown) => self
                .serve_agent(from, agent, &shown, message)
                .await
                .map(|answer| self.while_granted(answer, agent, shown)),
            None => Err(Problem::new(
                Reason::Unauthenticated,
                "show a grant for the agent: `Authorization: Bearer …`",
            )),
        };
        let (came_of, reason) = came_of(outcome.as_ref().err());
        self.journal.note(Call {
            action: SERVED.into(),
            outcome: came_of,
            reason,
            api_key_id: None,
            claimed: None,
            agent_id: Some(agent.clone()),
            zone: Zone::TrustedNetwork,
            client: Some(address),
        });
        outcome
    }

    async fn serve_agent(
        &self,
        from: MachineId,
        agent: &AgentId,
        grant: &ShownGrant,
        message: Message,
    ) -> Result<Answer, Problem> {
        let Admitted { endpoint, grant } = self.admit_call(from, agent, grant).await?;
        CallScope::new(grant.scope.as_deref()).check(&message.body)?;
        let mut message = message;
        for (name, value) in [
            ("x-authguardian-caller", grant.terms.agent_id.to_string()),
            ("x-authguardian-machine", from.to_string()),
            ("x-authguardian-grant-id", grant.grant_id.to_string()),
        ] {
            let value = value.try_into().map_err(|_| {
                Problem::new(Reason::Internal, "the caller cannot be named to the agent")
            })?;
            message.headers.insert(name, value);
        }
        let response = self.endpoints.send(&endpoint, message).await?;
        Ok(Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: Box::pin(futures::TryStreamExt::map_err(
                response.bytes_stream(),
                Into::into,
            )),
        })
    }

    /// Checks that a call may be handed to an agent of this machine.
    async fn admit_call(
        &self,
        from: MachineId,
        agent: &AgentId,
        grant: &ShownGrant,
    ) -> Result<Admitted, Problem> {
        let known = self.check_call(agent, grant).await?;
        if known.terms.machine_id != from {
            let detail = "the grant was given to another machine than the one that shows it";
            return Err(Problem::new(Reason::PermissionDenied, detail));
        }
        let endpoint = self.endpoint_of(agent)?;
        self.endpoints.check(&endpoint)?;
        Ok(Admitted {
            endpoint,
            grant: known,
        })
    }

    /// Checks a grant to call an agent, whoever holds it; what cannot be known to
    /// be good is not.
    async fn check_call(&self, agent: &AgentId, grant: &ShownGrant) -> Result<Arc<Known>, Problem> {
        let audience = ResourceTypeName::of_agent(agent);
        let mut check = self.verifier.check_of_anybody(grant.text(), &audience);
        if matches!(check, Check::UnknownKey) {
            let read = self.verifier.keys().read_again();
            // in vain: the keys that are known have to do
            let _ = tokio::time::timeout(KEYS_PATIENCE, read).await;
            check = self.verifier.check_of_anybody(grant.text(), &audience);
        }
        let begun = self.ambient.clock.since_boot();
        while matches!(check, Check::TooOld(_))
            && self.ambient.clock.since_boot() < begun + NEWS_PATIENCE
        {
            tokio::time::sleep(LOOK_FOR_NEWS).await;
            check = self.verifier.check_of_anybody(grant.text(), &audience);
        }
        let refused = match check {
            Check::Decided(decided) => match (decided.refused, decided.known) {
                (None, Some(known)) => return Ok(known),
                (refused, _) => refused.unwrap_or(Reason::TokenInvalid),
            },
            Check::UnknownKey => Reason::TokenForeignKey,
            Check::TooOld(_) => Reason::Stale,
        };
        let detail = match refused {
            Reason::ResourceMismatch => format!("the grant is not for `{audience}`"),
            Reason::Stale => {
                "what is known here of revocations is older than the grant allows; try again"
                    .to_owned()
            }
            Reason::GrantExpired => "the grant has ended".to_owned(),
            Reason::GrantRevoked => "the grant was revoked".to_owned(),
            _ => "this is no grant of ours".to_owned(),
        };
        Err(Problem::new(refused, detail))
    }

    /// Ends an answer with the grant that it was given for.
    fn while_granted(&self, answer: Answer, agent: &AgentId, grant: ShownGrant) -> Answer {
        let verifier = self.verifier.clone();
        let audience = ResourceTypeName::of_agent(agent);
        let ended = Box::pin(async move {
            let is_good = || match verifier.check_of_anybody(grant.text(), &audience) {
                Check::Decided(decided) => decided.refused.is_none(),
                Check::UnknownKey | Check::TooOld(_) => false,
            };
            while is_good() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Answer {
            body: Box::pin(futures::StreamExt::take_until(answer.body, ended)),
            ..answer
        }
    }
}

fn came_of(problem: Option<&Problem>) -> (Outcome, Option<Reason>) {
    match problem.map(|problem| problem.reason) {
        None => (Outcome::Ok, None),
        Some(reason) if is_refusal(reason) => (Outcome::Refused, Some(reason)),
        Some(reason) => (Outcome::Failed, Some(reason)),
    }
}

impl Core {
    /// The MCP server of an agent of this machine.
    fn endpoint_of(&self, agent: &AgentId) -> Result<Endpoint, Problem> {
        let own = self
            .agents
            .get(agent)
            .ok_or_else(|| unknown(agent, "this machine"))?;
        own.registered.endpoint.ok_or_else(|| {
            let detail = format!("the agent `{agent}` has registered no MCP server");
            Problem::new(Reason::Unavailable, detail)
        })
    }

    /// Where an agent is: as the registry says, else as is known here.
    async fn whereabouts(&self, caller: &Caller, agent: &AgentId) -> Result<Whereabouts, Problem> {
        if self.agents.get(agent).is_some() {
            return Ok(Whereabouts {
                machine: self.machine_id,
                peer_address: None,
            });
        }
        let found = self.locate(caller, agent).await?;
        let (machine, peer_address) = found.ok_or_else(|| unknown(agent, "any machine"))?;
        Ok(Whereabouts {
            machine,
            peer_address,
        })
    }
}

impl Core {
    /// Hands a message to the edge of another machine, with the grant and nothing
    /// else.
    async fn call_there(
        &self,
        there: &Whereabouts,
        agent: &AgentId,
        grant: &ShownGrant,
        message: Message,
    ) -> Result<Answer, Problem> {
        let unavailable = |detail| Problem::new(Reason::Unavailable, detail);
        let machine = there.machine;
        let address: PeerAddress = there
            .peer_address
            .as_deref()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| {
                let detail = format!(
                    "the edge of `{machine}`, where the agent is, takes no calls of other edges"
                );
                unavailable(detail)
            })?;
        let request = request(agent, grant, message)?;
        let called = self.peers.call(&address, Some(machine), request, PATIENCE);
        let response = match called.await {
            Ok(answer) => answer.response,
            Err(error) => {
                tracing::warn!(%machine, %error, "an agent was not called");
                return Err(unavailable(format!(
                    "the edge of `{machine}` could not be called"
                )));
            }
        };
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: Box::pin(futures::TryStreamExt::map_err(
                BodyDataStream::new(body),
                Into::into,
            )),
        })
    }
}

/// What the edge of the called agent is sent.
fn request(
    agent: &AgentId,
    grant: &ShownGrant,
    message: Message,
) -> Result<Request<Full<Bytes>>, Problem> {
    let agent = utf8_percent_encode(agent.as_str(), NON_ALPHANUMERIC);
    let mut shown = HeaderValue::try_from(format!("Bearer {}", grant.text()))
        .map_err(|_| Problem::new(Reason::TokenInvalid, "this is no grant of ours"))?;
    shown.set_sensitive(true);
    let mut request = Request::new(Full::new(Bytes::from(message.body)));
    *request.method_mut() = message.method;
    *request.uri_mut() = format!("/agents/{agent}/mcp")
        .parse()
        .map_err(|_| Problem::invalid("agent_id", AgentId::EXPECTED))?;
    *request.headers_mut() = message.headers;
    request.headers_mut().insert(header::AUTHORIZATION, shown);
    Ok(request)
}

fn unknown(agent: &AgentId, place: &str) -> Problem {
    let detail = format!("the agent `{agent}` is not registered on {place}");
    Problem::new(Reason::UnknownAgent, detail).at("agent_id")
}
