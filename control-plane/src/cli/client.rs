//! The connection of the operator verbs to the admin listener.

use std::{path::PathBuf, time::Duration};

use authguardian_proto::{
    credential::AdminToken,
    ids::RequestId,
    reason::{Problem, Reason},
    status::from_status,
};
use clap::Args;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use zeroize::Zeroizing;

use super::{ambient, failure::Failure, output::Format};

/// How long one attempt may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Waits before the second, third … attempt at learning an unknown outcome.
const RETRY_AFTER: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_600),
    Duration::from_millis(6_400),
];

/// A channel whose every call carries the admin token.
pub(crate) type Authenticated = InterceptedService<Channel, Bearer>;

/// How operator verbs reach the control plane, and how they answer.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// Admin listener of the control plane
    #[arg(
        long,
        env = "AUTHGUARDIAN_SERVER",
        default_value = "https://127.0.0.1:3003",
        value_name = "URL",
        global = true,
        help_heading = "Connection"
    )]
    server: String,

    /// File with the admin token, instead of `AUTHGUARDIAN_ADMIN_TOKEN`
    #[arg(long, value_name = "FILE", global = true, help_heading = "Connection")]
    admin_token_file: Option<PathBuf>,

    /// File with an admin's client certificate and its key (PEM), instead of
    /// `AUTHGUARDIAN_ADMIN_TOKEN`; `--admin-token-file` goes before it
    #[arg(
        long,
        env = "AUTHGUARDIAN_CLIENT_CERTIFICATE",
        value_name = "FILE",
        global = true,
        help_heading = "Connection"
    )]
    client_certificate: Option<PathBuf>,

    /// CA certificate (PEM) that the server's certificate has to come from
    #[arg(
        long,
        env = "AUTHGUARDIAN_CA_FILE",
        value_name = "FILE",
        global = true,
        help_heading = "Connection"
    )]
    ca_file: Option<PathBuf>,

    /// How results are written
    #[arg(short, long, value_enum, default_value_t, global = true)]
    pub output: Format,
}

/// The id under which the server remembers the outcome of a change.
#[derive(Debug, Args)]
pub(crate) struct RequestIdArgs {
    /// Id of this change: a repeat gets the first outcome; made up when left out
    #[arg(long, value_name = "ID")]
    request_id: Option<RequestId>,
}

impl ClientArgs {
    /// Connects, and makes sure that somebody answers.
    pub(crate) async fn connect(&self) -> Result<Authenticated, Failure> {
        let certificate = self.certificate()?;
        let bearer = match certificate {
            Some(_) => Bearer(None),
            None => Bearer::new(&self.admin_token()?)?,
        };
        let endpoint = self.endpoint(certificate)?;
        let channel = endpoint.connect().await.map_err(|error| {
            tracing::debug!(?error, "connecting failed");
            Problem::new(
                Reason::Unavailable,
                format!("cannot connect to `{}`: {}", self.server, innermost(&error)),
            )
        })?;
        Ok(InterceptedService::new(channel, bearer))
    }

    /// The client certificate, where that is what is shown.
    fn certificate(&self) -> Result<Option<Identity>, Failure> {
        let path = match &self.client_certificate {
            Some(path) if self.admin_token_file.is_none() => path,
            _ => return Ok(None),
        };
        let refused = |detail: String| Problem::invalid("client_certificate", detail);
        let text = std::fs::read(path)
            .map_err(|error| refused(format!("cannot read `{}`: {error}", path.display())))?;
        let text = Zeroizing::new(text);
        let whole = CertificateDer::from_pem_slice(&text).is_ok()
            && PrivateKeyDer::from_pem_slice(&text).is_ok();
        if !whole {
            let detail = format!(
                "`{}` does not hold a certificate and its key",
                path.display()
            );
            return Err(refused(detail).into());
        }
        // each reads its own out of the file
        Ok(Some(Identity::from_pem(&text, &text)))
    }

    fn endpoint(&self, certificate: Option<Identity>) -> Result<Endpoint, Failure> {
        let expected = || Problem::invalid("server", "expected `https://host:port`");
        if !self.server.starts_with("https://") {
            return Err(expected().into());
        }
        let Some(path) = &self.ca_file else {
            let detail = "no CA certificate: set `--ca-file` or `AUTHGUARDIAN_CA_FILE`";
            return Err(Problem::invalid("ca_file", detail).into());
        };
        let pem = std::fs::read(path).map_err(|error| {
            Problem::invalid(
                "ca_file",
                format!("cannot read `{}`: {error}", path.display()),
            )
        })?;
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        if let Some(certificate) = certificate {
            tls = tls.identity(certificate);
        }
        Endpoint::from_shared(self.server.clone())
            .map_err(|_| expected())?
            .timeout(CALL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .tls_config(tls)
            .map_err(|_| {
                let detail = format!("`{}` holds no usable certificate", path.display());
                Problem::invalid("ca_file", detail).into()
            })
    }

    fn admin_token(&self) -> Result<AdminToken, Failure> {
        let text = match &self.admin_token_file {
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                let detail = format!("cannot read `{}`: {error}", path.display());
                Problem::invalid("admin_token_file", detail)
            })?,
            None => std::env::var("AUTHGUARDIAN_ADMIN_TOKEN").map_err(|_| {
                let detail =
                    "no admin token: set `AUTHGUARDIAN_ADMIN_TOKEN`, `--admin-token-file` or `--client-certificate`";
                Problem::new(Reason::Unauthenticated, detail)
            })?,
        };
        let text = Zeroizing::new(text);
        let parsed = text.trim().parse();
        Ok(parsed.map_err(|error| Problem::invalid("admin_token", format!("{error}")))?)
    }
}

impl RequestIdArgs {
    /// The given id, or a fresh one.
    pub(crate) fn resolve(&self) -> Result<String, Failure> {
        match &self.request_id {
            Some(id) => Ok(id.to_string()),
            None => fresh_request_id(),
        }
    }
}

/// An id for a change whose repeat needs no name.
pub(crate) fn fresh_request_id() -> Result<String, Failure> {
    Ok(ambient()?.uuid().to_string())
}

/// Puts `authorization: Bearer …` on every call; nothing where a certificate is
/// shown.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    fn new(token: &AdminToken) -> Result<Self, Failure> {
        let text = Zeroizing::new(format!("Bearer {}", token.expose().as_str()));
        let mut value: MetadataValue<Ascii> = text
            .parse()
            .map_err(|_| Problem::invalid("admin_token", "it cannot be sent"))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// Makes one call that changes nothing.
pub(crate) async fn read<T>(
    call: impl AsyncFnOnce() -> Result<Response<T>, Status>,
) -> Result<T, Failure> {
    match call().await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(from_status(&status).into()),
    }
}

/// Makes a call that changes something. While its outcome is unknown it is
/// repeated with the same request id, which cannot do anything twice.
pub(crate) async fn change<T>(
    request_id: &str,
    mut call: impl AsyncFnMut() -> Result<Response<T>, Status>,
) -> Result<T, Failure> {
    let mut waits = RETRY_AFTER.into_iter();
    let mut may_be_done = false;
    loop {
        let status = match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => status,
        };
        let problem = from_status(&status);
        may_be_done |= is_unknown(&status, &problem);
        let unknown = problem.reason == Reason::OutcomeUnknown
            || (may_be_done && problem.reason.precedes_request_ids());
        if !unknown {
            return Err(problem.into());
        }
        let Some(wait) = waits.next() else {
            let detail = format!(
                "it may or may not have been done; repeat it with `--request-id {request_id}` to learn"
            );
            return Err(Problem::new(Reason::OutcomeUnknown, detail).into());
        };
        tokio::time::sleep(wait).await;
    }
}

/// Whether this very try may have been carried out all the same. What the server
/// itself says has details; without them it comes from the connection.
fn is_unknown(status: &Status, problem: &Problem) -> bool {
    match problem.reason {
        Reason::OutcomeUnknown => true,
        Reason::Unavailable | Reason::Internal => status.details().is_empty(),
        _ => false,
    }
}

/// What went wrong at the bottom of it.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use authguardian_proto::status::to_status;

    use super::*;

    async fn attempts(status: impl Fn() -> Status) -> (u32, Reason) {
        let made = Cell::new(0);
        let outcome: Result<(), Failure> = change("r-1", async || {
            made.set(made.get() + 1);
            if made.get() == 3 {
                Ok(Response::new(()))
            } else {
                Err(status())
            }
        })
        .await;
        match outcome {
            Ok(()) => (made.get(), Reason::Internal),
            Err(Failure::Problem(problem)) => (made.get(), problem.reason),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_unknown_outcome_is_learnt_by_repeating() {
        let lost = || Status::unavailable("connection reset");
        assert_eq!(attempts(lost).await.0, 3);
        let unknown = || to_status(&Problem::new(Reason::OutcomeUnknown, "?"));
        assert_eq!(attempts(unknown).await.0, 3);
    }

    #[tokio::test]
    async fn a_known_refusal_is_not_repeated() {
        let refused = || to_status(&Problem::new(Reason::Unavailable, "no quorum"));
        assert_eq!(attempts(refused).await, (1, Reason::Unavailable));
        let denied = || to_status(&Problem::new(Reason::PermissionDenied, "role"));
        assert_eq!(attempts(denied).await, (1, Reason::PermissionDenied));
    }

    #[tokio::test]
    async fn a_server_that_is_away_says_nothing_of_a_lost_reply() {
        let lost = Cell::new(false);
        let away = || {
            if lost.replace(true) {
                to_status(&Problem::new(Reason::Unavailable, "no database"))
            } else {
                Status::unavailable("connection reset")
            }
        };
        assert_eq!(attempts(away).await.0, 3);
    }
}
