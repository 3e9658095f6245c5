//! What machines hold of a budget, as it is shown.

use std::collections::BTreeSet;

use authguardian_proto::budgets::v1::Slice;
use serde::Serialize;

use crate::cli::{
    output::Row,
    value::{rfc3339, short_time},
};

/// A machine's part.
#[derive(Debug, Serialize)]
pub(super) struct SliceView {
    machine_id: String,
    epoch: u64,
    granted: u64,
    returned: u64,
    reported: u64,
    reserved: u64,
    leased_until: Option<String>,
    is_silent: bool,
    is_closed: bool,
    window_begins: Option<String>,
}

impl From<Slice> for SliceView {
    fn from(slice: Slice) -> Self {
        Self {
            machine_id: slice.machine_id,
            epoch: slice.epoch,
            granted: slice.granted,
            returned: slice.returned,
            reported: slice.reported,
            reserved: slice.reserved,
            leased_until: rfc3339(slice.leased_until.as_ref()),
            is_silent: slice.is_silent,
            is_closed: slice.is_closed,
            window_begins: rfc3339(slice.window_begins.as_ref()),
        }
    }
}

impl SliceView {
    /// What it holds and has not told of.
    fn outstanding(&self) -> u64 {
        self.granted
            .saturating_sub(self.returned)
            .saturating_sub(self.reported)
    }

    fn state(&self) -> &'static str {
        match (self.is_closed, self.is_silent) {
            (true, _) => "closed",
            (false, true) => "silent",
            (false, false) => "live",
        }
    }
}

impl Row for SliceView {
    const PLURAL: &'static str = "slices";
    const COLUMNS: &'static [&'static str] = &[
        "MACHINE",
        "EPOCH",
        "GRANTED",
        "RETURNED",
        "REPORTED",
        "RESERVED",
        "OUTSTANDING",
        "LEASED UNTIL",
        "STATE",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.machine_id.clone(),
            self.epoch.to_string(),
            self.granted.to_string(),
            self.returned.to_string(),
            self.reported.to_string(),
            self.reserved.to_string(),
            self.outstanding().to_string(),
            short_time(self.leased_until.as_deref()),
            self.state().to_owned(),
        ]
    }
}

/// What can be done about silent machines; `None` where all are heard.
pub(super) fn advice(task: &str, slices: &[SliceView]) -> Option<String> {
    let silent = slices
        .iter()
        .filter(|slice| slice.is_silent && !slice.is_closed);
    let machines: BTreeSet<_> = silent.map(|slice| &slice.machine_id).collect();
    if machines.is_empty() {
        return None;
    }
    let mut text =
        "what silent machines hold counts as spent until they report; to end a slice for good:"
            .to_owned();
    for machine in machines {
        text.push_str("\n  control-plane budget settle ");
        text.push_str(task);
        text.push_str(" --machine ");
        text.push_str(machine);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "mch_0000000000000000000007";

    fn slice(is_silent: bool, is_closed: bool) -> SliceView {
        SliceView::from(Slice {
            machine_id: MACHINE.into(),
            epoch: 1,
            granted: 50,
            returned: 5,
            reported: 20,
            is_silent,
            is_closed,
            ..Slice::default()
        })
    }

    #[test]
    fn a_slice_tells_what_it_holds() {
        let cells = slice(true, false).cells();
        assert_eq!((&*cells[6], &*cells[8]), ("25", "silent"));
        assert_eq!(slice(false, false).cells()[8], "live");
        assert_eq!(slice(true, true).cells()[8], "closed");
    }

    #[test]
    fn a_silent_machine_comes_with_what_to_do_about_it() {
        let slices = [slice(true, false), slice(true, false), slice(false, false)];
        let advice = advice("q4", &slices).unwrap();
        let call = format!("control-plane budget settle q4 --machine {MACHINE}");
        assert_eq!(advice.matches(&call).count(), 1, "{advice}");
    }

    #[test]
    fn nothing_is_to_be_done_about_machines_that_are_heard_or_settled() {
        assert_eq!(
            advice("q4", &[slice(false, false), slice(true, true)]),
            None
        );
    }
}
