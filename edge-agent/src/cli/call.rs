//! `edge-agent call`

use std::{collections::HashMap, process::ExitCode};

use authguardian_proto::{
    ids::{AgentId, ResourceTypeName},
    reason::Reason,
};
use clap::Args;
use http::{HeaderName, HeaderValue};
use reqwest::Method;
use rmcp::{
    ServiceExt,
    model::CallToolRequestParams,
    service::{ClientInitializeError, ServiceError},
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::{Map, Value, json};

use super::{
    Failure,
    client::{Client, Opened},
    output::{Format, print},
    validate_token::token,
};

const AFTER_HELP: &str = "\
The agent's MCP server is reached through the edge of the machine that it is registered on, over
mTLS. It is shown no credential; that edge is shown a grant that is good for calling this agent
only. Without --grant, one is asked for: the tool is its scope, and the policies judge it.

Exit code 4 when the grant is denied, 1 when the tool says that it failed.

Examples:
  edge-agent call --agent invoice_reader list_invoices --as data_analyst \\
      --justification \"Q4 report of all invoices\" --arguments '{\"quarter\": \"Q4\"}'
  edge-agent call --agent invoice_reader list_invoices --grant - < token";

/// Call a tool of another agent
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Call {
    /// The agent to call
    #[arg(long, value_name = "ID")]
    agent: AgentId,
    /// Its tool
    tool: String,
    /// The tool's arguments, a JSON object; `-` reads it from stdin
    #[arg(long, value_name = "JSON", default_value = "{}")]
    arguments: String,
    /// Agent on whose behalf; default: the only one of the API key
    #[arg(long = "as", value_name = "ID")]
    caller: Option<AgentId>,
    /// Why, in a sentence: for the grant to call
    #[arg(long, value_name = "TEXT", required_unless_present = "grant")]
    justification: Option<String>,
    /// A grant for `agent:ID` that you hold already; `-` reads it from stdin
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["justification", "caller"])]
    grant: Option<String>,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    format: Format,
}

impl Call {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        if self.grant.as_deref() == Some("-") && self.arguments == "-" {
            return Err(Failure::usage(
                "only one of --grant and --arguments can be `-`",
            ));
        }
        let arguments = arguments(&self.arguments)?;
        let opened = self.client.open().await?;
        let grant = match &self.grant {
            Some(grant) => token(grant.clone())?,
            None => self.ask(&opened).await?.into(),
        };
        let result = self.call(&opened, &grant, arguments).await?;
        print(self.format, &shown(&result))?;
        Ok(ExitCode::from(u8::from(result["isError"] == true)))
    }

    /// Asks for a grant to call this tool.
    async fn ask(&self, opened: &Opened) -> Result<String, Failure> {
        let asked = json!({
            "agent_id": self.on_behalf_of(opened).await?,
            "resource_type": ResourceTypeName::of_agent(&self.agent).as_str(),
            "justification": self.justification,
            "scope": self.tool,
        });
        let decision = self.client.call("request_permission", &asked).await?;
        match decision["token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => Err(Failure::with_reason(
                Reason::PermissionDenied,
                format!(
                    "the grant to call `{}` was not given: {}",
                    self.agent, decision["reasons"]
                ),
            )),
        }
    }

    async fn on_behalf_of(&self, opened: &Opened) -> Result<String, Failure> {
        if let Some(caller) = &self.caller {
            return Ok(caller.to_string());
        }
        let reply = opened
            .edge
            .send(Method::GET, "/auth/session", Some(opened.token()), None)
            .await?;
        match reply.ok()?["agent_ids"].as_array().map(Vec::as_slice) {
            Some([Value::String(only)]) => Ok(only.clone()),
            _ => Err(Failure::usage(
                "this API key speaks for several agents: say which with --as",
            )),
        }
    }

    async fn call(
        &self,
        opened: &Opened,
        grant: &str,
        arguments: Map<String, Value>,
    ) -> Result<Value, Failure> {
        let path = percent_encoding::utf8_percent_encode(
            self.agent.as_str(),
            percent_encoding::NON_ALPHANUMERIC,
        );
        let url = format!("{}/agents/{path}/mcp", opened.edge.url);
        let mut grant =
            HeaderValue::from_str(grant).map_err(|_| Failure::usage("--grant is no token"))?;
        grant.set_sensitive(true);
        let config = StreamableHttpClientTransportConfig::with_uri(url)
            .auth_header(opened.token())
            .custom_headers(HashMap::from([(
                HeaderName::from_static("x-authguardian-grant"),
                grant,
            )]));
        let transport = StreamableHttpClientTransport::with_client(opened.edge.http(), config);
        let service = ().serve(transport).await.map_err(|error| begun(&error))?;
        let call = CallToolRequestParams::new(self.tool.clone()).with_arguments(arguments);
        let result = service.call_tool(call).await;
        // the session is the agent's to forget
        let _ = service.cancel().await;
        let result = result.map_err(|error| called(&error))?;
        serde_json::to_value(result).map_err(Failure::other)
    }
}

fn arguments(given: &str) -> Result<Map<String, Value>, Failure> {
    let text = if given == "-" {
        std::io::read_to_string(std::io::stdin()).map_err(Failure::other)?
    } else {
        given.to_owned()
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(_) => Err(Failure::usage("--arguments: expected a JSON object")),
        Err(error) => Err(Failure::usage(format!("--arguments: not JSON: {error}"))),
    }
}

/// What the tool has to say: its structured result, else its text, else all of it.
fn shown(result: &Value) -> Value {
    let structured = &result["structuredContent"];
    if !structured.is_null() {
        return structured.clone();
    }
    match result["content"].as_array().map(Vec::as_slice) {
        Some([only]) if only["type"] == "text" => only["text"].clone(),
        _ => result.clone(),
    }
}

fn begun(error: &ClientInitializeError) -> Failure {
    match error {
        ClientInitializeError::JsonRpcError(told) => refused(told.data.as_ref(), &told.message),
        other => refused(None, &other.to_string()),
    }
}

fn called(error: &ServiceError) -> Failure {
    match error {
        ServiceError::McpError(told) => refused(told.data.as_ref(), &told.message),
        other => refused(None, &other.to_string()),
    }
}

/// The edge's own word, wherever the client library has put it.
fn refused(data: Option<&Value>, message: &str) -> Failure {
    let within = || {
        let start = message.find('{')?;
        let mut values = serde_json::Deserializer::from_str(&message[start..]).into_iter::<Value>();
        let body = values.next()?.ok()?;
        let data = &body["error"]["data"];
        Some(if data.is_null() { body } else { data.clone() })
    };
    let said = data.cloned().or_else(within).unwrap_or_default();
    let reason = said["reason"].as_str().and_then(Reason::parse);
    let detail = said["detail"].as_str().unwrap_or(message);
    match reason {
        Some(reason) => Failure::with_reason(reason, format!("{reason}: {detail}")),
        None => Failure::other(format!("the call failed: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_reason_wherever_it_stands() {
        let data = json!({"reason": "GRANT_REVOKED", "detail": "the grant was revoked"});
        let body = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "x", "data": data}});
        for (data, message) in [
            (Some(&data), "x".to_owned()),
            (None, format!("HTTP 403 Forbidden: {body}")),
            (None, format!("Send message error HTTP 403: {data}, when x")),
        ] {
            let told = format!("{:?}", refused(data, &message));
            assert!(
                told.contains("GRANT_REVOKED: the grant was revoked"),
                "{told}"
            );
        }
        let told = format!("{:?}", refused(None, "connection closed"));
        assert!(told.contains("connection closed"), "{told}");
    }

    #[test]
    fn a_result_is_shown_by_what_it_says() {
        let structured = json!({"structuredContent": {"a": 1}, "content": []});
        assert_eq!(shown(&structured), json!({"a": 1}));
        let text = json!({"content": [{"type": "text", "text": "hello"}]});
        assert_eq!(shown(&text), json!("hello"));
        let many = json!({"content": [{"type": "text", "text": "a"}, {"type": "image"}]});
        assert_eq!(shown(&many), many);
    }
}
