//! Any node of the network under a load that a file describes: AI jobs, HTTP-push and RTMP streams, sessions
//! of live runners, payments by signers, trickle channels, or several of them at once. It speaks the public
//! wire only, and so drives whoever speaks it; without a target it starts a network of its own.
//!
//! - [`scenario`]: the file, read strictly. [`schedule`]: when arrivals are due. Both pure.
//! - [`drive`]: makes operations happen, in an open or a closed loop. [`kinds`]: what an operation is.
//! - [`tally`], [`bins`]: what came of it. [`progress`]: how far it is.
//! - [`target`]: whom to load. [`network`]: a network of its own. [`counters`]: what nodes count themselves.
//! - [`report`]: as JSON, text and a page; several side by side.

pub mod bins;
pub mod counters;
pub mod drive;
pub mod kinds;
pub mod network;
pub mod progress;
pub mod report;
pub mod scenario;
pub mod schedule;
pub mod tally;
pub mod target;

use crate::machine::{self, Origin};
use drive::Drive;
use kinds::{Context, Kind};
use network::{Network, Plan};
use report::{FORM, LoadReport, Report, Run};
use scenario::{End, Load, Pace, Scenario, Work};
use std::{path::PathBuf, sync::Arc};
use tally::Tally;
use target::Target;
use tokio::{task::JoinSet, time::Instant};

/// Operations at once before anything counts.
const WARM_UP_AT_ONCE: usize = 16;

/// What is loaded.
#[derive(Debug, Clone)]
pub enum Whom {
    /// What is there already.
    There(Target),
    /// A network that each run starts.
    Own {
        /// The folder of the roles' programs.
        programs: PathBuf,
        /// Numbers of gateways, each a run of its own; empty: what the scenario says.
        replicas: Vec<usize>,
    },
}

/// Runs a scenario, whose file has this text. `say` is told of each step.
pub async fn run(
    scenario: &Scenario,
    text: &str,
    whom: &Whom,
    origin: Origin,
    say: impl Fn(&str),
) -> Result<Report, String> {
    prepare_process();
    let mut runs = Vec::new();
    match whom {
        Whom::There(target) => {
            runs.push(once(scenario, &|_: &Work| target.clone(), None, &say).await?);
        }
        Whom::Own { programs, replicas } => {
            let default = [scenario.network.gateways];
            let replicas =
                if replicas.is_empty() { default.as_slice() } else { replicas.as_slice() };
            for gateways in replicas {
                let mut plan = Plan::of(programs, &[scenario]);
                plan.network.gateways = *gateways;
                let has_gateways = plan.roles.contains(&target::Role::Gateway);
                say(&format!("starting a network for {} ({gateways} gateways)", scenario.name));
                let network = Network::start(&plan).await;
                let number = has_gateways.then_some(*gateways);
                let target_of = |work: &Work| network.target_of(work);
                runs.push(once(scenario, &target_of, number, &say).await?);
            }
        }
    }
    Ok(Report {
        form: FORM,
        origin,
        scenario: scenario.name.clone(),
        about: scenario.about.clone(),
        text: text.to_owned(),
        seed: scenario.seed,
        runs,
    })
}

/// What this process needs to have before it loads anything.
pub fn prepare_process() {
    penstock_http_kit::tls::install_crypto_provider();
    machine::allow_files();
}

/// All loads at the same time, once, on what is there.
pub async fn once(
    scenario: &Scenario,
    target_of: &impl Fn(&Work) -> Target,
    replicas: Option<usize>,
    say: &impl Fn(&str),
) -> Result<Run, String> {
    let folder = tempfile::Builder::new().prefix("penstock-load-media-").tempdir();
    let folder = folder.map_err(|error| error.to_string())?;
    let mut loads: Vec<(Load, Arc<Tally>, Arc<Kind>)> = Vec::new();
    for load in &scenario.loads {
        let (target, tally) = (target_of(&load.work), Arc::new(Tally::default()));
        let context = Context { load, target: &target, tally: &tally, folder: folder.path() };
        let kind = Kind::prepare(&context).await.map_err(|why| format!("{}: {why}", load.name))?;
        loads.push((load.clone(), tally, Arc::new(kind)));
    }
    for (load, tally, kind) in &loads {
        warm_up(load, tally, kind, scenario.seed).await?;
    }
    let whole = target_of(&scenario.loads[0].work);
    let http = penstock_clients::http(&penstock_clients::HttpOptions::default());
    let http = http.map_err(|error| error.to_string())?;
    let before = counters::read(&http, &whole.metrics).await?;

    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, (load, tally, kind)) in loads.iter().enumerate() {
        tally.begin();
        let drive = Drive {
            pace: load.pace,
            end: load.end,
            timeout: load.patience(),
            first: load.warm_up,
            seed: scenario.seed.wrapping_add(number as u64),
        };
        let (load, tally, kind) = (load.clone(), Arc::clone(tally), Arc::clone(kind));
        tasks.spawn(async move {
            let began = Instant::now();
            drive::drive(&kind, drive, &tally).await;
            let took = began.elapsed();
            kind.settle().await;
            (number, LoadReport::of(&load, &tally.counted(), took))
        });
    }
    let bars: Vec<(Load, Arc<Tally>)> =
        loads.iter().map(|(load, tally, _)| (load.clone(), Arc::clone(tally))).collect();
    let all = async {
        let mut reports = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            reports.push(ended.expect("a load notes what it finds and does not panic"));
        }
        reports
    };
    let mut reports = tokio::select! {
        reports = all => reports,
        () = progress::show(&bars, say) => unreachable!("it does not end by itself"),
    };
    let wall_s = began.elapsed().as_secs_f64();
    reports.sort_by_key(|(number, _)| *number);
    let after = counters::read(&http, &whole.metrics).await?;
    Ok(Run {
        replicas,
        target: whole.describe(),
        wall_s,
        loads: reports.into_iter().map(|(_, report)| report).collect(),
        counters: counters::between(&before, &after),
    })
}

/// Connections, caches, sessions and credit before anything counts.
async fn warm_up(
    load: &Load,
    tally: &Arc<Tally>,
    kind: &Arc<Kind>,
    seed: u64,
) -> Result<(), String> {
    if load.warm_up == 0 {
        return Ok(());
    }
    let drive = Drive {
        pace: Pace::Closed { clients: load.at_once().min(WARM_UP_AT_ONCE) },
        end: End { count: Some(load.warm_up), duration: None },
        timeout: load.patience(),
        first: 0,
        seed,
    };
    drive::drive(kind, drive, tally).await;
    kind.settle().await;
    let progress = tally.progress();
    if progress.ok > 0 {
        return Ok(());
    }
    let reasons: Vec<String> = tally.counted().reasons.into_keys().collect();
    Err(format!("{}: nothing of its warm-up went well: {}", load.name, reasons.join("; ")))
}
