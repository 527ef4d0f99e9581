//! Processor time and memory of a process, as the kernel counts them.

use std::{fs, process::Command};

/// The kernel's unit of `/proc/PID/stat`: hundredths of a second on every Linux.
const TICKS_PER_S: u64 = 100;

/// Processor time that a process has used, all its threads together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In its own code, ms.
    pub user_ms: u64,
    /// In the kernel, ms.
    pub system_ms: u64,
}

impl CpuTime {
    /// Both, in seconds.
    pub fn seconds(self) -> f64 {
        (self.user_ms + self.system_ms) as f64 / 1_000.0
    }

    /// What was used since.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            user_ms: self.user_ms - before.user_ms,
            system_ms: self.system_ms - before.system_ms,
        }
    }
}

/// Of a process that is there.
pub fn cpu_time(pid: u32) -> CpuTime {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // The name in parentheses may hold anything; the numbers come after it.
    let (_, rest) = text.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ms = |field: &str| field.parse::<u64>().expect("ticks") * 1_000 / TICKS_PER_S;
    CpuTime { user_ms: ms(fields[11]), system_ms: ms(fields[12]) }
}

/// Memory that a process has in RAM, KiB.
pub fn rss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches("kB").trim().parse().expect("KiB")
}

/// Nanoseconds that this thread, the process's first, has run.
pub fn own_ns() -> u64 {
    let text = fs::read_to_string("/proc/self/schedstat").expect("the scheduler's figures");
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).expect("nanoseconds")
}

/// A command that stays on one core, where util-linux is there.
pub fn pinned(core: Option<usize>, program: &str) -> Command {
    match core {
        Some(core) if has_taskset() => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &core.to_string(), program]);
            command
        }
        _ => Command::new(program),
    }
}

/// From now on this process, and what it starts, keeps to the other cores, where there are any.
pub fn leave_core(core: Option<usize>) {
    let Some(core) = core.filter(|_| has_taskset()) else { return };
    let cores = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cores.lines().filter(|line| line.starts_with("processor")).count();
    let others: Vec<String> =
        (0..cores).filter(|other| *other != core).map(|other| other.to_string()).collect();
    if !others.is_empty() {
        let args = ["--all-tasks", "--pid", "--cpu-list", &others.join(",")];
        let pid = std::process::id().to_string();
        let set = Command::new("taskset").args(args).arg(pid).output().expect("taskset runs");
        assert!(set.status.success(), "{set:?}");
    }
}

/// Whether processes can be pinned to cores.
pub fn has_taskset() -> bool {
    let asked = Command::new("taskset").arg("--version").output();
    asked.is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_time_and_memory() {
        let (pid, before, ns) = (std::process::id(), cpu_time(std::process::id()), own_ns());
        let mut x = 1_u64;
        while cpu_time(pid).since(before).user_ms < 30 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(cpu_time(pid).since(before).seconds() >= 0.03);
        assert!(rss_kib(pid) > 100);
        // Another thread runs the test; the first one's count is there and does not fall.
        assert!(own_ns() >= ns);
    }
}
