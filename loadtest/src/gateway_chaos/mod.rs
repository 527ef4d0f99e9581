//! Three gateways behind HAProxy are killed, and whatever they lean on with them, while an encoder
//! pushes a stream and AI clients post jobs. Every segment has to stand in the playlist once, every
//! job has to be answered, and the books of signer and orchestrators have to agree.
//!
//! The seed decides what is broken in which order; when exactly a process dies is the machine's
//! business, so that two runs of one seed are alike and not equal.

mod ai;
mod asking;
mod callers;
mod monkey;
mod pusher;
mod tally;
mod verdict;

pub use callers::wav;
pub use monkey::{Act, Broken};
pub use pusher::Pusher;
pub(crate) use pusher::check as playlist_is_whole;
pub use tally::{Tally, Times, ms};
pub use verdict::{Books, Bounds};

use crate::{
    fleet::{Fleet, Plan, Stores},
    machine::Origin,
};
use monkey::Monkey;
use penstock_testkit::{media, places};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// What to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the roles' programs.
    pub programs: PathBuf,
    /// A PostgreSQL database of the run's own, or `None`: one signer on SQLite.
    pub postgres: Option<String>,
    /// Gateways.
    pub gateways: usize,
    /// Where they keep things.
    pub stores: Stores,
    /// AI clients at once.
    pub clients: usize,
    /// Segments to push, at least.
    pub segments: u64,
    /// Deaths: processes killed, orchestrators cut off. What else is broken comes besides.
    pub kills: u64,
    /// What a round of them consists of.
    pub acts: Vec<Act>,
    /// Decides their order.
    pub seed: u64,
    /// Further flags of the gateways.
    pub gateway_flags: Vec<String>,
    /// What belongs to a long run on a machine of its own.
    pub long: Option<Long>,
}

/// The long form asks for more: a test on a busy machine measures no time, and waits for nothing.
#[derive(Debug, Clone, Copy)]
pub struct Long {
    /// What an orchestrator may cost that is not there any more.
    pub bounds: Bounds,
    /// How long the longest jobs take: a replica renews its hold on their keys meanwhile.
    pub job: Duration,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where from.
    pub origin: Origin,
    /// Gateways, signers, orchestrators.
    pub replicas: [usize; 3],
    /// AI clients at once.
    pub clients: usize,
    /// What decided the run.
    pub seed: u64,
    /// Seconds under load.
    pub load_s: u64,
    /// Segments pushed, all of them shown once.
    pub segments: u64,
    /// AI jobs answered.
    pub jobs: u64,
    /// What was broken.
    pub broken: Broken,
    /// What callers saw of it.
    pub seen: BTreeMap<String, u64>,
    /// From a segment's first try until a viewer saw it.
    pub viewer_gaps: Times,
    /// From a job's first try to its answer.
    pub job_times: Times,
    /// A gateway after the other restarted under load: requests, of which failed.
    pub rolling: Rolling,
    /// What the books say.
    pub books: Books,
    /// What must not be. Empty, or the run failed.
    pub violations: Vec<String>,
}

/// The rolling restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolling {
    /// Segments pushed meanwhile.
    pub segments: u64,
    /// AI jobs answered meanwhile.
    pub jobs: u64,
    /// Requests that were not answered with 200 at once.
    pub failed: u64,
}

/// The stream's segments: a film in small.
pub fn media(folder: &std::path::Path) -> Arc<Vec<Vec<u8>>> {
    let small = media::shrink(&places::film(), folder);
    let files = media::cut_into_segments(&small, 1, folder);
    Arc::new(files.iter().map(|file| std::fs::read(file).unwrap()).collect())
}

/// Runs it. `say` is told of each step.
pub async fn run(settings: &Settings, origin: Origin, say: impl Fn(&str)) -> Report {
    let signers = if settings.postgres.is_some() { 2 } else { 1 };
    let plan = Plan {
        programs: settings.programs.clone(),
        postgres: settings.postgres.clone(),
        signers,
        gateways: settings.gateways,
        stores: settings.stores,
        simulated: 2,
        real: true,
        gateway_flags: settings.gateway_flags.clone(),
    };
    let mut fleet = Fleet::start(&plan).await;
    say("the fleet is up");
    if let Some(long) = settings.long {
        for orchestrator in &fleet.rig.orchestrators {
            *orchestrator.ai.long_speech.lock().unwrap() = Some((callers::LONGEST_S, long.job));
        }
    }
    let began = Instant::now();
    let tally = Arc::new(Tally::new(settings.clients));
    let stop = Arc::new(AtomicBool::new(false));
    let segments = media(fleet.rig.scratch());
    let pushing = push(&fleet, &tally, &stop, segments);
    let load = callers::Load {
        http: fleet.http.clone(),
        tally: Arc::clone(&tally),
        gateway: fleet.url(),
        stop: Arc::clone(&stop),
        long_job: settings.long.map_or(Duration::ZERO, |long| long.job),
        name: format!("chaos-{}", rand::random::<u32>()),
        ask_again: true,
    };
    let mut callers = callers::start(&load);
    monkey::progress(&tally, 2, 1, "at first").await;

    let mut monkey = Monkey::new(settings);
    // What does not kill counts for nothing; a round that was begun is done to its end.
    while monkey.broken.deaths() < settings.kills || monkey.is_within_a_round() {
        if !tally.violations().is_empty() {
            break;
        }
        let act = monkey.next();
        say(&format!("{}: {act}", monkey.broken.deaths()));
        monkey.perform(act, &mut fleet, &tally).await;
    }
    monkey.everybody_is_paid_again(&fleet, &tally).await;
    say(&format!("{} segments, {} jobs", tally.segments(), tally.jobs().iter().sum::<u64>()));
    let rolling = match plan.gateways {
        1 => Rolling::default(),
        _ => roll(&mut fleet, &tally).await,
    };
    say(&format!("rolling restart: {rolling:?}"));
    let rest = settings.segments.saturating_sub(tally.segments());
    monkey::progress(&tally, rest.max(1), 1, "to the end").await;
    stop.store(true, Ordering::SeqCst);
    pushing.await.expect("the encoder notes what it finds and does not panic");
    while let Some(ended) = callers.join_next().await {
        ended.expect("a client notes what it finds and does not panic");
    }
    let load_s = began.elapsed().as_secs();
    let books = verdict::judge(&fleet, &tally).await;
    let jobs = tally.jobs().iter().sum();
    let repeated = verdict::Repeated {
        broken: &monkey.broken,
        clients: settings.clients as u64,
        jobs,
        jobs_lost: tally.counted(callers::LOST),
        segments_lost: tally.counted(pusher::LOST),
    };
    repeated.judge(&books).into_iter().for_each(|found| tally.violation(found));
    if let Some(long) = settings.long {
        let slow = verdict::slow(&monkey.broken, &long.bounds);
        slow.into_iter().for_each(|found| tally.violation(found));
    }
    Report {
        origin,
        replicas: [plan.gateways, signers, plan.simulated + 1],
        clients: settings.clients,
        seed: settings.seed,
        load_s,
        segments: tally.segments(),
        jobs,
        broken: monkey.broken,
        seen: tally.counts(),
        viewer_gaps: Times::of(&tally.gaps_ms.lock().unwrap()),
        job_times: Times::of(&tally.jobs_ms.lock().unwrap()),
        rolling,
        books,
        violations: tally.violations(),
    }
}

/// The encoder and its viewer, until told to stop.
fn push(
    fleet: &Fleet,
    tally: &Arc<Tally>,
    stop: &Arc<AtomicBool>,
    media: Arc<Vec<Vec<u8>>>,
) -> JoinHandle<()> {
    let (tally, stop, gateway) = (Arc::clone(tally), Arc::clone(stop), fleet.url());
    let pusher = Pusher {
        http: fleet.http.clone(),
        tally: Arc::clone(&tally),
        stream: "chaos".to_owned(),
        media,
    };
    tokio::spawn(async move {
        for number in 0.. {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            if let Err(why) = pusher.push_and_view(&gateway, number).await {
                tally.violation(why);
                return;
            }
        }
    })
}

/// Every gateway in turn is told to end, ends by itself, and is started again. No caller may notice.
async fn roll(fleet: &mut Fleet, tally: &Arc<Tally>) -> Rolling {
    // What is under way began before, and may have met the last act.
    monkey::progress(tally, 1, 1, "before the rolling restart").await;
    let total = || tally.jobs().iter().sum::<u64>();
    let before = (tally.segments(), total(), tally.violations().len());
    tally.strict.store(true, Ordering::SeqCst);
    monkey::progress(tally, 1, 1, "before the first restart").await;
    for number in 0..fleet.gateways.len() {
        let status = fleet.gateways[number].terminate().await;
        if !status.success() {
            tally.violation(format!("gateway {number} ended with {status} when told to"));
        }
        fleet.gateways[number].restart().await;
        fleet.gateway_serves(number).await;
        monkey::progress(tally, 1, 1, "after a restart").await;
    }
    tally.strict.store(false, Ordering::SeqCst);
    Rolling {
        segments: tally.segments() - before.0,
        jobs: total() - before.1,
        failed: (tally.violations().len() - before.2) as u64,
    }
}

/// Segments pushed to each gateway in turn, past the balancer.
pub async fn round_robin(fleet: &Fleet, pusher: &Pusher, segments: u64) -> Result<(), String> {
    for number in 0..segments {
        let turn = number as usize % fleet.gateways.len();
        pusher.push_and_view(&fleet.gateway_url(turn), number).await?;
    }
    Ok(())
}
