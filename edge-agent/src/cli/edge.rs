//! The edge as the command line reaches it: HTTP, and what it answers.

use std::{path::Path, time::Duration};

use authguardian_proto::reason::{Problem, Reason};
use reqwest::{Certificate, Method, StatusCode};
use serde_json::Value;

use super::Failure;

const TIMEOUT: Duration = Duration::from_secs(90);

/// One edge.
pub(super) struct Edge {
    http: reqwest::Client,
    /// Where it is, without a path.
    pub(super) url: String,
}

/// What it has answered.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    body: Value,
}

impl Edge {
    /// An edge at a URL; with a file of CA certificates (PEM) only those can
    /// vouch for it.
    pub(super) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, Failure> {
        // a proxy must not see credentials of this host
        let mut client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT);
        if let Some(path) = ca_file {
            let unusable = |error: &dyn std::fmt::Display| {
                Failure::usage(format!("cannot use `{}`: {error}", path.display()))
            };
            let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
            let certificates =
                Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?;
            if certificates.is_empty() {
                return Err(unusable(&"it holds no certificate"));
            }
            client = client.tls_certs_only(certificates);
        }
        Ok(Self {
            http: client.build().map_err(Failure::other)?,
            url: url.trim_end_matches('/').to_owned(),
        })
    }

    /// The HTTP client that trusts whom this edge is vouched for by.
    pub(super) fn http(&self) -> reqwest::Client {
        self.http.clone()
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Reply, Failure> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(token) = bearer {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let text = response
            .text()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).map_err(|_| {
                Failure::other("the answer is not JSON; is this the address of an edge?")
            })?
        };
        Ok(Reply { status, body })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if error.is_builder() {
            return Failure::usage(format!("`{}` is not a URL of an edge", self.url));
        }
        let (reason, what) = if error.is_connect() {
            (
                Reason::Unavailable,
                "cannot be reached; is `edge-agent run` running?",
            )
        } else {
            (Reason::OutcomeUnknown, "did not answer")
        };
        Failure::with_reason(reason, format!("the edge at `{}` {what}", self.url))
    }
}

impl Reply {
    /// The body, whatever the status.
    pub(super) fn whatever(self) -> Value {
        self.body
    }

    /// The body of a success.
    pub(super) fn ok(self) -> Result<Value, Failure> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        Err(self.problem().map_or_else(
            || {
                let status = self.status.as_u16();
                Failure::other(format!("the edge answered with status `{status}`"))
            },
            Failure::from,
        ))
    }

    /// Why it refused.
    pub(super) fn reason(&self) -> Option<Reason> {
        (!self.status.is_success())
            .then(|| self.problem())
            .flatten()
            .map(|problem| problem.reason)
    }

    fn problem(&self) -> Option<Problem> {
        let text = |name: &str| self.body[name].as_str().map(str::to_owned);
        let reason = Reason::parse(&text("reason")?)?;
        let mut problem = Problem::new(reason, text("detail").unwrap_or_default());
        problem.field = text("field");
        problem.retry_after_seconds = self.body["retry_after_seconds"]
            .as_u64()
            .and_then(|seconds| u32::try_from(seconds).ok());
        Some(problem)
    }
}
