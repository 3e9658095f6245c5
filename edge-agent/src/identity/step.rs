//! The steps that a renewal consists of, so that tests can kill the process at
//! each of them.

/// Between two things that a crash could part.
#[cfg(not(feature = "testing"))]
pub(super) fn reached() {}

/// Between two things that a crash could part: kills this process, as `kill -9`
/// does, where the number of its steps is that in
/// `AUTHGUARDIAN_TEST_KILL_AT_STEP`.
#[cfg(feature = "testing")]
pub(super) fn reached() {
    use std::sync::atomic::{AtomicU32, Ordering};

    static REACHED: AtomicU32 = AtomicU32::new(0);
    let Ok(last) = std::env::var("AUTHGUARDIAN_TEST_KILL_AT_STEP") else {
        return;
    };
    let reached = REACHED.fetch_add(1, Ordering::Relaxed) + 1;
    if last.parse() == Ok(reached) {
        use rustix::process::{Signal, getpid, kill_process};
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
