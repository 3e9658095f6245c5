//! A proxy that shows a key for a client that has none; all else, `Host` and
//! `Origin` above all, passes as it is.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Uri, header, uri},
    response::{IntoResponse, Response},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// Serves until it is dropped.
pub(super) struct WithKey {
    /// Where it is.
    pub(super) url: String,
    serving: JoinHandle<()>,
}

struct Way {
    client: Client<HttpConnector, Body>,
    edge: uri::Authority,
    credential: HeaderValue,
}

impl WithKey {
    /// Stands before the edge at this URL.
    pub(super) async fn before(edge: &str, api_key: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = Way {
            client: Client::builder(TokioExecutor::new()).build_http(),
            edge: edge.parse::<Uri>().unwrap().into_parts().authority.unwrap(),
            credential: format!("Bearer {api_key}").parse().unwrap(),
        };
        let routes = Router::new().fallback(pass).with_state(Arc::new(way));
        Self {
            url: format!("http://{address}"),
            serving: tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }),
        }
    }
}

impl Drop for WithKey {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(State(way): State<Arc<Way>>, mut request: Request) -> Response {
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(uri::Scheme::HTTP);
    parts.authority = Some(way.edge.clone());
    *request.uri_mut() = Uri::from_parts(parts).unwrap();
    let shown = request
        .headers_mut()
        .insert(header::AUTHORIZATION, way.credential.clone());
    assert_eq!(shown, None, "the client has a credential of its own");
    match way.client.request(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
