//! Signer replicas that share one ledger are killed, at failpoints and at random, and their database
//! connections with them, while clients pay and repeat whatever was not answered. Afterwards the
//! books of clients, orchestrators, ledger, audit and event receiver have to agree.
//!
//! The seed decides what is broken in which order and what each client buys; when exactly a process
//! dies is the machine's business, so that two runs of one seed are alike and not equal.

mod clients;
mod held;
mod monkey;
mod verdict;

pub use held::Held;
pub use monkey::Broken;
pub use verdict::Counts;

use crate::{
    machine::Origin,
    rig::{Plan, Rig},
};
use monkey::Monkey;
use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Instant,
};

/// What to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The signer's program; failpoints need a build that has them.
    pub signer: PathBuf,
    /// A PostgreSQL database of the run's own, or `None` for SQLite.
    pub postgres: Option<String>,
    /// Signers on it.
    pub replicas: usize,
    /// Clients at once.
    pub clients: usize,
    /// Tickets to buy before the run ends. More are bought while something was never broken.
    pub tickets: u64,
    /// Most tickets of one payment.
    pub max_tickets: u64,
    /// Payments answered between two things that are broken, on average.
    pub payments_between: u64,
    /// Decides what happens.
    pub seed: u64,
    /// Further flags of the signers.
    pub flags: Vec<String>,
    /// Whether the signers were told to send events to `{sink}`.
    pub events: bool,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where from.
    pub origin: Origin,
    /// `sqlite` or `postgres`.
    pub ledger: String,
    /// Signers.
    pub replicas: usize,
    /// Clients at once.
    pub clients: usize,
    /// What decided the run.
    pub seed: u64,
    /// Seconds under load.
    pub load_s: u64,
    /// What was broken.
    pub broken: Broken,
    /// What the books say.
    pub counts: Counts,
    /// What must not be. Empty, or the run failed.
    pub violations: Vec<String>,
}

/// Runs it. `say` is told of each step.
pub async fn run(settings: &Settings, origin: Origin, say: impl Fn(&str)) -> Report {
    let plan = Plan {
        signer: settings.signer.clone(),
        ledger: settings.postgres.clone(),
        replicas: settings.replicas,
        orchestrators: 4,
        core: None,
        flags: settings.flags.clone(),
        key: None,
    };
    let mut rig = Rig::start(&plan).await;
    let began = Instant::now();
    let held = Arc::new(Held::default());
    let urls: clients::Urls =
        Arc::new((0..settings.replicas).map(|n| Mutex::new(rig.url(n))).collect());
    let load = clients::Load {
        settings: settings.clone(),
        urls: Arc::clone(&urls),
        held: Arc::clone(&held),
        orchestrators: rig.orchestrators.iter().map(|o| Arc::clone(&o.sim)).collect(),
        sender: rig.sender,
    };
    say(&format!("{} clients, {} tickets", settings.clients, settings.tickets));
    let mut clients = clients::start(load);
    let mut monkey = Monkey::new(settings, urls);
    let mut told = 0;
    while !clients.is_empty() {
        monkey.step(&mut rig, &held, settings.postgres.as_deref()).await;
        while let Some(ended) = clients.try_join_next() {
            ended.expect("a client notes what it finds and does not panic");
        }
        let lacks = monkey.lacks(&held);
        held.all_broken.store(lacks.is_none(), Ordering::SeqCst);
        let tickets = held.tickets();
        if tickets >= told + settings.tickets / 10 {
            told = tickets;
            say(&format!("{tickets} tickets; {}", monkey.broken));
        }
    }
    if let Some(lacks) = monkey.lacks(&held) {
        held.violation(format!("the load ended before everything was broken: {lacks}"));
    }
    let load_s = began.elapsed().as_secs();
    say(&format!("the load is over; {}", monkey.broken));
    monkey.calm(&mut rig).await;
    let counts = verdict::judge(&rig, &held, settings).await;
    Report {
        origin,
        ledger: if settings.postgres.is_some() { "postgres" } else { "sqlite" }.to_owned(),
        replicas: settings.replicas,
        clients: settings.clients,
        seed: settings.seed,
        load_s,
        broken: monkey.broken,
        counts,
        violations: held.violations(),
    }
}
