//! `AuditAdminService`.

use std::{collections::HashMap, pin::Pin, time::Duration};

use authguardian_proto::{
    audit::v1::{
        ExportEntriesRequest, ExportEntriesResponse, ExportedEntry, Finding, GetLogRequest,
        GetLogResponse, GetRetentionRequest, GetRetentionResponse, Log, ProveConsistencyRequest,
        ProveConsistencyResponse, ProveInclusionRequest, ProveInclusionResponse,
        SearchEntriesRequest, SearchEntriesResponse, SetRetentionRequest, SetRetentionResponse,
        TailEntriesRequest, TailEntriesResponse, VerifyLogRequest, VerifyLogResponse, Witness,
        audit_admin_service_server::AuditAdminService,
    },
    reason::Reason,
};
use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    audit::{hashes, message_of},
    auth,
    convert::{next_page_token, page_size, parse_optional, time, timestamp},
};
use crate::{
    audit::{
        self, Outcome, Tail,
        export::{Export, Leaf},
        log::verifier_keys,
        proof, retention,
        search::Filter,
        verify::{Outside, Progress, Verification},
        witness::contradiction,
    },
    clock::Ambient,
    db::Db,
    error::Error,
    identity::Identity,
};

/// How often a follower looks for new entries.
const FOLLOW: Duration = Duration::from_millis(100);

/// Most entries that a tail begins with, and that wait and are told without
/// following.
const MAX_LINES: u32 = 10_000;

/// How often a verification tells how far it is.
const TELL: Duration = Duration::from_secs(1);

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// See the `.proto` file.
#[derive(Debug)]
pub struct AuditAdmin {
    /// Where the log is.
    pub db: Db,
    /// Time.
    pub ambient: Ambient,
    /// Who has the keys of checkpoints.
    pub identity: Identity,
    /// Ends followers.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl AuditAdminService for AuditAdmin {
    type TailEntriesStream = Streamed<TailEntriesResponse>;
    type VerifyLogStream = Streamed<VerifyLogResponse>;
    type ExportEntriesStream = Streamed<ExportEntriesResponse>;

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
        let entries = stream::try_unfold(Some(tail), move |tail| {
            let stop = stop.clone();
            async move {
                let Some(mut tail) = tail else {
                    return Ok(None);
                };
                loop {
                    let records = tail.read().await?;
                    if !records.is_empty() {
                        return Ok(Some((told(records), Some(tail))));
                    }
                    if !follow {
                        // what is not sealed yet comes last, and is the end
                        let pending = tail.pending(lines).await?;
                        let is_end = pending.is_empty();
                        return Ok((!is_end).then(|| (told(pending), None)));
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

    async fn search_entries(
        &self,
        request: Request<SearchEntriesRequest>,
    ) -> Result<Response<SearchEntriesResponse>, Status> {
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let before = match message.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| {
                let expected = "expected the `next_page_token` of the page before";
                Status::from(Error::invalid("page_token", expected))
            })?),
        };
        let filter = filter(message)?;
        let records = audit::search::search(&self.db, &filter, before, i64::from(size)).await?;
        Ok(Response::new(SearchEntriesResponse {
            next_page_token: next_page_token(&records, size, |record| record.sequence.to_string()),
            entries: records.into_iter().map(message_of).collect(),
        }))
    }

    async fn get_log(
        &self,
        _request: Request<GetLogRequest>,
    ) -> Result<Response<GetLogResponse>, Status> {
        let keys = self.identity.checkpoint_keys().await?;
        let mut connection = self.db.read().await?;
        let logs = audit::log::logs(&mut connection).await?;
        let signed = match logs.last() {
            Some(log) => audit::newest_checkpoint(&mut connection, log).await?,
            None => None,
        };
        let mut witnesses = Vec::new();
        // many have kept the same
        let mut judged: HashMap<String, bool> = HashMap::new();
        for witness in audit::witnesses(&mut connection).await? {
            let consistent = match judged.get(&witness.kept.note) {
                Some(known) => *known,
                None => contradiction(&mut connection, &logs, &witness.kept)
                    .await?
                    .is_none(),
            };
            judged.insert(witness.kept.note, consistent);
            witnesses.push(Witness {
                machine_id: witness.machine_id.to_string(),
                origin: witness.kept.origin,
                size: witness.kept.head.size.unsigned_abs(),
                root: witness.kept.head.root.0.to_vec(),
                seen_at: Some(timestamp(witness.seen_at)),
                consistent,
            });
        }
        let pending = audit::pending_count(&mut connection).await?;
        self.db.barrier(&mut connection).await?;
        Ok(Response::new(GetLogResponse {
            logs: logs.iter().map(|log| log_message(log, &keys)).collect(),
            signed_at: signed.as_ref().map(|signed| timestamp(signed.signed_at)),
            checkpoint: signed.map(|signed| signed.note).unwrap_or_default(),
            pending,
            witnesses,
        }))
    }

    async fn verify_log(
        &self,
        request: Request<VerifyLogRequest>,
    ) -> Result<Response<Self::VerifyLogStream>, Status> {
        let VerifyLogRequest { checkpoint, origin } = request.into_inner();
        let outside = Outside {
            checkpoint,
            public_keys: self.identity.checkpoint_keys().await?,
        };
        let begun = Verification::begin(self.db.clone(), &origin, outside).await?;
        let stop = self.stop.clone();
        let told = stream::try_unfold(begun, move |mut verification| {
            let stop = stop.clone();
            async move {
                if stop.is_cancelled() {
                    return Err(ending().into());
                }
                let (progress, done) = read_on(&mut verification).await?;
                Ok(progress.map(|progress| (progress_message(progress, done), verification)))
            }
        });
        Ok(Response::new(Box::pin(told)))
    }

    async fn prove_inclusion(
        &self,
        request: Request<ProveInclusionRequest>,
    ) -> Result<Response<ProveInclusionResponse>, Status> {
        let ProveInclusionRequest { index, origin } = request.into_inner();
        let mut connection = self.db.read().await?;
        let proved = proof::inclusion(&mut connection, &origin, index).await?;
        self.db.barrier(&mut connection).await?;
        Ok(Response::new(ProveInclusionResponse {
            leaf: proved
                .record
                .as_ref()
                .map(|record| record.leaf().to_bytes())
                .unwrap_or_default(),
            entry: proved.record.map(message_of),
            leaf_hash: proved.leaf_hash.0.to_vec(),
            path: hashes(proved.path),
            checkpoint: proved.signed.note,
        }))
    }

    async fn prove_consistency(
        &self,
        request: Request<ProveConsistencyRequest>,
    ) -> Result<Response<ProveConsistencyResponse>, Status> {
        let message = request.into_inner();
        let mut connection = self.db.read().await?;
        let sizes = (message.from_size, message.to_size);
        let proved = proof::consistency(&mut connection, &message.origin, sizes).await?;
        self.db.barrier(&mut connection).await?;
        Ok(Response::new(ProveConsistencyResponse {
            from_root: proved.from.root.0.to_vec(),
            to_size: proved.to.size.unsigned_abs(),
            to_root: proved.to.root.0.to_vec(),
            proof: hashes(proved.proof),
            checkpoint: proved.signed.note,
        }))
    }

    async fn export_entries(
        &self,
        request: Request<ExportEntriesRequest>,
    ) -> Result<Response<Self::ExportEntriesStream>, Status> {
        let ExportEntriesRequest { origin, from_index } = request.into_inner();
        let keys = self.identity.checkpoint_keys().await?;
        let export = Export::begin(self.db.clone(), &origin, from_index).await?;
        let head = ExportEntriesResponse {
            log: Some(log_message(export.log(), &keys)),
            ..ExportEntriesResponse::default()
        };
        let stop = self.stop.clone();
        let pages = stream::try_unfold(Some(export), move |export| {
            let stop = stop.clone();
            async move {
                let Some(mut export) = export else {
                    return Ok(None);
                };
                if stop.is_cancelled() {
                    return Err(ending().into());
                }
                let (first, leaves) = export.read().await?;
                if leaves.is_empty() {
                    let end = ExportEntriesResponse {
                        checkpoint: export
                            .signed()
                            .map(|signed| signed.note.clone())
                            .unwrap_or_default(),
                        ..ExportEntriesResponse::default()
                    };
                    return Ok(Some((end, None)));
                }
                let entries = (first.unsigned_abs()..).zip(leaves).map(exported).collect();
                let page = ExportEntriesResponse {
                    entries,
                    ..ExportEntriesResponse::default()
                };
                Ok(Some((page, Some(export))))
            }
        });
        let head = stream::iter([Ok(head)]);
        Ok(Response::new(Box::pin(futures::StreamExt::chain(
            head, pages,
        ))))
    }

    async fn get_retention(
        &self,
        _request: Request<GetRetentionRequest>,
    ) -> Result<Response<GetRetentionResponse>, Status> {
        let days = retention::days(&self.db).await?;
        Ok(Response::new(GetRetentionResponse { days }))
    }

    async fn set_retention(
        &self,
        request: Request<SetRetentionRequest>,
    ) -> Result<Response<SetRetentionResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let days = request.into_inner().days;
        let days = retention::set_days(&self.db, &self.ambient, context, days).await?;
        Ok(Response::new(SetRetentionResponse { days }))
    }
}

fn ending() -> Error {
    Error::new(
        Reason::Unavailable,
        "the control plane is ending; try again",
    )
}

fn told(records: Vec<audit::Record>) -> TailEntriesResponse {
    TailEntriesResponse {
        entries: records.into_iter().map(message_of).collect(),
    }
}

fn filter(message: SearchEntriesRequest) -> Result<Filter, Error> {
    let text = |text: String| (!text.is_empty()).then_some(text);
    let outcome = match message.outcome.as_str() {
        "" => None,
        given => Some(Outcome::parse(given).ok_or_else(|| {
            Error::invalid("outcome", "expected `ok`, `denied`, `refused` or `failed`")
        })?),
    };
    Ok(Filter {
        agent_ids: parse_optional("agent_id", &message.agent_id)?.map(|agent| vec![agent]),
        machine_id: parse_optional("machine_id", &message.machine_id)?,
        action: text(message.action),
        outcome,
        since: message.since.map(|at| time("since", at)).transpose()?,
        until: message.until.map(|at| time("until", at)).transpose()?,
        subject: text(message.subject),
    })
}

/// Reads on until there is something to tell, or a second has passed.
async fn read_on(verification: &mut Verification) -> Result<(Option<Progress>, bool), Error> {
    let begun = tokio::time::Instant::now();
    let mut findings = Vec::new();
    loop {
        let Some(mut progress) = verification.step().await? else {
            return Ok((None, true));
        };
        findings.append(&mut progress.findings);
        let done = verification.is_done();
        if done || !findings.is_empty() || begun.elapsed() >= TELL {
            progress.findings = findings;
            return Ok((Some(progress), done));
        }
    }
}

fn progress_message(progress: Progress, done: bool) -> VerifyLogResponse {
    VerifyLogResponse {
        entries: progress.entries,
        entries_in_all: progress.entries_in_all,
        checkpoints: progress.checkpoints,
        findings: progress
            .findings
            .into_iter()
            .map(|finding| Finding {
                kind: finding.kind.as_str().to_owned(),
                origin: finding.origin,
                index: finding.index.map(i64::unsigned_abs),
                detail: finding.detail,
            })
            .collect(),
        done,
        findings_in_all: progress.findings_in_all,
        dropped: progress.dropped,
    }
}

fn log_message(log: &audit::log::Log, keys: &[[u8; 32]]) -> Log {
    Log {
        origin: log.origin.clone(),
        size: log.head.size.unsigned_abs(),
        root: log.head.root.0.to_vec(),
        epoch: log.epoch.unsigned_abs(),
        begun_at: Some(timestamp(log.begun_at)),
        ended_at: log.ended_at.map(timestamp),
        verifier_keys: verifier_keys(&log.origin, keys)
            .iter()
            .map(ToString::to_string)
            .collect(),
        bodies_from: log.bodies_from.unsigned_abs(),
    }
}

fn exported((index, leaf): (u64, Leaf)) -> ExportedEntry {
    let (leaf, leaf_hash) = match leaf {
        Leaf::Entry(bytes) => (bytes, Vec::new()),
        Leaf::Dropped(hash) => (Vec::new(), hash.0.to_vec()),
    };
    ExportedEntry {
        index,
        leaf,
        leaf_hash,
    }
}
