//! Proofs for who has no access to the database.

use authguardian_proto::{
    merkle::{self, Hash, ProofError, TileId},
    reason::Reason,
};
use sqlx::PgConnection;

use super::{
    Record,
    log::{Head, Log, Signed},
    store,
};
use crate::error::{Error, Result};

/// That an entry is in a log.
#[derive(Debug)]
pub struct Inclusion {
    /// The entry; `None` when retention has dropped its body.
    pub record: Option<Record>,
    /// Hash of its leaf, as the tree has it.
    pub leaf_hash: Hash,
    /// From its neighbour to the root.
    pub path: Vec<Hash>,
    /// The head with that root.
    pub signed: Signed,
}

/// That a log of one size is the beginning of the log of another.
#[derive(Debug)]
pub struct Consistency {
    /// The earlier head.
    pub from: Head,
    /// The later head.
    pub to: Head,
    /// RFC 6962, 2.1.2.
    pub proof: Vec<Hash>,
    /// The newest signed head.
    pub signed: Signed,
}

/// The log of an origin; of none, the one that is written to.
///
/// # Errors
/// `INVALID_ARGUMENT` when there is none.
pub async fn log_of(connection: &mut PgConnection, origin: &str) -> Result<Log> {
    let logs = store::log::all(connection).await?;
    let found = logs.into_iter().find(|log| match origin {
        "" => log.ended_at.is_none(),
        origin => log.origin == origin,
    });
    found.ok_or_else(|| {
        Error::invalid(
            "origin",
            "expected the origin of a log; `control-plane audit log` names them",
        )
    })
}

/// Proves that the entry at an index is under the newest signed head.
///
/// # Errors
/// `KEY_NOT_FOUND` when none covers it yet; `INTERNAL` when the stored tree
/// does not fit.
pub async fn inclusion(
    connection: &mut PgConnection,
    origin: &str,
    index: u64,
) -> Result<Inclusion> {
    let log = log_of(connection, origin).await?;
    let signed = signed_head(connection, &log).await?;
    let size = signed.head.size.unsigned_abs();
    if index >= size {
        return Err(Error::new(
            Reason::KeyNotFound,
            format!("no signed checkpoint covers entry {index} yet: the newest has {size} entries"),
        ));
    }
    let at = i64::try_from(index).map_err(Error::internal)?;
    let leaf = TileId {
        level: 0,
        index: index / 256,
    };
    let mut wanted = merkle::inclusion_tiles(size, index);
    wanted.push(leaf);
    wanted.sort_unstable();
    wanted.dedup();
    let tiles = store::tile::read(connection, log.number, &wanted).await?;
    let path = merkle::prove_inclusion(&tiles, size, index).map_err(unproved)?;
    let leaf_hash = tiles
        .hash(leaf, index % 256)
        .ok_or_else(|| unproved(ProofError::Tile))?;
    let of = (log.number, log.origin.as_str());
    let record = store::sealed::range(connection, of, (at, at + 1), 1)
        .await?
        .pop();
    Ok(Inclusion {
        record,
        leaf_hash,
        path,
        signed,
    })
}

/// Proves that the log of one size is the beginning of the log of another; 0
/// is the size of the newest signed head.
///
/// # Errors
/// `INVALID_ARGUMENT` when the sizes do not fit; `INTERNAL` when the stored
/// tree does not.
pub async fn consistency(
    connection: &mut PgConnection,
    origin: &str,
    (from, to): (u64, u64),
) -> Result<Consistency> {
    let log = log_of(connection, origin).await?;
    let signed = signed_head(connection, &log).await?;
    let newest = signed.head.size.unsigned_abs();
    let to = if to == 0 { newest } else { to };
    if to > newest {
        let expected = format!("expected at most {newest}, the size of the newest checkpoint");
        return Err(Error::invalid("to_size", expected));
    }
    if from == 0 || from > to {
        return Err(Error::invalid("from_size", format!("expected 1 to {to}")));
    }
    let mut wanted = merkle::consistency_tiles(from, to);
    wanted.extend(merkle::root_tiles(from));
    wanted.extend(merkle::root_tiles(to));
    wanted.sort_unstable();
    wanted.dedup();
    let tiles = store::tile::read(connection, log.number, &wanted).await?;
    let head = |size: u64| -> Result<Head> {
        Ok(Head {
            size: i64::try_from(size).map_err(Error::internal)?,
            root: merkle::root(&tiles, size).map_err(unproved)?,
        })
    };
    Ok(Consistency {
        from: head(from)?,
        to: head(to)?,
        proof: merkle::prove_consistency(&tiles, from, to).map_err(unproved)?,
        signed,
    })
}

async fn signed_head(connection: &mut PgConnection, log: &Log) -> Result<Signed> {
    store::checkpoint::newest(connection, log.number)
        .await?
        .ok_or_else(|| {
            Error::new(
                Reason::KeyNotFound,
                "no checkpoint of this log was signed yet",
            )
        })
}

fn unproved(error: ProofError) -> Error {
    Error::internal(error)
}
