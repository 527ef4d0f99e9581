//! Ten thousand histories keep the laws; each bug that is put in on purpose breaks one.

#![allow(clippy::unwrap_used, clippy::panic)]

use penstock_simulator::{Failed, Kit, Planted, run, run_all};
use std::thread;

/// Histories of each run of the tests. The long form is `cargo xtask chaos money`.
const HISTORIES: u64 = 10_000;
/// Among so many histories a planted bug shows.
const SHOWS: u64 = 400;

#[test]
fn money_is_conserved_in_random_histories() {
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let report = run_all(0..HISTORIES, threads, None, |_| {});
    let report = report.unwrap_or_else(|broken| panic!("{broken}"));
    // That things happened at all.
    assert!(report.served > HISTORIES / 2 && report.payments > HISTORIES / 2, "{report:?}");
    assert!(report.redemptions > HISTORIES / 10 && report.deaths > HISTORIES / 10, "{report:?}");
}

#[test]
fn a_seed_is_one_history() {
    let kit = Kit::new().unwrap();
    for seed in 0..30 {
        let once = run(seed, &kit, None).unwrap();
        assert_eq!(run(seed, &kit, None).unwrap(), once, "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_found_by_its_seed() {
    let kit = Kit::new().unwrap();
    for planted in Planted::ALL {
        let found = (0..SHOWS).find_map(|seed| run(seed, &kit, Some(planted)).err());
        let found = found.unwrap_or_else(|| panic!("{planted:?} was not found"));
        assert_eq!(run(found.seed, &kit, Some(planted)), Err(found.clone()), "it is found again");
        assert!(run(found.seed, &kit, None).is_ok(), "and it is the bug that breaks the law");
    }
}

/// A process that dies looks to its callers like one whose code is wrong: only the hook for panics tells them apart.
#[test]
fn a_panic_is_a_broken_law_of_its_seed_and_a_death_is_none() {
    const FIRST: u64 = 1_000;
    for planted in [Planted::OrchestratorsPanic, Planted::ChainPanics] {
        let failed = run_all(FIRST..FIRST + SHOWS, 2, Some(planted), |_| {}).unwrap_err();
        let Failed::Broken(broken) = &failed else { panic!("{failed}") };
        assert!(
            broken.law.starts_with("a panic at ") && broken.law.ends_with("planted"),
            "{broken}"
        );
        assert!(
            broken.seed >= FIRST
                && failed.to_string().ends_with(&format!("--seed {}", broken.seed))
        );
    }
}
