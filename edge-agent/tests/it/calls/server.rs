//! The MCP server of an agent, which writes down what it is shown.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ServerCapabilities,
        ServerConfig,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A server with one tool, `echo`; gone when it is dropped.
pub(crate) struct AgentServer {
    address: SocketAddr,
    seen: Seen,
    serving: JoinHandle<()>,
}

type Seen = Arc<Mutex<Vec<HeaderMap>>>;

struct Echo;

impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let said = serde_json::json!({ "tool": request.name, "said": request.arguments });
        let mut result = CallToolResult::success(vec![ContentBlock::text(said.to_string())]);
        result.structured_content = Some(said);
        Ok(result.into())
    }
}

impl AgentServer {
    pub(crate) async fn start() -> Self {
        let config = StreamableHttpServerConfig::default();
        let sessions = Arc::new(LocalSessionManager::default());
        let mcp = StreamableHttpService::new(|| Ok(Echo), sessions, config);
        Self::serve(Router::new().route_service("/mcp", mcp)).await
    }

    /// One that sends whoever comes somewhere else.
    pub(crate) async fn redirecting(to: &str) -> Self {
        let to = to.to_owned();
        let elsewhere = move || async move {
            let moved = (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]);
            moved.into_response()
        };
        Self::serve(Router::new().fallback(elsewhere)).await
    }

    async fn serve(routes: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let routes = routes.layer(from_fn_with_state(seen.clone(), write_down));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            address,
            seen,
            serving,
        }
    }

    /// What its agent registers.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The headers of all requests so far.
    pub(crate) fn seen(&self) -> Vec<HeaderMap> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for AgentServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn write_down(State(seen): State<Seen>, request: Request, next: Next) -> Response {
    seen.lock().unwrap().push(request.headers().clone());
    next.run(request).await
}
