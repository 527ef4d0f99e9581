//! A redeemer with winners on their way to the chain is killed, at each of its failpoints and at random, while endpoints
//! are away, lie or disagree, gas is dear, transactions are stuck and blocks are taken back. Afterwards the ledger, the
//! contract and whoever brought the winners have to agree to the wei: none redeemed twice, none lost, none unpaid.
//!
//! Before that many winners of several senders and rounds come while their offers live. When those end all are redeemed:
//! it is counted how fast and what is asked for each, and their order has to be that of policy.

mod args;
mod endpoint;
mod events;
mod monkey;
mod order;
mod plan;
mod senders;
mod verdict;
mod winners;
mod world;

pub use events::{Used, used};
pub use monkey::{Broken, Effect};
pub use plan::{Act, plan};
pub use verdict::Counts;
pub use winners::{Draft, Round, on_chain};

use crate::machine::Origin;
use monkey::Monkey;
use penstock_domain::U256;
use penstock_payments::QueuePlace;
use penstock_testkit::until;
use penstock_wire::redeemer::WinnerFields;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, path::PathBuf, time::Instant};
use world::World;

/// What to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the roles' programs; failpoints need a build that has them.
    pub programs: PathBuf,
    /// Winners that wait together at the beginning.
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
    /// Many winners that waited together, with nothing broken.
    pub many: Many,
    /// What was broken.
    pub broken: Broken,
    /// What the books say.
    pub counts: Counts,
    /// What must not be. Empty, or the run failed.
    pub violations: Vec<String>,
}

/// Many winners that waited together.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Many {
    /// How many.
    pub winners: u64,
    /// From when their offers ended to the last one redeemed.
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
    say(&format!("{} winners that wait together", settings.many));
    let mut violations = Vec::new();
    let many = many(&mut world, settings, &mut violations).await;
    say(&format!("{many:?}"));
    let acts = plan(settings.seed, settings.kills);
    let total = acts.len();
    let mut monkey = Monkey { world: &mut world, broken: Broken::default(), violations };
    for (number, act) in acts.into_iter().enumerate() {
        let (winners, now) = (monkey.world.winners.len(), began.elapsed().as_secs());
        if !monkey.violations.is_empty() {
            say("something is wrong: the rest of the plan is left out");
            break;
        }
        say(&format!("{now} s, {winners} winners, act {} of {total}: {act}", number + 1));
        monkey.perform(act).await;
    }
    let (broken, mut violations) = (monkey.broken, monkey.violations);
    if broken.deaths() < settings.kills && violations.is_empty() {
        violations.push(format!("{} deaths of {}", broken.deaths(), settings.kills));
    }
    // What is final by now is looked at once more, and stays.
    world.mine(2 * plan::DEEPEST);
    if violations.is_empty() {
        world.settled("in the end").await;
    }
    let counts = verdict::judge(&mut world, settings.many, &mut violations).await;
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

async fn many(world: &mut World, settings: &Settings, violations: &mut Vec<String>) -> Many {
    let winners = settings.many as u64;
    let made = world.make_for_later(settings.many, settings.seed).await;
    world.bring(&made).await;
    if world.redeemed().await != Ok(0) {
        violations.push("winners were redeemed while their offers lived".to_owned());
    }
    let (began, asked, transactions) = (Instant::now(), world.asked(), world.transactions());
    world.end_offers();
    let mut told = 0;
    while told < winners {
        // Anew for each step: what takes long is not what stands still.
        until("winners are redeemed", || async {
            world.redeemed().await.is_ok_and(|redeemed| redeemed > told)
        })
        .await;
        told = world.redeemed().await.unwrap_or(told);
    }
    let took = began.elapsed();
    let asked = world.asked() - asked;
    world.settled("of those that waited together").await;
    if let Some(before) = out_of_turn(&made, &world.used()) {
        violations.push(format!("out of turn after {before} redemptions of {winners} winners"));
    }
    Many {
        winners,
        took_ms: crate::gateway_chaos::ms(took),
        per_second: winners as f64 / took.as_secs_f64(),
        transactions: world.transactions() - transactions,
        questions_per_winner: asked as f64 / winners.max(1) as f64,
    }
}

/// How many were redeemed before the first that was not in the order of policy, given in the order in which they came.
fn out_of_turn(came: &[WinnerFields], used: &[Used]) -> Option<usize> {
    let places: Vec<_> = came
        .iter()
        .map(|winner| QueuePlace {
            creation_round: winner.expiration_params.creation_round,
            sender: winner.sender,
            face_value: winner.face_value,
        })
        .collect();
    let number: HashMap<_, _> = came
        .iter()
        .enumerate()
        .map(|(number, winner)| ((winner.sender, U256::from(winner.sender_nonce)), number))
        .collect();
    let of = |one: &Used| number.get(&(one.sender, one.nonce)).copied();
    let transactions: Vec<_> = used
        .chunk_by(|one, next| one.tx == next.tx)
        .map(|sent| sent.iter().filter_map(of).collect())
        .collect();
    order::out_of_turn(&places, &transactions)
}
