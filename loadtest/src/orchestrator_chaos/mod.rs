//! Orchestrator processes that share one PostgreSQL and their secrets are killed, at failpoints and at
//! random, paused for longer than their leases, restarted in order, and cut off from their database,
//! while clients pay and work at whichever is there: gateways' sessions, jobs of a brought capability, and
//! sessions of a live runner. Afterwards the books of clients, ledger and chain have to agree.
//!
//! The seed decides what is broken in which order and what each client does; when exactly a process dies
//! is the machine's business, so that two runs of one seed have one plan and are not equal.

mod byoc;
mod clients;
mod clock;
mod held;
mod live_runner;
mod monkey;
mod payer;
mod plan;
mod tally;
mod tickets;
pub(crate) mod trio;
mod verdict;
pub(crate) mod workers;

pub use monkey::{Broken, Effect};
pub use plan::{Act, plan};
pub(crate) use verdict::books;
pub use verdict::{Brought, Counts, Runners};

use crate::{cpu::rss_kib, database::Database, gateway_chaos::Times, machine::Origin};
use clock::{Clock, now_ms};
use held::Held;
use monkey::Monkey;
use payer::{Load, Outcome};
use penstock_chain::Chain as _;
use penstock_testkit::until;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tally::Tally;
use tokio::task::JoinSet;
use trio::Trio;
use verdict::Seen;

/// Between two blocks of the chain.
const BLOCK: Duration = Duration::from_millis(150);

/// Where the books are.
#[derive(Debug, Clone)]
pub enum Postgres {
    /// A database of the run's own on a server that must not be stopped.
    Url(String),
    /// A server of the run's own, of the programs in this folder.
    Programs(PathBuf),
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the roles' programs; failpoints need a build that has them.
    pub programs: PathBuf,
    /// The books.
    pub postgres: Postgres,
    /// Orchestrators on them.
    pub processes: usize,
    /// Clients at once, of all kinds together; four at least are one of each.
    pub clients: usize,
    /// Tickets to pay before the run ends; it goes on until everything of the plan was done.
    pub tickets: u64,
    /// Most tickets of one payment.
    pub max_tickets: u32,
    /// Orchestrators that die, at least.
    pub kills: u64,
    /// Decides what happens.
    pub seed: u64,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where from.
    pub origin: Origin,
    /// Orchestrators.
    pub processes: usize,
    /// Clients at once.
    pub clients: usize,
    /// What decided the run.
    pub seed: u64,
    /// Seconds under load.
    pub load_s: u64,
    /// What was broken.
    pub broken: Broken,
    /// Of each client: its longest time between two answers.
    pub waits: Times,
    /// What clients saw, counted.
    pub seen: BTreeMap<String, u64>,
    /// Of each orchestrator, MiB in RAM when the load began and when it was over.
    pub memory_mib: Vec<(u64, u64)>,
    /// What the books say.
    pub counts: Counts,
    /// What must not be. Empty, or the run failed.
    pub violations: Vec<String>,
}

/// Runs it. `say` is told of each step.
pub async fn run(settings: &Settings, origin: Origin, say: impl Fn(&str)) -> Report {
    let mut database = match &settings.postgres {
        Postgres::Programs(programs) => Some(Database::start(programs).await),
        Postgres::Url(_) => None,
    };
    let ledger = match (&database, &settings.postgres) {
        (Some(database), _) => database.url().to_owned(),
        (None, Postgres::Url(url)) => url.clone(),
        (None, Postgres::Programs(_)) => unreachable!("started above"),
    };
    let block_ms = crate::gateway_chaos::ms(BLOCK);
    let mut trio = Trio::start(&settings.programs, &ledger, settings.processes, block_ms).await;
    let acts = plan(settings.seed, settings.kills, settings.processes, database.is_some());
    say(&format!("{} clients, {} acts", settings.clients, acts.len()));
    let block = trio.chain.client.rounds().await.expect("the chain").last_seen_l1_block;
    let clock = Arc::new(Clock::new(block));
    let tally = Arc::new(Tally::new(settings.clients, settings.processes));
    let load = Load {
        urls: Arc::new(trio.urls.clone()),
        recipient: trio.recipient.clone(),
        clock: Arc::clone(&clock),
        tally: Arc::clone(&tally),
        max_tickets: settings.max_tickets,
        seed: settings.seed,
    };
    let mut clients = JoinSet::new();
    let memory_before = memory(&trio);
    for number in 0..settings.clients {
        start_client(&mut clients, &trio, load.clone(), number).await;
    }
    let mining = tokio::spawn(Arc::clone(&clock).run(Arc::clone(&trio.chain.sim), BLOCK));
    let began = Instant::now();
    let (total, between) = (acts.len(), settings.tickets / (acts.len() as u64 + 1));
    let mut monkey = Monkey {
        broken: Broken::default(),
        trio: &mut trio,
        database: database.as_mut(),
        ledger: &ledger,
        tally: Arc::clone(&tally),
    };
    for (number, act) in acts.into_iter().enumerate() {
        paid(&tally, between * (number as u64 + 1)).await;
        let (tickets, now) = (tally.tickets(), began.elapsed().as_secs());
        say(&format!("{now} s, {tickets} tickets, act {} of {total}: {act}", number + 1));
        monkey.perform(act).await;
        if !tally.violations().is_empty() {
            say("something is wrong: the rest of the plan is left out");
            break;
        }
    }
    let broken = monkey.broken;
    if tally.violations().is_empty() {
        paid(&tally, settings.tickets).await;
        left_alone(&trio, &tally).await;
    }
    tally.enough.store(true, Ordering::SeqCst);
    let (mut held, mut taken, mut waits) = (Held::default(), Vec::new(), Vec::new());
    while let Some(ended) = clients.join_next().await {
        let outcome = ended.expect("a client notes what it finds and does not panic");
        held.merge(outcome.held);
        taken.extend(outcome.taken);
        waits.push(crate::gateway_chaos::ms(outcome.longest));
    }
    clock.stop();
    mining.await.expect("the chain's clock");
    let load_s = began.elapsed().as_secs();
    let memory_mib = memory_before.into_iter().zip(memory(&trio)).collect();
    say(&format!("{load_s} s: the load is over; the books are compared"));
    if broken.deaths() < settings.kills && tally.violations().is_empty() {
        tally.violation(format!("{} deaths of {}", broken.deaths(), settings.kills));
    }
    let counts = verdict::judge(&trio, &ledger, &held, &taken, &tally).await;
    if !tally.violations().is_empty() {
        for (number, process) in trio.processes.iter().enumerate() {
            say(&format!("---- the log of orchestrator {number}\n{}", process.log_tail()));
        }
    }
    Report {
        origin,
        processes: settings.processes,
        clients: settings.clients,
        seed: settings.seed,
        load_s,
        broken,
        waits: Times::of(&waits),
        seen: tally.counts(),
        memory_mib,
        counts,
        violations: tally.violations(),
    }
}

/// Goes on with nothing broken until a session of a live runner was left alone for as long as it takes to say what it
/// cost at least. Where only some of the processes die at a time there was one long before.
async fn left_alone(trio: &Trio, tally: &Tally) {
    until("a session of a live runner is left alone", || async {
        let seen = Seen { tally, uncharged_ms: trio.uncharged_ms() };
        let sessions = tally.ended_sessions();
        sessions.iter().any(|stints| seen.is_undisturbed(stints, now_ms()))
            || !tally.violations().is_empty()
    })
    .await;
}

/// Of four clients two are as gateways are, one has jobs of a brought capability done, and one has sessions of
/// a live runner.
async fn start_client(clients: &mut JoinSet<Outcome>, trio: &Trio, load: Load, number: usize) {
    match number % 4 {
        0 | 1 => {
            let client = clients::Client::new(load, number).await;
            trio.fund(client.address()).await;
            clients.spawn(client.run());
        }
        2 => {
            let client = byoc::Client::new(load, number).await;
            trio.fund(client.address()).await;
            clients.spawn(client.run());
        }
        _ => {
            let client = live_runner::Client::new(load, number).await;
            trio.fund(client.address()).await;
            clients.spawn(client.run());
        }
    }
}

/// Waits until so many tickets were taken.
async fn paid(tally: &Tally, tickets: u64) {
    let mut told = tally.tickets();
    while told < tickets {
        // Anew for each step: what takes long is not what stands still.
        until("tickets are taken", || async { tally.tickets() > told }).await;
        told = tally.tickets();
    }
}

/// MiB that each process has in RAM.
fn memory(trio: &Trio) -> Vec<u64> {
    trio.processes.iter().map(|process| rss_kib(process.pid()) / 1024).collect()
}
