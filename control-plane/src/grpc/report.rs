//! Calls that edges report, read from their messages.

use authguardian_proto::{audit::v1 as pb, reason::Reason, zone::Zone};

use super::convert::parse_optional;
use crate::{
    audit::{Outcome, journal::Place},
    error::{Error, Result},
    identity::report::ReportedCall,
};

/// What an edge may report, besides tools: no entry of theirs looks like one
/// of the control plane's own acts.
const ACTIONS: [&str; 13] = [
    "agent.call",
    "agent.serve",
    "audit.witness",
    "call.refuse",
    "completion.read",
    "event.watch",
    "login.challenge",
    "login.session",
    "resource.read",
    "session.end",
    "session.read",
    "session.renew",
    "ticket.create",
];

/// Calls from further back are told as of then: longer, no machine is away
/// without having to join again.
const MAX_AGE_SECONDS: u64 = 30 * 24 * 60 * 60;

/// By what a report is told from others, so that it is written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Once {
    /// Its request id: of an edge without a journal.
    RequestId,
    /// Where it stands in the edge's journal.
    Place(Place),
}

impl Once {
    /// Reads it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub(super) fn of(report: &pb::ReportCallsRequest) -> Result<Self> {
        if report.journal_id.is_empty() {
            return Self::by_request_id(report);
        }
        if !report.request_id.is_empty() {
            let text = "expected nothing beside `journal_id`";
            return Err(Error::invalid("request_id", text));
        }
        let journal_id = report.journal_id.parse();
        let journal_id =
            journal_id.map_err(|_| Error::invalid("journal_id", "expected a UUID, or nothing"))?;
        let sequence = i64::try_from(report.sequence).ok();
        let sequence = sequence
            .filter(|sequence| *sequence > 0)
            .ok_or_else(|| Error::invalid("sequence", format!("expected 1 to {}", i64::MAX)))?;
        Ok(Self::Place(Place {
            journal_id,
            sequence,
        }))
    }

    fn by_request_id(report: &pb::ReportCallsRequest) -> Result<Self> {
        if report.sequence != 0 {
            let text = "expected nothing without `journal_id`";
            return Err(Error::invalid("sequence", text));
        }
        if report.request_id.is_empty() {
            let text = "expected a UUID; or a `request_id` from an edge without a journal";
            return Err(Error::invalid("journal_id", text));
        }
        Ok(Self::RequestId)
    }
}

/// Reads one message.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming the field.
pub(super) fn reported(call: pb::ReportedCall) -> Result<ReportedCall> {
    if !may_report(&call.action) {
        return Err(Error::invalid("action", "expected one that edges report"));
    }
    let outcome = Outcome::parse(&call.outcome).ok_or_else(|| {
        Error::invalid("outcome", "expected `ok`, `denied`, `refused` or `failed`")
    })?;
    let count = i64::try_from(call.count)
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| Error::invalid("count", "expected 1 or more"))?;
    let age = call.age_seconds.min(MAX_AGE_SECONDS);
    Ok(ReportedCall {
        outcome,
        reason: optional(&call.reason, Reason::parse)
            .map_err(|()| Error::invalid("reason", "expected a known reason, or nothing"))?,
        api_key_id: parse_optional("api_key_id", &call.api_key_id)?,
        claimed: parse_optional("claimed_api_key_id", &call.claimed_api_key_id)?,
        agent_id: parse_optional("agent_id", &call.agent_id)?,
        zone: Zone::from_proto(call.zone),
        client: optional(&call.client_address, |text| text.parse().ok())
            .map_err(|()| Error::invalid("client_address", "expected an IP address, or nothing"))?,
        count,
        age: time::Duration::seconds(i64::try_from(age).unwrap_or_default()),
        action: call.action,
    })
}

fn may_report(action: &str) -> bool {
    let is_tool = |name: &str| {
        (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    ACTIONS.contains(&action) || action.strip_prefix("tool.").is_some_and(is_tool)
}

/// What may be missing, but not be anything else.
fn optional<T>(
    text: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> std::result::Result<Option<T>, ()> {
    match text {
        "" => Ok(None),
        text => read(text).map(Some).ok_or(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> pb::ReportedCall {
        pb::ReportedCall {
            action: "tool.validate_token".into(),
            outcome: "refused".into(),
            reason: "AGENT_MISMATCH".into(),
            client_address: "192.0.2.7".into(),
            count: 3,
            ..Default::default()
        }
    }

    #[test]
    fn a_report_is_read() {
        let read = reported(call()).unwrap();
        assert_eq!(read.reason, Some(Reason::AgentMismatch));
        assert_eq!((read.count, read.api_key_id), (3, None));
    }

    #[test]
    fn a_report_says_in_one_way_which_one_it_is() {
        let id = "0197b6f4-6d1e-7000-8000-000000000001";
        let once = |request_id: &str, journal_id: &str, sequence| {
            let report = pb::ReportCallsRequest {
                request_id: request_id.into(),
                journal_id: journal_id.into(),
                sequence,
                ..Default::default()
            };
            Once::of(&report).map_err(|error| error.problem().field.clone().unwrap_or_default())
        };
        assert_eq!(once("r1", "", 0), Ok(Once::RequestId));
        let place = Place {
            journal_id: id.parse().unwrap(),
            sequence: i64::MAX,
        };
        let most = i64::MAX.unsigned_abs();
        assert_eq!(once("", id, most), Ok(Once::Place(place)));
        for (request_id, journal_id, sequence, field) in [
            ("", "", 0, "journal_id"),
            ("", "", 1, "sequence"),
            ("r1", "", 1, "sequence"),
            ("r1", id, 1, "request_id"),
            ("", id, 0, "sequence"),
            ("", id, most + 1, "sequence"),
            ("", "journal", 1, "journal_id"),
            ("", "0197b6f4", 1, "journal_id"),
        ] {
            let refused = once(request_id, journal_id, sequence);
            assert_eq!(
                refused,
                Err(field.to_owned()),
                "{request_id} {journal_id} {sequence}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        for (field, spoil) in [
            (
                "action",
                (|call| call.action = "grant.request".into()) as fn(&mut pb::ReportedCall),
            ),
            ("action", |call| call.action = "tool.".into()),
            ("action", |call| call.action = "tool.a b".into()),
            ("outcome", |call| call.outcome = "well".into()),
            ("reason", |call| call.reason = "WELL".into()),
            ("count", |call| call.count = 0),
            ("api_key_id", |call| call.api_key_id = "apk_".into()),
            ("claimed_api_key_id", |call| {
                call.claimed_api_key_id = "x".into();
            }),
            ("agent_id", |call| call.agent_id = "a b".into()),
            ("client_address", |call| {
                call.client_address = "localhost".into();
            }),
        ] {
            let mut call = call();
            spoil(&mut call);
            let problem = reported(call).unwrap_err().problem().clone();
            assert_eq!(problem.field.as_deref(), Some(field));
        }
    }
}
