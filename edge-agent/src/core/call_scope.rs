//! Which messages a grant to call an agent lets through: its scope names tools.

use authguardian_proto::reason::{Problem, Reason};
use serde::Deserialize;

/// Names of tools, separated by blanks or commas; none, or `*`, means everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallScope<'a>(Option<&'a str>);

/// As much of a message as decides.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    method: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    name: Option<std::borrow::Cow<'a, str>>,
}

/// What every session needs, whatever it is for.
const ALWAYS: [&str; 5] = [
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "logging/setLevel",
];

impl<'a> CallScope<'a> {
    pub(super) fn new(scope: Option<&'a str>) -> Self {
        let is_open =
            |scope: &&str| scope.trim().is_empty() || names(scope).any(|name| name == "*");
        Self(scope.filter(|scope| !is_open(scope)))
    }

    /// Refuses a message that the grant is not for; no body is no message.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for what is no single JSON-RPC message,
    /// `PERMISSION_DENIED` beyond the scope.
    pub(super) fn check(self, body: &[u8]) -> Result<(), Problem> {
        let Some(scope) = self.0.filter(|_| !body.is_empty()) else {
            return Ok(());
        };
        let Ok(head) = serde_json::from_slice::<Head<'_>>(body) else {
            return Err(Problem::new(
                Reason::InvalidArgument,
                "expected one JSON-RPC message",
            ));
        };
        let Some(method) = head.method else {
            return Ok(()); // an answer to the server
        };
        if ALWAYS.contains(&&*method) || method.starts_with("notifications/") {
            return Ok(());
        }
        let tool = head.params.and_then(|params| params.name);
        let named = tool.as_deref().unwrap_or_default();
        if method == "tools/call" && names(scope).any(|name| name == named) {
            return Ok(());
        }
        let detail = match &*method {
            "tools/call" => {
                format!("the grant's scope is `{scope}`, which is not for the tool `{named}`")
            }
            _ => format!("the grant's scope is `{scope}`, which is for calling these tools only"),
        };
        Err(Problem::new(Reason::PermissionDenied, detail))
    }
}

fn names(scope: &str) -> impl Iterator<Item = &str> {
    scope
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(scope: Option<&str>, message: &serde_json::Value) -> Result<(), Reason> {
        let body = serde_json::to_vec(message).unwrap();
        CallScope::new(scope)
            .check(&body)
            .map_err(|problem| problem.reason)
    }

    #[test]
    fn a_scope_names_the_tools_that_may_be_called() {
        let call = |tool: &str| json!({"method": "tools/call", "params": {"name": tool}});
        for open in [None, Some(""), Some("*"), Some("a, *")] {
            assert_eq!(check(open, &call("anything")), Ok(()));
            assert_eq!(check(open, &json!({"method": "resources/read"})), Ok(()));
        }
        let scope = Some("list_invoices, read_invoice");
        for fits in [
            call("list_invoices"),
            call("read_invoice"),
            json!({"method": "initialize"}),
            json!({"method": "notifications/initialized"}),
            json!({"id": 1, "result": {}}),
        ] {
            assert_eq!(check(scope, &fits), Ok(()), "{fits}");
        }
        for beyond in [
            call("delete_invoice"),
            call(""),
            json!({"method": "tools/call"}),
            json!({"method": "resources/read", "params": {"name": "list_invoices"}}),
            json!({"method": "prompts/get", "params": {"name": "list_invoices"}}),
        ] {
            assert_eq!(
                check(scope, &beyond),
                Err(Reason::PermissionDenied),
                "{beyond}"
            );
        }
    }

    #[test]
    fn what_is_no_single_message_is_refused_under_a_scope() {
        for body in [
            "[]",
            "x",
            "[{\"method\": \"tools/call\"}]",
            "{\"method\": 7}",
        ] {
            let problem = CallScope::new(Some("a"))
                .check(body.as_bytes())
                .unwrap_err();
            assert_eq!(problem.reason, Reason::InvalidArgument, "{body}");
        }
        assert!(CallScope::new(Some("a")).check(b"").is_ok());
    }
}
