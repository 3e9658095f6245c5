//! Holds what clients were told against what is on record.

mod planted;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use super::{
    history::{Act, Answer, Call},
    record::{Audit, Record},
};

const REQUEST: &str = "grants.request_permission";
const REVOKE: &str = "grants.revoke";

/// Everything that is wrong; empty when nothing acknowledged was lost or done
/// twice, and every repeat was told the first outcome. `calls` are all that
/// were ever made, `validity` is what `validate_token` says of their grants.
pub(super) fn violations(
    calls: &[Call],
    record: &Record,
    validity: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut found = Violations::default();
    found.outcomes_are_definite_and_stay(calls);
    found.grants_are_those_that_were_told(calls, record);
    found.revocations_are_those_that_were_told(calls, record);
    found.changes_are_dense_and_single(record);
    found.revisions_are_in_the_order_of_time(calls, record);
    found.acts_are_audited_once(record);
    found.tokens_are_good_until_revoked(calls, validity);
    found.0
}

#[derive(Default)]
struct Violations(Vec<String>);

impl Violations {
    fn add(&mut self, violation: String) {
        self.0.push(violation);
    }

    fn outcomes_are_definite_and_stay(&mut self, calls: &[Call]) {
        for call in calls {
            let id = &call.request_id;
            match call.outcome() {
                None => self.add(format!("`{id}` was never resolved")),
                Some(Answer::Refused(reason)) => self.add(format!("`{id}` was refused: {reason}")),
                Some(_) => {}
            }
            if let Some((first, later)) = call.contradiction() {
                self.add(format!(
                    "`{id}`: changed outcome: {first:?}, then {later:?}"
                ));
            }
        }
    }

    /// One grant for each request id and for nothing else.
    fn grants_are_those_that_were_told(&mut self, calls: &[Call], record: &Record) {
        let kept = self.kept(record, REQUEST);
        let granted: HashSet<&str> = record
            .grants
            .iter()
            .filter(|grant| grant.granted)
            .map(|grant| grant.id.as_str())
            .collect();
        let mut asked_for = HashSet::new();
        for call in calls.iter().filter(|call| call.act == Act::Request) {
            let id = call.request_id.as_str();
            asked_for.extend(kept.get(id));
            let Some(Answer::Granted { grant_id, .. }) = call.outcome() else {
                continue;
            };
            if !granted.contains(grant_id.as_str()) {
                self.add(format!("`{id}`: lost grant `{grant_id}`"));
            }
            if kept.get(id) != Some(&grant_id.as_str()) {
                self.add(format!(
                    "`{id}`: was told `{grant_id}`, on record is {:?}",
                    kept.get(id)
                ));
            }
        }
        for grant in granted.difference(&asked_for) {
            self.add(format!("doubled grant `{grant}`: no request stands for it"));
        }
    }

    fn revocations_are_those_that_were_told(&mut self, calls: &[Call], record: &Record) {
        let kept = self.kept(record, REVOKE);
        let revoked: HashMap<&str, i64> = record
            .grants
            .iter()
            .filter_map(|grant| Some((grant.id.as_str(), grant.revoked_revision?)))
            .collect();
        let mut asked_for = HashSet::new();
        for call in calls {
            let Act::Revoke { grant_id, .. } = &call.act else {
                continue;
            };
            let (id, wanted) = (call.request_id.as_str(), grant_id.as_str());
            asked_for.insert(wanted);
            let Some(Answer::Revoked { grant_id, revision }) = call.outcome() else {
                continue;
            };
            let on_record = revoked.get(wanted).copied();
            if on_record.is_none() {
                self.add(format!("`{id}`: lost revocation of `{wanted}`"));
            }
            if grant_id != wanted || on_record != i64::try_from(*revision).ok() {
                self.add(format!(
                    "`{id}`: was told `{grant_id}` at {revision}, on record is {on_record:?}"
                ));
            }
            if kept.get(id) != Some(&wanted) {
                self.add(format!("`{id}`: on record is {:?}", kept.get(id)));
            }
        }
        for grant in revoked.keys().filter(|grant| !asked_for.contains(*grant)) {
            self.add(format!("`{grant}` was revoked, which nobody asked for"));
        }
    }

    /// Kept outcomes of one method, by request id.
    fn kept<'a>(&mut self, record: &'a Record, method: &str) -> HashMap<&'a str, &'a str> {
        let mut kept = HashMap::new();
        for outcome in record.outcomes.iter().filter(|kept| kept.method == method) {
            let before = kept.insert(outcome.request_id.as_str(), outcome.grant_id.as_str());
            if before.is_some() {
                self.add(format!("`{}` has two outcomes", outcome.request_id));
            }
        }
        kept
    }

    /// Revisions without a gap, and one change for each act.
    fn changes_are_dense_and_single(&mut self, record: &Record) {
        for (change, expected) in record.changes.iter().zip(1..) {
            if change.revision != expected {
                self.add(format!("revision {expected} is missing in the stream"));
                break;
            }
        }
        if i64::try_from(record.changes.len()).ok() != Some(record.head) {
            self.add(format!(
                "the stream's head is {}, it has {} changes",
                record.head,
                record.changes.len()
            ));
        }
        let mut changes: HashMap<(&str, &str), Vec<i64>> = HashMap::new();
        for change in &record.changes {
            let act = (change.kind.as_str(), change.grant_id.as_str());
            changes.entry(act).or_default().push(change.revision);
        }
        for grant in record.grants.iter().filter(|grant| grant.granted) {
            let issued = changes.remove(&("grant_issued", &grant.id));
            if issued.as_deref() != Some(&[grant.revision]) {
                let (id, revision) = (&grant.id, grant.revision);
                self.add(format!(
                    "`{id}` was issued at {revision}, in the stream at {issued:?}"
                ));
            }
            let revoked = changes.remove(&("grant_revoked", &grant.id));
            if revoked != grant.revoked_revision.map(|revision| vec![revision]) {
                let (id, revision) = (&grant.id, grant.revoked_revision);
                self.add(format!(
                    "`{id}` was revoked at {revision:?}, in the stream at {revoked:?}"
                ));
            }
        }
        for ((kind, grant), revisions) in changes {
            self.add(format!(
                "`{kind}` of `{grant}` at {revisions:?} has no record"
            ));
        }
    }

    /// What was acknowledged before another call began has a lower revision.
    fn revisions_are_in_the_order_of_time(&mut self, calls: &[Call], record: &Record) {
        let issued: HashMap<&str, i64> = record
            .grants
            .iter()
            .map(|grant| (grant.id.as_str(), grant.revision))
            .collect();
        let mut acts: Vec<(Duration, Duration, i64, &str)> = calls
            .iter()
            .filter_map(|call| {
                let told = call
                    .attempts
                    .iter()
                    .find(|told| told.answer.is_acknowledged())?;
                let revision = match &told.answer {
                    Answer::Revoked { revision, .. } => i64::try_from(*revision).ok()?,
                    Answer::Granted { grant_id, .. } => *issued.get(grant_id.as_str())?,
                    _ => return None,
                };
                let began = call.attempts[0].start;
                Some((began, told.end, revision, call.request_id.as_str()))
            })
            .collect();
        let mut ended = acts.clone();
        acts.sort_unstable();
        ended.sort_unstable_by_key(|(_, end, ..)| *end);
        let (mut ended, mut highest) = (ended.into_iter().peekable(), (0, ""));
        for (began, _, revision, id) in acts {
            while let Some((_, _, earlier, id)) = ended.next_if(|(_, end, ..)| *end < began) {
                highest = highest.max((earlier, id));
            }
            if highest.0 > revision {
                self.add(format!(
                    "`{id}` at {revision} began after `{}` at {} was told",
                    highest.1, highest.0
                ));
            }
        }
    }

    fn acts_are_audited_once(&mut self, record: &Record) {
        let mut entries: HashMap<(&str, &str), i64> = HashMap::new();
        let mut by_request: HashMap<(&str, Option<&str>), i64> = HashMap::new();
        for entry in &record.audit {
            let Audit { action, count, .. } = entry;
            if entry.outcome != "ok" {
                self.add(format!("the audit log has {entry:?}"));
                continue;
            }
            *entries.entry((action, &entry.grant_id)).or_default() += count;
            let request = (action.as_str(), entry.request_id.as_deref());
            *by_request.entry(request).or_default() += count;
        }
        for ((action, request_id), count) in by_request {
            if request_id.is_none() || count != 1 {
                self.add(format!(
                    "{count} audit entries `{action}` for {request_id:?}"
                ));
            }
        }
        for grant in record.grants.iter().filter(|grant| grant.granted) {
            let acts = [
                ("grant.request", 1),
                ("grant.revoke", i64::from(grant.revoked_revision.is_some())),
            ];
            for (action, expected) in acts {
                let count = entries.remove(&(action, &grant.id)).unwrap_or_default();
                if count != expected {
                    let id = &grant.id;
                    self.add(format!("{count} audit entries `{action}` for `{id}`"));
                }
            }
        }
        for ((action, grant), _) in entries {
            self.add(format!("an audit entry `{action}` of unknown `{grant}`"));
        }
    }

    fn tokens_are_good_until_revoked(
        &mut self,
        calls: &[Call],
        validity: &BTreeMap<String, String>,
    ) {
        let revoked: HashSet<&str> = calls
            .iter()
            .filter_map(|call| match call.outcome()? {
                Answer::Revoked { grant_id, .. } => Some(grant_id.as_str()),
                _ => None,
            })
            .collect();
        for (grant, said) in validity {
            let expected = if revoked.contains(grant.as_str()) {
                "GRANT_REVOKED"
            } else {
                "valid"
            };
            if said != expected {
                self.add(format!("`{grant}` should be `{expected}`, is `{said}`"));
            }
        }
    }
}
