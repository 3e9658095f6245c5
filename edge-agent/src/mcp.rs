//! Tools and resources as MCP, one definition for every face, for the
//! revisions with sessions (up to 2025-11-25) and without (2026-07-28).

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use authguardian_proto::reason::Problem;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, CustomRequest, CustomResult,
        Implementation, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
        ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ResourceContents,
        ResourceUpdatedNotificationParam, ServerCapabilities, ServerConfig, SubscribeRequestParams,
        SubscriptionFilter, UnsubscribeRequestParams,
    },
    service::{Peer, RequestContext, SubscriptionContext},
};
use serde_json::{Map, Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::core::{Caller, Core, Resource, Tool, Watch};

const INSTRUCTIONS: &str = "AuthGuardian gives agents time-bound permissions. Before using a protected resource, \
    call `request_permission` with your agent id, the resource type and a specific justification; show the returned \
    token to the resource. Extend it with `renew_permission`, end it with `revoke_token` when the task is done. \
    Resource owners check tokens with `validate_token`. Subscribe to `grants://active` to hear when grants change.";

static TOOLS: LazyLock<Vec<rmcp::model::Tool>> =
    LazyLock::new(|| Tool::ALL.into_iter().map(describe).collect());

/// The MCP side of the edge: one value per MCP session, and one per request
/// where the revision has no sessions.
pub struct Mcp {
    core: Arc<Core>,
    subscriptions: Mutex<Option<Subscriptions>>,
}

/// What one MCP session has subscribed to; the task ends with it.
struct Subscriptions {
    uris: Arc<Mutex<HashSet<Resource>>>,
    _task: DropGuard,
}

impl Mcp {
    /// A fresh session.
    pub fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            subscriptions: Mutex::new(None),
        }
    }

    fn subscribe_to(&self, resource: Resource, caller: &Caller, peer: &Peer<RoleServer>) {
        let mut subscriptions = self
            .subscriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let subscriptions = subscriptions.get_or_insert_with(|| {
            let uris = Arc::new(Mutex::new(HashSet::new()));
            let stop = CancellationToken::new();
            let task = tell_session(self.core.watch(caller), uris.clone(), peer.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(task));
            Subscriptions {
                uris,
                _task: stop.drop_guard(),
            }
        });
        subscriptions
            .uris
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(resource);
    }

    fn unsubscribe_from(&self, resource: Resource) {
        let mut subscriptions = self
            .subscriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let left = subscriptions.as_ref().map(|subscriptions| {
            let mut uris = subscriptions
                .uris
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            uris.remove(&resource);
            uris.len()
        });
        if left == Some(0) {
            *subscriptions = None;
        }
    }
}

impl ServerHandler for Mcp {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .build();
        let implementation = Implementation::new("authguardian-edge", env!("CARGO_PKG_VERSION"))
            .with_title("AuthGuardian edge");
        ServerConfig::new(capabilities)
            .with_server_info(implementation)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(TOOLS.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<rmcp::model::Tool> {
        TOOLS.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let tool = Tool::parse(&request.name).ok_or_else(|| {
            ErrorData::invalid_params(format!("unknown tool: `{}`", request.name), None)
        })?;
        let caller = caller(&context)?;
        let arguments = request.arguments.unwrap_or_default();
        let call = self.core.call(&caller, tool, arguments);
        let Some(outcome) = context.ct.run_until_cancelled(call).await else {
            // given up by the client, whom no answer reaches any more; it may have been carried out all the same
            return Ok(CallToolResult::success(vec![]).into());
        };
        Ok(match outcome {
            Ok(result) => CallToolResult::structured(result).into(),
            Err(problem) => CallToolResult::structured_error(problem_json(&problem)).into(),
        })
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let resources = Resource::ALL.map(|resource| {
            rmcp::model::Resource::new(resource.uri(), resource.uri())
                .with_title(resource.name())
                .with_description(resource.description())
                .with_mime_type("application/json")
        });
        Ok(ListResourcesResult::with_all_items(resources.into()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let resource = resource(&request.uri)?;
        let caller = caller(&context)?;
        let value = self
            .core
            .read(&caller, resource)
            .await
            .map_err(|problem| failed(&problem))?;
        let contents = ResourceContents::text(value.to_string(), request.uri)
            .with_mime_type("application/json");
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let resource = resource(&request.uri)?;
        self.subscribe_to(resource, &caller(&context)?, &context.peer);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.unsubscribe_from(resource(&request.uri)?);
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        let uris = requested.resource_subscriptions.iter().flatten();
        let known = uris.filter(|uri| Resource::parse(uri).is_some());
        Some(
            SubscriptionFilter::builder()
                .resource_subscriptions(known)
                .build(),
        )
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let caller = caller(context.request_context())?;
        let accepted = context
            .accepted()
            .resource_subscriptions
            .clone()
            .unwrap_or_default();
        let mut watch = self.core.watch(&caller);
        let tell = async {
            while let Some(changed) = watch.next().await {
                for resource in changed {
                    if accepted.iter().any(|uri| uri == resource.uri())
                        && context
                            .sink()
                            .notify_resource_updated(resource.uri())
                            .await
                            .is_err()
                    {
                        return;
                    }
                }
            }
        };
        tokio::select! {
            () = tell => {}
            () = context.cancelled() => {}
            () = self.core.credential_ended(&caller) => {}
        }
        Ok(())
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        const KNOWN: [&str; 5] = [
            "tools/call",
            "resources/read",
            "resources/subscribe",
            "resources/unsubscribe",
            "subscriptions/listen",
        ];
        // a known method ends here when its parameters do not fit
        if KNOWN.contains(&request.method.as_str()) {
            let message = format!("the parameters do not fit `{}`", request.method);
            return Err(ErrorData::invalid_params(message, None));
        }
        let message = format!("method not found: `{}`", request.method);
        Err(ErrorData::new(
            rmcp::model::ErrorCode::METHOD_NOT_FOUND,
            message,
            None,
        ))
    }
}

/// Tells a session of every change that it has subscribed to.
async fn tell_session(
    mut watch: Watch,
    uris: Arc<Mutex<HashSet<Resource>>>,
    peer: Peer<RoleServer>,
) {
    while let Some(changed) = watch.next().await {
        for resource in changed {
            let wanted = uris
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&resource);
            if !wanted {
                continue;
            }
            let update = ResourceUpdatedNotificationParam::new(resource.uri());
            if peer.notify_resource_updated(update).await.is_err() {
                return;
            }
        }
    }
}

fn describe(tool: Tool) -> rmcp::model::Tool {
    let mut described = rmcp::model::Tool::new(
        tool.name(),
        tool.description(),
        Arc::new(tool.input_schema()),
    );
    described.title = Some(tool.title().to_owned());
    described.output_schema = Some(Arc::new(result_or_problem(tool.output_schema())));
    described.annotations = Some(
        rmcp::model::ToolAnnotations::new()
            .read_only(tool.is_read_only())
            .destructive(tool == Tool::RevokeToken)
            .open_world(false),
    );
    described
}

/// The schema of `structuredContent`: errors are structured too, and stock
/// clients hold them to the same schema.
fn result_or_problem(mut result: Map<String, Value>) -> Map<String, Value> {
    let required = result.remove("required").unwrap_or_else(|| json!([]));
    let properties = result.entry("properties").or_insert_with(|| json!({}));
    for (name, description) in [
        ("reason", "Of an error: a stable word for programs."),
        ("detail", "Of an error: a sentence for people."),
        ("field", "Of an error: the argument at fault."),
    ] {
        if properties.get(name).is_none() {
            properties[name] = json!({ "type": "string", "description": description });
        }
    }
    properties["retry_after_seconds"] = json!({
        "type": "integer",
        "description": "Of an error: when to try again, seconds from now.",
    });
    let alternatives = json!([{ "required": required }, { "required": ["reason", "detail"] }]);
    result.insert("anyOf".to_owned(), alternatives);
    result
}

/// The caller that the guard found out; every HTTP request of a session
/// carries its own.
fn caller(context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
    context
        .extensions
        .get::<http::request::Parts>()
        .and_then(|parts| parts.extensions.get::<Caller>())
        .cloned()
        .ok_or_else(|| ErrorData::internal_error("the request was not authenticated", None))
}

fn resource(uri: &str) -> Result<Resource, ErrorData> {
    Resource::parse(uri).ok_or_else(|| {
        ErrorData::resource_not_found("resource not found", Some(json!({ "uri": uri })))
    })
}

/// A resource that cannot be read now; there is no `isError` for resources.
fn failed(problem: &Problem) -> ErrorData {
    ErrorData::internal_error(problem.detail.clone(), Some(problem_json(problem)))
}

fn problem_json(problem: &Problem) -> Value {
    let mut value = json!({ "reason": problem.reason.as_str(), "detail": problem.detail });
    if let (Some(field), Some(object)) = (&problem.field, value.as_object_mut()) {
        object.insert("field".to_owned(), json!(field));
    }
    if let (Some(seconds), Some(object)) = (problem.retry_after_seconds, value.as_object_mut()) {
        object.insert("retry_after_seconds".to_owned(), json!(seconds));
    }
    value
}

#[cfg(test)]
mod tests {
    use authguardian_proto::reason::Reason;

    use super::*;

    #[test]
    fn a_problem_has_a_field_only_where_one_is_at_fault() {
        let problem = Problem::new(Reason::Unavailable, "later");
        assert_eq!(
            problem_json(&problem),
            json!({"reason": "UNAVAILABLE", "detail": "later"})
        );
        assert_eq!(problem_json(&problem.at("token"))["field"], "token");
        let limited = Problem::rate_limited("too often", std::time::Duration::from_secs(2));
        assert_eq!(
            problem_json(&limited),
            json!({"reason": "RATE_LIMITED", "detail": "too often", "retry_after_seconds": 2})
        );
    }

    #[test]
    fn every_tool_is_described_with_both_schemas() {
        for tool in TOOLS.iter() {
            assert_eq!(tool.input_schema["type"], "object");
            let gives = tool.output_schema.as_ref().unwrap();
            assert_eq!(gives["type"], "object");
            assert_eq!(gives["anyOf"].as_array().unwrap().len(), 2);
            for name in gives["anyOf"][0]["required"].as_array().unwrap() {
                assert!(gives["properties"][name.as_str().unwrap()].is_object());
            }
            assert!(gives["properties"]["reason"].is_object());
            assert!(
                tool.description
                    .as_ref()
                    .is_some_and(|text| text.len() > 40)
            );
        }
    }
}
