//! How long a caller waits where the slice is empty: until the control plane has given more.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::asker::ByRest;

/// Each is more than all before it have left here: what is got ahead of callers is at most
/// twice what they took lately.
const GROWTH: u64 = 4;
/// Of one budget, before the amounts come near to what a budget can be.
pub(super) const REFILLS: u32 = 24;
/// Between two, longer than between two exchanges: a caller comes whenever it does.
const PAUSE: Duration = Duration::from_millis(37);

/// Empties and refills the slice of a budget that nothing was taken of, time after time; ms.
pub(super) async fn of(asker: &mut ByRest, task: &str) -> Result<Vec<f64>> {
    // what there is of a new budget is not known here yet
    asker.allocate(task, 1).await?;
    let (mut took, mut amount) = (Vec::new(), GROWTH);
    for _ in 0..REFILLS {
        tokio::time::sleep(PAUSE).await;
        let began = Instant::now();
        asker.allocate(task, amount).await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        amount *= GROWTH;
    }
    Ok(took)
}
