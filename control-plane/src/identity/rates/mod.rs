//! Leased shares of rate limits: each machine keeps its own share without
//! asking, and all shares of a limit together stay within it.

mod shares;

use std::collections::HashMap;

use authguardian_proto::{
    ids::MachineId,
    rate::{LimitId, Share, Use},
};
pub use shares::{LEASE, Shares, Time};

use super::{Identity, store};
use crate::error::{Error, Result};

impl Identity {
    /// Renews a machine's shares of limits, each named once. `None` where there
    /// is no such limit.
    ///
    /// Leases are measured by the database's clock, as several control planes
    /// write them. Nothing here waits for the write quorum: a failover empties
    /// the table, and what that does is bounded (see [`Shares`]).
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` (`uses`) when a limit is named twice; `UNAVAILABLE`.
    pub async fn lease_rates(
        &self,
        machine: MachineId,
        uses: &[(LimitId, Use)],
    ) -> Result<Vec<Option<Share>>> {
        let mut named: HashMap<&LimitId, Use> = HashMap::with_capacity(uses.len());
        for (id, told) in uses {
            if named.insert(id, *told).is_some() {
                return Err(Error::invalid("uses", "expected each limit once"));
            }
        }
        let mut tx = self.db.begin().await?;
        let mut keys: Vec<_> = named.keys().map(|id| id.api_key_id).collect();
        keys.sort_unstable();
        keys.dedup();
        let limits: HashMap<_, _> = store::api_keys(&mut tx, &keys)
            .await?
            .into_iter()
            .map(|key| (key.id, key.rate_limits))
            .collect();
        let limit_of = |id: &LimitId| limits.get(&id.api_key_id)?.of(&id.tool);
        // always in this order, so that no two calls wait for each other
        let mut wanted: Vec<LimitId> = named
            .keys()
            .filter(|id| limit_of(id).is_some())
            .map(|id| (*id).clone())
            .collect();
        wanted.sort_unstable();
        let mut buckets = store::lock_rate_buckets(&mut tx, &wanted).await?;
        let time = store::rate_time(&mut tx).await?;
        let mut shares = HashMap::with_capacity(buckets.len());
        for (id, bucket) in &mut buckets {
            let (Some(limit), Some(told)) = (limit_of(id), named.get(id)) else {
                continue;
            };
            let bucket = bucket.get_or_insert_with(|| Shares::new(limit, time));
            shares.insert(id.clone(), bucket.renew(limit, time, machine, *told));
        }
        store::write_rate_buckets(&mut tx, &buckets).await?;
        tx.commit().await?;
        Ok(uses.iter().map(|(id, _)| shares.get(id).copied()).collect())
    }
}
