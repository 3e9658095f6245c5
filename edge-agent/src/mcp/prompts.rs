//! Prompts: texts that tell a model how to go about something.

use authguardian_proto::ids::{AgentId, ResourceTypeName};
use rmcp::{
    ErrorData,
    model::{
        GetPromptRequestParams, GetPromptResult, JsonObject, PromptArgument, PromptMessage, Role,
    },
};
use serde_json::Value;

/// The longest task, in characters.
const LONGEST_TASK: usize = 2000;

/// A prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prompt {
    /// How to ask for a permission well.
    RequestPermission,
}

/// An argument of a prompt; all are required.
pub(super) struct Argument {
    pub(super) name: &'static str,
    description: &'static str,
    check: fn(&str) -> Result<(), String>,
}

const REQUEST_PERMISSION: &[Argument] = &[
    Argument {
        name: "agent_id",
        description: "Agent on whose behalf permission is asked",
        check: is_agent,
    },
    Argument {
        name: "resource_type",
        description: "Name of the resource type, such as `SAP_API`",
        check: is_resource_type,
    },
    Argument {
        name: "task",
        description: "What the agent is to do, 1 to 2,000 characters",
        check: is_task,
    },
];

impl Prompt {
    /// All of them, in the order of `prompts/list`.
    pub(super) const ALL: [Self; 1] = [Self::RequestPermission];

    /// Finds a prompt by its name.
    ///
    /// # Errors
    /// Invalid params for a name that none has.
    pub(super) fn find(name: &str) -> Result<Self, ErrorData> {
        Self::ALL
            .into_iter()
            .find(|prompt| prompt.name() == name)
            .ok_or_else(|| invalid(format!("unknown prompt: `{name}`")))
    }

    /// The name on the wire.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::RequestPermission => "request_permission",
        }
    }

    /// What it takes.
    pub(super) const fn arguments(self) -> &'static [Argument] {
        match self {
            Self::RequestPermission => REQUEST_PERMISSION,
        }
    }

    /// As `prompts/list` has it.
    pub(super) fn describe(self) -> rmcp::model::Prompt {
        let arguments = self.arguments().iter().map(|argument| {
            PromptArgument::new(argument.name)
                .with_description(argument.description)
                .with_required(true)
        });
        let (title, description) = match self {
            Self::RequestPermission => (
                "Request permission",
                "Asks for a permission well: a specific justification, a narrow scope, and given back when done",
            ),
        };
        rmcp::model::Prompt::new(self.name(), Some(description), Some(arguments.collect()))
            .with_title(title)
    }
}

/// The text for these arguments.
///
/// # Errors
/// Invalid params that name the prompt or the argument at fault.
pub(super) fn get(request: &GetPromptRequestParams) -> Result<GetPromptResult, ErrorData> {
    let prompt = Prompt::find(&request.name)?;
    let none = JsonObject::new();
    let values = read(prompt, request.arguments.as_ref().unwrap_or(&none))?;
    let text = match prompt {
        Prompt::RequestPermission => request_permission(&values),
    };
    let message = PromptMessage::new_text(Role::User, text);
    let description = prompt.describe().description.unwrap_or_default();
    Ok(GetPromptResult::new(vec![message]).with_description(description))
}

/// The values of a prompt's arguments, in its order.
fn read(prompt: Prompt, given: &JsonObject) -> Result<Vec<&str>, ErrorData> {
    let arguments = prompt.arguments();
    let is_unknown = |name: &&String| !arguments.iter().any(|argument| argument.name == **name);
    if let Some(unknown) = given.keys().find(is_unknown) {
        let known: Vec<&str> = arguments.iter().map(|argument| argument.name).collect();
        let unknown: String = unknown.chars().take(64).collect();
        return Err(invalid(format!(
            "there is no argument `{unknown}`; expected `{}`",
            known.join("`, `")
        )));
    }
    let value = |argument: &Argument| {
        let name = argument.name;
        let text = match given.get(name) {
            None | Some(Value::Null) => return Err(invalid(format!("`{name}` is required"))),
            Some(Value::String(text)) => text.as_str(),
            Some(_) => return Err(invalid(format!("`{name}`: expected a string"))),
        };
        (argument.check)(text).map_err(|expected| invalid(format!("`{name}`: {expected}")))?;
        Ok(text)
    };
    arguments.iter().map(value).collect()
}

fn request_permission(values: &[&str]) -> String {
    let [agent_id, resource_type, task] = values else {
        return String::new();
    };
    format!(
        "As the agent `{agent_id}` you need a permission for `{resource_type}`. The task, as it was given:\n\n\
         {task}\n\n\
         1. Call `request_permission` with `agent_id` `{agent_id}` and `resource_type` `{resource_type}`.\n\
         \x20  - `justification`: one or two sentences on what exactly you need for this task and why: which records, \
         of which period, for which result. Say what is true; vague or instruction-like text is refused.\n\
         \x20  - `scope`: the least that the task needs, such as `read:invoices:q4`. Leave out no scope, ask for no `*`, \
         and for no writing unless the task is to write.\n\
         \x20  - `ttl_seconds`: no longer than the task takes.\n\
         2. If it is granted, show the token to the resource and to nobody else, and keep to `restrictions`.\n\
         3. If it is denied, read `reasons` and `detail`. Ask again only with a narrower scope or a more exact \
         justification; do not reword the same request until it passes. Otherwise tell the user why it was denied.\n\
         4. If the task outlasts the token, call `renew_permission` before it ends.\n\
         5. When the task is done, or given up, give the permission back: call `revoke_token` with the token."
    )
}

fn is_agent(text: &str) -> Result<(), String> {
    let parsed = text.parse::<AgentId>();
    parsed.map(|_| ()).map_err(|error| error.to_string())
}

fn is_resource_type(text: &str) -> Result<(), String> {
    let parsed = text.parse::<ResourceTypeName>();
    parsed.map(|_| ()).map_err(|error| error.to_string())
}

fn is_task(text: &str) -> Result<(), String> {
    if text.trim().is_empty() || text.chars().count() > LONGEST_TASK {
        return Err(format!("expected 1 to {LONGEST_TASK} characters"));
    }
    Ok(())
}

fn invalid(message: String) -> ErrorData {
    ErrorData::invalid_params(message, None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(arguments: &Value) -> Result<GetPromptResult, ErrorData> {
        let mut request = GetPromptRequestParams::new("request_permission");
        request.arguments = arguments.as_object().cloned();
        get(&request)
    }

    #[test]
    fn the_text_has_what_was_given_and_what_to_do() {
        let arguments =
            json!({"agent_id": "data_analyst", "resource_type": "SAP_API", "task": "reconcile Q4"});
        let result = serde_json::to_value(asked(&arguments).unwrap()).unwrap();
        let text = result["messages"][0]["content"]["text"].as_str().unwrap();
        for part in [
            "`data_analyst`",
            "`SAP_API`",
            "reconcile Q4",
            "justification",
            "scope",
            "`revoke_token`",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let good = json!({"agent_id": "a", "resource_type": "SAP_API", "task": "t"});
        for (name, value) in [
            ("agent_id", json!(null)),
            ("agent_id", json!("not an id")),
            ("resource_type", json!("sap")),
            ("task", json!(7)),
            ("task", json!(" ")),
            ("task", json!("x".repeat(LONGEST_TASK + 1))),
            ("other", json!("x")),
        ] {
            let mut arguments = good.clone();
            arguments[name] = value;
            let error = asked(&arguments).unwrap_err();
            assert_eq!(error.code, rmcp::model::ErrorCode::INVALID_PARAMS);
            assert!(
                error.message.contains(&format!("`{name}`")),
                "{}",
                error.message
            );
        }
        assert!(
            asked(&json!(null))
                .unwrap_err()
                .message
                .contains("`agent_id` is required")
        );
    }
}
