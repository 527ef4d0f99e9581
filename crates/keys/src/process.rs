//! What a process that holds a key does first, before the key is there.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// No core dump can have the key in it: the limit is 0, for children too, and on Linux the process
/// is not dumpable, which a pipe in `core_pattern` honours where it does not look at the limit. The
/// latter also keeps other processes of the same user from reading this one's memory.
pub fn forbid_core_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    match getrlimit(Resource::Core) {
        Rlimit { current: Some(0), maximum: Some(0) } => Ok(()),
        _ => Err(io::Error::other("the core limit did not stay 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_limit_nor_dumps_are_left() {
        // This program of tests loses its own core dumps, and nothing else.
        forbid_core_dumps().unwrap();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        #[cfg(target_os = "linux")]
        assert_eq!(
            rustix::process::dumpable_behavior().unwrap(),
            rustix::process::DumpableBehavior::NotDumpable
        );
        forbid_core_dumps().unwrap();
    }
}
