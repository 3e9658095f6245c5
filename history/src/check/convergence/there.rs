//! What one replica has.

use super::written::Written;
use crate::{
    check::{Rule, Violation},
    eventual::{Dot, Replica, Siblings, Version},
};

/// Whether all that a replica has was written, and nothing that was replaced is
/// there.
///
/// # Errors
/// What should not be there, or a wrong winner.
pub(super) fn check(replica: &Replica, written: &Written<'_>) -> Result<(), Violation> {
    for (key, siblings) in &replica.keys {
        for version in &siblings.versions {
            written.writer(&replica.name, key, version)?;
            is_not_replaced(replica, key, version, written)?;
        }
        wins(replica, key, siblings)?;
    }
    Ok(())
}

fn is_not_replaced(
    replica: &Replica,
    key: &str,
    version: &Version,
    written: &Written<'_>,
) -> Result<(), Violation> {
    let fault = |dot: &Dot, is_deletion: bool, by: String| {
        let (rule, how) = if is_deletion {
            (Rule::Resurrected, "deleted by")
        } else {
            (Rule::Overwritten, "written over by")
        };
        let text = format!(
            "replica {} has {version} in {key:?}, which was {how} {dot} in sight of it",
            replica.name
        );
        Err(Violation::new(rule, text).with([by]))
    };
    let siblings = replica.keys.get(key).into_iter();
    let mut siblings = siblings.flat_map(|siblings| &siblings.versions);
    if let Some(by) = siblings.find(|other| other.replaces(&version.dot)) {
        return fault(&by.dot, by.value.is_none(), by.to_string());
    }
    match written.replacing(key, &version.dot) {
        Some(by) => {
            let dot = by.dot().unwrap_or(&version.dot);
            fault(dot, by.value.is_none(), by.to_string())
        }
        None => Ok(()),
    }
}

fn wins(replica: &Replica, key: &str, siblings: &Siblings) -> Result<(), Violation> {
    let told = siblings.winner.as_ref();
    let values = siblings
        .versions
        .iter()
        .filter(|version| version.value.is_some());
    let latest = values.clone().map(|version| version.time).max();
    let mut winning = values.filter(|version| Some(version.time) == latest);
    let is_right = match told {
        None => latest.is_none(),
        Some(_) => winning.any(|version| version.value.as_ref() == told),
    };
    if is_right {
        return Ok(());
    }
    let told = told.map_or("nothing", String::as_str);
    let text = format!(
        "replica {} tells readers of {key:?} {told}, and has",
        replica.name
    );
    Err(Violation::new(Rule::Winner, text).with(&siblings.versions))
}
