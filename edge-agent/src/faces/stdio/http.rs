//! HTTP/1.1 over the edge's Unix socket, one connection per request.

use std::path::PathBuf;

use authguardian_proto::{credential::ApiKey, reason::Problem};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::login::Login;

/// Which headers a request carries, besides those that all have.
#[derive(Debug, Clone, Default)]
pub(super) struct Headers {
    /// `Mcp-Session-Id`
    pub(super) session: Option<String>,
    /// `MCP-Protocol-Version`
    pub(super) version: Option<String>,
    /// `Mcp-Method`
    pub(super) method: Option<String>,
    /// `Mcp-Name`
    pub(super) name: Option<String>,
    /// `Last-Event-ID`
    pub(super) last_event: Option<String>,
}

/// The edge cannot be reached, or broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("the edge cannot be reached at `{path}`: {source}; is `edge-agent run` running?")]
    Connect {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the connection to the edge broke: {0}")]
    Broken(#[from] hyper::Error),
    #[error("a header cannot be sent: {0}")]
    Header(#[from] http::Error),
    #[error("{}", .0.detail)]
    Refused(Problem),
}

/// A client of one edge with one key.
pub(super) struct Http {
    socket: PathBuf,
    pub(super) login: Login,
}

impl Http {
    pub(super) fn new(socket: PathBuf, api_key: ApiKey) -> Self {
        let login = Login::new(api_key);
        Self { socket, login }
    }

    /// Sends one request to `/mcp` and returns the head of the response.
    pub(super) async fn send(
        &self,
        method: Method,
        headers: Headers,
        body: String,
    ) -> Result<Response<Incoming>, HttpError> {
        let token = self.token().await?;
        let response = self
            .exchange(
                method.clone(),
                "/mcp",
                headers.clone(),
                body.clone(),
                Some(&token),
            )
            .await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // refused before anything was done with it
        let token = self.token_after(&token).await?;
        self.exchange(method, "/mcp", headers, body, Some(&token))
            .await
    }

    /// Sends one request, with a credential or without.
    pub(super) async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: Headers,
        body: String,
        bearer: Option<&str>,
    ) -> Result<Response<Incoming>, HttpError> {
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| HttpError::Connect {
                    path: self.socket.clone(),
                    source,
                })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // ends with the response's body
        tokio::spawn(connection);
        let accept = if method == Method::GET {
            "text/event-stream"
        } else {
            "application/json, text/event-stream"
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, accept)
            .header(header::CONTENT_TYPE, "application/json");
        let named = [
            ("mcp-session-id", headers.session),
            ("mcp-protocol-version", headers.version),
            ("mcp-method", headers.method),
            ("mcp-name", headers.name.map(|name| encode(&name))),
            ("last-event-id", headers.last_event),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let mut request = request.body(Full::new(Bytes::from(body)))?;
        if let Some(token) = bearer {
            let credential = Zeroizing::new(format!("Bearer {token}"));
            if let Ok(mut value) = HeaderValue::from_str(&credential) {
                value.set_sensitive(true);
                request.headers_mut().insert(header::AUTHORIZATION, value);
            }
        }
        Ok(sender.send_request(request).await?)
    }
}

/// The session that a response belongs to.
pub(super) fn session_id(response: &Response<Incoming>) -> Option<String> {
    response
        .headers()
        .get("mcp-session-id")?
        .to_str()
        .ok()
        .map(str::to_owned)
}

/// Whether a response is a stream of events.
pub(super) fn is_stream(response: &Response<Incoming>) -> bool {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

/// A name that is no plain header value is wrapped (SEP-2243).
fn encode(name: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let plain = name.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
        && name.trim() == name
        && !name.starts_with("=?base64?");
    if plain {
        name.to_owned()
    } else {
        format!("=?base64?{}?=", STANDARD.encode(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_headers_cannot_carry_are_wrapped() {
        assert_eq!(encode("grants://active"), "grants://active");
        assert_eq!(encode("é"), "=?base64?w6k=?=");
        assert_eq!(encode(" a"), "=?base64?IGE=?=");
    }
}
