//! The edge as a client of it: where it is, who asks, and its REST face.

use std::path::{Path, PathBuf};

use authguardian_proto::{
    credential::ApiKey,
    reason::{Problem, Reason},
};
use clap::Args;
use reqwest::Method;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    Failure,
    edge::Edge,
    session::{self, Kept, Session},
};

/// Where an edge is by default.
const LOCAL: &str = "http://127.0.0.1:3001";

/// Where the edge is and who asks.
#[derive(Debug, Args)]
pub(super) struct Client {
    /// The edge; default: the one of `connect` or `login`, else http://127.0.0.1:3001
    #[arg(long, value_name = "URL", env = "AUTHGUARDIAN_EDGE_URL")]
    server: Option<String>,
    /// Certificates (PEM) that alone can vouch for an https edge; default: the system's
    #[arg(long, value_name = "FILE", env = "AUTHGUARDIAN_EDGE_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// File with the API key; else AUTHGUARDIAN_API_KEY; else the session of `login`
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Where `login` and `connect` keep the session; default: in $XDG_RUNTIME_DIR
    #[arg(long, value_name = "FILE", env = "AUTHGUARDIAN_SESSION_FILE")]
    session_file: Option<PathBuf>,
}

/// An edge, and a session at it.
pub(super) struct Opened {
    /// The edge.
    pub(super) edge: Edge,
    session: Session,
}

impl Opened {
    /// The session's token.
    pub(super) fn token(&self) -> &str {
        self.session.token()
    }
}

impl Client {
    /// Finds the edge, and a session at it, for more than one call.
    pub(super) async fn open(&self) -> Result<Opened, Failure> {
        let kept = self.kept()?;
        let edge = self.edge(kept.as_ref())?;
        let session = self.session(&edge, kept).await?;
        Ok(Opened { edge, session })
    }

    /// Calls a tool.
    pub(super) async fn call(&self, tool: &str, arguments: &Value) -> Result<Value, Failure> {
        let kept = self.kept()?;
        let edge = self.edge(kept.as_ref())?;
        let path = format!("/mcp/tools/{tool}");
        let session = self.session(&edge, kept).await?;
        let post = async |session: &Session| {
            edge.send(Method::POST, &path, Some(session.token()), Some(arguments))
                .await
        };
        let reply = post(&session).await?;
        // refused before anything was done with it
        if reply.reason().is_some_and(session::means_ended)
            && let Some(key) = self.key()?
        {
            let (session, _) = session::log_in(&edge, &key).await?;
            return post(&session).await?.ok();
        }
        reply.ok()
    }

    /// Reads a path that needs no credential, whatever its status.
    pub(super) async fn look(&self, path: &str) -> Result<Value, Failure> {
        let edge = self.edge(self.kept()?.as_ref())?;
        let reply = edge.send(Method::GET, path, None, None).await?;
        Ok(reply.whatever())
    }

    /// What is kept of an earlier `login` or `connect`.
    pub(super) fn kept(&self) -> Result<Option<Kept>, Failure> {
        match self.file() {
            Some(path) => session::load(&path),
            None => Ok(None),
        }
    }

    /// Keeps a session, or only the edge.
    pub(super) fn keep(&self, edge: &Edge, session: Option<Session>) -> Result<PathBuf, Failure> {
        let path = self.file().ok_or_else(|| {
            Failure::usage("nowhere to keep the session: set HOME, or use --session-file")
        })?;
        let kept = Kept {
            server: edge.url.clone(),
            ca_file: self.ca(self.kept()?.as_ref(), &edge.url)?,
            session,
        };
        session::store(&path, &kept)?;
        Ok(path)
    }

    /// The edge that is meant.
    pub(super) fn edge(&self, kept: Option<&Kept>) -> Result<Edge, Failure> {
        let url = match (&self.server, kept) {
            (Some(named), _) => named,
            (None, Some(kept)) => &kept.server,
            (None, None) => LOCAL,
        };
        let url = url.trim_end_matches('/');
        Edge::new(url, self.ca(kept, url)?.as_deref())
    }

    /// The API key that was given.
    pub(super) fn key(&self) -> Result<Option<ApiKey>, Failure> {
        match given_key(self.api_key_file.as_deref())? {
            Some(text) => read_key(&text).map(Some),
            None => Ok(None),
        }
    }

    /// Who vouches for an edge: as the flag says, else as was kept of it.
    fn ca(&self, kept: Option<&Kept>, url: &str) -> Result<Option<PathBuf>, Failure> {
        let named = match &self.ca_file {
            Some(path) => Some(path.clone()),
            None => kept
                .filter(|kept| kept.server == url)
                .and_then(|kept| kept.ca_file.clone()),
        };
        named
            .map(std::path::absolute)
            .transpose()
            .map_err(Failure::other)
    }

    fn file(&self) -> Option<PathBuf> {
        let default = || session::default_file(|name| std::env::var(name).ok());
        self.session_file.clone().or_else(default)
    }

    /// The kept session of the given key, or of any where none is given;
    /// else one that is made for this call alone.
    async fn session(&self, edge: &Edge, kept: Option<Kept>) -> Result<Session, Failure> {
        let key = self.key()?;
        let usable = |session: &Session| {
            key.as_ref()
                .is_none_or(|key| key.id() == session.api_key_id)
        };
        let session = kept
            .filter(|kept| kept.server == edge.url)
            .and_then(|kept| kept.session)
            .filter(usable);
        let session = match session {
            Some(due) if due.is_due(session::now()?) => match session::renew(edge, &due).await? {
                Some(renewed) => {
                    self.keep(edge, Some(renewed))?;
                    self.kept()?.and_then(|kept| kept.session)
                }
                None => None,
            },
            session => session,
        };
        match (session, key) {
            (Some(session), _) => Ok(session),
            (None, Some(key)) => Ok(session::log_in(edge, &key).await?.0),
            (None, None) => Err(no_key()),
        }
    }
}

/// The API key of a file, else of the environment.
pub(super) fn api_key(file: Option<&Path>) -> Result<ApiKey, Failure> {
    read_key(&given_key(file)?.ok_or_else(no_key)?)
}

fn given_key(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, Failure> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read `{}`: {error}", path.display()))
        })?,
        None => match std::env::var("AUTHGUARDIAN_API_KEY") {
            Ok(text) => text,
            Err(_) => return Ok(None),
        },
    };
    let text = Zeroizing::new(text);
    Ok(Some(Zeroizing::new(text.trim().to_owned())))
}

fn read_key(text: &str) -> Result<ApiKey, Failure> {
    text.parse()
        .map_err(|error| Problem::new(Reason::Unauthenticated, format!("{error}")).into())
}

fn no_key() -> Failure {
    Failure::usage(
        "no API key: set AUTHGUARDIAN_API_KEY, use --api-key-file, or `edge-agent login` first",
    )
}
