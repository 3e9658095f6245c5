//! The bridge's own session at the edge: got by signing a nonce, so that the
//! API key stays in this process, and renewed for as long as the bridge runs.

use std::time::Duration;

use authguardian_proto::{
    credential::ApiKey,
    reason::{Problem, Reason},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};
use zeroize::Zeroizing;

use super::http::{Headers, Http, HttpError};

/// A session lives for fifteen minutes.
const RENEW_AFTER: Duration = Duration::from_mins(7);
/// Between looks whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// A key, and the session that it was traded for last.
pub(super) struct Login {
    key: ApiKey,
    current: Mutex<Option<Current>>,
}

struct Current {
    token: Zeroizing<String>,
    renew_at: Instant,
}

impl Login {
    pub(super) fn new(key: ApiKey) -> Self {
        Self {
            key,
            current: Mutex::new(None),
        }
    }
}

impl Http {
    /// The session's token: kept, renewed or got anew.
    pub(super) async fn token(&self) -> Result<Zeroizing<String>, HttpError> {
        let mut current = self.login.current.lock().await;
        if let Some(kept) = &*current {
            if Instant::now() < kept.renew_at {
                return Ok(kept.token.clone());
            }
            let renewed = self
                .ask(Method::POST, "/auth/session/renew", None, Some(&kept.token))
                .await?;
            if let Ok(told) = renewed {
                return Ok(current.insert(taken(&told)?).token.clone());
            }
        }
        *current = None;
        let made = self.log_in().await?;
        Ok(current.insert(made).token.clone())
    }

    /// Another session, after the edge has refused this token.
    pub(super) async fn token_after(
        &self,
        refused: &Zeroizing<String>,
    ) -> Result<Zeroizing<String>, HttpError> {
        {
            let mut current = self.login.current.lock().await;
            current.take_if(|current| current.token == *refused);
        }
        self.token().await
    }

    /// Renews the session in time, for streams that it has opened, for ever.
    pub(super) async fn stay_logged_in(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.login.current.lock().await.is_some()
                && let Err(error) = self.token().await
            {
                tracing::warn!(%error, "the session cannot be renewed yet");
            }
        }
    }

    /// Ends the session, if there is one.
    pub(super) async fn log_out(&self) {
        let ended = self.login.current.lock().await.take();
        if let Some(ended) = ended {
            let path = "/auth/session";
            // an edge that is gone lets it run out
            let _ = self
                .ask(Method::DELETE, path, None, Some(&ended.token))
                .await;
        }
    }

    async fn log_in(&self) -> Result<Current, HttpError> {
        let key = &self.login.key;
        let asked = json!({ "api_key_id": key.id() });
        let challenge = self
            .ask(Method::POST, "/auth/challenge", Some(&asked), None)
            .await?
            .map_err(HttpError::Refused)?;
        let nonce = challenge["nonce"].as_str();
        let nonce = nonce
            .and_then(|text| STANDARD.decode(text).ok())
            .ok_or_else(not_understood)?;
        let signature = key.sign_nonce(&nonce).ok_or_else(|| {
            let detail = "the API key is not a usable Ed25519 seed";
            HttpError::Refused(Problem::new(Reason::SignatureInvalid, detail))
        })?;
        let signed = json!({
            "api_key_id": key.id(),
            "nonce": STANDARD.encode(&nonce),
            "signature": STANDARD.encode(&signature),
        });
        let made = self
            .ask(Method::POST, "/auth/session", Some(&signed), None)
            .await?
            .map_err(HttpError::Refused)?;
        taken(&made)
    }

    /// A question of `/auth`, and the answer to it, or the refusal.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        bearer: Option<&str>,
    ) -> Result<Result<Value, Problem>, HttpError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let response = self
            .exchange(method, path, Headers::default(), body, bearer)
            .await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status == StatusCode::NO_CONTENT {
            return Ok(Ok(Value::Null));
        }
        let told: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status.is_success() {
            return Ok(Ok(told));
        }
        let reason = told["reason"].as_str().and_then(Reason::parse);
        let detail = told["detail"]
            .as_str()
            .unwrap_or("the edge refused the login");
        let problem = Problem::new(reason.unwrap_or(Reason::Internal), detail);
        Ok(Err(problem))
    }
}

fn taken(told: &Value) -> Result<Current, HttpError> {
    let token = told["session_token"].as_str().ok_or_else(not_understood)?;
    Ok(Current {
        token: Zeroizing::new(token.to_owned()),
        renew_at: Instant::now() + RENEW_AFTER,
    })
}

fn not_understood() -> HttpError {
    let detail = "the edge's answer cannot be understood by this bridge";
    HttpError::Refused(Problem::new(Reason::Internal, detail))
}
