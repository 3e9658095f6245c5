//! Filling a replica as if it had been told all of it by the control plane.

use std::{hint::black_box, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use authguardian_proto::{
    blackboard::v1::{BoardDelta, FollowResponse, follow_response::About},
    board::Key,
    crdt::{Actor, Dot, HybridTime, VectorClock, Version, Write},
    ids::{BoardName, MachineId},
};
use edge_agent::{
    clock::Ambient,
    identity::Store,
    replica::{Limits, Replica},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::asker::BOARD;
use crate::keys::{Keys, VALUE};

/// Versions of one message.
const AT_ONCE: usize = 8_192;
/// When all of them were written, milliseconds since 1970.
const WRITTEN: u64 = 1_795_000_000_000;

/// What there is then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    /// Versions that were taken per second.
    pub(super) rate: f64,
    /// Bytes of the file, on disk.
    pub(super) bytes: f64,
    /// Reading a key in this process, µs.
    pub(super) read_us: f64,
}

/// Fills the replica of an edge that is not running and has heard of the board.
pub(super) async fn fill(dir: &Path, keys: u64, reading: Duration) -> Result<Filled> {
    let identity = Store::open(dir)?
        .load()?
        .context("the machine has joined")?;
    let limits = Limits::default();
    let replica = Replica::open(dir, identity.machine_id, limits, Ambient::system()?)?;
    let began = Instant::now();
    take(&replica, keys).await?;
    let took = began.elapsed();
    let filled = Filled {
        rate: per_second(keys, took),
        bytes: bytes(&replica),
        read_us: read(&replica, &Keys::new(keys), reading)?,
    };
    replica.close().await;
    Ok(filled)
}

/// Versions of another machine's, which the control plane has had at its very beginning: it
/// has nothing to add when it is asked from there.
async fn take(replica: &Replica, count: u64) -> Result<()> {
    let board: BoardName = BOARD.parse()?;
    let known = replica.board(&board).context("the board is known")?;
    let actor = Actor {
        machine: MachineId::from_uuid(Uuid::from_u128(1)),
        incarnation: 1,
    };
    let mut versions = Keys::new(count).all().zip(1..).map(|(key, counter)| {
        let key: Key = key.parse()?;
        let dot = Dot { actor, counter };
        Ok(version(dot).to_proto(&key, counter))
    });
    loop {
        let part: Vec<_> = versions.by_ref().take(AT_ONCE).collect::<Result<_>>()?;
        if part.is_empty() {
            break;
        }
        let delta = BoardDelta {
            board: BOARD.to_owned(),
            versions: part,
            ..BoardDelta::default()
        };
        let about = Some(About::Delta(delta));
        replica.take(vec![FollowResponse { about }]).await?;
    }
    let is = replica.board(&board).context("the board is known")?;
    ensure!(
        is.position == known.position && is.position.is_some(),
        "it is where it was"
    );
    Ok(())
}

fn version(dot: Dot) -> Version<Write> {
    let mut clock = VectorClock::default();
    clock.see(dot);
    Version {
        dot,
        clock,
        time: HybridTime::new(WRITTEN, 0),
        content: Write {
            value: Some(VALUE.into()),
            writer: "agent:data_analyst".into(),
            expires_at_millis: None,
        },
    }
}

#[expect(clippy::cast_precision_loss, reason = "millions")]
fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "less than a terabyte")]
fn bytes(replica: &Replica) -> f64 {
    replica.status().file_bytes as f64
}

/// What reading one key after the other in random order takes for each, µs.
fn read(replica: &Replica, keys: &Keys, duration: Duration) -> Result<f64> {
    /// Between looks at the clock.
    const READS: u32 = 1_000;
    let board: BoardName = BOARD.parse()?;
    let mut keys = keys.of_client(0);
    let (began, mut reads) = (Instant::now(), 0);
    while began.elapsed() < duration {
        for _ in 0..READS {
            let key: Key = keys.next().parse()?;
            let found = black_box(replica.get(&board, &key)?);
            ensure!(found.is_some(), "`{key}` is not there");
        }
        reads += READS;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(reads))
}
