//! What an orchestrator's process costs where money and media pass it: tickets validated, and paid to it, beside
//! bare recoveries on the same core, a segment through gateway, orchestrator and worker beside a bare
//! ffmpeg with the same command line, trickle beside a loopback copy, all in one run.

pub mod bare_copy;
mod crowd;
mod fan_out;
mod latency;
mod live;
pub(crate) mod node;
pub(crate) mod runner;
mod segments;
mod tickets;
mod verdict;
mod wire;

pub mod curve;
pub mod validation;

use crate::{
    cpu,
    machine::{self, Origin},
    samples::Buckets,
};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Instant};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the roles' programs (release builds).
    pub programs: PathBuf,
    /// This driver's own program, for what is compared with; `None`: it runs in this process, and has no
    /// processor time of its own.
    pub own: Option<PathBuf>,
    /// `sqlite`, or a PostgreSQL URL. Each is measured in turn.
    pub ledgers: Vec<String>,
    /// Tickets in each load.
    pub tickets: u64,
    /// How many tickets a payment has; each is a load of its own.
    pub tickets_per_payment: Vec<u32>,
    /// Payments at once.
    pub clients: usize,
    /// Segments to transcode, each way; none: nothing is transcoded.
    pub segments: usize,
    /// Readers of one channel that a load of media goes to; each is a load of its own.
    pub fan_outs: Vec<usize>,
    /// Segments of 1 MiB in such a load.
    pub fan_out_segments: u64,
    /// Segments by which the first byte's way is measured.
    pub paced_segments: u64,
    /// Readers of one channel that wait at the same time; none: they are not measured.
    pub crowd: usize,
    /// Many channels at once; none: they are not measured.
    pub live: live::Plan,
    /// The core that what is measured stays on; the driver keeps to the others.
    pub core: Option<usize>,
    /// Further flags of the orchestrator.
    pub flags: Vec<String>,
}

pub use live::Plan as LivePlan;

/// All figures of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where from.
    pub origin: Origin,
    /// The core that what is measured stayed on, but for transcoding; null: wherever the kernel put it.
    pub core: Option<usize>,
    /// Payments at once.
    pub clients: usize,
    /// Bare curve operations.
    pub curve: curve::Curve,
    /// Tickets validated, without sockets and ledger.
    pub validation: Vec<validation::Validation>,
    /// Loads of tickets.
    pub tickets: Vec<tickets::Load>,
    /// Transcoding; null: it was not asked for.
    pub segments: Option<segments::Segments>,
    /// The first byte's way to few readers.
    pub first_byte: latency::FirstByte,
    /// Media to many readers of one channel.
    pub fan_out: Vec<fan_out::FanOut>,
    /// Readers that wait at once; null: they were not asked for.
    pub crowd: Option<crowd::Crowd>,
    /// Many channels at once; null: they were not asked for.
    pub live: Option<live::Live>,
    /// What was to hold and did not, a sentence each.
    #[serde(default)]
    pub broken: Vec<String>,
}

/// Runs everything in turn. `say` is told of each step.
pub async fn run(settings: &Settings, origin: Origin, say: impl Fn(&str)) -> Report {
    penstock_http_kit::tls::install_crypto_provider();
    machine::allow_files();
    let segments = match settings.segments {
        0 => None,
        count => {
            say(&format!("{count} segments through gateway, orchestrator and worker"));
            let segments = segments::measure(settings, count).await;
            say(&segments.describe());
            Some(segments)
        }
    };
    cpu::leave_core(settings.core);

    let mut curve = curve::Rounds::default();
    curve.measure(settings);
    let mut validation = validation::Rounds::of(&settings.tickets_per_payment);
    validation.measure(settings);
    let mut tickets = Vec::new();
    for ledger in &settings.ledgers {
        for per_payment in &settings.tickets_per_payment {
            let load = tickets::measure(settings, ledger, *per_payment).await;
            curve.measure(settings);
            validation.measure(settings);
            say(&load.describe());
            tickets.push(load);
        }
    }
    let curve = curve.result();
    let validation = validation.result(curve.fastest_ns());
    say(&format!("{validation:?}"));
    for load in &mut tickets {
        load.compare(&curve);
    }

    say("first bytes");
    let first_byte = latency::measure(settings).await;
    say(&format!("{first_byte:?}"));
    let mut fan_outs = Vec::new();
    for readers in &settings.fan_outs {
        let fan_out = fan_out::measure(settings, *readers).await;
        say(&format!("{fan_out:?}"));
        fan_outs.push(fan_out);
    }
    let mut crowd = None;
    if settings.crowd > 0 {
        say(&format!("{} readers of one channel", settings.crowd));
        let measured = crowd::measure(settings).await;
        say(&format!("{measured:?}"));
        crowd = Some(measured);
    }
    let (mut live, mut broken) = (None, Vec::new());
    if settings.live.channels > 0 {
        say(&format!("{} channels", settings.live.channels));
        let measured = live::measure(settings).await;
        say(&format!("{measured:?}"));
        broken = verdict::of_memory(&measured);
        live = Some(measured);
    }
    let (core, clients) = (settings.core, settings.clients);
    Report {
        origin,
        core,
        clients,
        curve,
        validation,
        tickets,
        segments,
        first_byte,
        fan_out: fan_outs,
        crowd,
        live,
        broken,
    }
}

/// The `percent`th in a hundred of sorted times, microseconds.
fn at(sorted_us: &[u64], percent: usize) -> u64 {
    let index = (sorted_us.len() * percent / 100).min(sorted_us.len().saturating_sub(1));
    sorted_us.get(index).copied().unwrap_or(0)
}

/// Microseconds since then.
fn us(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// How long things took, microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// How many.
    pub count: usize,
    /// The median.
    pub p50_us: u64,
    /// The slowest in a hundred.
    pub p99_us: u64,
    /// The slowest.
    pub worst_us: u64,
    /// All of them.
    #[serde(default)]
    pub buckets_us: Buckets,
}

impl Times {
    fn of(mut times_us: Vec<u64>) -> Self {
        times_us.sort_unstable();
        Self {
            count: times_us.len(),
            p50_us: at(&times_us, 50),
            p99_us: at(&times_us, 99),
            worst_us: at(&times_us, 100),
            buckets_us: Buckets::of(&times_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Times;

    #[test]
    fn percentiles_of_times() {
        let times = Times::of((1..=200).rev().collect());
        assert_eq!(times.buckets_us.count(), 200);
        assert_eq!((times.p50_us, times.p99_us, times.worst_us), (101, 199, 200));
        assert_eq!(Times::of(Vec::new()), Times::default());
    }
}
