//! The edge as the command line sees it: its own REST face.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use authguardian_proto::reason::{Problem, Reason};
use clap::Args;
use reqwest::{Method, Response};
use serde_json::Value;
use zeroize::Zeroizing;

use super::Failure;

const TIMEOUT: Duration = Duration::from_secs(90);

/// Where the edge is and who asks.
#[derive(Debug, Args)]
pub(super) struct Client {
    /// The edge
    #[arg(
        long,
        value_name = "URL",
        env = "AUTHGUARDIAN_EDGE_URL",
        default_value = "http://127.0.0.1:3001"
    )]
    server: String,
    /// File with the API key; else AUTHGUARDIAN_API_KEY
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

impl Client {
    /// Calls a tool.
    pub(super) async fn call(&self, tool: &str, arguments: &Value) -> Result<Value, Failure> {
        let key = api_key(self.api_key_file.as_deref())?;
        let request = self
            .request(Method::POST, &format!("/mcp/tools/{tool}"))?
            .bearer_auth(&*key)
            .json(arguments);
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = json(response).await?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(refusal(&body, status.as_u16()))
        }
    }

    /// Reads a path that needs no key, whatever its status.
    pub(super) async fn look(&self, path: &str) -> Result<Value, Failure> {
        let request = self.request(Method::GET, path)?;
        json(
            request
                .send()
                .await
                .map_err(|error| self.unreachable(&error))?,
        )
        .await
    }

    fn request(&self, method: Method, path: &str) -> Result<reqwest::RequestBuilder, Failure> {
        // a proxy must not see API keys of this host
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .map_err(Failure::other)?;
        let url = format!("{}{path}", self.server.trim_end_matches('/'));
        Ok(client.request(method, url))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if error.is_builder() {
            return Failure::usage(format!("`{}` is not a URL of an edge", self.server));
        }
        let (reason, what) = if error.is_connect() {
            (
                Reason::Unavailable,
                "cannot be reached; is `edge-agent run` running?",
            )
        } else {
            (Reason::OutcomeUnknown, "did not answer")
        };
        Failure::with_reason(reason, format!("the edge at `{}` {what}", self.server))
    }
}

/// The API key of a file, else of the environment.
pub(super) fn api_key(file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read `{}`: {error}", path.display()))
        })?,
        None => std::env::var("AUTHGUARDIAN_API_KEY").map_err(|_| {
            Failure::usage("no API key: set AUTHGUARDIAN_API_KEY or use --api-key-file")
        })?,
    };
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(text.trim().to_owned()))
}

async fn json(response: Response) -> Result<Value, Failure> {
    response
        .json()
        .await
        .map_err(|_| Failure::other("the answer is not JSON; is this the address of an edge?"))
}

fn refusal(body: &Value, status: u16) -> Failure {
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    match text("reason").as_deref().and_then(Reason::parse) {
        Some(reason) => {
            let detail = text("detail").unwrap_or_default();
            Problem {
                reason,
                detail,
                field: text("field"),
                retry_after_seconds: body["retry_after_seconds"]
                    .as_u64()
                    .and_then(|seconds| u32::try_from(seconds).ok()),
            }
            .into()
        }
        None => Failure::other(format!("the edge answered with status `{status}`")),
    }
}
