//! Telling the audit log of calls that ended here: equal ones of one second as
//! one entry with a count, so that an attacker can flood neither the log nor
//! memory. What waits is lost with the process; what was sent is written once,
//! however often its reply is lost.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    audit::v1::{ReportCallsRequest, ReportedCall, audit_service_client::AuditServiceClient},
    ids::{AgentId, ApiKeyId},
    reason::{Code, Problem, Reason},
    status::from_status,
    zone::Zone,
};
use tokio_util::sync::CancellationToken;

use crate::{clock::Ambient, dial::Channel};

/// Between reports.
const EVERY: Duration = Duration::from_secs(1);
/// For one try of a report, and for the last one at the end.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Most different calls that wait; any further ones are counted together.
const DISTINCT: usize = 4096;
/// Most entries in one report.
const BATCH: usize = 1000;

/// A call that ended at this edge.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// What: `tool.<name>`, `login.session` …
    pub action: Cow<'static, str>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why not.
    pub reason: Option<Reason>,
    /// The key that was proved.
    pub api_key_id: Option<ApiKeyId>,
    /// The key that was only named.
    pub claimed: Option<ApiKeyId>,
    /// The agent that it was for, as the caller said.
    pub agent_id: Option<AgentId>,
    /// Where it came from.
    pub zone: Zone,
    /// The client; `None` for the Unix socket.
    pub client: Option<IpAddr>,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Done.
    Ok,
    /// Judged, and denied.
    Denied,
    /// Not even tried: no right to.
    Refused,
    /// Tried, and failed.
    Failed,
}

/// Calls on their way to the audit log.
#[derive(Debug)]
pub struct Reports {
    channel: Channel,
    ambient: Ambient,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By call and second since boot.
    calls: HashMap<(Call, u64), u64>,
    /// The many that did not fit: how many, and since which second.
    beyond: Option<(u64, u64)>,
}

/// Calls that are sent together, and sent again under the same id.
struct Batch {
    request_id: String,
    /// With the second since boot.
    calls: Vec<(ReportedCall, u64)>,
}

impl Outcome {
    /// The stable name.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Reports {
    /// Collects for this control plane.
    pub(super) fn new(channel: Channel, ambient: Ambient) -> Arc<Self> {
        Arc::new(Self {
            channel,
            ambient,
            waiting: Mutex::default(),
        })
    }

    /// Notes a call.
    pub fn note(&self, call: Call) {
        let second = self.second();
        let mut waiting = self.waiting();
        let distinct = waiting.calls.len();
        match waiting.calls.entry((call, second)) {
            std::collections::hash_map::Entry::Occupied(mut known) => *known.get_mut() += 1,
            std::collections::hash_map::Entry::Vacant(fresh) if distinct < DISTINCT => {
                fresh.insert(1);
            }
            std::collections::hash_map::Entry::Vacant(_) => {
                waiting.beyond.get_or_insert((0, second)).0 += 1;
            }
        }
    }

    /// Sends what was noted, about once a second, until told to stop; then
    /// once more.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut batches = VecDeque::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.ambient.jittered(EVERY)) => {}
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.send_all(&mut batches) => {}
            }
        }
        let last = self.send_all(&mut batches);
        if tokio::time::timeout(TIMEOUT, last).await.is_err() || !batches.is_empty() {
            tracing::warn!("the last calls that ended here are not in the audit log");
        }
    }

    /// Sends until nothing waits or a try is in vain. What was noted is taken
    /// only when all earlier batches are through, so that memory is bounded.
    async fn send_all(&self, batches: &mut VecDeque<Batch>) {
        if batches.is_empty() {
            batches.extend(self.take());
        }
        while let Some(batch) = batches.front() {
            match self.send(batch).await {
                Ok(()) => {}
                Err(problem) if refused_for_good(&problem) => {
                    tracing::error!(reason = %problem.reason, detail = problem.detail, calls = batch.calls.len(),
                        "a report for the audit log was refused and is given up");
                }
                Err(problem) => {
                    tracing::debug!(reason = %problem.reason, detail = problem.detail, "a report for the audit log waits");
                    return;
                }
            }
            batches.pop_front();
        }
    }

    async fn send(&self, batch: &Batch) -> Result<(), Problem> {
        let now = self.second();
        let aged = |(call, second): &(ReportedCall, u64)| ReportedCall {
            age_seconds: now.saturating_sub(*second),
            ..call.clone()
        };
        let mut request = tonic::Request::new(ReportCallsRequest {
            request_id: batch.request_id.clone(),
            calls: batch.calls.iter().map(aged).collect(),
        });
        request.set_timeout(TIMEOUT);
        let mut client = AuditServiceClient::new(self.channel.clone());
        tokio::time::timeout(TIMEOUT, client.report_calls(request))
            .await
            .map_err(|_| Problem::new(Reason::Unavailable, "no answer in time"))?
            .map_err(|status| from_status(&status))?;
        Ok(())
    }

    fn take(&self) -> Vec<Batch> {
        let taken = std::mem::take(&mut *self.waiting());
        let mut calls: Vec<_> = taken
            .calls
            .into_iter()
            .map(|((call, second), count)| (message(call, count), second))
            .collect();
        if let Some((count, second)) = taken.beyond {
            let beyond = ReportedCall {
                action: "call.refuse".to_owned(),
                outcome: Outcome::Refused.as_str().to_owned(),
                reason: Reason::ResourceExhausted.as_str().to_owned(),
                count,
                ..ReportedCall::default()
            };
            calls.push((beyond, second));
        }
        calls
            .chunks(BATCH)
            .map(|calls| Batch {
                request_id: self.ambient.uuid().to_string(),
                calls: calls.to_vec(),
            })
            .collect()
    }

    /// Since boot.
    fn second(&self) -> u64 {
        self.ambient.clock.since_boot().as_secs()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether sending the same again can only fail again.
fn refused_for_good(problem: &Problem) -> bool {
    matches!(
        problem.reason.code(),
        Code::InvalidArgument | Code::Conflict | Code::TooLarge
    )
}

fn message(call: Call, count: u64) -> ReportedCall {
    let text = |id: Option<ApiKeyId>| id.map(|id| id.to_string()).unwrap_or_default();
    ReportedCall {
        action: call.action.into_owned(),
        outcome: call.outcome.as_str().to_owned(),
        reason: call.reason.map_or("", Reason::as_str).to_owned(),
        api_key_id: text(call.api_key_id),
        claimed_api_key_id: text(call.claimed),
        agent_id: call.agent_id.map(|id| id.to_string()).unwrap_or_default(),
        zone: call.zone.to_proto().into(),
        client_address: call.client.map(|ip| ip.to_string()).unwrap_or_default(),
        count,
        age_seconds: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::manual::ManualClock;

    fn call(port: u8) -> Call {
        Call {
            action: "tool.revoke_token".into(),
            outcome: Outcome::Refused,
            reason: Some(Reason::AgentMismatch),
            api_key_id: None,
            claimed: None,
            agent_id: None,
            zone: Zone::External,
            client: Some([192, 0, 2, port].into()),
        }
    }

    fn reports() -> (Arc<ManualClock>, Arc<Reports>) {
        let (clock, ambient) = ManualClock::ambient();
        let channel = crate::dial::nobody();
        (clock, Reports::new(channel, ambient))
    }

    #[tokio::test]
    async fn equal_calls_of_one_second_are_one_with_a_count() {
        let (clock, reports) = reports();
        for _ in 0..50 {
            reports.note(call(1));
        }
        reports.note(call(2));
        clock.advance(Duration::from_secs(1));
        reports.note(call(1));
        let batches = reports.take();
        assert_eq!(batches.len(), 1);
        let mut counts: Vec<u64> = batches[0]
            .calls
            .iter()
            .map(|(call, _)| call.count)
            .collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 1, 50]);
        assert!(reports.take().is_empty());
    }

    #[tokio::test]
    async fn a_flood_of_different_calls_takes_bounded_memory_and_loses_no_count() {
        let (clock, reports) = reports();
        let noted = 3 * DISTINCT;
        for _ in 0..noted {
            clock.advance(Duration::from_secs(1));
            reports.note(call(1));
        }
        let batches = reports.take();
        let calls: Vec<&ReportedCall> = batches
            .iter()
            .flat_map(|batch| batch.calls.iter().map(|(call, _)| call))
            .collect();
        assert_eq!(calls.len(), DISTINCT + 1);
        assert!(batches.iter().all(|batch| batch.calls.len() <= BATCH));
        assert_eq!(
            calls.iter().map(|call| call.count).sum::<u64>(),
            noted as u64
        );
    }

    #[tokio::test]
    async fn a_batch_that_could_not_be_sent_keeps_its_request_id() {
        let (_, reports) = reports();
        reports.note(call(1));
        let mut batches = VecDeque::new();
        reports.send_all(&mut batches).await;
        let id = batches[0].request_id.clone();
        reports.note(call(2));
        reports.send_all(&mut batches).await;
        assert_eq!((batches.len(), &batches[0].request_id), (1, &id));
    }
}
