//! Waiting for a condition instead of for a time.

use std::time::Duration;

/// Far longer than anything here takes, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(2);

/// Looks every 10 ms until the condition holds; fails the test at [`DEADLINE`].
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let held = tokio::time::timeout(DEADLINE, holds).await;
    assert!(held.is_ok(), "still not after {DEADLINE:?}: {what}");
}

/// As [`until`], for a condition that is asked for.
pub(crate) async fn until_async(what: &str, condition: impl AsyncFn() -> bool) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let held = tokio::time::timeout(DEADLINE, holds).await;
    assert!(held.is_ok(), "still not after {DEADLINE:?}: {what}");
}
