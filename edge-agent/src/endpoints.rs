//! The MCP servers of this machine's agents, as HTTP reaches them. Whatever an
//! agent has registered, a message goes only to addresses that are allowed here,
//! with no credential, and follows no redirect.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use authguardian_proto::{
    endpoint::Endpoint,
    network::Networks,
    reason::{Problem, Reason},
};
use http::{HeaderMap, Method};
use reqwest::{
    Response,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// For the next bytes of an answer; servers of streams send a sign of life more
/// often.
const SILENCE: Duration = Duration::from_mins(5);

/// A message to an agent's MCP server, and nothing that its sender is known by.
#[derive(Debug)]
pub struct Message {
    /// `POST`, `GET` or `DELETE`.
    pub method: Method,
    /// Only those that Streamable HTTP needs.
    pub headers: HeaderMap,
    /// The JSON text, or nothing.
    pub body: Vec<u8>,
}

/// The way to the MCP servers of this machine's agents.
#[derive(Debug)]
pub struct Endpoints {
    allowed: Allowed,
    http: reqwest::Client,
}

/// Loopback, and networks that the operator has named.
#[derive(Debug, Clone)]
struct Allowed(Networks);

impl Endpoints {
    /// Endpoints on loopback and in these networks may be called.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(networks: Networks) -> Result<Self, reqwest::Error> {
        let allowed = Allowed(networks);
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .dns_resolver(Names(allowed.clone()))
            .build()?;
        Ok(Self { allowed, http })
    }

    /// Refuses an endpoint that is not allowed here; what a name stands for is
    /// looked at when it is called.
    ///
    /// # Errors
    /// `ADDRESS_NOT_ALLOWED`.
    pub fn check(&self, endpoint: &Endpoint) -> Result<(), Problem> {
        match endpoint.address() {
            Some(address) if !self.allowed.contains(address) => Err(not_allowed()),
            _ => Ok(()),
        }
    }

    /// Sends a message. The answer's status is the server's, but no redirect.
    ///
    /// # Errors
    /// `ADDRESS_NOT_ALLOWED`; `UNAVAILABLE` when the server cannot be reached or
    /// answers with a redirect.
    pub async fn send(&self, endpoint: &Endpoint, message: Message) -> Result<Response, Problem> {
        self.check(endpoint)?;
        let sending = self
            .http
            .request(message.method, endpoint.url().clone())
            .headers(message.headers)
            .body(message.body)
            .send();
        let response = sending.await.map_err(|error| {
            if has_cause::<NotAllowed>(&error) {
                return not_allowed();
            }
            Problem::new(
                Reason::Unavailable,
                "the agent's MCP server cannot be reached or did not answer",
            )
        })?;
        if response.status().is_redirection() {
            return Err(Problem::new(
                Reason::Unavailable,
                "the agent's MCP server answers with a redirect, which is not followed",
            ));
        }
        Ok(response)
    }
}

fn not_allowed() -> Problem {
    Problem::new(
        Reason::AddressNotAllowed,
        "the agent's endpoint is not at an address that its edge may call; `peer.endpoint_networks` of that edge names more than loopback",
    )
}

impl Allowed {
    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.0.contains(address)
    }
}

/// A name none of whose addresses is allowed.
#[derive(Debug, thiserror::Error)]
#[error("no address of this name is allowed")]
struct NotAllowed;

/// Looks names up, and keeps the addresses that are allowed: the connection goes
/// to what was checked, whatever the name stands for a moment later.
#[derive(Debug)]
struct Names(Allowed);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let kept: Vec<SocketAddr> = found
                .filter(|address| allowed.contains(address.ip()))
                .collect();
            if kept.is_empty() {
                return Err(NotAllowed.into());
            }
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

fn has_cause<E: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(<dyn std::error::Error>::is::<E>)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread::JoinHandle,
    };

    use super::*;

    fn message() -> Message {
        Message {
            method: Method::POST,
            headers: HeaderMap::new(),
            body: b"{}".to_vec(),
        }
    }

    /// Answers one request, and tells what it was.
    fn server(answer: &'static str) -> (u16, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = vec![0; 4096];
            let mut length = 0;
            while !seen[..length].ends_with(b"{}") {
                length += stream.read(&mut seen[length..]).unwrap();
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&seen[..length]).into_owned()
        });
        (port, serving)
    }

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_message_reaches_loopback_by_address_and_by_name() {
        for host in ["127.0.0.1", "localhost"] {
            let (port, serving) =
                server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
            let endpoints = Endpoints::new(Networks::default()).unwrap();
            let target = endpoint(&format!("http://{host}:{port}/mcp"));
            let response = endpoints.send(&target, message()).await.unwrap();
            assert_eq!(response.status(), 200);
            let seen = serving.join().unwrap().to_lowercase();
            assert!(seen.starts_with("post /mcp "), "{seen}");
            assert!(!seen.contains("authorization"), "{seen}");
        }
    }

    #[tokio::test]
    async fn what_is_beyond_the_allowed_networks_is_not_called() {
        let endpoints = Endpoints::new("10.1.0.0/16".parse().map(one).unwrap()).unwrap();
        assert!(endpoints.check(&endpoint("https://10.1.2.3/mcp")).is_ok());
        for text in ["https://10.2.0.1/mcp", "https://[2001:db8::1]/mcp"] {
            let problem = endpoints
                .send(&endpoint(text), message())
                .await
                .unwrap_err();
            assert_eq!(problem.reason, Reason::AddressNotAllowed, "{text}");
        }
    }

    fn one(network: authguardian_proto::network::Network) -> Networks {
        serde_json::from_value(serde_json::json!([network.to_string()])).unwrap()
    }

    #[tokio::test]
    async fn a_name_counts_by_what_it_stands_for() {
        // no network but loopback is allowed, and this name stands for none that is
        let names = Names(Allowed(Networks::default()));
        let name: Name = "localhost".parse().unwrap();
        assert!(
            names
                .resolve(name)
                .await
                .is_ok_and(|found| { found.into_iter().all(|address| address.ip().is_loopback()) })
        );
        let name: Name = "192.0.2.1".parse().unwrap();
        let Err(error) = names.resolve(name).await else {
            panic!("an address beyond loopback was taken");
        };
        assert!(error.is::<NotAllowed>());
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let (port, serving) = server(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
        let endpoints = Endpoints::new(Networks::default()).unwrap();
        let target = endpoint(&format!("http://127.0.0.1:{port}/"));
        let problem = endpoints.send(&target, message()).await.unwrap_err();
        assert_eq!(problem.reason, Reason::Unavailable);
        assert!(problem.detail.contains("redirect"), "{}", problem.detail);
        serving.join().unwrap();
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable() {
        let endpoints = Endpoints::new(Networks::default()).unwrap();
        let target = endpoint("http://127.0.0.1:1/mcp");
        let problem = endpoints.send(&target, message()).await.unwrap_err();
        assert_eq!(problem.reason, Reason::Unavailable);
    }
}
