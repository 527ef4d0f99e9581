//! What is broken, in which order: all of it decided before anything runs, by the seed and nothing else.

use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
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
    /// `kill -9` of the redeemer while a redemption of its waits for its block.
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
    /// The same while a transaction waits, which was offered less.
    DearMeanwhile,
    /// No blocks come.
    Stuck,
    /// A sender whose reserve covers the first of its winners.
    Poor,
    /// What a sender has goes to somebody else while a redemption of its ticket is out.
    PoorMeanwhile,
    /// So many blocks are taken back after what is in them was redeemed.
    TakenBack(u64),
}

impl Act {
    /// Deaths of the redeemer at its work that it means. One that is to die by itself is ended in order before, to start
    /// with its orders, which is no death.
    pub fn deaths(self) -> u64 {
        u64::from(matches!(self, Self::DieAt(_) | Self::Kill))
    }

    /// Its kind, for the report.
    pub fn kind(self) -> String {
        match self {
            Self::DieAt(point) => format!("death at {point}"),
            Self::Kill => "kill -9 with a transaction on its way".to_owned(),
            Self::OneDown => "one of two endpoints down".to_owned(),
            Self::AllDown => "all endpoints down".to_owned(),
            Self::FarBlock => "an endpoint lies about the newest block".to_owned(),
            Self::FarL1 => "an endpoint lies about the height of L1".to_owned(),
            Self::Behind => "two endpoints disagree: one stays at an old block".to_owned(),
            Self::LostAnswers => "transactions taken without an answer".to_owned(),
            Self::Dear => "gas above what is paid".to_owned(),
            Self::DearMeanwhile => "gas above what is paid while a transaction waits".to_owned(),
            Self::Stuck => "no blocks: transactions are stuck and replaced".to_owned(),
            Self::Poor => "a sender that cannot pay until it is funded".to_owned(),
            Self::PoorMeanwhile => "a sender is emptied while a redemption is out".to_owned(),
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
    // The least and the most in every round, and all between them in turn.
    let mut depths: Vec<u64> = (2..DEEPEST).collect();
    depths.shuffle(&mut random);
    let mut depths = depths.into_iter().cycle();
    let (mut acts, mut dead) = (Vec::new(), 0);
    while acts.is_empty() || dead < deaths {
        let round = round(&mut random, depths.next().unwrap_or(DEEPEST));
        dead += round.iter().copied().map(Act::deaths).sum::<u64>();
        acts.extend(round);
    }
    acts
}

fn round(random: &mut StdRng, depth: u64) -> Vec<Act> {
    let mut acts: Vec<Act> = POINTS.into_iter().map(Act::DieAt).collect();
    acts.extend([Act::Kill, Act::OneDown, Act::AllDown, Act::FarBlock, Act::FarL1, Act::Behind]);
    acts.extend([Act::LostAnswers, Act::Dear, Act::DearMeanwhile, Act::Stuck, Act::Poor]);
    acts.push(Act::PoorMeanwhile);
    acts.extend([1, depth, DEEPEST].map(Act::TakenBack));
    acts.shuffle(random);
    acts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn the_seed_decides_everything() {
        assert_eq!(plan(7, 100), plan(7, 100));
        assert_ne!(plan(7, 100), plan(8, 100));
    }

    #[test]
    fn there_are_enough_deaths_and_every_kind_of_act() {
        let kinds: BTreeSet<String> = plan(1, 0).into_iter().map(Act::kind).collect();
        assert_eq!(kinds.len(), POINTS.len() + 13, "{kinds:?}");
        let died: BTreeMap<String, usize> =
            plan(1, 200).into_iter().fold(BTreeMap::new(), |mut died, act| {
                if matches!(act, Act::DieAt(_) | Act::Kill) {
                    *died.entry(act.kind()).or_default() += 1;
                }
                died
            });
        assert_eq!(died.len(), POINTS.len() + 1, "{died:?}");
        assert!(died.values().sum::<usize>() >= 200, "{died:?}");
        assert!(died.values().all(|times| *times >= 20), "each often: {died:?}");
    }

    #[test]
    fn blocks_are_taken_back_at_every_depth_of_a_long_run() {
        for seed in 0..100 {
            let depths: BTreeSet<u64> = plan(seed, 200)
                .into_iter()
                .filter_map(|act| match act {
                    Act::TakenBack(blocks) => Some(blocks),
                    _ => None,
                })
                .collect();
            assert!(depths.iter().copied().eq(1..=DEEPEST), "{seed}: {depths:?}");
        }
    }
}
