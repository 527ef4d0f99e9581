//! Three times as many AI jobs as there are places for, and what a video segment notices of it.
//! Orchestrators are as far away as in another region, so that jobs take their places for a while.

use super::{
    Settings,
    load::{self, Job, us},
};
use crate::{
    gateway_chaos::{self, Pusher, Tally},
    samples::Buckets,
};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// A flood.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flood {
    /// AI jobs a second when every place is taken.
    pub capacity_per_second: f64,
    /// AI jobs a second that were sent.
    pub sent_per_second: f64,
    /// How many of them were answered.
    pub answered: u64,
    /// How many were told to come again (503).
    pub turned_away: u64,
    /// Video segments before the flood, as many during it, as many after it.
    pub segments: u64,
    /// Microseconds of a segment, from its planned start to the answer with its renditions.
    pub quiet: Segments,
    /// The same during the flood.
    pub flooded: Segments,
    /// The same after it.
    pub after: Segments,
}

/// How long segments took, microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Segments {
    /// The median.
    pub p50_us: u64,
    /// The slowest in a hundred.
    pub p99_us: u64,
    /// All of them.
    #[serde(default)]
    pub buckets_us: Buckets,
}

/// Places for AI jobs, and as many in line.
const PLACES: usize = 16;
/// What each request to an orchestrator takes longer than on loopback.
const FAR: Duration = Duration::from_millis(50);
/// Encoders.
const STREAMS: u64 = 8;
/// From one segment of a stream to its next.
const PACE: Duration = Duration::from_millis(500);

/// Measures it.
pub async fn measure(settings: &Settings) -> Flood {
    let flags = vec![format!("--ai-max-in-flight={PLACES}"), format!("--ai-queue={PLACES}")];
    let (fleet, key) = super::fleet(settings, 1, 2, flags).await;
    for simulated in &fleet.rig.orchestrators {
        simulated.faults.set_latency(FAR);
    }
    let gateway = fleet.gateway_url(0);
    let job = Job::through_gateway(&gateway, &key);
    super::warm(&job, settings).await;
    let jobs = PLACES as u64 * 40;
    let capacity_per_second = load::closed(&job, PLACES, jobs, &[]).await.per_second;

    let media = gateway_chaos::media(fleet.rig.scratch());
    let tally = Arc::new(Tally::new(0));
    let encoders: Vec<_> = (0..STREAMS)
        .map(|number| {
            Arc::new(Pusher {
                http: fleet.http.clone(),
                tally: Arc::clone(&tally),
                stream: format!("flood-{number}"),
                media: Arc::clone(&media),
            })
        })
        .collect();
    // Sessions, credit and connections before anything counts.
    push(&encoders, &gateway, 0, 4).await;
    let segments = settings.flood_segments;
    let quiet = push(&encoders, &gateway, 4, segments).await;

    let (stop, rate) = (Arc::new(AtomicBool::new(false)), capacity_per_second * 3.0);
    let began = Instant::now();
    let flooding = tokio::spawn(flood(Arc::clone(&job), rate, Arc::clone(&stop)));
    let flooded = push(&encoders, &gateway, 4 + segments, segments).await;
    let lasted = began.elapsed().as_secs_f64();
    stop.store(true, Ordering::SeqCst);
    let (answered, turned_away) = flooding.await.expect("the flood");
    let after = push(&encoders, &gateway, 4 + 2 * segments, segments).await;
    Flood {
        capacity_per_second,
        sent_per_second: (answered + turned_away) as f64 / lasted,
        answered,
        turned_away,
        segments: STREAMS * segments,
        quiet,
        flooded,
        after,
    }
}

/// So many segments of each stream, each at its time.
async fn push(encoders: &[Arc<Pusher>], gateway: &str, first: u64, count: u64) -> Segments {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, encoder) in encoders.iter().enumerate() {
        let (encoder, gateway) = (Arc::clone(encoder), gateway.to_owned());
        // Encoders are not in step.
        let shift = PACE.mul_f64(number as f64 / STREAMS as f64);
        tasks.spawn(async move {
            let mut times = Vec::new();
            for step in 0..count {
                let planned = began + shift + PACE * u32::try_from(step).unwrap();
                tokio::time::sleep_until(planned.into()).await;
                encoder.push(&gateway, first + step).await.expect("a segment");
                times.push(us(planned));
            }
            times
        });
    }
    let times: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    let buckets_us = Buckets::of(&times);
    let (p50_us, p99_us) = load::percentiles(times);
    Segments { p50_us, p99_us, buckets_us }
}

/// So many AI jobs a second until told to stop: how many were answered, how many turned away.
async fn flood(job: Arc<Job>, per_second: f64, stop: Arc<AtomicBool>) -> (u64, u64) {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0_u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let planned = began + Duration::from_secs_f64(number as f64 / per_second);
        tokio::time::sleep_until(planned.into()).await;
        let job = Arc::clone(&job);
        tasks.spawn(async move { job.ask().await });
    }
    let (mut answered, mut turned_away) = (0, 0);
    while let Some(done) = tasks.join_next().await {
        match done.expect("a job of the flood") {
            (200, _) => answered += 1,
            (503, _) => turned_away += 1,
            (status, text) => panic!("{status} {text}"),
        }
    }
    (answered, turned_away)
}
