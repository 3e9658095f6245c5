//! What is told of budgets, as messages.

use authguardian_proto::budgets::v1 as pb;
use time::OffsetDateTime;

use crate::{
    budgets::{Account, Amount, Awaited, Budget, Held, Numbered, Span, State, Terms, View, Window},
    error::{Error, Result},
    grpc::convert::{parse, parse_optional, position, timestamp},
};

pub(super) fn budget(budget: Budget) -> pb::Budget {
    let (state, hold, terms) = (state(&budget), budget.hold, budget.terms);
    pb::Budget {
        task_id: budget.task.to_string(),
        unit: terms.unit,
        total: terms.total,
        parent: terms
            .parent
            .map(|parent| parent.to_string())
            .unwrap_or_default(),
        window: window(terms.window).into(),
        carries_over: terms.carries_over,
        thresholds: terms.thresholds,
        owner: terms.owner,
        spenders: terms.spenders,
        state: state.into(),
        created_at: Some(timestamp(budget.created_at)),
        held_since: hold.map(|hold| timestamp(hold.since)),
        held_as_of: hold.map(|hold| timestamp(hold.as_of)),
    }
}

fn window(window: Window) -> pb::Window {
    match window {
        Window::None => pb::Window::None,
        Window::Minute => pb::Window::Minute,
        Window::Hour => pb::Window::Hour,
        Window::Day => pb::Window::Day,
        Window::Month => pb::Window::Month,
    }
}

fn state(budget: &Budget) -> pb::State {
    match budget.state {
        State::Active | State::Frozen if budget.is_held() => pb::State::Held,
        State::Active => pb::State::Active,
        State::Frozen => pb::State::Frozen,
        State::Closed => pb::State::Closed,
    }
}

/// What an operator says of a budget that is to be made.
pub(super) fn terms(message: pb::Budget) -> Result<Terms> {
    let expected = "expected none, minute, hour, day or month";
    let window = match pb::Window::try_from(message.window) {
        Ok(pb::Window::Unspecified | pb::Window::None) => Window::None,
        Ok(pb::Window::Minute) => Window::Minute,
        Ok(pb::Window::Hour) => Window::Hour,
        Ok(pb::Window::Day) => Window::Day,
        Ok(pb::Window::Month) => Window::Month,
        Err(_) => return Err(Error::invalid("budget.window", expected)),
    };
    Ok(Terms {
        unit: message.unit,
        total: message.total,
        parent: parse_optional("budget.parent", &message.parent)?,
        window,
        carries_over: message.carries_over,
        thresholds: message.thresholds,
        owner: message.owner,
        spenders: message.spenders,
    })
}

/// `suspense`: what silent machines hold of it.
pub(super) fn account(account: &Account, window: Option<Span>, suspense: Amount) -> pb::Account {
    pb::Account {
        window_begins: window.map(|span| timestamp(span.begins_at)),
        window_ends: window.map(|span| timestamp(span.ends_at)),
        total: account.total,
        reported: account.reported,
        overdraft: account.overdraft,
        outstanding: account.outstanding,
        suspense,
        remaining: account.rest(),
    }
}

pub(super) fn view(view: View) -> pb::GetBudgetResponse {
    pb::GetBudgetResponse {
        account: Some(account(&view.account, view.window, view.suspense())),
        slices: view.slices.iter().map(slice).collect(),
        position: view.position.map(position),
        awaited: view.awaited.iter().map(awaited).collect(),
        budget: Some(budget(view.budget)),
    }
}

fn awaited(awaited: &Awaited) -> pb::AwaitedMachine {
    pb::AwaitedMachine {
        machine_id: awaited.machine.to_string(),
        remembers_since: awaited.remembers_since.map(timestamp),
    }
}

/// Without what single machines have.
pub(super) fn summary(one: View) -> pb::GetBudgetResponse {
    pb::GetBudgetResponse {
        slices: Vec::new(),
        ..view(one)
    }
}

pub(super) fn slice(held: &Held) -> pb::Slice {
    pb::Slice {
        machine_id: held.machine.to_string(),
        epoch: held.epoch.unsigned_abs(),
        window_begins: held.window.map(timestamp),
        granted: held.slice.granted,
        returned: held.slice.returned,
        reported: held.slice.reported,
        reserved: held.reserved,
        leased_until: Some(timestamp(held.leased_until)),
        is_silent: held.is_silent,
        is_closed: held.slice.is_closed,
    }
}

pub(super) fn movement(numbered: &Numbered, windows: Window) -> pb::Movement {
    let movement = &numbered.movement;
    let span = movement.window.and_then(|at| windows.at(at));
    pb::Movement {
        number: numbered.number.unsigned_abs(),
        kind: movement.kind.as_str().to_owned(),
        amount: movement.amount,
        machine_id: movement
            .slice
            .map(|(machine, _)| machine.to_string())
            .unwrap_or_default(),
        epoch: movement.slice.map_or(0, |(_, epoch)| epoch.unsigned_abs()),
        child: movement
            .child
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        account: Some(account(&movement.after, span, 0)),
        occurred_at: Some(timestamp(numbered.occurred_at)),
    }
}

/// Where a page of movements ended: `<window, seconds since 1970>-<number>`.
pub(super) fn page_token(numbered: &Numbered) -> String {
    let window = numbered
        .movement
        .window
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!("{}-{}", window.unix_timestamp(), numbered.number)
}

/// Reads what [`page_token`] told.
pub(super) fn read_page_token(text: &str) -> Result<Option<(Option<OffsetDateTime>, i64)>> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = || {
        let (window, number) = text.split_once('-')?;
        let window = OffsetDateTime::from_unix_timestamp(window.parse().ok()?).ok()?;
        let window = (window != OffsetDateTime::UNIX_EPOCH).then_some(window);
        Some((window, number.parse().ok()?))
    };
    let expected = "expected the `next_page_token` of an earlier answer";
    read()
        .map(Some)
        .ok_or_else(|| Error::invalid("page_token", expected))
}

/// A task that a budget is made for.
pub(super) fn task(message: &pb::Budget) -> Result<authguardian_proto::ids::TaskId> {
    parse("budget.task_id", &message.task_id)
}
