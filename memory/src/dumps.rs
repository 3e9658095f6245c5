//! Keeping memory out of files.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Set to `1`, it lets core files be written and debuggers of the same user
/// attach.
const CORE_DUMPS: &str = "AUTHGUARDIAN_CORE_DUMPS";

/// No core file of this process from now on, and no look into its memory for
/// other processes of the same user (`PR_SET_DUMPABLE`, prctl(2)), unless
/// `AUTHGUARDIAN_CORE_DUMPS=1`. Programs that it starts write no core files
/// either.
///
/// # Errors
/// As `setrlimit(2)` and `prctl(2)`; what could be done is done.
pub fn keep_private() -> io::Result<()> {
    if std::env::var_os(CORE_DUMPS).is_some_and(|value| value == "1") {
        return Ok(());
    }
    forbid()
}

fn forbid() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // the limit does not hold where cores go into a pipe; the other does
    let limited = setrlimit(Resource::Core, none);
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(limited?)
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn neither_core_files_nor_debuggers_get_at_the_memory() {
        forbid().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
    }
}
