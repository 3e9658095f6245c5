//! `budget://{task_id}`: a budget as a resource.

use std::fmt;

use authguardian_proto::ids::TaskId;
use percent_encoding::utf8_percent_encode;

use crate::core::blackboard::{ENCODED, decoded};

const SCHEME: &str = "budget://";

/// What the URI of the resource of a budget names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BudgetUri {
    /// The budget's task.
    pub task: TaskId,
}

impl BudgetUri {
    /// RFC 6570.
    pub const TEMPLATE: &'static str = "budget://{task_id}";

    /// Reads a URI. All that follows the scheme is the task, percent-encoded: `/` and `:` may
    /// stand in it as they are.
    pub fn parse(uri: &str) -> Option<Self> {
        let task = decoded(uri.strip_prefix(SCHEME)?)?;
        Some(Self {
            task: task.parse().ok()?,
        })
    }
}

impl fmt::Display for BudgetUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = utf8_percent_encode(self.task.as_str(), ENCODED);
        write!(f, "{SCHEME}{task}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn task(uri: &str) -> Option<String> {
        BudgetUri::parse(uri).map(|uri| uri.task.to_string())
    }

    #[test]
    fn tasks_are_read_encoded_or_as_they_are() {
        for (uri, read) in [
            ("budget://q4-report", "q4-report"),
            ("budget://team/q4:1", "team/q4:1"),
            ("budget://team%2Fq4%3A1", "team/q4:1"),
        ] {
            assert_eq!(task(uri).as_deref(), Some(read), "{uri}");
        }
        let long = format!("budget://{}", "a".repeat(129));
        for uri in [
            "budget://",
            "budget:q4",
            "budget:///q4",
            "budget://a%20b",
            "budget://100%",
            "budget://%ff",
            "blackboard://strong/a",
            &long,
        ] {
            assert_eq!(task(uri), None, "{uri}");
        }
    }

    proptest! {
        #[test]
        fn any_task_reads_back(task in "[A-Za-z0-9][A-Za-z0-9_.:/-]{0,127}") {
            let uri = BudgetUri { task: task.parse().unwrap() };
            let text = uri.to_string();
            prop_assert!(!text[SCHEME.len()..].contains(['/', ':']), "{}", text);
            prop_assert_eq!(BudgetUri::parse(&text), Some(uri));
        }
    }
}
