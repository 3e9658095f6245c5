//! `GET /events`: what is told, from where on, and to whom.

mod cors;
mod resume;
mod slow;
mod telling;
mod ticket;

use control_plane::{
    audit::Context,
    events::{self, ChangeBody, RevocationTarget, Stream},
};
use edge_agent::core::exact;
use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde_json::Value;

use crate::{
    edge::{Edge, http},
    rig::ControlPlane,
    wait::DEADLINE,
};

/// One event as a browser would dispatch it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// The last id by then.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

impl Told {
    fn grant(&self) -> &str {
        self.data["grant_id"].as_str().unwrap_or_default()
    }
}

/// An `EventSource` that does not come again by itself.
pub(crate) struct Events {
    response: Response,
    unread: Vec<u8>,
    /// The last id that came, with or without an event.
    last_id: String,
    retry: Option<u64>,
}

impl Events {
    /// With a key, from now on.
    async fn open(edge: &Edge, key: &str) -> Self {
        Self::open_at(edge, key, "").await
    }

    /// With a key and this query.
    pub(crate) async fn open_at(edge: &Edge, key: &str, query: &str) -> Self {
        Self::begin(get(edge, query).bearer_auth(key)).await
    }

    /// With a key, after this id.
    async fn resume(edge: &Edge, key: &str, last_id: &str) -> Self {
        let request = get(edge, "").bearer_auth(key);
        Self::begin(request.header("last-event-id", last_id)).await
    }

    async fn begin(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let headers = response.headers();
        assert_eq!(headers[header::CONTENT_TYPE], "text/event-stream");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(headers["x-accel-buffering"], "no");
        Self {
            response,
            unread: Vec::new(),
            last_id: String::new(),
            retry: None,
        }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Told> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                block
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            if let Some(id) = field("id") {
                id.clone_into(&mut self.last_id);
            }
            if let Some(retry) = field("retry") {
                self.retry = Some(retry.parse().unwrap());
            }
            if let Some(data) = field("data") {
                return Some(Told {
                    id: self.last_id.clone(),
                    name: field("event").unwrap_or("message").to_owned(),
                    data: exact(data).unwrap(),
                });
            }
            // a position is worth looking at, too
            if field("id").is_some() {
                return Some(Told {
                    id: self.last_id.clone(),
                    name: String::new(),
                    data: Value::Null,
                });
            }
        }
    }

    /// The next event that is one.
    pub(crate) async fn event(&mut self) -> Told {
        loop {
            let told = self.next().await.unwrap_or_else(|| panic!("it has ended"));
            if !told.name.is_empty() {
                return told;
            }
        }
    }

    /// So many events.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<Told> {
        let mut told = Vec::new();
        while told.len() < count {
            told.push(self.event().await);
        }
        told
    }

    /// Waits until it is told where it stands.
    pub(crate) async fn position(&mut self) -> String {
        let told = self.next().await.unwrap();
        assert_eq!(told.name, "", "{told:?}");
        told.id
    }

    /// The events until its end.
    pub(crate) async fn rest(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(next) = self.next().await {
            if !next.name.is_empty() {
                told.push(next);
            }
        }
        told
    }

    async fn block(&mut self) -> Option<String> {
        loop {
            let end = self.unread.windows(2).position(|pair| pair == b"\n\n");
            if let Some(end) = end {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Some(String::from_utf8(block).unwrap());
            }
            let chunk = tokio::time::timeout(DEADLINE, self.response.chunk());
            let chunk = chunk.await.unwrap().unwrap();
            self.unread.extend_from_slice(&chunk?);
        }
    }
}

fn get(edge: &Edge, query: &str) -> RequestBuilder {
    http().get(format!("{}/events{query}", edge.url))
}

/// Lets so many grants of an agent run out, as far as the change stream is
/// concerned; returns their ids.
async fn expire(control_plane: &ControlPlane, agent: &str, count: usize) -> Vec<String> {
    let app = &control_plane.app;
    let bodies: Vec<ChangeBody> = (0..count)
        .map(|_| ChangeBody::GrantExpired {
            grant_id: authguardian_proto::ids::GrantId::from_uuid(app.ambient.uuid()),
            agent_id: agent.parse().unwrap(),
        })
        .collect();
    let mut tx = app.db.begin().await.unwrap();
    let now = app.ambient.clock.now();
    events::append(&mut tx, Stream::Grants, now, &bodies)
        .await
        .unwrap();
    app.db.commit(tx).await.unwrap();
    let id = |body: &ChangeBody| match body {
        ChangeBody::GrantExpired { grant_id, .. } => grant_id.to_string(),
        other => panic!("{other:?}"),
    };
    bodies.iter().map(id).collect()
}

async fn revoke_matching(control_plane: &ControlPlane, target: RevocationTarget) {
    let grants = &control_plane.app.grants;
    let revoked = grants.revoke_matching(Context::system(), target, "");
    revoked.await.unwrap();
}

fn grants(told: &[Told]) -> Vec<String> {
    told.iter().map(|told| told.grant().to_owned()).collect()
}
