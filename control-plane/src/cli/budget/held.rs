//! Machines that a held budget waits for, as they are shown.

use authguardian_proto::budgets::v1::AwaitedMachine;
use serde::Serialize;

use crate::cli::value::{rfc3339, short_time};

/// A machine that may have spent what a restored database does not know.
#[derive(Debug, Serialize)]
pub(super) struct AwaitedView {
    machine_id: String,
    /// It has told all that it remembers, which is what was since then; `None`: it was not
    /// heard.
    remembers_since: Option<String>,
}

impl From<AwaitedMachine> for AwaitedView {
    fn from(awaited: AwaitedMachine) -> Self {
        Self {
            machine_id: awaited.machine_id,
            remembers_since: rfc3339(awaited.remembers_since.as_ref()),
        }
    }
}

/// What a held budget waits for, and what an operator can do about it.
pub(super) fn advice(task: &str, awaited: &[AwaitedView]) -> String {
    if awaited.is_empty() {
        return "held since the database was restored; every machine has told: the hold ends in a moment, or with those of the budgets below".to_owned();
    }
    let mut text =
        "held since the database was restored, until these machines have told what they spent; to say it for one that never will:"
            .to_owned();
    for machine in awaited {
        text.push_str("\n  control-plane budget settle ");
        text.push_str(task);
        text.push_str(" --machine ");
        text.push_str(&machine.machine_id);
        text.push_str(" --spent N");
        if let Some(since) = &machine.remembers_since {
            text.push_str("    # it remembers nothing of before ");
            text.push_str(&short_time(Some(since)));
        }
    }
    text.push_str("\nto end the hold whatever they spent:\n  control-plane budget thaw ");
    text.push_str(task);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_awaited_machine_comes_with_what_to_do_about_it() {
        let awaited = [(None, "mch_1"), (Some(86_400), "mch_2")].map(|(seconds, id)| {
            AwaitedView::from(AwaitedMachine {
                machine_id: id.into(),
                remembers_since: seconds
                    .map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
            })
        });
        let advice = advice("q4", &awaited);
        let lines: Vec<&str> = advice.lines().collect();
        assert_eq!(
            lines[1],
            "  control-plane budget settle q4 --machine mch_1 --spent N"
        );
        assert!(lines[2].contains("mch_2 --spent N    # it remembers nothing of before 1970"));
        assert_eq!(lines[4], "  control-plane budget thaw q4");
    }

    #[test]
    fn nothing_is_to_be_done_where_all_have_told() {
        assert!(!advice("q4", &[]).contains("settle"));
    }
}
