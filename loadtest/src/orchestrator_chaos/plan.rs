//! What is broken, in which order: all of it decided before anything runs, by the seed and nothing else.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use std::fmt;

/// Where an orchestrator can die by itself while it takes a payment.
pub const PAYMENT_POINTS: [&str; 4] = [
    "orchestrator.before_winner_store",
    "orchestrator.after_winner_store",
    "orchestrator.before_credit",
    "orchestrator.after_credit",
];
/// And while it redeems.
pub const REDEMPTION_POINTS: [&str; 2] =
    ["orchestrator.before_redeem", "orchestrator.after_redeem"];

/// Something to break. Processes are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// `kill -9` of one, wherever it is in its work; it comes back when the others did some.
    Kill(usize),
    /// `kill -9` of all but one.
    KillAllBut(usize),
    /// `kill -9` of all at once.
    KillAll,
    /// It dies by itself at this point of a payment, at the pass of this number.
    DieAt(usize, &'static str, u32),
    /// The same at a redemption: the others are killed before, so that it is the one that redeems.
    DieRedeeming(usize, &'static str, u32),
    /// It stands still for so many percent of its lease, with its connections open.
    Pause(usize, u32),
    /// PostgreSQL ends so many percent of the connections.
    Cut(u32),
    /// PostgreSQL is stopped in order and started again.
    RestartDatabase,
    /// PostgreSQL dies as by a fault, and recovers.
    CrashDatabase,
    /// Each process in turn is told to end, ends in order, and is started again.
    Rolling,
}

impl Act {
    /// Deaths of orchestrators that it means: by `kill -9`, and at a failpoint.
    pub fn deaths(self, processes: usize) -> u64 {
        let others = processes as u64 - 1;
        match self {
            Self::Kill(_) => 1,
            Self::KillAllBut(_) => others,
            Self::KillAll => others + 1,
            // The one that is to die is killed before, so that it starts with its orders.
            Self::DieAt(..) => 2,
            Self::DieRedeeming(..) => 2 + others,
            Self::Pause(..)
            | Self::Cut(_)
            | Self::RestartDatabase
            | Self::CrashDatabase
            | Self::Rolling => 0,
        }
    }

    /// The processes that do not do their work while it lasts; the others do theirs, and book it. One that stands
    /// still may have locked rows of the ledger, so that nobody books.
    pub fn touches(self, processes: usize) -> Vec<usize> {
        let all = 0..processes;
        match self {
            Self::Kill(process) | Self::DieAt(process, ..) => vec![process],
            Self::KillAllBut(left) => all.filter(|process| *process != left).collect(),
            Self::KillAll
            | Self::DieRedeeming(..)
            | Self::Pause(..)
            | Self::Cut(_)
            | Self::RestartDatabase
            | Self::CrashDatabase
            | Self::Rolling => all.collect(),
        }
    }

    /// Its kind, for the report.
    pub fn kind(self) -> String {
        match self {
            Self::Kill(_) => "kill -9 of one".to_owned(),
            Self::KillAllBut(_) => "kill -9 of all but one".to_owned(),
            Self::KillAll => "kill -9 of all".to_owned(),
            Self::DieAt(_, point, _) => format!("death at {point}"),
            Self::DieRedeeming(_, point, _) => format!("death at {point}, the others killed"),
            Self::Pause(..) => "a pause longer than its lease".to_owned(),
            Self::Cut(100..) => "all database connections ended".to_owned(),
            Self::Cut(_) => "half of the database connections ended".to_owned(),
            Self::RestartDatabase => "PostgreSQL restarted".to_owned(),
            Self::CrashDatabase => "PostgreSQL died and recovered".to_owned(),
            Self::Rolling => "all restarted in order, one after the other".to_owned(),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind())?;
        match self {
            Self::Kill(process) | Self::DieAt(process, ..) | Self::DieRedeeming(process, ..) => {
                write!(f, " ({process})")
            }
            Self::KillAllBut(process) | Self::Pause(process, _) => write!(f, " ({process})"),
            _ => Ok(()),
        }
    }
}

/// The acts of one run: whole rounds, each with everything in an order of its own, until there are so
/// many deaths. PostgreSQL is stopped only where it is the run's own.
pub fn plan(seed: u64, deaths: u64, processes: usize, own_database: bool) -> Vec<Act> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut acts, mut dead) = (Vec::new(), 0);
    while acts.is_empty() || dead < deaths {
        let round = round(&mut random, processes, own_database);
        dead += round.iter().map(|act| act.deaths(processes)).sum::<u64>();
        acts.extend(round);
    }
    acts
}

fn round(random: &mut StdRng, processes: usize, own_database: bool) -> Vec<Act> {
    let mut one = || random.random_range(0..processes);
    let mut acts = vec![Act::Kill(one()), Act::Kill(one()), Act::Kill(one()), Act::KillAll];
    acts.extend([Act::KillAllBut(one()), Act::Cut(50), Act::Cut(100), Act::Rolling]);
    for point in PAYMENT_POINTS {
        acts.push(Act::DieAt(random.random_range(0..processes), point, random.random_range(1..=4)));
    }
    for point in REDEMPTION_POINTS {
        let (process, pass) = (random.random_range(0..processes), random.random_range(1..=3));
        acts.push(Act::DieRedeeming(process, point, pass));
    }
    for _ in 0..2 {
        acts.push(Act::Pause(random.random_range(0..processes), random.random_range(120..=200)));
    }
    if own_database {
        acts.extend([Act::RestartDatabase, Act::CrashDatabase]);
    }
    acts.shuffle(random);
    acts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_seed_decides_everything() {
        assert_eq!(plan(7, 100, 3, true), plan(7, 100, 3, true));
        assert_ne!(plan(7, 100, 3, true), plan(8, 100, 3, true));
    }

    #[test]
    fn there_are_enough_deaths_and_every_kind_of_act() {
        let acts = plan(1, 100, 3, true);
        assert!(acts.iter().map(|act| act.deaths(3)).sum::<u64>() >= 100);
        let kinds: BTreeSet<String> = plan(1, 0, 3, true).into_iter().map(Act::kind).collect();
        assert_eq!(kinds.len(), 15, "{kinds:?}");
        for point in PAYMENT_POINTS.iter().chain(&REDEMPTION_POINTS) {
            assert!(kinds.iter().any(|kind| kind.contains(point)), "{point}");
        }
        let others: BTreeSet<String> = plan(1, 0, 3, false).into_iter().map(Act::kind).collect();
        let own: Vec<_> = kinds.difference(&others).collect();
        assert_eq!(own, ["PostgreSQL died and recovered", "PostgreSQL restarted"]);
    }

    #[test]
    fn a_death_is_its_process_s_own() {
        assert_eq!(Act::Kill(1).touches(3), [1]);
        assert_eq!(Act::DieAt(2, PAYMENT_POINTS[0], 1).touches(3), [2]);
        assert_eq!(Act::KillAllBut(1).touches(3), [0, 2]);
        for act in [Act::KillAll, Act::Cut(50), Act::Pause(0, 150), Act::Rolling] {
            assert_eq!(act.touches(3), [0, 1, 2], "{act}");
        }
    }

    #[test]
    fn only_processes_that_are_there_are_meant() {
        for seed in 0..50 {
            for act in plan(seed, 1, 2, true) {
                if let Act::Kill(n) | Act::KillAllBut(n) | Act::Pause(n, _) = act {
                    assert!(n < 2);
                }
                if let Act::DieAt(n, _, pass) | Act::DieRedeeming(n, _, pass) = act {
                    assert!(n < 2 && pass > 0);
                }
            }
        }
    }
}
