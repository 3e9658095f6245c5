//! `audit verify` of the database, by the control plane.

use authguardian_proto::{
    audit::v1::{Finding, VerifyLogRequest, VerifyLogResponse},
    status::from_status,
};
use serde::Serialize;

use super::{Client, progress::Progress};
use crate::cli::{
    client::read,
    failure::Failure,
    output::{Format, write_stdout},
    value::non_empty,
};

/// What was checked, and what does not fit.
#[derive(Debug, Default, Serialize)]
struct VerifiedView {
    fits: bool,
    entries: u64,
    #[serde(skip)]
    in_all: u64,
    /// Entries without a body: retention has dropped it.
    dropped: u64,
    checkpoints: u64,
    findings: Vec<FindingView>,
    /// More than are listed where there are too many.
    findings_in_all: u64,
}

#[derive(Debug, Serialize)]
struct FindingView {
    kind: String,
    origin: Option<String>,
    /// `None`: it is no entry.
    index: Option<u64>,
    detail: String,
}

/// Tells how far the control plane is, each thing that does not fit, and in
/// the end what was checked.
pub(super) async fn verify(
    mut client: Client,
    checkpoint: String,
    origin: String,
    output: Format,
) -> Result<(), Failure> {
    let request = VerifyLogRequest { checkpoint, origin };
    let mut messages = read(async || client.verify_log(request).await).await?;
    let mut progress = Progress::begin();
    let mut view = VerifiedView::default();
    loop {
        let message = messages.message().await;
        let message = message.map_err(|status| from_status(&status))?;
        let message = message.ok_or_else(|| {
            Failure::internal("the control plane ended before everything was verified")
        })?;
        let done = message.done;
        let found = view.add(message);
        if output == Format::Table && found > 0 {
            progress.clear();
            let new = &view.findings[view.findings.len() - found..];
            write_stdout(&new.iter().map(FindingView::line).collect::<String>())?;
        }
        if done {
            break;
        }
        progress.show(&view.so_far());
    }
    progress.clear();
    view.end(output)
}

impl VerifiedView {
    /// Takes in a message; returns how many findings came with it.
    fn add(&mut self, message: VerifyLogResponse) -> usize {
        let found = message.findings.len();
        self.entries = message.entries;
        self.in_all = message.entries_in_all;
        self.dropped = message.dropped;
        self.checkpoints = message.checkpoints;
        self.findings_in_all = message.findings_in_all;
        let findings = message.findings.into_iter().map(FindingView::from);
        self.findings.extend(findings);
        found
    }

    fn so_far(&self) -> String {
        format!("{} of {} entries", self.entries, self.in_all)
    }

    /// Writes the result; what does not fit is a failure.
    fn end(mut self, output: Format) -> Result<(), Failure> {
        self.fits = self.findings_in_all == 0 && self.findings.is_empty();
        match output {
            Format::Table => write_stdout(&self.sentence())?,
            _ => output.one(&self)?,
        }
        if self.fits {
            Ok(())
        } else {
            Err(Failure::Told(1))
        }
    }

    fn sentence(&self) -> String {
        let verdict = match self.findings_in_all {
            0 => "everything fits".to_owned(),
            1 => "1 finding".to_owned(),
            many => format!("{many} findings"),
        };
        let without = match self.dropped {
            0 => String::new(),
            dropped => format!(", {dropped} of them without a body"),
        };
        format!(
            "{verdict}: {} entries{without}, {} checkpoints\n",
            self.entries, self.checkpoints
        )
    }
}

impl From<Finding> for FindingView {
    fn from(finding: Finding) -> Self {
        Self {
            kind: finding.kind,
            origin: non_empty(finding.origin),
            index: finding.index,
            detail: finding.detail,
        }
    }
}

impl FindingView {
    fn line(&self) -> String {
        let origin = self.origin.as_deref().unwrap_or("-");
        let index = self
            .index
            .map_or_else(|| "-".to_owned(), |index| index.to_string());
        format!("{:<10}  {index:>8}  {origin}  {}\n", self.kind, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(done: bool, found: &[Finding], in_all: u64) -> VerifyLogResponse {
        VerifyLogResponse {
            entries: 7,
            entries_in_all: 9,
            checkpoints: 2,
            findings: found.to_vec(),
            done,
            findings_in_all: in_all,
            dropped: 3,
        }
    }

    #[test]
    fn the_last_line_says_what_was_checked() {
        let mut view = VerifiedView::default();
        assert_eq!(view.add(message(true, &[], 0)), 0);
        assert_eq!(view.so_far(), "7 of 9 entries");
        assert_eq!(
            view.sentence(),
            "everything fits: 7 entries, 3 of them without a body, 2 checkpoints\n"
        );
        assert!(view.end(Format::Json).is_ok());
    }

    #[test]
    fn any_finding_is_a_failure_told_in_a_line_of_its_own() {
        let finding = Finding {
            kind: "changed".into(),
            origin: "example.org/audit/0".into(),
            index: Some(5),
            detail: "the entry is not what was hashed".into(),
        };
        let mut view = VerifiedView::default();
        assert_eq!(view.add(message(false, &[finding], 1)), 1);
        assert_eq!(
            view.findings[0].line(),
            "changed            5  example.org/audit/0  the entry is not what was hashed\n"
        );
        assert_eq!(view.add(message(true, &[], 4_000)), 0);
        assert!(view.sentence().starts_with("4000 findings: 7 entries"));
        assert!(matches!(view.end(Format::Json), Err(Failure::Told(1))));
    }
}
