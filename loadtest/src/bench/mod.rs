//! What a payment of one ticket costs the signer's process, beside two bare signatures by the
//! fastest curve code on the same core in the same run; latency at half of the greatest load; memory
//! over time; key operations per payment.

pub mod keys;
pub mod load;
pub mod raw;

use crate::{
    client::Session,
    cpu::{self, CpuTime},
    machine::Origin,
    rig::{OtherKey, Plan, Rig, TICKET_EV_WEI},
    samples::Buckets,
};
use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The signer's program (a release build).
    pub signer: PathBuf,
    /// `sqlite`, or a PostgreSQL URL. Each is measured in turn.
    pub ledgers: Vec<String>,
    /// Key stores to measure besides, on the first ledger: name and how to open it.
    pub keys: Vec<(String, OtherKey)>,
    /// Requests at once at full load.
    pub clients: usize,
    /// Payments at full load; half of it at half load.
    pub payments: u64,
    /// The core that the signer stays on.
    pub core: Option<usize>,
    /// Further flags of the signer.
    pub flags: Vec<String>,
}

/// All figures of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where from.
    pub origin: Origin,
    /// Requests at once at full load.
    pub clients: usize,
    /// The core the signer stayed on; null: wherever the kernel put it.
    pub signer_core: Option<usize>,
    /// Bare signatures: every round, and the middle one.
    pub raw: Raw,
    /// One ledger and key store each.
    pub runs: Vec<Run>,
}

/// Bare signatures by secp256k1.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Raw {
    /// Nanoseconds of processor time per signature, of each round.
    pub rounds_ns: Vec<u64>,
    /// The middle round.
    pub signature_ns: u64,
    /// Payments per second if two signatures were all that they cost.
    pub pairs_per_cpu_second: f64,
}

impl Raw {
    fn of(mut rounds_ns: Vec<u64>) -> Self {
        rounds_ns.sort_unstable();
        let signature_ns = rounds_ns[rounds_ns.len() / 2];
        let pairs_per_cpu_second = 1e9 / (2 * signature_ns) as f64;
        Self { rounds_ns, signature_ns, pairs_per_cpu_second }
    }
}

/// One ledger and key store.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// `sqlite` or `postgres`.
    pub ledger: String,
    /// `keystore`, `softhsm`…
    pub key: String,
    /// As many requests at once as there are clients.
    pub full: Load,
    /// Paced arrivals at half of that rate.
    pub half: Load,
    /// `[seconds since the start, KiB]`.
    pub rss: Vec<(f64, u64)>,
}

/// What one load came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// Payments of one ticket each that were answered.
    pub payments: u64,
    /// Requests answered 480, each followed by a fresh offer.
    pub refreshes: u64,
    /// Wall time.
    pub wall_s: f64,
    /// Processor time of the signer's process.
    pub cpu: CpuSeconds,
    /// Payments per second of processor time of the signer's process.
    pub per_cpu_second: f64,
    /// Payments per second.
    pub per_second: f64,
    /// Of a hundred payments that two bare signatures would allow.
    pub percent_of_raw: f64,
    /// Signatures that the key made, per payment.
    pub key_operations_per_payment: f64,
    /// Microseconds from the planned arrival to the answer.
    pub p50_us: u64,
    /// The slowest in a hundred.
    pub p99_us: u64,
    /// All of them.
    #[serde(default)]
    pub buckets_us: Buckets,
}

/// Processor seconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct CpuSeconds {
    /// In the process's own code.
    pub user_s: f64,
    /// In the kernel for it.
    pub system_s: f64,
}

impl From<CpuTime> for CpuSeconds {
    fn from(time: CpuTime) -> Self {
        Self { user_s: time.user_ms as f64 / 1e3, system_s: time.system_ms as f64 / 1e3 }
    }
}

/// Runs everything in turn. `say` is told of each step.
pub async fn run(settings: &Settings, origin: Origin, say: impl Fn(&str)) -> Report {
    assert!(settings.payments >= 10 * settings.clients as u64, "too few payments to average over");
    let mut rounds_ns = vec![raw::measure(settings.core)];
    say(&format!("a bare signature: {} ns", rounds_ns[0]));
    let mut runs = Vec::new();
    let wanted = settings.ledgers.iter().map(|ledger| (ledger, "keystore".to_owned(), None));
    let first = settings.ledgers.first().expect("a ledger");
    let others = settings.keys.iter().map(|(name, key)| (first, name.clone(), Some(key.clone())));
    for (ledger, key_name, key) in wanted.chain(others) {
        let mut run = one(settings, ledger, &key_name, key, &say).await;
        rounds_ns.push(raw::measure(settings.core));
        let raw = Raw::of(rounds_ns.clone());
        for load in [&mut run.full, &mut run.half] {
            load.percent_of_raw = load.per_cpu_second / raw.pairs_per_cpu_second * 100.0;
        }
        say(&describe(&run));
        runs.push(run);
    }
    let raw = Raw::of(rounds_ns);
    for load in runs.iter_mut().flat_map(|run| [&mut run.full, &mut run.half]) {
        load.percent_of_raw = load.per_cpu_second / raw.pairs_per_cpu_second * 100.0;
    }
    Report { origin, clients: settings.clients, signer_core: settings.core, raw, runs }
}

/// A line for people.
pub fn describe(run: &Run) -> String {
    format!(
        "{} + {}: {:.0} payments per CPU-second ({:.1} % of raw; half load {:.1} %), {:.0}/s, {:.2} \
         key operations each, half load p50 {} µs p99 {} µs, memory {} → {} KiB",
        run.ledger,
        run.key,
        run.full.per_cpu_second,
        run.full.percent_of_raw,
        run.half.percent_of_raw,
        run.full.per_second,
        run.full.key_operations_per_payment,
        run.half.p50_us,
        run.half.p99_us,
        run.rss.first().map_or(0, |sample| sample.1),
        run.rss.last().map_or(0, |sample| sample.1),
    )
}

async fn one(
    settings: &Settings,
    ledger: &str,
    key_name: &str,
    key: Option<OtherKey>,
    say: &impl Fn(&str),
) -> Run {
    let embedded = ledger == "sqlite";
    let name = if embedded { "sqlite" } else { "postgres" };
    say(&format!("{name} + {key_name}: starting"));
    let plan = Plan {
        signer: settings.signer.clone(),
        ledger: (!embedded).then(|| ledger.to_owned()),
        replicas: 1,
        orchestrators: 4,
        core: settings.core,
        flags: settings.flags.clone(),
        key,
    };
    let rig = Rig::start(&plan).await;
    let pid = rig.replicas[0].pid();
    let memory = Memory::watch(pid);
    let sessions: Vec<Session> = (0..settings.clients * 4)
        .map(|n| {
            let orchestrator = Arc::clone(&rig.orchestrators[n % rig.orchestrators.len()].sim);
            Session::new(orchestrator, rig.sender, format!("bench-{n}"))
        })
        .collect();
    // Every session's first payment, connections and caches before anything is counted.
    let warm = sessions.len() as u64 * 2;
    let (sessions, _) = measured(&rig, pid, sessions, settings.clients, warm, None).await;
    say(&format!("{name} + {key_name}: full load, {} payments", settings.payments));
    let (sessions, full) =
        measured(&rig, pid, sessions, settings.clients, settings.payments, None).await;
    let rate = full.per_second / 2.0;
    say(&format!("{name} + {key_name}: half load, {rate:.0} payments per second"));
    let (_, half) =
        measured(&rig, pid, sessions, settings.clients, settings.payments / 2, Some(rate)).await;
    Run { ledger: name.to_owned(), key: key_name.to_owned(), full, half, rss: memory.samples() }
}

async fn measured(
    rig: &Rig,
    pid: u32,
    sessions: Vec<Session>,
    clients: usize,
    payments: u64,
    rate: Option<f64>,
) -> (Vec<Session>, Load) {
    const OPERATIONS: &str = "signer_key_operations_total";
    let operations = rig.counter(0, OPERATIONS).await;
    let (before, began) = (cpu::cpu_time(pid), Instant::now());
    let (sessions, mut done) = match rate {
        None => load::closed(&rig.url(0), sessions, clients, payments, TICKET_EV_WEI).await,
        Some(rate) => load::paced(&rig.url(0), sessions, payments, rate, TICKET_EV_WEI).await,
    };
    let (used, wall_s) = (cpu::cpu_time(pid).since(before), began.elapsed().as_secs_f64());
    let operations = rig.counter(0, OPERATIONS).await - operations;
    done.latencies_us.sort_unstable();
    let at = |percent: usize| {
        let index = (done.latencies_us.len() * percent / 100).min(done.latencies_us.len() - 1);
        done.latencies_us[index]
    };
    let answered = done.latencies_us.len() as u64;
    let load = Load {
        payments: answered,
        refreshes: done.refreshes,
        wall_s,
        cpu: used.into(),
        per_cpu_second: answered as f64 / used.seconds(),
        per_second: answered as f64 / wall_s,
        percent_of_raw: 0.0,
        key_operations_per_payment: operations as f64 / answered as f64,
        p50_us: at(50),
        p99_us: at(99),
        buckets_us: Buckets::of(&done.latencies_us),
    };
    (sessions, load)
}

/// Looks at a process's memory every now and then.
struct Memory {
    samples: Arc<Mutex<Vec<(f64, u64)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Memory {
    fn watch(pid: u32) -> Self {
        let samples = Arc::new(Mutex::new(vec![(0.0, cpu::rss_kib(pid))]));
        let (kept, began) = (Arc::clone(&samples), Instant::now());
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let sample = (began.elapsed().as_secs_f64(), cpu::rss_kib(pid));
                kept.lock().unwrap().push(sample);
            }
        });
        Self { samples, task }
    }

    fn samples(self) -> Vec<(f64, u64)> {
        self.task.abort();
        self.samples.lock().unwrap().clone()
    }
}
