//! The audit log: whether sealing keeps up with what is appended, how soon an
//! entry is under a signed checkpoint, what it takes of the disk, and how long
//! a proof takes in a large log.

mod load;
mod proofs;
mod site;

use anyhow::Result;

use crate::{
    args::Args,
    progress,
    report::{Row, Section, Target},
};
use load::Sealed;
use site::Site;

/// Entries that are appended each second.
const RATE: u32 = 10_000;
/// Leaves of the log that proofs are made in.
const LEAVES: u64 = 10_000_000;
/// The same, where it only has to work.
const FEW_LEAVES: u64 = 100_000;

/// Measures it.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    let site = Site::start().await?;
    let (mut sealed, mut fastest) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds() {
        progress!("audit: round {round}");
        site.postgres.execute(&["CHECKPOINT"]).await?;
        sealed.push(load::paced(&site, RATE, args.duration()).await?);
        fastest.push(load::waiting(&site, args.duration()).await?);
    }
    let leaves = if args.quick { FEW_LEAVES } else { LEAVES };
    progress!("audit: a log of {leaves} leaves");
    proofs::grow(&site, leaves).await?;
    let mut proofs = Vec::new();
    for _ in 0..args.rounds() {
        proofs.push(proofs::measure(&site, args.duration()).await?);
    }
    site.stop().await?;

    let each = |figure: fn(&Sealed) -> f64| sealed.iter().map(figure).collect::<Vec<_>>();
    let inclusion: Vec<f64> = proofs.iter().map(|proof| proof.inclusion_p99_ms).collect();
    let consistency: Vec<f64> = proofs
        .iter()
        .map(|proof| proof.consistency_p99_ms)
        .collect();
    let target = Target::AtMost(10.0);
    Ok(Section {
        name: "audit",
        title: "entries on their way into the tree, and proofs out of it",
        rows: vec![
            Row::new(
                "sealed, while 10,000/s are appended",
                "/s",
                &each(|sealed| sealed.rate),
            )
            .against("appended", &each(|sealed| sealed.appended))
            .target(Target::AtLeast(0.99)),
            Row::new(
                "… until a checkpoint covers them, p50",
                "ms",
                &each(|sealed| sealed.lag_p50_ms),
            ),
            Row::new("… p99", "ms", &each(|sealed| sealed.lag_p99_ms)),
            Row::new("… bytes an entry", "B", &each(|sealed| sealed.bytes)),
            Row::new("sealed, from a queue that is never empty", "/s", &fastest),
            Row::new(format!("inclusion, p99, {leaves} leaves"), "ms", &inclusion).target(target),
            Row::new(
                format!("consistency, p99, {leaves} leaves"),
                "ms",
                &consistency,
            )
            .target(target),
        ],
    })
}
