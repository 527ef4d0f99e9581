//! An orchestrator with AI jobs at work is gone for a while: dead, or silent. What that costs each job that had to
//! go elsewhere, as the gateways themselves explain it.

use super::{
    Tally,
    monkey::{Act, progress},
    tally::ms,
};
use crate::fleet::Fleet;
use penstock_testkit::{
    sim::{Running, SimOrchestrator},
    until_ok, until_some,
};
use serde_json::Value;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};
use tokio::sync::Semaphore;

/// Jobs that it has at work when it goes, at least.
const AT_WORK: usize = 2;

/// Who was gone, and what came of it.
pub struct Gone {
    /// Which of the simulated ones.
    pub number: usize,
    /// Payments that it had when it came back.
    pub payments: u32,
    /// What it cost each job that met it.
    pub costs_ms: Vec<u64>,
}

/// One is gone until every client has had an answer since, and comes back.
pub async fn take_away(act: Act, fleet: &Fleet, tally: &Arc<Tally>) -> Gone {
    let number = busy(fleet, tally).await;
    let simulated = &fleet.rig.orchestrators[number];
    // The stream is elsewhere: what it meets is another act's matter.
    simulated.full.store(true, Ordering::SeqCst);
    progress(tally, 2, 0, "with the stream elsewhere").await;
    let gate = hold_jobs(simulated, tally).await;
    let broke = Instant::now();
    match act {
        Act::KillAiOrchestrator => simulated.server.die().await,
        _ => simulated.server.set_silent(true),
    }
    *simulated.ai_gate.lock().unwrap() = None;
    progress(tally, 1, 1, &format!("during {act}")).await;
    match act {
        Act::KillAiOrchestrator => simulated.server.revive(),
        _ => simulated.server.set_silent(false),
    }
    // Whoever waits there still goes on; nobody waits for the answer.
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    simulated.full.store(false, Ordering::SeqCst);
    let payments = simulated.seen.lock().unwrap().payments;
    let costs_ms = costs(fleet, tally, &simulated.uri(), broke).await;
    Gone { number, payments, costs_ms }
}

/// The first one that gets further jobs: it is not kept out for what happened before.
async fn busy(fleet: &Fleet, tally: &Tally) -> usize {
    let arrived = || -> Vec<usize> {
        let simulated = fleet.rig.orchestrators.iter();
        simulated.map(|sim| sim.seen.lock().unwrap().audio.len()).collect()
    };
    let before = arrived();
    until_some("an orchestrator gets AI jobs", || async {
        if !tally.violations().is_empty() {
            return Some(0);
        }
        let now = arrived();
        (0..now.len()).find(|n| now[*n] >= before[*n] + AT_WORK)
    })
    .await
}

/// Jobs that come from now on are not done; some have come.
async fn hold_jobs(simulated: &Running<SimOrchestrator>, tally: &Tally) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    *simulated.ai_gate.lock().unwrap() = Some(Arc::clone(&gate));
    let arrived = || simulated.seen.lock().unwrap().audio.len();
    let before = arrived();
    until_some("it has AI jobs at work", || async {
        (arrived() >= before + AT_WORK || !tally.violations().is_empty()).then_some(())
    })
    .await;
    gate
}

/// Of each job since then that the gateways say was tried there in vain. Each explanation is written beside its job,
/// so the first may be a moment later.
async fn costs(fleet: &Fleet, tally: &Tally, gone: &str, broke: Instant) -> Vec<u64> {
    let jobs = tally.jobs_between(broke, Instant::now());
    until_ok("a job tells that it met who was gone", || async {
        let mut costs = Vec::new();
        for job in &jobs {
            if met(fleet, &job.trace, gone).await? {
                costs.push(ms(job.cost_of(broke)));
            }
        }
        if costs.len() >= AT_WORK || !tally.violations().is_empty() {
            return Ok(costs);
        }
        Err(format!("{} of {} jobs met it", costs.len(), jobs.len()))
    })
    .await
}

async fn met(fleet: &Fleet, trace: &str, gone: &str) -> Result<bool, String> {
    let admin = fleet.gateways[0].addr("admin");
    let url = format!("http://{admin}/v1/selection/explain?job={trace}");
    let answer = fleet.http.get(&url).send().await.map_err(|error| error.to_string())?;
    match answer.status().as_u16() {
        200 => {
            let told: Value = answer.json().await.map_err(|error| error.to_string())?;
            let rounds = told["rounds"].as_array().cloned().unwrap_or_default();
            Ok(rounds.iter().any(|r| r["chosen"] == gone && !r["failed"].is_null()))
        }
        // All went well.
        404 => Ok(false),
        status => Err(format!("{url}: {status}")),
    }
}
