//! What a report has to say about where its figures come from, and what a driver takes of its machine.

use serde::{Deserialize, Serialize};
use std::fs;

/// Where and from what figures were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The commit that was built; `+` behind it: with changes that are not committed.
    pub commit: String,
    /// Processor.
    pub cpu: String,
    /// Cores that this machine shows.
    pub cores: usize,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Kernel.
    pub kernel: String,
    /// `release` or `dev`.
    pub profile: String,
    /// What a bench drew hangs on it; not there: the report says it elsewhere, or nothing was drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Origin {
    /// This machine, with a build of `commit`.
    pub fn here(commit: &str, profile: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: String, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
            let value =
                line.and_then(|line| line.split_once(':').map(|(_, v)| v.trim().to_owned()));
            value.unwrap_or_else(|| "unknown".to_owned())
        };
        let memory = value(read("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.trim_end_matches("kB").trim().parse().unwrap_or(0);
        Self {
            commit: commit.to_owned(),
            cpu: value(read("/proc/cpuinfo"), "model name"),
            // Not those that this process may use: it may be pinned.
            cores: read("/proc/cpuinfo").lines().filter(|l| l.starts_with("processor")).count(),
            memory_mib: kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            profile: profile.to_owned(),
            seed: None,
        }
    }

    /// The same of a bench that draws by this seed.
    pub fn seeded(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }
}

/// As many sockets as the system lets us have: ours are the other ends of all connections. What is measured
/// starts with the usual limit, and raises its own.
pub fn allow_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a limit may be raised as far as it goes");
}
