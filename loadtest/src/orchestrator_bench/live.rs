//! Many live channels with a few readers each, over and over: how much later than written a byte is read, how much
//! later than through as many bare copies, and whether memory comes back when the channels go.

use super::{
    Settings, Times,
    bare_copy::BareCopy,
    runner::Stage,
    wire::{Meter, Publisher, Subscriber, stamped},
};
use crate::cpu;
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
};

/// Bytes of one write.
const CHUNK: usize = 8 << 10;
/// Writes of one segment.
const CHUNKS: u32 = 4;
/// Between two writes of a channel: a segment lasts two seconds.
const PACE: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Channels at once.
    pub channels: usize,
    /// Readers of each.
    pub readers: usize,
    /// Segments of each in one round.
    pub segments: u32,
    /// How often channels are made, used and deleted.
    pub rounds: usize,
}

/// Many channels at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Live {
    /// How many.
    pub channels: usize,
    /// Readers of each.
    pub readers: usize,
    /// Seconds of media of each, in a round.
    pub seconds: f64,
    /// Memory of the orchestrator's process before any was there, KiB.
    pub rss_before_kib: u64,
    /// Memory of each channel with its writer and readers, the most of all rounds, KiB.
    pub kib_each: f64,
    /// One after the other.
    pub rounds: Vec<Round>,
    /// From a write to a read through as many bare copies at the same pace; null in reports that had none.
    #[serde(default)]
    pub bare: Option<Times>,
    /// What the orchestrator adds to that in its last round.
    #[serde(default)]
    pub added: Option<Added>,
}

/// What is later than through a bare copy, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// At the median.
    pub p50_us: i64,
    /// Of the slowest in a hundred.
    pub p99_us: i64,
    /// Of the slowest.
    pub worst_us: i64,
}

impl Added {
    fn to(bare: &Times, own: &Times) -> Self {
        let more = |own: u64, bare: u64| own as i64 - bare as i64;
        Self {
            p50_us: more(own.p50_us, bare.p50_us),
            p99_us: more(own.p99_us, bare.p99_us),
            worst_us: more(own.worst_us, bare.worst_us),
        }
    }
}

/// Channels are made, used and deleted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Round {
    /// From a write to a read, of every write and every reader.
    pub times: Times,
    /// Bytes that readers got together.
    pub bytes: u64,
    /// Processor time of the orchestrator's process, seconds.
    pub cpu_s: f64,
    /// Most memory of its process, KiB.
    pub rss_most_kib: u64,
    /// Most memory of payloads, bytes.
    pub payload_most_bytes: u64,
    /// Memory when all channels were deleted and a little was done since, KiB.
    pub rss_after_kib: u64,
}

pub(super) async fn measure(settings: &Settings) -> Live {
    let plan = settings.live;
    let bare = bare(settings, plan).await;
    let stage = Stage::start(settings).await;
    let rss_before_kib = cpu::rss_kib(stage.node.pid());
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        rounds.push(round(&stage, plan, rss_before_kib).await);
    }
    let added = rounds.last().map(|last| Added::to(&bare, &last.times));
    let most = rounds.iter().map(|round| round.rss_most_kib).max().unwrap_or(0);
    Live {
        channels: plan.channels,
        readers: plan.readers,
        seconds: (PACE * CHUNKS * plan.segments).as_secs_f64(),
        rss_before_kib,
        kib_each: most.saturating_sub(rss_before_kib) as f64 / plan.channels.max(1) as f64,
        rounds,
        bare: Some(bare),
        added,
    }
}

/// When a channel's writer writes: encoders are not in step.
fn due(began: Instant, plan: Plan, number: usize, step: u32) -> tokio::time::Instant {
    (began + PACE.mul_f64(number as f64 / plan.channels as f64) + PACE * step).into()
}

/// The same writes and reads through bare copies.
async fn bare(settings: &Settings, plan: Plan) -> Times {
    let mut copy = BareCopy::of(settings, plan.channels, plan.readers).await;
    let steps = plan.segments * CHUNKS;
    let (mut readers, mut writers) = (JoinSet::new(), JoinSet::new());
    let began = Instant::now();
    for (number, (sockets, mut writer)) in copy.channels.drain(..).enumerate() {
        for mut socket in sockets {
            readers.spawn(async move {
                let (mut meter, mut piece) = (Meter::new(CHUNK), vec![0; CHUNK]);
                while meter.bytes < u64::from(steps) * CHUNK as u64 {
                    let count = socket.read(&mut piece).await.expect("a connection");
                    assert!(count > 0, "the copy ended");
                    meter.feed(&piece[..count]);
                }
                meter.times_us
            });
        }
        writers.spawn(async move {
            for step in 0..steps {
                tokio::time::sleep_until(due(began, plan, number, step)).await;
                writer.write_all(&stamped(CHUNK)).await.expect("a connection");
            }
        });
    }
    writers.join_all().await;
    Times::of(readers.join_all().await.into_iter().flatten().collect())
}

async fn round(stage: &Stage, plan: Plan, rss_before_kib: u64) -> Round {
    let pid = stage.node.pid();
    let before_any = held(stage).await;
    let names = stage.make(plan.channels).await;
    let mut readers = JoinSet::new();
    let mut publishers = Vec::new();
    for name in &names {
        for _ in 0..plan.readers {
            let mut reader = Subscriber::connect(&stage.host, name).await;
            let segments = u64::from(plan.segments);
            reader.ask(0).await;
            readers.spawn(async move {
                let mut meter = Meter::new(CHUNK);
                for seq in 0..segments {
                    reader.read(&mut meter).await;
                    reader.shrink();
                    if seq + 1 < segments {
                        reader.ask(seq + 1).await;
                    }
                }
                meter
            });
        }
        publishers.push(Publisher::connect(&stage.host, name).await);
    }
    let most = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let (before, began) = (cpu::cpu_time(pid), Instant::now());
    let mut writers = JoinSet::new();
    for (number, mut publisher) in publishers.into_iter().enumerate() {
        writers.spawn(async move {
            for step in 0..plan.segments * CHUNKS {
                tokio::time::sleep_until(due(began, plan, number, step)).await;
                publisher.write(CHUNK).await;
                if (step + 1) % CHUNKS == 0 {
                    publisher.next().await;
                }
            }
        });
    }
    loop {
        most.0.fetch_max(cpu::rss_kib(pid), Ordering::Relaxed);
        let held = stage.metric("trickle_bytes_held").await as u64;
        most.1.fetch_max(held, Ordering::Relaxed);
        match tokio::time::timeout(PACE, writers.join_next()).await {
            Ok(None) => break,
            Ok(Some(ended)) => ended.expect("a writer"),
            Err(_) => {}
        }
        while writers.try_join_next().is_some() {}
    }
    let (mut times, mut bytes) = (Vec::new(), 0);
    while let Some(read) = readers.join_next().await {
        let meter = read.expect("a reader");
        bytes += meter.bytes;
        times.extend(meter.times_us);
    }
    let cpu_s = cpu::cpu_time(pid).since(before).seconds();
    let wanted = plan.channels as u64 * plan.readers as u64 * u64::from(plan.segments * CHUNKS);
    assert_eq!((times.len() as u64, bytes), (wanted, wanted * CHUNK as u64), "all was read");
    stage.delete(plan.channels).await;
    // Nobody is left who reads or writes, and no payload.
    penstock_testkit::until("all channels have gone", || async { held(stage).await <= before_any })
        .await;
    Round {
        times: Times::of(times),
        bytes,
        cpu_s,
        rss_most_kib: most.0.load(Ordering::Relaxed),
        payload_most_bytes: most.1.load(Ordering::Relaxed),
        rss_after_kib: stage.rss_at_rest_kib(rss_before_kib).await,
    }
}

/// Channels, whoever writes and reads them, and whole chunks of payloads, added up. A runner has a channel
/// of its own, in which the orchestrator says a few bytes now and then.
async fn held(stage: &Stage) -> u64 {
    let mut all = stage.metric("trickle_bytes_held").await as u64 / CHUNK as u64;
    for what in ["channels", "publishers", "subscribers"] {
        all += stage.metric(&format!("trickle_{what}")).await as u64;
    }
    all
}
