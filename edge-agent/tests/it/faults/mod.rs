//! Processes are killed under load, as `kill -9` does: nothing acknowledged is
//! lost, nothing is done twice, and every repeat of a request id is told the
//! first outcome. One round each, or as many as `AUTHGUARDIAN_FAULT_ROUNDS`
//! says (`make soak`).

pub(crate) mod caller;
mod check;
pub(crate) mod daemon;
mod figures;
mod history;
mod load;
mod record;
pub(crate) mod system;
mod two_control_planes;

use std::collections::BTreeMap;

use figures::{Round, Summary};
use history::{Answer, Call};
use load::Load;
use record::Record;
use system::{System, Victim};

pub(crate) const ROUNDS: &str = "AUTHGUARDIAN_FAULT_ROUNDS";

/// Acknowledged attempts before the kill, at least; rounds vary it.
const BEFORE: usize = 150;
/// Acknowledged attempts after everything is up again.
const AFTER: usize = 200;

#[tokio::test]
async fn a_killed_control_plane_loses_and_doubles_nothing() {
    rounds(Victim::ControlPlane).await;
}

#[tokio::test]
async fn a_killed_edge_loses_and_doubles_nothing() {
    rounds(Victim::Edge).await;
}

#[tokio::test]
async fn a_killed_postgresql_loses_and_doubles_nothing() {
    rounds(Victim::Postgres).await;
}

/// All rounds on one system, so that later ones also check what the earlier
/// ones have left.
#[expect(clippy::print_stdout, reason = "the figures are what a soak is for")]
async fn rounds(victim: Victim) {
    let count = std::env::var(ROUNDS).map_or(1, |rounds| rounds.parse().unwrap());
    let mut system = System::start(1).await;
    let target = system.target(0);
    let mut calls = Vec::new();
    let mut figures = Vec::new();
    for number in 0..count {
        let load = Load::start(target.clone(), &format!("round-{number}"));
        load.acknowledges(BEFORE + number * 61 % 200).await;
        let killed_at = load.now();
        system.kill(victim).await;
        // every other time it is away for longer than the edge itself repeats
        if number % 2 == 0 {
            load.misses_an_answer().await;
        }
        let started_at = load.now();
        system.start_again(victim).await;
        load.acknowledges(AFTER).await;
        let round = load.stop().await;
        let figure = Round::of(&round, killed_at, started_at);
        println!("{victim:?}, round {}: {figure}", number + 1);
        assert!(figure.in_flight > 0, "a kill that no call has met");
        figures.push(figure);

        let round = load::repeat_all(&target, round).await;
        let validity = load::validate_all(&target, tokens(&round)).await;
        calls.extend(round);
        let record = Record::read(&system.postgres.url()).await.unwrap();
        let violations = check::violations(&calls, &record, &BTreeMap::from_iter(validity));
        assert!(violations.is_empty(), "{violations:#?}");
    }
    println!("{victim:?}, {}", Summary(&figures));
}

/// The first token of every grant.
fn tokens(calls: &[Call]) -> Vec<(String, String)> {
    let granted = calls.iter().filter_map(|call| match call.outcome()? {
        Answer::Granted { grant_id, token } => Some((grant_id.clone(), token.clone()?)),
        _ => None,
    });
    granted.collect()
}
