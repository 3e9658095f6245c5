//! What can stand in the arguments of prompts and resource templates.

use rmcp::{
    ErrorData,
    model::{CompletionInfo, Reference},
};

use super::prompts::Prompt;
use crate::core::{BoardUri, BudgetUri, Candidates};

/// An argument whose values are known.
struct Completable {
    /// `ref/prompt` or `ref/resource`.
    kind: &'static str,
    /// Name of the prompt, or template of the resource.
    of: &'static str,
    argument: &'static str,
    from: Candidates,
}

/// Every argument that is completed.
const COMPLETABLE: &[Completable] = &[
    Completable {
        kind: "ref/prompt",
        of: Prompt::RequestPermission.name(),
        argument: "agent_id",
        from: Candidates::Agents,
    },
    Completable {
        kind: "ref/prompt",
        of: Prompt::RequestPermission.name(),
        argument: "resource_type",
        from: Candidates::ResourceTypes,
    },
    Completable {
        kind: "ref/resource",
        of: BoardUri::TEMPLATE,
        argument: "board",
        from: Candidates::Boards,
    },
    Completable {
        kind: "ref/resource",
        of: BoardUri::TEMPLATE,
        argument: "key",
        from: Candidates::Keys,
    },
    Completable {
        kind: "ref/resource",
        of: BudgetUri::TEMPLATE,
        argument: "task_id",
        from: Candidates::Tasks,
    },
];

/// Where the values of an argument come from; `None` where anything can stand.
///
/// # Errors
/// Invalid params for a reference or an argument that does not exist.
pub(super) fn candidates(
    reference: &Reference,
    argument: &str,
) -> Result<Option<Candidates>, ErrorData> {
    let of = match reference {
        Reference::Prompt(prompt) => {
            let found = Prompt::find(&prompt.name)?;
            if !found.arguments().iter().any(|known| known.name == argument) {
                return Err(unknown_argument(&prompt.name, argument));
            }
            &prompt.name
        }
        Reference::Resource(template) => &template.uri,
        _ => return Err(invalid("unknown kind of reference".to_owned())),
    };
    let kind = reference.reference_type();
    let mut of_reference = COMPLETABLE
        .iter()
        .filter(|entry| entry.kind == kind && entry.of == of)
        .peekable();
    if kind == "ref/resource" && of_reference.peek().is_none() {
        return Err(invalid(format!("unknown resource template: `{of}`")));
    }
    match of_reference.find(|entry| entry.argument == argument) {
        Some(entry) => Ok(Some(entry.from)),
        None if kind == "ref/resource" => Err(unknown_argument(of, argument)),
        None => Ok(None),
    }
}

/// The first of the values, and how many there are.
pub(super) fn page(mut values: Vec<String>) -> CompletionInfo {
    let total = u32::try_from(values.len()).unwrap_or(u32::MAX);
    let has_more = values.len() > CompletionInfo::MAX_VALUES;
    values.truncate(CompletionInfo::MAX_VALUES);
    // no more than fit: it cannot be refused
    CompletionInfo::with_pagination(values, Some(total), has_more).unwrap_or_default()
}

fn unknown_argument(of: &str, argument: &str) -> ErrorData {
    let argument: String = argument.chars().take(64).collect();
    invalid(format!("`{of}` has no argument `{argument}`"))
}

fn invalid(message: String) -> ErrorData {
    ErrorData::invalid_params(message, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_completed_argument_of_a_prompt_exists() {
        for entry in COMPLETABLE {
            if entry.kind == "ref/prompt" {
                let reference = Reference::for_prompt(entry.of);
                let found = candidates(&reference, entry.argument).unwrap();
                assert_eq!(found, Some(entry.from));
            }
        }
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let of = |reference: Reference, argument: &str| candidates(&reference, argument);
        let prompt = || Reference::for_prompt("request_permission");
        assert_eq!(of(prompt(), "task").unwrap(), None);
        for (refused, named) in [
            (of(prompt(), "scope"), "`scope`"),
            (of(Reference::for_prompt("x"), "task"), "`x`"),
            (
                of(Reference::for_resource("grants://active"), "a"),
                "`grants://active`",
            ),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.code, rmcp::model::ErrorCode::INVALID_PARAMS);
            assert!(error.message.contains(named), "{}", error.message);
        }
    }

    #[test]
    fn at_most_a_hundred_are_told_and_how_many_there_are() {
        let values = |count: usize| (0..count).map(|number| number.to_string()).collect();
        let all = page(values(100));
        assert_eq!(
            (all.values.len(), all.total, all.has_more),
            (100, Some(100), Some(false))
        );
        let some = page(values(101));
        assert_eq!(
            (some.values.len(), some.total, some.has_more),
            (100, Some(101), Some(true))
        );
    }
}
