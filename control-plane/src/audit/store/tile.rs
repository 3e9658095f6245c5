//! Tiles of the trees.

use std::collections::BTreeMap;

use authguardian_proto::merkle::{TileId, Tiles};
use sqlx::PgConnection;

use crate::error::{Error, Result};

/// Those that there are of the ones that are wanted.
#[tracing::instrument(name = "db.audit_tile.read", skip_all)]
pub(in crate::audit) async fn read(
    connection: &mut PgConnection,
    log: i64,
    wanted: &[TileId],
) -> Result<Tiles> {
    let (levels, indexes) = places(wanted)?;
    let rows = sqlx::query!(
        "SELECT level, index, hashes FROM audit_tile
         JOIN unnest($2::smallint[], $3::bigint[]) AS wanted (level, index) USING (level, index)
         WHERE log = $1",
        log,
        &levels,
        &indexes,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| Ok((id(row.level, row.index)?, row.hashes)))
        .collect()
}

/// Writes tiles, whole or grown.
#[tracing::instrument(name = "db.audit_tile.write", skip_all)]
pub(in crate::audit) async fn write(
    connection: &mut PgConnection,
    log: i64,
    tiles: BTreeMap<TileId, Vec<u8>>,
) -> Result<()> {
    let (ids, hashes): (Vec<TileId>, Vec<Vec<u8>>) = tiles.into_iter().unzip();
    let (levels, indexes) = places(&ids)?;
    sqlx::query!(
        "INSERT INTO audit_tile (log, level, index, hashes)
         SELECT $1, * FROM unnest($2::smallint[], $3::bigint[], $4::bytea[])
         ON CONFLICT (log, level, index) DO UPDATE SET hashes = excluded.hashes",
        log,
        &levels,
        &indexes,
        &hashes,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Tiles of one level in order, from an index on.
pub(in crate::audit) async fn level(
    connection: &mut PgConnection,
    (log, level): (i64, i16),
    from: i64,
    limit: i64,
) -> Result<Vec<(i64, Vec<u8>)>> {
    let rows = sqlx::query!(
        "SELECT index, hashes FROM audit_tile WHERE log = $1 AND level = $2 AND index >= $3
         ORDER BY index LIMIT $4",
        log,
        level,
        from,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.index, row.hashes))
        .collect())
}

fn places(ids: &[TileId]) -> Result<(Vec<i16>, Vec<i64>)> {
    let indexes = ids.iter().map(|id| i64::try_from(id.index));
    Ok((
        ids.iter().map(|id| i16::from(id.level)).collect(),
        indexes
            .collect::<std::result::Result<_, _>>()
            .map_err(Error::internal)?,
    ))
}

fn id(level: i16, index: i64) -> Result<TileId> {
    Ok(TileId {
        level: u8::try_from(level).map_err(Error::internal)?,
        index: u64::try_from(index).map_err(Error::internal)?,
    })
}
