//! Taking a log out of the database: leaves in order, up to a signed head.

use authguardian_proto::{merkle::Hash, reason::Reason};

use super::{
    log::{Log, Signed},
    proof::log_of,
    store,
    verify::leaves,
};
use crate::{
    db::Db,
    error::{Error, Result},
};

/// Tiles of leaf hashes that are read at once: 1,024 entries.
const TILES: i64 = 4;

/// One leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// The entry, as the bytes that are hashed.
    Entry(Vec<u8>),
    /// Its hash: retention has dropped the body.
    Dropped(Hash),
}

/// A reader that moves along one log up to the head that was the newest signed
/// one as it began.
#[derive(Debug)]
pub struct Export {
    db: Db,
    log: Log,
    signed: Option<Signed>,
    next: i64,
}

impl Export {
    /// Begins with an index.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when there is no such log, or it does not reach that
    /// far.
    pub async fn begin(db: Db, origin: &str, from: u64) -> Result<Self> {
        let mut connection = db.read().await?;
        let log = log_of(&mut connection, origin).await?;
        let signed = store::checkpoint::newest(&mut connection, log.number).await?;
        db.barrier(&mut connection).await?;
        drop(connection);
        let size = signed.as_ref().map_or(0, |signed| signed.head.size);
        let next = i64::try_from(from).ok().filter(|next| *next <= size);
        let next = next.ok_or_else(|| {
            Error::invalid(
                "from_index",
                format!("expected at most {size}, where the signed log ends"),
            )
        })?;
        Ok(Self {
            db,
            log,
            signed,
            next,
        })
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The head that it ends at; `None` where nothing is signed yet.
    pub fn signed(&self) -> Option<&Signed> {
        self.signed.as_ref()
    }

    /// The next leaves and the index of the first of them; none at the end.
    ///
    /// # Errors
    /// `INTERNAL` when the log has holes: an export would prove nothing.
    pub async fn read(&mut self) -> Result<(i64, Vec<Leaf>)> {
        let (first, size) = (
            self.next,
            self.signed.as_ref().map_or(0, |signed| signed.head.size),
        );
        if first >= size {
            return Ok((first, Vec::new()));
        }
        let mut connection = self.db.read().await?;
        let tile = first / 256;
        let of = (self.log.number, self.log.origin.as_str());
        let tiles = store::tile::level(&mut connection, (of.0, 0), tile, TILES).await?;
        let hashes = leaves(&tiles, tile, size);
        let skipped = usize::try_from(first - tile * 256).map_err(Error::internal)?;
        let hashes = hashes.get(skipped..).unwrap_or_default();
        let below = first + i64::try_from(hashes.len()).map_err(Error::internal)?;
        if below == first {
            return Err(self.hole(first));
        }
        let records =
            store::sealed::range(&mut connection, of, (first, below), below - first).await?;
        let logs = store::log::all(&mut connection).await?;
        drop(connection);
        let now = logs.into_iter().find(|log| log.number == self.log.number);
        let kept_from = now.map_or(self.log.bodies_from, |log| log.bodies_from);
        let mut records = records.into_iter().peekable();
        let mut read = Vec::with_capacity(hashes.len());
        for (index, hash) in (first..).zip(hashes) {
            read.push(
                match records.next_if(|record| record.index() == Some(index)) {
                    Some(record) => Leaf::Entry(record.leaf().to_bytes()),
                    None if index < kept_from => Leaf::Dropped(*hash),
                    None => return Err(self.hole(index)),
                },
            );
        }
        self.next = below;
        Ok((first, read))
    }

    fn hole(&self, index: i64) -> Error {
        let detail = format!(
            "entry {index} of the audit log `{}` is gone: run `control-plane audit verify`",
            self.log.origin
        );
        Error::new(Reason::Internal, detail)
    }
}
