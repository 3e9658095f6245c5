//! Trading a key for a session: challenge, signature, session.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    credential::ApiKey,
    identity::v1::{
        CreateChallengeRequest, CreateChallengeResponse, CreateSessionRequest,
        session_service_client::SessionServiceClient,
    },
    ids::{AgentId, ApiKeyId},
    reason::{Problem, Reason},
    status::from_status,
    zone::Zone,
};
use time::OffsetDateTime;
use tonic::metadata::{Ascii, MetadataValue};

use super::{Session, Sessions};

/// For a login, all tries together, and for asking whether a key stands.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The control plane's nonces live this long; a session's end less a nonce's
/// end is a span that needs no agreeing clocks.
const NONCE_LIFE: Duration = Duration::from_mins(1);
/// No session is used longer, whatever the control plane said.
const MAX_LIFE: Duration = Duration::from_mins(15);
/// A session is not used in its last moments.
const MARGIN: Duration = Duration::from_secs(30);

/// Tries while the control plane does not answer; each with a nonce of its own.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(150);

impl Sessions {
    /// Whether a key still counts, for streams that outlive the session that
    /// they began with; asked without the key's secret.
    ///
    /// # Errors
    /// `API_KEY_…` when it does not, `UNAVAILABLE` when that is not known.
    pub async fn key_stands(&self, id: ApiKeyId) -> Result<(), Problem> {
        in_time(self.challenge(id)).await.map(|_| ())
    }

    /// Proves a key, again while the control plane does not answer.
    pub(super) async fn log_in(&self, key: &ApiKey, zone: Zone) -> Result<Session, Problem> {
        let trying = async {
            let mut tries = 1;
            loop {
                match self.prove(key, zone).await {
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
    async fn prove(&self, key: &ApiKey, zone: Zone) -> Result<Session, Problem> {
        let asked_at = self.ambient.clock.since_boot();
        let challenge = self.challenge(key.id()).await?;
        let signature = key.sign_nonce(&challenge.nonce).ok_or_else(|| {
            Problem::new(
                Reason::SignatureInvalid,
                "the API key is not a usable Ed25519 seed",
            )
        })?;
        let request = timed(CreateSessionRequest {
            api_key_id: key.id().to_string(),
            nonce: challenge.nonce,
            signature,
            zone: zone.to_proto().into(),
        });
        let created = SessionServiceClient::new(self.channel.clone())
            .create_session(request)
            .await
            .map_err(|status| from_status(&status))?
            .into_inner();
        let life = life(time_of(challenge.expires_at)?, time_of(created.expires_at)?);
        Ok(Session {
            api_key_id: key.id(),
            agent_ids: agents(&created.agent_ids)?,
            validator: created.validator,
            zone: Zone::from_proto(created.zone).ok_or_else(not_understood)?,
            usable_until: asked_at + life.saturating_sub(MARGIN),
            bearer: bearer(&created.session_token)?,
        })
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

fn agents(ids: &[String]) -> Result<Arc<[AgentId]>, Problem> {
    ids.iter()
        .map(|id| id.parse())
        .collect::<Result<_, _>>()
        .map_err(|_| not_understood())
}

/// How long a session lives from before its challenge was asked for.
fn life(challenge_ends: OffsetDateTime, session_ends: OffsetDateTime) -> Duration {
    let after_challenge = Duration::try_from(session_ends - challenge_ends + NONCE_LIFE);
    after_challenge.unwrap_or_default().min(MAX_LIFE)
}

fn time_of(timestamp: Option<prost_types::Timestamp>) -> Result<OffsetDateTime, Problem> {
    timestamp
        .and_then(|time| OffsetDateTime::from_unix_timestamp(time.seconds).ok())
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
        assert_eq!(life(minutes(1), minutes(15)), Duration::from_mins(15));
        assert_eq!(life(minutes(1), minutes(5)), Duration::from_mins(5));
        assert_eq!(life(minutes(1), minutes(90)), MAX_LIFE);
        assert_eq!(life(minutes(9), minutes(1)), Duration::ZERO);
    }
}
