//! `SliceService`.

use std::collections::HashSet;

use authguardian_proto::{
    budgets::v1::{
        self as pb, ExchangeRequest, ExchangeResponse, SliceAnswer, SliceReport,
        slice_service_server::SliceService,
    },
    ids::{MachineId, TaskId},
};
use prost_types::Timestamp;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use super::message;
use crate::{
    budgets::{Answer, Ask, Budget, Budgets, Exchange, MAX_AMOUNT, Memory, Recall, Report, Told},
    error::{Error, Result},
    grpc::{
        auth,
        convert::{self, parse, timestamp},
    },
};

/// Most slices of one exchange.
const MAX_SLICES: usize = 1000;

/// When a machine calls again where nothing moves …
const AGAIN_MS: u32 = 1000;
/// … where its callers wait for more …
const WAITING_MS: u32 = 50;
/// … and where others wait for what it has.
const ASKED_MS: u32 = 20;

/// See the `.proto` file.
#[derive(Debug)]
pub struct SliceFace(pub Budgets);

#[tonic::async_trait]
impl SliceService for SliceFace {
    async fn exchange(
        &self,
        request: Request<ExchangeRequest>,
    ) -> std::result::Result<Response<ExchangeResponse>, Status> {
        let machine = auth::machine(&request)?;
        let exchange = read(machine, request.get_ref())?;
        let asked: Vec<Ask> = exchange
            .reports
            .iter()
            .map(|(_, report)| report.ask)
            .collect();
        let heard = self.0.exchange(exchange).await?;
        let asks = asked.into_iter().chain(std::iter::repeat(Ask::default()));
        let slices = heard
            .slices
            .into_iter()
            .zip(asks)
            .map(|(told, ask)| answer(told, ask));
        Ok(Response::new(ExchangeResponse {
            slices: slices.collect(),
            time: Some(timestamp(heard.time)),
            recall: heard.recall.map(recall),
        }))
    }
}

fn read(machine: MachineId, message: &ExchangeRequest) -> Result<Exchange> {
    if message.slices.len() > MAX_SLICES {
        return Err(Error::invalid(
            "slices",
            format!("expected at most {MAX_SLICES}"),
        ));
    }
    let count = |field: &str, number: u64| {
        let number = i64::try_from(number);
        number.map_err(|_| Error::invalid(field, "expected a number below 2^63"))
    };
    let mut known = HashSet::with_capacity(message.slices.len());
    let mut reports = Vec::with_capacity(message.slices.len());
    for (at, slice) in message.slices.iter().enumerate() {
        let (task, report) = report(at, slice)?;
        if !known.insert((task.clone(), report.epoch)) {
            let detail = "expected each task and epoch once";
            return Err(Error::invalid(&format!("slices[{at}]"), detail));
        }
        reports.push((task, report));
    }
    Ok(Exchange {
        machine,
        incarnation: count("incarnation", message.incarnation)?,
        sequence: count("sequence", message.sequence)?,
        journal: message.journal.cast_signed(),
        reports,
        complete: message.complete,
        memory: Memory {
            since: time("remembers_since", message.remembers_since)?,
            recalled: time("recalled", message.recalled)?,
        },
    })
}

fn report(at: usize, message: &SliceReport) -> Result<(TaskId, Report)> {
    let named = |name: &str| format!("slices[{at}].{name}");
    let amounts = [
        ("granted", message.granted),
        ("returned", message.returned),
        ("spent", message.spent),
        ("reserved", message.reserved),
        ("wanted", message.wanted),
        ("needed", message.needed),
        ("epoch", message.epoch),
    ];
    for (name, amount) in amounts {
        if amount > MAX_AMOUNT {
            let detail = format!("expected at most {MAX_AMOUNT}");
            return Err(Error::invalid(&named(name), detail));
        }
    }
    let report = Report {
        epoch: message.epoch.cast_signed(),
        granted: message.granted,
        returned: message.returned,
        spent: message.spent,
        reserved: message.reserved,
        ask: Ask {
            wanted: message.wanted,
            needed: message.needed,
        },
        ends: message.ends,
        window: time(&named("window_begins"), message.window_begins)?,
    };
    Ok((parse(&named("task_id"), &message.task_id)?, report))
}

/// A time that may be missing.
fn time(field: &str, message: Option<Timestamp>) -> Result<Option<OffsetDateTime>> {
    message
        .map(|timestamp| convert::time(field, timestamp))
        .transpose()
}

fn recall(recall: Recall) -> pb::Recall {
    pb::Recall {
        held_since: Some(timestamp(recall.since)),
        as_of: Some(timestamp(recall.as_of)),
    }
}

fn answer(told: Told, ask: Ask) -> SliceAnswer {
    match told.slice {
        Ok((budget, answer)) => slice(budget, &answer, ask),
        Err(none) => SliceAnswer {
            reason: none.reason().as_str().to_owned(),
            again_ms: AGAIN_MS,
            ..SliceAnswer::default()
        },
    }
}

fn slice(budget: Budget, answer: &Answer, ask: Ask) -> SliceAnswer {
    let free = answer
        .granted
        .saturating_sub(answer.returned)
        .saturating_sub(answer.reported);
    let again_ms = match () {
        () if answer.give_back > 0 => ASKED_MS,
        () if ask.needed > 0 && free < ask.needed => WAITING_MS,
        () => AGAIN_MS,
    };
    SliceAnswer {
        reason: String::new(),
        account: Some(message::account(&answer.account, answer.window, 0)),
        epoch: answer.epoch.unsigned_abs(),
        granted: answer.granted,
        returned: answer.returned,
        reported: answer.reported,
        lease_ms: u32::try_from(answer.lease.whole_milliseconds()).unwrap_or_default(),
        give_back: answer.give_back,
        again_ms,
        is_over: answer.is_over,
        budget: Some(message::budget(budget)),
    }
}
