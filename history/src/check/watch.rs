//! What watchers were told, by the guarantees that etcd gives for watches
//! (<https://etcd.io/docs/v3.5/learning/api_guarantees/>).

use super::{Report, Rule, STATES, Violation, explain::explain};
use crate::{
    operation::{History, Position},
    watching::{Message, Segment, WatchLog},
};

/// Whether watchers of a board were told everything that clients have done,
/// and nothing else, once, in order, each revision whole, over all their
/// connections.
///
/// # Errors
/// What was told wrongly, or a history that is not linearizable in a way that
/// would explain it.
pub fn watch(history: &History, logs: &[WatchLog]) -> Result<Report, Violation> {
    watch_within(history, logs, STATES)
}

/// As [`watch`], with another bound on the states that are tried.
///
/// # Errors
/// As [`watch`].
pub fn watch_within(
    history: &History,
    logs: &[WatchLog],
    states: u64,
) -> Result<Report, Violation> {
    for log in logs {
        is_in_order(log)?;
    }
    let report = explain(history, logs, states)?;
    let messages = logs.iter().flat_map(|log| &log.segments);
    Ok(Report {
        messages: messages.map(|segment| segment.messages.len()).sum(),
        ..report
    })
}

fn is_in_order(log: &WatchLog) -> Result<(), Violation> {
    let mut reached: Option<Position> = None;
    for (number, segment) in log.segments.iter().enumerate() {
        let whose = format!("watcher {}, connection {number}", log.name);
        if let (Some(after), Some(reached)) = (segment.after, reached)
            && after.revision > reached.revision
        {
            let text = format!("{whose}: went on from {after}, though it was told up to {reached}");
            return Err(Violation::new(Rule::Resumable, text));
        }
        goes_on(&whose, segment)?;
        reached = segment
            .messages
            .last()
            .map(|message| message.position)
            .or(reached);
    }
    Ok(())
}

fn goes_on(whose: &str, segment: &Segment) -> Result<(), Violation> {
    let mut newest_change: Option<&Message> = None;
    let mut newest_mark: Option<&Message> = None;
    for message in &segment.messages {
        let is_mark = message.changes.is_empty();
        let found = if is_mark {
            mark_fits(message, segment, newest_change, newest_mark)
        } else {
            change_fits(message, segment, newest_change, newest_mark)
        };
        if let Some((rule, text, before)) = found {
            let before = before.map_or("the beginning".to_owned(), ToString::to_string);
            let lines = [format!("before: {before}"), format!("then: {message}")];
            return Err(Violation::new(rule, format!("{whose}: {text}")).with(lines));
        }
        if is_mark {
            newest_mark = Some(message);
        } else {
            newest_change = Some(message);
        }
    }
    Ok(())
}

type Found<'m> = Option<(Rule, &'static str, Option<&'m Message>)>;

fn change_fits<'m>(
    message: &Message,
    segment: &Segment,
    change: Option<&'m Message>,
    mark: Option<&'m Message>,
) -> Found<'m> {
    let revision = message.position.revision;
    if let Some(change) = change {
        if change.position.revision == revision {
            let is_repeat = change.changes == message.changes;
            return Some(if is_repeat {
                (Rule::Unique, "a revision twice", Some(change))
            } else {
                (Rule::Atomic, "a revision in parts", Some(change))
            });
        }
        if change.position.revision > revision {
            return Some((Rule::Ordered, "a revision behind a later one", Some(change)));
        }
    }
    if let Some(mark) = mark
        && revision <= mark.position.revision
    {
        return Some((
            Rule::Bookmarkable,
            "a revision behind the mark that all up to there was told",
            Some(mark),
        ));
    }
    if segment
        .after
        .is_some_and(|after| revision <= after.revision)
    {
        return Some((
            Rule::Unique,
            "a revision that is not behind where it began",
            None,
        ));
    }
    let mut entries = message
        .changes
        .iter()
        .filter_map(|told| told.entry.as_ref());
    if entries.any(|entry| entry.revision != revision) {
        return Some((Rule::Atomic, "changes of another revision in one", None));
    }
    None
}

fn mark_fits<'m>(
    message: &Message,
    segment: &Segment,
    change: Option<&'m Message>,
    mark: Option<&'m Message>,
) -> Found<'m> {
    let revision = message.position.revision;
    let mut newest = change.into_iter().chain(mark);
    if let Some(newest) = newest.rfind(|newest| newest.position.revision > revision) {
        return Some((
            Rule::Ordered,
            "a mark behind a later revision",
            Some(newest),
        ));
    }
    if segment.after.is_some_and(|after| revision < after.revision) {
        return Some((Rule::Ordered, "a mark before where it began", None));
    }
    None
}
