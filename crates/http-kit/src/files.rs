//! How many files and sockets this process may have open. Systems give a process few at first (often 1,024),
//! and let it have more when it asks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files of a process beside its connections: books, logs, runners, what it asks of others.
const BESIDE: u64 = 256;

/// Raises the limit of open files as far as the system lets this process, and says where it is now; `None`:
/// there is no limit.
pub fn allow_most() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    getrlimit(Resource::Nofile).current
}

/// Warns when so many connections, which `setting` allows, do not fit under the limit of open files.
pub fn warn_unless_fits(setting: &str, connections: usize, limit: Option<u64>) {
    if let Some(fit) = too_few(connections, limit) {
        tracing::warn!(
            setting,
            connections,
            open_files = limit,
            "the limit of open files is too low for so many connections: raise it (ulimit -n, LimitNOFILE), \
             or lower {setting} to {fit}"
        );
    }
}

/// As many connections as fit, if fewer than wanted do.
fn too_few(wanted: usize, limit: Option<u64>) -> Option<u64> {
    let fit = limit?.saturating_sub(BESIDE);
    (u64::try_from(wanted).unwrap_or(u64::MAX) > fit).then_some(fit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        let most = getrlimit(Resource::Nofile).maximum;
        assert_eq!(allow_most(), most);
        assert_eq!(getrlimit(Resource::Nofile).current, most);
    }

    #[test]
    fn connections_that_do_not_fit() {
        assert_eq!(too_few(20_000, None), None);
        assert_eq!(too_few(20_000, Some(1_048_576)), None);
        assert_eq!(too_few(20_000, Some(20_256)), None);
        assert_eq!(too_few(20_000, Some(20_255)), Some(19_999));
        assert_eq!(too_few(20_000, Some(100)), Some(0));
    }
}
