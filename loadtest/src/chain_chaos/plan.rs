//! What is broken, in which order: all of it decided before anything runs, by the seed and nothing else.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use std::fmt;

/// Where a redeemer can die by itself, in the order of a ticket's way: brought, stored, meant to be sent, signed, sent,
/// in its block, noted.
pub const POINTS: [&str; 7] = [
    "redeemer.before_store",
    "redeemer.after_store",
    "orchestrator.before_redeem",
    "chain.before_send",
    "chain.after_send",
    "orchestrator.after_redeem",
    "orchestrator.after_redeemed",
];

/// The deepest blocks that are taken back.
pub const DEEPEST: u64 = 20;

/// Something to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The redeemer dies by itself at this point.
    DieAt(&'static str),
    /// `kill -9` of the redeemer, wherever it is in its work.
    Kill,
    /// The first endpoint answers nothing; the other one does.
    OneDown,
    /// None answers anything.
    AllDown,
    /// The first endpoint says that the newest block is far ahead.
    FarBlock,
    /// It says so of L1.
    FarL1,
    /// It stays at an old block, the other one goes on.
    Behind,
    /// Transactions are taken and nobody says so.
    LostAnswers,
    /// Gas costs more than is paid.
    Dear,
    /// No blocks come.
    Stuck,
    /// So many blocks are taken back after what is in them was redeemed.
    TakenBack(u64),
}

impl Act {
    /// Deaths of the redeemer that it means: one that is to die by itself is killed before, to start with its orders.
    pub fn deaths(self) -> u64 {
        match self {
            Self::DieAt(_) => 2,
            Self::Kill => 1,
            _ => 0,
        }
    }

    /// Its kind, for the report.
    pub fn kind(self) -> String {
        match self {
            Self::DieAt(point) => format!("death at {point}"),
            Self::Kill => "kill -9".to_owned(),
            Self::OneDown => "one of two endpoints down".to_owned(),
            Self::AllDown => "all endpoints down".to_owned(),
            Self::FarBlock => "an endpoint lies about the newest block".to_owned(),
            Self::FarL1 => "an endpoint lies about the height of L1".to_owned(),
            Self::Behind => "two endpoints disagree: one stays at an old block".to_owned(),
            Self::LostAnswers => "transactions taken without an answer".to_owned(),
            Self::Dear => "gas above what is paid".to_owned(),
            Self::Stuck => "no blocks: transactions are stuck and replaced".to_owned(),
            Self::TakenBack(_) => format!("blocks taken back, 1 to {DEEPEST} deep"),
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakenBack(blocks) => write!(f, "{blocks} blocks taken back"),
            _ => f.write_str(&self.kind()),
        }
    }
}

/// The acts of one run: whole rounds, each with everything in an order of its own, until there are so many deaths.
pub fn plan(seed: u64, deaths: u64) -> Vec<Act> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut acts, mut dead) = (Vec::new(), 0);
    while acts.is_empty() || dead < deaths {
        let round = round(&mut random);
        dead += round.iter().copied().map(Act::deaths).sum::<u64>();
        acts.extend(round);
    }
    acts
}

fn round(random: &mut StdRng) -> Vec<Act> {
    let mut acts: Vec<Act> = POINTS.into_iter().map(Act::DieAt).collect();
    acts.extend([Act::Kill, Act::OneDown, Act::AllDown, Act::FarBlock, Act::FarL1, Act::Behind]);
    acts.extend([Act::LostAnswers, Act::Dear, Act::Stuck]);
    acts.extend([1, random.random_range(2..DEEPEST), DEEPEST].map(Act::TakenBack));
    acts.shuffle(random);
    acts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_seed_decides_everything() {
        assert_eq!(plan(7, 100), plan(7, 100));
        assert_ne!(plan(7, 100), plan(8, 100));
    }

    #[test]
    fn there_are_enough_deaths_and_every_kind_of_act() {
        let acts = plan(1, 200);
        assert!(acts.iter().copied().map(Act::deaths).sum::<u64>() >= 200);
        let kinds: BTreeSet<String> = plan(1, 0).into_iter().map(Act::kind).collect();
        assert_eq!(kinds.len(), POINTS.len() + 10, "{kinds:?}");
        let depths = acts.iter().filter_map(|act| match act {
            Act::TakenBack(blocks) => Some(*blocks),
            _ => None,
        });
        let depths: BTreeSet<u64> = depths.collect();
        assert!(depths.first() == Some(&1) && depths.last() == Some(&DEEPEST), "{depths:?}");
    }
}
