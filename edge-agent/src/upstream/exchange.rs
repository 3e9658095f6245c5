//! Trading a key for a session: challenge, signature, session.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use authguardian_proto::{
    credential::{ApiKey, SessionToken},
    identity::v1::{
        CreateChallengeRequest, CreateChallengeResponse, CreateSessionRequest,
        CreateSessionResponse, GetSessionRequest, GetSessionResponse, RateLimit as PbLimit,
        RenewSessionResponse, session_service_client::SessionServiceClient,
    },
    ids::{AgentId, ApiKeyId, SessionId},
    network::{Network, Networks},
    rate::{RateLimit, RateLimits},
    reason::{Problem, Reason},
    status::from_status,
    zone::Zone,
};
use time::OffsetDateTime;
use tonic::metadata::{Ascii, MetadataValue};
use zeroize::Zeroizing;

use super::{Session, Sessions};

/// For a login, all tries together, and for asking whether a key stands.
const TIMEOUT: Duration = Duration::from_secs(5);
/// No session is used longer, whatever the control plane said.
const MAX_LIFE: Duration = Duration::from_mins(15);
/// A session that was made for a key is not used in its last moments.
const MARGIN: Duration = Duration::from_secs(30);

/// Tries while the control plane does not answer; each with a nonce of its own.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(150);

/// A nonce with the signature of a key over it.
#[derive(Debug, Clone)]
pub struct SignedNonce {
    /// Which key has signed.
    pub api_key_id: ApiKeyId,
    /// As the control plane gave it.
    pub nonce: Vec<u8>,
    /// Ed25519, over the login context and the nonce.
    pub signature: Vec<u8>,
}

/// What the control plane tells of a session, whatever it was asked.
pub(super) struct Told {
    token: Zeroizing<String>,
    session_id: String,
    api_key_id: ApiKeyId,
    agent_ids: Vec<String>,
    validator: bool,
    zone: i32,
    expires_at: Option<prost_types::Timestamp>,
    server_time: Option<prost_types::Timestamp>,
    rate_limit: Option<PbLimit>,
    tool_rate_limits: HashMap<String, PbLimit>,
    allowed_networks: Vec<String>,
}

impl Told {
    fn created(told: CreateSessionResponse, api_key_id: ApiKeyId) -> Self {
        Self {
            token: Zeroizing::new(told.session_token),
            session_id: told.session_id,
            api_key_id,
            agent_ids: told.agent_ids,
            validator: told.validator,
            zone: told.zone,
            expires_at: told.expires_at,
            server_time: told.server_time,
            rate_limit: told.rate_limit,
            tool_rate_limits: told.tool_rate_limits,
            allowed_networks: told.allowed_networks,
        }
    }

    pub(super) fn renewed(told: RenewSessionResponse, api_key_id: ApiKeyId) -> Self {
        Self {
            token: Zeroizing::new(told.session_token),
            session_id: told.session_id,
            api_key_id,
            agent_ids: told.agent_ids,
            validator: told.validator,
            zone: told.zone,
            expires_at: told.expires_at,
            server_time: told.server_time,
            rate_limit: told.rate_limit,
            tool_rate_limits: told.tool_rate_limits,
            allowed_networks: told.allowed_networks,
        }
    }

    fn found(told: GetSessionResponse, token: &SessionToken) -> Result<Self, Problem> {
        Ok(Self {
            token: Zeroizing::new(token.expose().to_owned()),
            session_id: told.session_id,
            api_key_id: told.api_key_id.parse().map_err(|_| not_understood())?,
            agent_ids: told.agent_ids,
            validator: told.validator,
            zone: told.zone,
            expires_at: told.expires_at,
            server_time: told.server_time,
            rate_limit: told.rate_limit,
            tool_rate_limits: told.tool_rate_limits,
            allowed_networks: told.allowed_networks,
        })
    }

    /// Limits that cannot be read are not passed over.
    fn rate_limits(&self) -> Result<RateLimits, Problem> {
        let read = |limit: &PbLimit| {
            RateLimit::new(limit.per_second, limit.burst).map_err(|_| not_understood())
        };
        let tools = self.tool_rate_limits.iter();
        Ok(RateLimits {
            all: self.rate_limit.as_ref().map(read).transpose()?,
            tools: tools
                .map(|(tool, limit)| Ok((tool.clone(), read(limit)?)))
                .collect::<Result<_, Problem>>()?,
        })
    }

    /// As it was presented, or is told to whoever asked for it.
    pub(super) fn token(&self) -> Result<SessionToken, Problem> {
        SessionToken::new(&self.token).ok_or_else(not_understood)
    }

    /// The session, asked for at this instant since boot, and not used for
    /// `margin` before its end.
    pub(super) fn session(&self, asked_at: Duration, margin: Duration) -> Result<Session, Problem> {
        let expires_at = time_of(self.expires_at)?;
        let life = life(time_of(self.server_time)?, expires_at);
        let id: SessionId = self.session_id.parse().map_err(|_| not_understood())?;
        Ok(Session {
            id,
            api_key_id: self.api_key_id,
            agent_ids: agents(&self.agent_ids)?,
            validator: self.validator,
            zone: Zone::from_proto(self.zone).ok_or_else(not_understood)?,
            rate_limits: Arc::new(self.rate_limits()?),
            allowed_networks: networks(&self.allowed_networks)?,
            expires_at,
            ends: asked_at + life,
            usable_until: asked_at + life.saturating_sub(margin),
            bearer: bearer(&self.token)?,
        })
    }
}

impl Sessions {
    /// Whether a key still counts, for streams that outlive the session that
    /// they began with; asked without the key's secret.
    ///
    /// # Errors
    /// `API_KEY_…` when it does not, `UNAVAILABLE` when that is not known.
    pub async fn key_stands(&self, id: ApiKeyId) -> Result<(), Problem> {
        in_time(self.challenge(id)).await.map(|_| ())
    }

    /// Whether a session still counts, for streams that it has opened.
    ///
    /// # Errors
    /// `SESSION_EXPIRED` and `API_KEY_…` when it does not, `UNAVAILABLE` when
    /// that is not known.
    pub async fn session_stands(&self, session: &Session) -> Result<(), Problem> {
        in_time(self.get_session(session.bearer.clone()))
            .await
            .map(|_| ())
    }

    /// A nonce for a key, to be signed by whoever has it.
    ///
    /// # Errors
    /// `API_KEY_…`, `UNAVAILABLE`.
    pub async fn nonce(&self, id: ApiKeyId) -> Result<(Vec<u8>, OffsetDateTime), Problem> {
        let challenge = in_time(self.challenge(id)).await?;
        let expires_at = time_of(challenge.expires_at)?;
        Ok((challenge.nonce, expires_at))
    }

    /// Trades a nonce that somebody else has signed for a session.
    ///
    /// # Errors
    /// `NONCE_…`, `SIGNATURE_INVALID`, `API_KEY_…`, `UNAVAILABLE`.
    pub async fn open(
        &self,
        signed: SignedNonce,
        zone: Zone,
        client: Option<IpAddr>,
    ) -> Result<(Arc<Session>, SessionToken), Problem> {
        let asked_at = self.ambient.clock.since_boot();
        let told = in_time(self.create(signed, zone, client)).await?;
        self.take(&told, asked_at)
    }

    /// What the control plane knows of a presented token.
    pub(super) async fn ask_about(&self, token: &SessionToken) -> Result<Session, Problem> {
        let asked_at = self.ambient.clock.since_boot();
        let found = in_time(self.get_session(bearer(token.expose())?)).await?;
        Told::found(found, token)?.session(asked_at, Duration::ZERO)
    }

    /// Proves a key, again while the control plane does not answer.
    pub(super) async fn log_in(
        &self,
        key: &ApiKey,
        zone: Zone,
        client: Option<IpAddr>,
    ) -> Result<Session, Problem> {
        let trying = async {
            let mut tries = 1;
            loop {
                match self.prove(key, zone, client).await {
                    Err(problem) if problem.reason == Reason::Unavailable && tries < TRIES => {
                        tokio::time::sleep(self.ambient.jittered(PAUSE * tries)).await;
                        tries += 1;
                    }
                    outcome => return outcome,
                }
            }
        };
        in_time(trying).await
    }

    /// Challenge, signature, session.
    async fn prove(
        &self,
        key: &ApiKey,
        zone: Zone,
        client: Option<IpAddr>,
    ) -> Result<Session, Problem> {
        let challenge = self.challenge(key.id()).await?;
        let signature = key.sign_nonce(&challenge.nonce).ok_or_else(|| {
            Problem::new(
                Reason::SignatureInvalid,
                "the API key is not a usable Ed25519 seed",
            )
        })?;
        let signed = SignedNonce {
            api_key_id: key.id(),
            nonce: challenge.nonce,
            signature,
        };
        let asked_at = self.ambient.clock.since_boot();
        let told = self.create(signed, zone, client).await?;
        told.session(asked_at, MARGIN)
    }

    async fn create(
        &self,
        signed: SignedNonce,
        zone: Zone,
        client: Option<IpAddr>,
    ) -> Result<Told, Problem> {
        let request = timed(CreateSessionRequest {
            api_key_id: signed.api_key_id.to_string(),
            nonce: signed.nonce,
            signature: signed.signature,
            zone: zone.to_proto().into(),
            client_address: client.map(|ip| ip.to_string()).unwrap_or_default(),
        });
        let created = SessionServiceClient::new(self.channel.clone())
            .create_session(request)
            .await
            .map_err(|status| from_status(&status))?;
        Ok(Told::created(created.into_inner(), signed.api_key_id))
    }

    async fn get_session(
        &self,
        bearer: MetadataValue<Ascii>,
    ) -> Result<GetSessionResponse, Problem> {
        let mut request = timed(GetSessionRequest {});
        request.metadata_mut().insert("authorization", bearer);
        SessionServiceClient::new(self.channel.clone())
            .get_session(request)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| from_status(&status))
    }

    async fn challenge(&self, id: ApiKeyId) -> Result<CreateChallengeResponse, Problem> {
        let request = timed(CreateChallengeRequest {
            api_key_id: id.to_string(),
        });
        SessionServiceClient::new(self.channel.clone())
            .create_challenge(request)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| from_status(&status))
    }
}

/// A call's own timeout begins only when there is a connection.
async fn in_time<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    tokio::time::timeout(TIMEOUT, work)
        .await
        .unwrap_or_else(|_| {
            Err(Problem::new(
                Reason::Unavailable,
                "the control plane did not answer in time",
            ))
        })
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(TIMEOUT);
    request
}

fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Problem> {
    let mut bearer: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .map_err(|_| not_understood())?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

fn networks(texts: &[String]) -> Result<Networks, Problem> {
    let read = |text: &String| text.parse::<Network>().map_err(|_| not_understood());
    texts.iter().map(read).collect()
}

fn agents(ids: &[String]) -> Result<Arc<[AgentId]>, Problem> {
    ids.iter()
        .map(|id| id.parse())
        .collect::<Result<_, _>>()
        .map_err(|_| not_understood())
}

/// How long a session lives from before it was asked for.
fn life(server_time: OffsetDateTime, session_ends: OffsetDateTime) -> Duration {
    let left = Duration::try_from(session_ends - server_time);
    left.unwrap_or_default().min(MAX_LIFE)
}

fn time_of(timestamp: Option<prost_types::Timestamp>) -> Result<OffsetDateTime, Problem> {
    timestamp
        .and_then(|time| {
            let seconds = OffsetDateTime::from_unix_timestamp(time.seconds).ok()?;
            seconds
                .replace_nanosecond(u32::try_from(time.nanos).ok()?)
                .ok()
        })
        .ok_or_else(not_understood)
}

fn not_understood() -> Problem {
    Problem::new(
        Reason::Internal,
        "the control plane's answer cannot be understood by this edge",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sessions_life_needs_no_agreeing_clocks() {
        let start = OffsetDateTime::UNIX_EPOCH;
        let minutes = |n: u64| start + Duration::from_secs(60 * n);
        assert_eq!(life(minutes(0), minutes(15)), Duration::from_mins(15));
        assert_eq!(life(minutes(1), minutes(5)), Duration::from_mins(4));
        assert_eq!(life(minutes(1), minutes(90)), MAX_LIFE);
        assert_eq!(life(minutes(9), minutes(1)), Duration::ZERO);
    }
}
