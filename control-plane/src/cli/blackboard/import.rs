//! `blackboard import`.

use std::io::{BufRead, Lines, StdinLock};

use authguardian_proto::{
    blackboard::v1::{PutRequest, blackboard_admin_service_client::BlackboardAdminServiceClient},
    reason::{Problem, Reason},
};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{OnBoard, export::Line};
use crate::cli::{
    ambient,
    client::{Authenticated, change, fresh_request_id},
    failure::Failure,
    output::{Format, note},
};

/// Lines that are written at the same time; they share transactions.
const AT_ONCE: usize = 64;

/// How often it is told how far it has come, in lines.
const TELL_EVERY: u64 = 10_000;

#[derive(Debug, Args)]
#[command(
    after_help = "Lines are as `blackboard export` writes them; only `key`, `value` and `expires_at` count, and what has come to its end is left out. Keys that are there are written over, unless --skip-existing says otherwise. It stops at the first line that cannot be written, and can be run again as a whole."
)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    on: OnBoard,
    /// Leave keys alone that are there; not on eventual boards
    #[arg(long)]
    skip_existing: bool,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct ImportView {
    board: String,
    written: u64,
    /// Ended meanwhile, or there already.
    left_out: u64,
}

impl ImportArgs {
    pub(super) async fn run(
        self,
        client: BlackboardAdminServiceClient<Authenticated>,
        output: Format,
    ) -> Result<(), Failure> {
        let now = ambient()?.clock.now();
        let lines = read_lines(std::io::stdin().lock().lines(), now);
        let writing = stream::iter(lines).map(async |line| match line {
            Ok((number, Some(request))) => self
                .write(client.clone(), request)
                .await
                .map_err(|failure| at_line(failure, number)),
            Ok((_, None)) => Ok(false),
            Err(failure) => Err(failure),
        });
        let view = ImportView {
            board: self.on.board.to_string(),
            ..ImportView::default()
        };
        let view = writing
            .buffered(AT_ONCE)
            .try_fold(view, async |mut view, is_written| {
                view.written += u64::from(is_written);
                view.left_out += u64::from(!is_written);
                if (view.written + view.left_out).is_multiple_of(TELL_EVERY) {
                    note(&format!("{} lines", view.written + view.left_out))?;
                }
                Ok(view)
            })
            .await?;
        output.one(&view)
    }

    /// Whether it was written.
    async fn write(
        &self,
        mut client: BlackboardAdminServiceClient<Authenticated>,
        request: PutRequest,
    ) -> Result<bool, Failure> {
        let request = PutRequest {
            board: self.on.board.to_string(),
            if_revision: self.skip_existing.then_some(0),
            ..request
        };
        let id = request.request_id.clone();
        match change(&id, async || client.put(request.clone()).await).await {
            Ok(_) => Ok(true),
            Err(Failure::Problem(problem))
                if self.skip_existing && problem.reason == Reason::RevisionConflict =>
            {
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Lines with their numbers, from 1; `None`: its time is over.
fn read_lines(
    lines: Lines<StdinLock<'_>>,
    now: OffsetDateTime,
) -> impl Iterator<Item = Result<(u64, Option<PutRequest>), Failure>> {
    let lines = lines.zip(1_u64..);
    let lines = lines.filter(|(line, _)| !matches!(line, Ok(text) if text.trim().is_empty()));
    lines.map(move |(line, number)| {
        let request = read_line(&line?, now).map_err(|failure| at_line(failure, number))?;
        Ok((number, request))
    })
}

fn read_line(text: &str, now: OffsetDateTime) -> Result<Option<PutRequest>, Failure> {
    let line: Line = serde_json::from_str(text).map_err(|error| {
        let detail = format!("expected {{\"key\": …, \"value\": …}}: {error}");
        Problem::invalid("stdin", detail)
    })?;
    let ttl_seconds = match line.expires_at {
        None => None,
        Some(text) => {
            let end = OffsetDateTime::parse(&text, &Rfc3339).map_err(|_| {
                Problem::invalid("expires_at", "expected a time such as 2026-11-24T12:00:00Z")
            })?;
            match u64::try_from((end - now).whole_seconds()) {
                Ok(seconds @ 1..) => Some(seconds),
                _ => return Ok(None),
            }
        }
    };
    Ok(Some(PutRequest {
        key: line.key,
        value: line.value.get().to_owned(),
        ttl_seconds,
        request_id: fresh_request_id()?,
        ..PutRequest::default()
    }))
}

/// The same, with the line that it is about.
fn at_line(failure: Failure, number: u64) -> Failure {
    match failure {
        Failure::Problem(problem) => Failure::Problem(Problem {
            detail: format!("line {number}: {}", problem.detail),
            ..problem
        }),
        other => other,
    }
}
