//! The first byte's way from a publisher to few readers who wait for it, at a quiet pace, and the same
//! through a bare copy.

use super::{
    Settings, Times,
    bare_copy::BareCopy,
    runner::Stage,
    wire::{Meter, Publisher, Subscriber, stamped},
};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
};

/// Readers.
const READERS: usize = 3;
/// Bytes of a segment, all at once.
const BYTES: usize = 1 << 10;
/// From one segment to the next.
const PACE: Duration = Duration::from_millis(10);

/// How long first bytes took, from the publisher's write to a reader's read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FirstByte {
    /// Readers of the channel.
    pub readers: usize,
    /// Through the orchestrator.
    pub trickle: Times,
    /// Through a bare copy.
    pub bare: Times,
    /// What the orchestrator adds, at the median, microseconds.
    pub added_p50_us: i64,
    /// The same of the slowest in a hundred.
    pub added_p99_us: i64,
}

pub(super) async fn measure(settings: &Settings) -> FirstByte {
    let bare = Times::of(bare(settings).await);
    let trickle = Times::of(trickle(settings).await);
    let added = |own: u64, base: u64| own as i64 - base as i64;
    FirstByte {
        readers: READERS,
        added_p50_us: added(trickle.p50_us, bare.p50_us),
        added_p99_us: added(trickle.p99_us, bare.p99_us),
        trickle,
        bare,
    }
}

async fn trickle(settings: &Settings) -> Vec<u64> {
    let (stage, segments) = (Stage::start(settings).await, settings.paced_segments);
    let name = stage.make(1).await.remove(0);
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let mut reader = Subscriber::connect(&stage.host, &name).await;
        readers.spawn(async move {
            let mut meter = Meter::new(BYTES);
            for seq in 0..segments {
                reader.ask(seq).await;
                reader.read(&mut meter).await;
            }
            meter.times_us
        });
    }
    let mut publisher = Publisher::connect(&stage.host, &name).await;
    let began = Instant::now();
    for number in 1..=segments {
        tokio::time::sleep_until((began + PACE * u32::try_from(number).unwrap()).into()).await;
        publisher.write(BYTES).await;
        publisher.next().await;
    }
    readers.join_all().await.into_iter().flatten().collect()
}

async fn bare(settings: &Settings) -> Vec<u64> {
    let segments = settings.paced_segments;
    let mut copy = BareCopy::start(settings, READERS).await;
    let (readers_of_it, mut writer) = copy.only();
    let mut readers = JoinSet::new();
    for mut reader in readers_of_it {
        readers.spawn(async move {
            let (mut meter, mut piece) = (Meter::new(BYTES), vec![0; BYTES]);
            while meter.bytes < segments * BYTES as u64 {
                let count = reader.read(&mut piece).await.expect("a connection");
                assert!(count > 0, "the copy ended");
                meter.feed(&piece[..count]);
            }
            meter.times_us
        });
    }
    let began = Instant::now();
    for number in 1..=segments {
        tokio::time::sleep_until((began + PACE * u32::try_from(number).unwrap()).into()).await;
        writer.write_all(&stamped(BYTES)).await.expect("a connection");
    }
    readers.join_all().await.into_iter().flatten().collect()
}
