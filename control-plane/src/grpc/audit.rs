//! `AuditService`.

use authguardian_proto::{
    audit::v1::{
        EndedLog, Entry, ListOwnEntriesRequest, ListOwnEntriesResponse, ReportCallsRequest,
        ReportCallsResponse, WitnessCheckpointRequest, WitnessCheckpointResponse,
        audit_service_server::AuditService,
    },
    merkle::Hash,
};
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{next_page_token, page_size, timestamp},
    report::{Once, reported},
};
use crate::{
    audit::{
        Record,
        search::{Filter, search},
        witness,
    },
    clock::Ambient,
    db::Db,
    error::Error,
    identity::Identity,
};

/// Most calls in one report.
const MAX_CALLS: usize = 1000;

/// See the `.proto` file.
#[derive(Debug)]
pub struct Audit {
    /// Where the log is.
    pub db: Db,
    /// Time.
    pub ambient: Ambient,
    /// Whose keys still count.
    pub identity: Identity,
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_own_entries(
        &self,
        request: Request<ListOwnEntriesRequest>,
    ) -> Result<Response<ListOwnEntriesResponse>, Status> {
        let session = auth::session(&request)?;
        self.identity.check_key(&session).await?;
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let before = match message.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| {
                Status::from(Error::invalid(
                    "page_token",
                    "expected the `next_page_token` of the page before",
                ))
            })?),
        };
        let filter = Filter {
            agent_ids: Some(session.agents.clone()),
            ..Filter::default()
        };
        let records = search(&self.db, &filter, before, i64::from(size)).await?;
        Ok(Response::new(ListOwnEntriesResponse {
            next_page_token: next_page_token(&records, size, |record| record.sequence.to_string()),
            entries: records.into_iter().map(message_of).collect(),
        }))
    }

    async fn report_calls(
        &self,
        request: Request<ReportCallsRequest>,
    ) -> Result<Response<ReportCallsResponse>, Status> {
        let machine = auth::machine(&request)?;
        let once = Once::of(request.get_ref())?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let calls = request.into_inner().calls;
        if calls.is_empty() || calls.len() > MAX_CALLS {
            return Err(Error::invalid("calls", format!("expected 1 to {MAX_CALLS}")).into());
        }
        let calls = calls
            .into_iter()
            .map(reported)
            .collect::<crate::error::Result<Vec<_>>>()?;
        let sequence = match once {
            Once::RequestId => {
                self.identity.report_calls(context, machine, &calls).await?;
                0
            }
            Once::Place(place) => {
                let written = self.identity.report_journal(machine, place, &calls);
                written.await?.unsigned_abs()
            }
        };
        Ok(Response::new(ReportCallsResponse { sequence }))
    }

    async fn witness_checkpoint(
        &self,
        request: Request<WitnessCheckpointRequest>,
    ) -> Result<Response<WitnessCheckpointResponse>, Status> {
        let machine = auth::machine(&request)?;
        let context = auth::context(&request, "")?;
        let kept = request.into_inner().kept;
        let keys = self.identity.checkpoint_keys().await?;
        let answer =
            witness::witness(&self.db, &self.ambient, (context, machine), &kept, &keys).await?;
        let ended = answer.ended.map(|ended| EndedLog {
            size: ended.head.size.unsigned_abs(),
            root: ended.head.root.0.to_vec(),
            proof: hashes(ended.proof),
            next_origin: ended.next_origin,
        });
        Ok(Response::new(WitnessCheckpointResponse {
            checkpoint: answer.checkpoint.unwrap_or_default(),
            proof: hashes(answer.proof),
            verifier_keys: answer
                .verifier_keys
                .iter()
                .map(ToString::to_string)
                .collect(),
            ended,
        }))
    }
}

/// Hashes as messages have them.
pub(super) fn hashes(hashes: Vec<Hash>) -> Vec<Vec<u8>> {
    hashes.into_iter().map(|hash| hash.0.to_vec()).collect()
}

pub(super) fn message_of(record: Record) -> Entry {
    let (origin, index) = record
        .place
        .map(|place| (place.origin, place.index))
        .unzip();
    Entry {
        index: index.map(i64::unsigned_abs),
        origin: origin.unwrap_or_default(),
        agent_id: record.agent_id.unwrap_or_default(),
        sequence: record.sequence.unsigned_abs(),
        occurred_at: Some(timestamp(record.occurred_at)),
        caller: record.caller,
        key_id: record.key_id.unwrap_or_default(),
        machine_id: record
            .machine_id
            .map(|machine| machine.to_string())
            .unwrap_or_default(),
        peer_address: record.peer_address.unwrap_or_default(),
        zone: record.zone.unwrap_or_default(),
        action: record.action,
        subject: record.subject,
        outcome: record.outcome,
        reason: record.reason.unwrap_or_default(),
        request_id: record.request_id.unwrap_or_default(),
        trace_id: record.trace_id.unwrap_or_default(),
        count: record.count.unsigned_abs(),
    }
}
