//! A redeemer with winners on their way to the chain is killed, at each of its failpoints and at random, while endpoints
//! are away, lie or disagree, gas is dear, transactions are stuck and blocks are taken back. Afterwards the ledger, the
//! contract and whoever brought the winners have to agree to the wei: none redeemed twice, none lost, none unpaid.
//!
//! Before that many winners are brought at once, and it is counted how fast they are redeemed and what is asked for each.

mod endpoint;
mod monkey;
mod plan;
mod verdict;
mod world;

pub use monkey::{Broken, Effect};
pub use plan::{Act, plan};
pub use verdict::Counts;

use crate::machine::Origin;
use monkey::Monkey;
use penstock_testkit::until;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Instant};
use world::World;

/// What to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the roles' programs; failpoints need a build that has them.
    pub programs: PathBuf,
    /// Winners that are brought at once at the beginning.
    pub many: usize,
    /// Redeemers that die, at least.
    pub kills: u64,
    /// Decides what happens.
    pub seed: u64,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where from.
    pub origin: Origin,
    /// What decided the run.
    pub seed: u64,
    /// Seconds of it all.
    pub run_s: u64,
    /// Many winners at once, with nothing broken.
    pub many: Many,
    /// What was broken.
    pub broken: Broken,
    /// What the books say.
    pub counts: Counts,
    /// What must not be. Empty, or the run failed.
    pub violations: Vec<String>,
}

/// Many winners at once.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Many {
    /// How many.
    pub winners: u64,
    /// From the first one brought to the last one redeemed.
    pub took_ms: u64,
    /// Redeemed in a second.
    pub per_second: f64,
    /// Transactions that they were in.
    pub transactions: u64,
    /// Questions to endpoints for each, the polling of the chain included.
    pub questions_per_winner: f64,
}

/// Runs it. `say` is told of each step.
pub async fn run(settings: &Settings, origin: Origin, say: impl Fn(&str)) -> Report {
    let began = Instant::now();
    let mut world = World::start(&settings.programs).await;
    say(&format!("{} winners at once", settings.many));
    let many = many(&mut world, settings.many).await;
    say(&format!("{many:?}"));
    let acts = plan(settings.seed, settings.kills);
    let total = acts.len();
    let mut monkey =
        Monkey { world: &mut world, broken: Broken::default(), violations: Vec::new() };
    for (number, act) in acts.into_iter().enumerate() {
        let (winners, now) = (monkey.world.winners.len(), began.elapsed().as_secs());
        say(&format!("{now} s, {winners} winners, act {} of {total}: {act}", number + 1));
        monkey.perform(act).await;
        if !monkey.violations.is_empty() {
            say("something is wrong: the rest of the plan is left out");
            break;
        }
    }
    let (broken, mut violations) = (monkey.broken, monkey.violations);
    if broken.deaths() < settings.kills && violations.is_empty() {
        violations.push(format!("{} deaths of {}", broken.deaths(), settings.kills));
    }
    // What is final by now is looked at once more, and stays.
    world.mine(2 * plan::DEEPEST);
    world.settled("in the end").await;
    let counts = verdict::judge(&mut world, &mut violations).await;
    if !violations.is_empty() {
        say(&format!("---- the redeemer's log\n{}", world.redeemer.log_tail()));
    }
    Report {
        origin,
        seed: settings.seed,
        run_s: began.elapsed().as_secs(),
        many,
        broken,
        counts,
        violations,
    }
}

async fn many(world: &mut World, winners: usize) -> Many {
    let made = world.make(winners).await;
    let (began, asked, transactions) = (Instant::now(), world.asked(), world.transactions());
    world.bring(&made).await;
    let mut told = 0;
    while told < winners as u64 {
        // Anew for each step: what takes long is not what stands still.
        until("winners are redeemed", || async {
            world.redeemed().await.is_ok_and(|redeemed| redeemed > told)
        })
        .await;
        told = world.redeemed().await.unwrap_or(told);
    }
    let took = began.elapsed();
    let asked = world.asked() - asked;
    world.settled("of those that were brought at once").await;
    Many {
        winners: winners as u64,
        took_ms: crate::gateway_chaos::ms(took),
        per_second: winners as f64 / took.as_secs_f64(),
        transactions: world.transactions() - transactions,
        questions_per_winner: asked as f64 / winners.max(1) as f64,
    }
}
