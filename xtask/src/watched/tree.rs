//! The processes below one, as Linux tells. A process group would do as well, but then ctrl-c would
//! not reach the tests.

use std::{collections::HashMap, fs, process::Command};

use crate::command;

/// Kills everything that a process started, not itself, after `look` has seen each of its children.
/// Says how many that were.
pub fn kill_below(pid: u32, look: impl Fn(u32)) -> usize {
    let all = processes();
    for (child, parent) in &all {
        if *parent == pid {
            look(*child);
        }
    }
    let below = below(&all, pid);
    if !below.is_empty() {
        let pids = below.iter().map(u32::to_string);
        // Some may have ended meanwhile.
        command::succeeds(Command::new("kill").arg("-KILL").args(pids));
    }
    below.len()
}

/// Whether it is there, and not only for its parent to see how it ended.
#[cfg(test)]
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// All children, children's children and so on.
fn below(parents: &HashMap<u32, u32>, pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut place = 0;
    while let Some(parent) = found.get(place).copied() {
        found.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(child, _)| *child));
        place += 1;
    }
    found.split_off(1)
}

/// Each with its parent.
fn processes() -> HashMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.1))).collect()
}

/// A process's state and its parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before them may hold anything, brackets too.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_below_are_found_and_nobody_else() {
        let parents = HashMap::from([(2, 1), (3, 1), (4, 3), (5, 4), (6, 2), (1, 0)]);
        let mut found = below(&parents, 3);
        found.sort_unstable();
        assert_eq!(found, [4, 5]);
        assert!(below(&parents, 5).is_empty());
    }

    #[test]
    fn this_process_is_alive() {
        assert!(is_alive(std::process::id()));
    }
}
