//! Thousands of readers of one channel who wait for the same byte: how long the first and the last of
//! them wait, and what memory their waiting takes. The same through a bare copy.

use super::{
    Settings, Times,
    bare_copy::BareCopy,
    runner::Stage,
    wire::{Meter, Publisher, Subscriber, stamped},
};
use crate::cpu;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
    task::JoinSet,
};

/// Segments, each written when all have the one before and wait again.
const SEGMENTS: u64 = 20;
/// Bytes of a segment, all at once.
const BYTES: usize = 8 << 10;
/// From the moment when all have a segment until the next is written: they wait for it by then.
const PACE: Duration = Duration::from_millis(300);

/// Readers that wait at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Crowd {
    /// How many.
    pub readers: usize,
    /// From the write to each one's read, through the orchestrator.
    pub trickle: Times,
    /// Through a bare copy.
    pub bare: Times,
    /// Memory of the orchestrator's process, KiB: without readers, with all of them waiting, at the end of
    /// the load, and when they have gone.
    pub rss_kib: [u64; 4],
    /// What each waiting reader took, KiB.
    pub kib_each: f64,
}

pub(super) async fn measure(settings: &Settings) -> Crowd {
    let bare = Times::of(bare(settings).await);
    let readers = settings.crowd;
    let stage = Stage::start(settings).await;
    let name = stage.make(1).await.remove(0);
    let empty = cpu::rss_kib(stage.node.pid());
    let (have, mut tasks) = (Arc::new(Semaphore::new(0)), JoinSet::new());
    for _ in 0..readers {
        let mut reader = Subscriber::connect(&stage.host, &name).await;
        let have = Arc::clone(&have);
        tasks.spawn(async move {
            let mut meter = Meter::new(BYTES);
            for seq in 0..SEGMENTS {
                reader.ask(seq).await;
                reader.read(&mut meter).await;
                have.add_permits(1);
            }
            meter.times_us
        });
    }
    waiting(&stage, readers).await;
    let waiting_kib = cpu::rss_kib(stage.node.pid());
    let mut publisher = Publisher::connect(&stage.host, &name).await;
    for seq in 0..SEGMENTS {
        publisher.write(BYTES).await;
        publisher.next().await;
        have.acquire_many(u32::try_from(readers).unwrap()).await.unwrap().forget();
        if seq + 1 < SEGMENTS {
            tokio::time::sleep(PACE).await;
        }
    }
    let loaded = cpu::rss_kib(stage.node.pid());
    let times_us = tasks.join_all().await.into_iter().flatten().collect();
    drop(publisher);
    none_left(&stage).await;
    stage.delete(1).await;
    let after = stage.rss_at_rest_kib(empty).await;
    Crowd {
        readers,
        trickle: Times::of(times_us),
        bare,
        rss_kib: [empty, waiting_kib, loaded, after],
        kib_each: waiting_kib.saturating_sub(empty) as f64 / readers.max(1) as f64,
    }
}

/// Until so many wait for their segment to begin.
async fn waiting(stage: &Stage, readers: usize) {
    let name = "trickle_subscribers";
    penstock_testkit::until(&format!("{readers} readers wait"), || async {
        stage.metric(name).await as usize >= readers
    })
    .await;
}

/// Until nobody reads and nobody writes.
async fn none_left(stage: &Stage) {
    penstock_testkit::until("all readers and writers have gone", || async {
        stage.metric("trickle_subscribers").await + stage.metric("trickle_publishers").await == 0.0
    })
    .await;
}

async fn bare(settings: &Settings) -> Vec<u64> {
    let readers = settings.crowd;
    let mut copy = BareCopy::start(settings, readers).await;
    let (readers_of_it, mut writer) = copy.only();
    let (have, mut tasks) = (Arc::new(Semaphore::new(0)), JoinSet::new());
    for mut reader in readers_of_it {
        let have = Arc::clone(&have);
        tasks.spawn(async move {
            let (mut meter, mut piece) = (Meter::new(BYTES), vec![0; BYTES]);
            let mut whole = 0;
            while whole < SEGMENTS {
                let count = reader.read(&mut piece).await.expect("a connection");
                assert!(count > 0, "the copy ended");
                meter.feed(&piece[..count]);
                let now = meter.bytes / BYTES as u64;
                have.add_permits(usize::try_from(now - whole).unwrap());
                whole = now;
            }
            meter.times_us
        });
    }
    for _ in 0..SEGMENTS {
        writer.write_all(&stamped(BYTES)).await.expect("a connection");
        have.acquire_many(u32::try_from(readers).unwrap()).await.unwrap().forget();
        tokio::time::sleep(PACE / 10).await;
    }
    tasks.join_all().await.into_iter().flatten().collect()
}
