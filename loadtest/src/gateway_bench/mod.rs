//! What the gateway adds to a paid job, and how many it takes: accounts, limits, metering and sessions
//! on, beside nginx, HAProxy, a bare proxy and the orchestrator itself, in one run. Then how long a
//! choice among many orchestrators takes, what video notices of a flood of AI jobs, and what an idle
//! stream occupies.

mod crowd;
mod direct;
mod flood;
mod idle;
mod load;
mod proxies;

pub use proxies::bare;

use crate::{
    cpu,
    fleet::{self, Fleet, Plan, Stores},
    machine::Origin,
    samples::Buckets,
};
use direct::Direct;
use load::Job;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::Arc};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the roles' programs (release builds).
    pub programs: PathBuf,
    /// This driver's own program, for the bare proxy.
    pub own: PathBuf,
    /// Jobs at full load; half of them at half load.
    pub jobs: u64,
    /// Jobs at once at full load.
    pub clients: usize,
    /// Crowds of orchestrators to choose from.
    pub crowds: Vec<usize>,
    /// Idle streams; none: they are not measured.
    pub streams: u64,
    /// Segments of each stream in each phase of a flood of AI jobs; none: it is not measured.
    pub flood_segments: u64,
    /// Words in the names of the ways to measure; none: all of them.
    pub ways: Vec<String>,
    /// Further flags of the gateways.
    pub gateway_flags: Vec<String>,
}

impl Settings {
    fn wants(&self, way: &str) -> bool {
        self.ways.is_empty() || self.ways.iter().any(|word| way.contains(word))
    }
}

/// All figures of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where from.
    pub origin: Origin,
    /// Jobs at once at full load.
    pub clients: usize,
    /// Each way to the orchestrator.
    pub ways: Vec<Way>,
    /// Choices among many.
    pub crowds: Vec<crowd::Crowd>,
    /// What video notices of AI jobs; null: it was not asked for.
    pub flood: Option<flood::Flood>,
    /// Streams that wait; null: they were not asked for.
    pub idle: Option<idle::Idle>,
}

/// One way to the orchestrator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Way {
    /// What stands between.
    pub name: String,
    /// Jobs per second at full load.
    pub per_second: f64,
    /// Jobs per second of processor time of what stands between; null where nothing does.
    pub per_cpu_second: Option<f64>,
    /// At the same modest pace for all: microseconds from the planned start to the answer.
    pub p50_us: u64,
    /// The slowest in a hundred.
    pub p99_us: u64,
    /// What it adds to the orchestrator itself.
    pub added_p50_us: i64,
    /// The same of the slowest in a hundred.
    pub added_p99_us: i64,
    /// All times at the modest pace.
    #[serde(default)]
    pub buckets_us: Buckets,
    /// All times at full load, from request to answer.
    #[serde(default)]
    pub full_buckets_us: Buckets,
}

/// The pace at which latencies are compared, of what the slowest way takes at full load.
const MODEST: f64 = 0.5;

/// Runs everything in turn. `say` is told of each step.
pub async fn run(settings: &Settings, origin: Origin, say: impl Fn(&str)) -> Report {
    let (mut measured, mut pace, mut first) = (Vec::new(), None, None);
    for replicas in 1..=3 {
        say(&format!("gateway, {replicas} replicas"));
        let name = format!("gateway ×{replicas}, behind HAProxy");
        if replicas > 1 && !settings.wants(&name) {
            continue;
        }
        let (fleet, key) = fleet(settings, replicas, 1, Vec::new()).await;
        let job = Job::keyed(&fleet.url(), &key);
        let pids: Vec<u32> = fleet.gateways.iter().map(|gateway| gateway.pid()).collect();
        warm(&job, settings).await;
        let full = load::closed(&job, settings.clients, settings.jobs, &pids).await;
        // The modest pace is that of the first.
        let pace = *pace.get_or_insert(full.per_second * MODEST);
        let half = load::paced(&job, settings.jobs / 2, pace).await;
        measured.push((name, full, half));
        // One fleet at a time, but for the one that the other ways lead to.
        first.get_or_insert((fleet, key));
    }
    let pace = pace.expect("the first fleet's pace");
    let (fleet, key) = first.expect("the first fleet");
    let mut ways = Vec::new();
    let (at, alone_pids) = (fleet.gateway_url(0), [fleet.gateways[0].pid()]);
    for (name, job) in [
        ("gateway", Job::through_gateway(&at, &key)),
        ("gateway, jobs with `Idempotency-Key`", Job::keyed(&at, &key)),
    ] {
        if !settings.wants(name) {
            continue;
        }
        say(name);
        warm(&job, settings).await;
        let full = load::closed(&job, settings.clients, settings.jobs, &alone_pids).await;
        let half = load::paced(&job, settings.jobs / 2, pace).await;
        ways.push((name.to_owned(), full, half));
    }
    ways.extend(measured);

    say("the orchestrator itself, nginx, HAProxy, a bare proxy");
    let direct = Direct::prepare(&fleet).await;
    let straight = direct.job(&direct.uri);
    warm(&straight, settings).await;
    let full = load::closed(&straight, settings.clients, settings.jobs, &[]).await;
    let base = load::paced(&straight, settings.jobs / 2, pace).await;
    let mut others = vec![("orchestrator itself".to_owned(), full, base.clone())];
    for proxy in proxies::all(settings, &direct.uri, fleet.rig.scratch()).await {
        if !settings.wants(proxy.name) {
            continue;
        }
        let job = direct.job(&proxy.url);
        warm(&job, settings).await;
        let pids = proxy.pids();
        let full = load::closed(&job, settings.clients, settings.jobs, &pids).await;
        let half = load::paced(&job, settings.jobs / 2, pace).await;
        others.push((proxy.name.to_owned(), full, half));
    }
    others.extend(ways);
    let ways = others
        .into_iter()
        .map(|(name, full, half)| {
            let added = |own: u64, base: u64| own as i64 - base as i64;
            Way {
                name,
                per_second: full.per_second,
                per_cpu_second: full.per_cpu_second,
                p50_us: half.p50_us,
                p99_us: half.p99_us,
                added_p50_us: added(half.p50_us, base.p50_us),
                added_p99_us: added(half.p99_us, base.p99_us),
                buckets_us: half.buckets_us,
                full_buckets_us: full.buckets_us,
            }
        })
        .collect::<Vec<_>>();
    for way in &ways {
        say(&format!("{way:?}"));
    }
    drop(fleet);

    let mut crowds = Vec::new();
    for size in &settings.crowds {
        say(&format!("choosing among {size} orchestrators"));
        let crowd = crowd::measure(settings, *size).await;
        say(&format!("{crowd:?}"));
        crowds.push(crowd);
    }
    let mut flood = None;
    if settings.flood_segments > 0 {
        say("video beside a flood of AI jobs");
        let measured = flood::measure(settings).await;
        say(&format!("{measured:?}"));
        flood = Some(measured);
    }
    let mut idle = None;
    if settings.streams > 0 {
        say(&format!("{} idle streams", settings.streams));
        idle = Some(idle::measure(settings, &say).await);
    }
    Report { origin, clients: settings.clients, ways, crowds, flood, idle }
}

/// More than a run needs: that limits are counted is what costs, not that they are met.
const LIMITS: [&str; 3] = [
    "--caller-requests-per-second=1000000",
    "--caller-requests-per-day=1000000000",
    "--caller-max-in-flight=10000",
];

/// Gateways with everything on that a paid job passes, and the key of an account that they let in.
async fn fleet(
    settings: &Settings,
    gateways: usize,
    simulated: usize,
    more: Vec<String>,
) -> (Fleet, String) {
    let mut gateway_flags = settings.gateway_flags.clone();
    gateway_flags.extend(["--log-level=warn", "--caller-auth=signer"].map(str::to_owned));
    gateway_flags.extend(LIMITS.map(str::to_owned));
    gateway_flags.extend(more);
    let plan = Plan {
        programs: settings.programs.clone(),
        postgres: None,
        signers: 1,
        gateways,
        stores: Stores::Redis,
        simulated,
        real: false,
        gateway_flags,
    };
    let mut fleet = Fleet::start(&plan).await;
    let key = fleet.rig.new_account("bench").await;
    fleet.http = fleet::http(Some(&key));
    (fleet, key)
}

/// Connections, caches and credit before anything is counted.
async fn warm(job: &Arc<Job>, settings: &Settings) {
    load::closed(job, settings.clients, settings.clients as u64 * 4, &[]).await;
}

/// Processor seconds of several processes.
fn cpu_seconds(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| cpu::cpu_time(*pid).seconds()).sum()
}
