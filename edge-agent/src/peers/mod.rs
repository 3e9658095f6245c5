//! Calling the edges of other machines over mutual TLS: who answers is known by
//! its certificate, and where one machine is meant, only that one is spoken to.

mod connect;

use std::{sync::Arc, time::Duration};

use authguardian_proto::ids::MachineId;
use http::{Request, Response, Uri, uri::PathAndQuery};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};

use crate::trust::{OwnCertificate, PeerAddress, PeerMachine, Trust};
use connect::Connector;

/// How long a connection is kept for the next call.
const IDLE: Duration = Duration::from_secs(30);
/// Connections to one machine that are kept.
const MAX_IDLE: usize = 8;

/// Calls other edges; clones share connections.
#[derive(Clone)]
pub struct Peers {
    client: Client<Connector, Full<Bytes>>,
    trust: Arc<Trust>,
}

/// An answer of another edge.
#[derive(Debug)]
pub struct Answer {
    /// Whose.
    pub machine: MachineId,
    /// Its body comes as it is read.
    pub response: Response<Incoming>,
}

/// A call that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It was not begun.
    #[error("the machine at `{address}` may not be called: {detail}")]
    Refused {
        /// Where.
        address: String,
        /// Why.
        detail: String,
    },
    /// No connection, another machine than expected, or it broke.
    #[error("the edge at `{address}` cannot be called: {cause}")]
    Failed {
        /// Where.
        address: String,
        /// Why, with what lies beneath.
        cause: String,
        /// Whether nothing can have been sent.
        is_unsent: bool,
    },
    /// No answer in time.
    #[error("the edge at `{address}` did not answer within {} ms", .within.as_millis())]
    TooLate {
        /// Where.
        address: String,
        /// How long was waited.
        within: Duration,
    },
    /// The body is longer than allowed, or broke off.
    #[error("the answer cannot be read: {0}")]
    Body(String),
}

impl Peers {
    /// Calls as the machine of this certificate.
    pub fn new(trust: Arc<Trust>, own: OwnCertificate) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(Connector::new(trust.clone(), own));
        Self { client, trust }
    }

    /// Sends a request, whose URI is path and query, to the edge at this address;
    /// where a machine is expected, it has to be that one. The answer's head has to
    /// come `within` this time.
    ///
    /// # Errors
    /// [`PeerError`]; nothing is sent twice.
    pub async fn call(
        &self,
        address: &PeerAddress,
        expected: Option<MachineId>,
        mut request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<Answer, PeerError> {
        let refused = |detail: String| PeerError::Refused {
            address: address.to_string(),
            detail,
        };
        if let Some(machine) = expected {
            let allowed = self.trust.check(machine);
            allowed.map_err(|problem| refused(problem.detail))?;
        }
        *request.uri_mut() = target(address, expected, request.uri().path_and_query())
            .map_err(|error| refused(error.to_string()))?;
        let response = tokio::time::timeout(within, self.client.request(request))
            .await
            .map_err(|_| PeerError::TooLate {
                address: address.to_string(),
                within,
            })?
            .map_err(|error| PeerError::Failed {
                address: address.to_string(),
                is_unsent: error.is_connect(),
                cause: chain(&error),
            })?;
        let Some(&PeerMachine(machine)) = response.extensions().get() else {
            return Err(refused("it has not shown which machine it is".to_owned()));
        };
        // a connection may be older than the news
        let allowed = self.trust.check(machine);
        allowed.map_err(|problem| refused(problem.detail))?;
        Ok(Answer { machine, response })
    }
}

impl Answer {
    /// The whole body.
    ///
    /// # Errors
    /// When it has more bytes than `limit`, takes longer than `within`, or breaks off.
    pub async fn bytes(self, limit: usize, within: Duration) -> Result<Bytes, PeerError> {
        let reading = Limited::new(self.response.into_body(), limit).collect();
        match tokio::time::timeout(within, reading).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(PeerError::Body(error.to_string())),
            Err(_) => Err(PeerError::Body(format!(
                "it was not there within {} ms",
                within.as_millis()
            ))),
        }
    }
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peers")
    }
}

/// Connections are shared by scheme and authority: the expected machine stands
/// in the latter as user information, which is never sent.
fn target(
    address: &PeerAddress,
    expected: Option<MachineId>,
    path: Option<&PathAndQuery>,
) -> Result<Uri, http::Error> {
    let authority = match expected {
        Some(machine) => format!("{machine}@{address}"),
        None => address.to_string(),
    };
    Uri::builder()
        .scheme("http") // TLS is the connector's work
        .authority(authority)
        .path_and_query(path.map_or("/", PathAndQuery::as_str))
        .build()
}

/// An error with all that lies beneath it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
