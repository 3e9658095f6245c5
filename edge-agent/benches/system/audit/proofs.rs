//! Proofs in a large log. Its tree is made here, leaf by leaf; bodies have only
//! those entries that were sealed before: a proof reads one body by its key,
//! and tiles.

use std::time::Duration;

use anyhow::{Context as _, Result};
use authguardian_proto::{
    checkpoint::Checkpoint,
    merkle::{Frontier, Hash, TileId, leaf_hash, verify_consistency, verify_inclusion},
};
use control_plane::audit::{self, log::CheckpointKeys, proof};
use tokio::time::Instant;

use super::site::Site;

/// Leaves that are written at once.
const PART: u64 = 1 << 18;

/// 99 of a hundred were faster.
pub(super) struct Proofs {
    pub(super) inclusion_p99_ms: f64,
    pub(super) consistency_p99_ms: f64,
}

/// Puts another log of so many leaves in, with a signed head.
pub(super) async fn grow(site: &Site, leaves: u64) -> Result<()> {
    let mut tree = Frontier::default();
    let mut connection = site.postgres.connect().await?;
    while tree.size() < leaves {
        let to = (tree.size() + PART).min(leaves);
        let hashes: Vec<Hash> = (tree.size()..to)
            .map(|number| leaf_hash(&number.to_be_bytes()))
            .collect();
        let tiles = tree.append(&hashes)?;
        let (ids, bytes): (Vec<TileId>, Vec<Vec<u8>>) = tiles.into_iter().unzip();
        let levels: Vec<i16> = ids.iter().map(|id| id.level.into()).collect();
        let indexes: Vec<i64> = ids
            .iter()
            .map(|id| i64::try_from(id.index))
            .collect::<Result<_, _>>()?;
        sqlx::query(
            "INSERT INTO audit_tile (log, level, index, hashes)
             SELECT 2, * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])
             ON CONFLICT (log, level, index) DO UPDATE SET hashes = excluded.hashes",
        )
        .bind(levels)
        .bind(indexes)
        .bind(bytes)
        .execute(&mut connection)
        .await?;
    }
    let head = Checkpoint {
        origin: ORIGIN.to_owned(),
        size: tree.size(),
        root: tree.root(),
    };
    let signer = site.app.identity.signer()?;
    let note = signer
        .sign(&head)
        .context("the checkpoint cannot be signed")?;
    let entries = i64::try_from(head.size)?;
    sqlx::query(
        "INSERT INTO audit_log (log, origin, epoch, size, root, begun_at, ended_at)
         VALUES (2, $1, 1, $2, $3, now(), now())",
    )
    .bind(ORIGIN)
    .bind(entries)
    .bind(&head.root.0[..])
    .execute(&mut connection)
    .await?;
    sqlx::query(
        "INSERT INTO audit_checkpoint (log, size, root, note, signed_at) VALUES (2, $1, $2, $3, now())",
    )
    .bind(entries)
    .bind(&head.root.0[..])
    .bind(note)
    .execute(&mut connection)
    .await?;
    sqlx::query("ANALYZE audit_tile")
        .execute(&mut connection)
        .await?;
    Ok(())
}

const ORIGIN: &str = "example.org/audit/large";

/// Makes proofs for places all over the log, each of which is checked.
pub(super) async fn measure(site: &Site, duration: Duration) -> Result<Proofs> {
    let mut connection = site.app.db.read().await?;
    let logs = audit::log::logs(&mut connection).await?;
    let log = logs
        .iter()
        .find(|log| log.origin == ORIGIN)
        .context("no large log")?;
    let (leaves, root) = log.head.of_tree();
    let (mut inclusion, mut consistency) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < duration {
        let place = u64::from_be_bytes(site.app.ambient.entropy.bytes()) % leaves;
        let asked = Instant::now();
        let proved = proof::inclusion(&mut connection, ORIGIN, place).await?;
        inclusion.push(asked.elapsed());
        verify_inclusion(
            &proved.path,
            (leaves, root),
            place,
            leaf_hash(&place.to_be_bytes()),
        )?;
        let asked = Instant::now();
        let proved = proof::consistency(&mut connection, ORIGIN, (place + 1, 0)).await?;
        consistency.push(asked.elapsed());
        verify_consistency(&proved.proof, proved.from.of_tree(), (leaves, root))?;
    }
    Ok(Proofs {
        inclusion_p99_ms: p99(inclusion),
        consistency_p99_ms: p99(consistency),
    })
}

fn p99(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    let at = (took.len() * 99 / 100).min(took.len().saturating_sub(1));
    took.get(at).copied().unwrap_or_default().as_secs_f64() * 1e3
}
