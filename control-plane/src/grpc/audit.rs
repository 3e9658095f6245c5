//! `AuditService` and `AuditAdminService`.

use std::{pin::Pin, time::Duration};

use authguardian_proto::audit::v1::{
    Entry, ListOwnEntriesRequest, ListOwnEntriesResponse, ReportCallsRequest, ReportCallsResponse,
    TailEntriesRequest, TailEntriesResponse, audit_admin_service_server::AuditAdminService,
    audit_service_server::AuditService,
};
use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{next_page_token, page_size, timestamp},
    report::reported,
};
use crate::{
    audit::{self, Record, Tail},
    db::Db,
    error::Error,
    identity::Identity,
};

/// How often a follower looks for new entries.
const FOLLOW: Duration = Duration::from_millis(200);

/// Most entries that a tail begins with.
const MAX_LINES: u32 = 10_000;

/// Most calls in one report.
const MAX_CALLS: usize = 1000;

/// See the `.proto` file.
#[derive(Debug)]
pub struct Audit {
    /// Where the log is.
    pub db: Db,
    /// Whose keys still count.
    pub identity: Identity,
    /// Ends followers.
    pub stop: CancellationToken,
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
        let mut connection = self.db.read().await?;
        let records =
            audit::about_agents(&mut connection, &session.agents, before, i64::from(size)).await?;
        self.db.barrier(&mut connection).await?;
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
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let calls = request.into_inner().calls;
        if calls.is_empty() || calls.len() > MAX_CALLS {
            return Err(Error::invalid("calls", format!("expected 1 to {MAX_CALLS}")).into());
        }
        let calls = calls
            .into_iter()
            .map(reported)
            .collect::<crate::error::Result<Vec<_>>>()?;
        self.identity.report_calls(context, machine, &calls).await?;
        Ok(Response::new(ReportCallsResponse {}))
    }
}

#[tonic::async_trait]
impl AuditAdminService for Audit {
    type TailEntriesStream =
        Pin<Box<dyn Stream<Item = Result<TailEntriesResponse, Status>> + Send>>;

    async fn tail_entries(
        &self,
        request: Request<TailEntriesRequest>,
    ) -> Result<Response<Self::TailEntriesStream>, Status> {
        let TailEntriesRequest { lines, follow } = request.into_inner();
        if lines > MAX_LINES {
            return Err(Error::invalid("lines", format!("expected 0 to {MAX_LINES}")).into());
        }
        let tail = Tail::begin(self.db.clone(), lines).await?;
        let stop = self.stop.clone();
        let entries = stream::try_unfold(tail, move |mut tail| {
            let stop = stop.clone();
            async move {
                loop {
                    let records = tail.read().await?;
                    if !records.is_empty() {
                        let entries = records.into_iter().map(message_of).collect();
                        return Ok(Some((TailEntriesResponse { entries }, tail)));
                    }
                    if !follow {
                        return Ok(None);
                    }
                    tokio::select! {
                        () = tokio::time::sleep(FOLLOW) => {}
                        () = stop.cancelled() => return Ok(None),
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(entries)))
    }
}

fn message_of(record: Record) -> Entry {
    Entry {
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
