//! The tools as MCP describes them, made from the one table of `core`.

use std::sync::{Arc, LazyLock};

use rmcp::model::ToolAnnotations;
use serde_json::{Map, Value, json};

use crate::core::{Core, Tool};

/// Every tool there is.
pub(super) static TOOLS: LazyLock<Vec<rmcp::model::Tool>> =
    LazyLock::new(|| Tool::ALL.into_iter().map(describe).collect());

/// Those that are offered, in the order of `tools/list`.
pub(super) fn offered(core: &Core) -> Vec<rmcp::model::Tool> {
    let offered = core.tools();
    let is_offered = |tool: &&rmcp::model::Tool| offered.iter().any(|one| one.name() == tool.name);
    TOOLS.iter().filter(is_offered).cloned().collect()
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
        ToolAnnotations::new()
            .read_only(tool.is_read_only())
            .destructive(matches!(tool, Tool::RevokeToken | Tool::BlackboardDelete))
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

#[cfg(test)]
mod tests {
    use super::*;

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
