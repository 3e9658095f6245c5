//! Tools and resources as MCP, one definition for every face, for the
//! revisions with sessions (up to 2025-11-25) and without (2026-07-28).

use std::sync::Arc;

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams,
        CompleteResult, ContentBlock, CustomRequest, CustomResult, Extensions,
        GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsResult,
        ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
        ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult,
        ResourceContents, ResourceTemplate, ServerCapabilities, ServerConfig,
        SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams,
    },
    service::{NotificationContext, RequestContext, SubscriptionContext},
};
use serde_json::json;

use authguardian_proto::reason::Problem;

use crate::core::{
    BoardUri, BudgetUri, Caller, Core, Readable, Resource, Subscription, Told, Tool,
};
pub use arguments::ExactArguments;

use listened::subscribe_to_all;
pub use listened::{Listened, begin_to_listen};
use problem::{failed, problem_json};
use prompts::Prompt;
use subscriptions::{News, Subscriptions, tell_listener, tell_of_followed};
use tools::{TOOLS, offered};

mod arguments;
mod completions;
mod listened;
mod problem;
mod progress;
mod prompts;
mod subscriptions;
mod tools;

const INSTRUCTIONS: &str = "AuthGuardian gives agents time-bound permissions. Before using a protected resource, \
    call `request_permission` with your agent id, the resource type and a specific justification; show the returned \
    token to the resource. Extend it with `renew_permission`, end it with `revoke_token` when the task is done. \
    Resource owners check tokens with `validate_token`. Subscribe to `grants://active` to hear when grants change. \
    Share results with other agents by `blackboard_write` and `blackboard_read`, and subscribe to \
    `blackboard://{board}/{key}` to hear when a key changes. Where a task has a budget, set an amount aside with \
    `request_allocation` before it is spent, tell with `report_spending` what it really came to, and look at what is \
    left with `budget_status`.";

/// What the template of resources of boards stands for.
const OF_BOARDS: &str = "A key of a blackboard, as `blackboard_read` tells it; without a key, the keys of the board. \
    Percent-encode the key.";

/// What the template of resources of budgets stands for.
const OF_BUDGETS: &str =
    "A budget, as `budget_status` tells it, by the task that it is for. Percent-encode the task.";

/// The MCP side of the edge: one value per MCP session, and one per request
/// where the revision has no sessions.
pub struct Mcp {
    core: Arc<Core>,
    subscriptions: Subscriptions,
}

impl Mcp {
    /// A fresh session.
    pub fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            subscriptions: Subscriptions::default(),
        }
    }
}

impl ServerHandler for Mcp {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_prompts()
            .enable_tools()
            .enable_tool_list_changed()
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
        Ok(ListToolsResult::with_all_items(offered(&self.core)))
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
        let arguments = arguments::arguments(request, &context);
        // boxed: what waits for it and moves it around would be as large again
        let call = Box::pin(self.core.call(&caller, tool, arguments));
        let call = progress::telling(call, &context);
        let Some(outcome) = context.ct.run_until_cancelled(call).await else {
            // given up by the client, whom no answer reaches any more; it may have been carried out all the same
            return Ok(CallToolResult::success(vec![]).into());
        };
        Ok(match outcome {
            Ok(told) => structured(told).into(),
            Err(problem) => CallToolResult::structured_error(problem_json(&problem)).into(),
        })
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let prompts = Prompt::ALL.map(Prompt::describe);
        Ok(ListPromptsResult::with_all_items(prompts.into()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        Ok(prompts::get(&request)?.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let argument = &request.argument;
        let values = match completions::candidates(&request.r#ref, &argument.name)? {
            Some(candidates) => {
                let caller = caller(&context)?;
                let chosen = request.context.as_ref();
                let board = chosen.and_then(|context| context.get_argument("board"));
                let board = board.map(String::as_str);
                let completing = self
                    .core
                    .complete(&caller, candidates, &argument.value, board);
                completing.await.map_err(|problem| failed(&problem))?
            }
            None => Vec::new(),
        };
        Ok(CompleteResult::new(completions::page(values)))
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

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let boards = ResourceTemplate::new(BoardUri::TEMPLATE, "blackboard")
            .with_title("Blackboard")
            .with_description(OF_BOARDS)
            .with_mime_type("application/json");
        let budgets = ResourceTemplate::new(BudgetUri::TEMPLATE, "budget")
            .with_title("Budget")
            .with_description(OF_BUDGETS)
            .with_mime_type("application/json");
        Ok(ListResourceTemplatesResult::with_all_items(vec![
            boards, budgets,
        ]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let what = readable(&request.uri)?;
        let caller = caller(&context)?;
        let told = self
            .core
            .read(&caller, &what)
            .await
            .map_err(|problem| failed(&problem))?;
        let contents = ResourceContents::text(told.into_text(), request.uri)
            .with_mime_type("application/json");
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        if let Some(caller) = caller_in(&context.extensions) {
            let news = News::begin(&self.core, &caller);
            self.subscriptions.begin(news, context.peer);
        }
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let (what, caller) = (readable(&request.uri)?, caller(&context)?);
        let news = News::begin(&self.core, &caller);
        self.subscriptions.begin(news, context.peer.clone());
        if let Readable::Resource(resource) = what {
            self.subscriptions.add(resource);
            return Ok(());
        }
        let subscribing = self.core.subscribe(&caller, &what).await;
        if let Some(subscription) = subscribing.map_err(|problem| failed(&problem))? {
            self.subscriptions
                .follow(request.uri, subscription, context.peer)
                .map_err(|problem| failed(&problem))?;
        }
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        match readable(&request.uri)? {
            Readable::Resource(resource) => self.subscriptions.remove(resource),
            Readable::Board(_) | Readable::Budget(_) => self.subscriptions.unfollow(&request.uri),
        }
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        let uris = requested.resource_subscriptions.iter().flatten();
        let known = uris.filter(|uri| Readable::parse(uri).is_some());
        let mut accepted = SubscriptionFilter::builder().resource_subscriptions(known);
        if requested.tools_list_changed == Some(true) {
            accepted = accepted.tools_list_changed();
        }
        // what changes once this is agreed on is told, however soon
        self.subscriptions.agree(&self.core);
        Some(accepted.build())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let caller = caller(context.request_context())?;
        let news = self
            .subscriptions
            .agreed(&self.core)
            .of(&self.core, &caller);
        let followed = self.followed_by(&caller, &context).await;
        let followed = followed.map_err(|problem| failed(&problem))?;
        let tell = tell_listener(news, context.accepted(), context.sink());
        let tell_followed = tell_of_followed(followed, context.sink());
        tokio::select! {
            ((), ()) = async { tokio::join!(tell, tell_followed) } => {}
            () = context.cancelled() => {}
            () = self.core.credential_ended(&caller) => {}
        }
        Ok(())
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        // a known method ends here when its parameters do not fit
        if is_known(&request.method, has_sessions(&context)) {
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

/// A result, as text for models and structured for programs.
fn structured(told: Told) -> CallToolResult {
    let value = told.value();
    let mut result = CallToolResult::success(vec![ContentBlock::text(told.into_text())]);
    result.structured_content = Some(value);
    result
}

/// Whether a method has parameters and is of this server, in revisions with
/// sessions or without.
fn is_known(method: &str, has_sessions: bool) -> bool {
    match method {
        "tools/call" | "resources/read" | "prompts/get" | "completion/complete" => true,
        "resources/subscribe" | "resources/unsubscribe" => has_sessions,
        "subscriptions/listen" => !has_sessions,
        _ => false,
    }
}

/// Whether a request is of a revision up to 2025-11-25.
fn has_sessions(context: &RequestContext<RoleServer>) -> bool {
    let revision = context.protocol_version();
    revision.is_none_or(|revision| revision.as_str() < ProtocolVersion::V_2026_07_28.as_str())
}

/// The caller that the guard found out: every HTTP request of a session carries
/// its own, and so does every message of a long connection.
fn caller(context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
    caller_in(&context.extensions)
        .ok_or_else(|| ErrorData::internal_error("the request was not authenticated", None))
}

fn caller_in(extensions: &Extensions) -> Option<Caller> {
    let of_request = extensions.get::<http::request::Parts>();
    of_request
        .and_then(|parts| parts.extensions.get::<Caller>())
        .or_else(|| extensions.get::<Caller>())
        .cloned()
}

impl Mcp {
    /// The boards and budgets that a listener has asked for: those that were subscribed
    /// to before it was agreed on, else from now on.
    async fn followed_by(
        &self,
        caller: &Caller,
        context: &SubscriptionContext,
    ) -> Result<Vec<(String, Subscription)>, Problem> {
        let extensions = &context.request_context().extensions;
        if let Some(begun) = Listened::take(extensions) {
            return Ok(begun);
        }
        let uris = context.accepted().resource_subscriptions.iter().flatten();
        subscribe_to_all(&self.core, caller, uris).await
    }
}

fn readable(uri: &str) -> Result<Readable, ErrorData> {
    Readable::parse(uri).ok_or_else(|| {
        ErrorData::resource_not_found("resource not found", Some(json!({ "uri": uri })))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_a_revision_has_given_up_is_unknown_in_it() {
        for (method, with, without) in [
            ("tools/call", true, true),
            ("resources/subscribe", true, false),
            ("resources/unsubscribe", true, false),
            ("subscriptions/listen", false, true),
            ("tools/shout", false, false),
        ] {
            assert_eq!(is_known(method, true), with, "{method}");
            assert_eq!(is_known(method, false), without, "{method}");
        }
    }
}
