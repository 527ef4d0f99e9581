//! Media from one publisher to many readers of its channel, as fast as it goes: the next segment is
//! written when all have the one before. The same through a bare copy.

use super::{
    Settings,
    bare_copy::BareCopy,
    runner::Stage,
    wire::{Meter, Publisher, Subscriber, stamped},
};
use crate::cpu;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Instant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
    task::JoinSet,
};

/// Bytes of one write.
const CHUNK: usize = 64 << 10;
/// Writes of one segment.
const CHUNKS: usize = 16;
const SEGMENT: u64 = (CHUNK * CHUNKS) as u64;

/// One load of media.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FanOut {
    /// Readers of the channel.
    pub readers: usize,
    /// Bytes that all readers got together.
    pub bytes: u64,
    /// Through the orchestrator.
    pub trickle: Flow,
    /// Through a bare copy.
    pub bare: Flow,
    /// Bytes per CPU-second, of a hundred of the bare copy's; null where that has none.
    pub percent_of_bare: Option<f64>,
}

/// How fast it went.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Flow {
    /// Wall time.
    pub wall_s: f64,
    /// Processor time of what relays; null where it has no process of its own.
    pub cpu_s: Option<f64>,
    /// Bytes per second.
    pub bytes_per_second: f64,
    /// Bytes per second of processor time.
    pub bytes_per_cpu_second: Option<f64>,
}

impl Flow {
    fn of(bytes: u64, began: Instant, cpu_s: Option<f64>) -> Self {
        let wall_s = began.elapsed().as_secs_f64();
        Self {
            wall_s,
            cpu_s,
            bytes_per_second: bytes as f64 / wall_s,
            bytes_per_cpu_second: cpu_s.filter(|s| *s > 0.0).map(|s| bytes as f64 / s),
        }
    }
}

pub(super) async fn measure(settings: &Settings, readers: usize) -> FanOut {
    let bytes = SEGMENT * settings.fan_out_segments * readers as u64;
    let bare = bare(settings, readers, bytes).await;
    let trickle = trickle(settings, readers, bytes).await;
    let percent = trickle
        .bytes_per_cpu_second
        .zip(bare.bytes_per_cpu_second)
        .map(|(trickle, bare)| trickle / bare * 100.0);
    FanOut { readers, bytes, trickle, bare, percent_of_bare: percent }
}

async fn trickle(settings: &Settings, readers: usize, bytes: u64) -> Flow {
    let (stage, segments) = (Stage::start(settings).await, settings.fan_out_segments);
    let name = stage.make(1).await.remove(0);
    let have = Arc::new(Semaphore::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..readers {
        let mut reader = Subscriber::connect(&stage.host, &name).await;
        let have = Arc::clone(&have);
        tasks.spawn(async move {
            let mut meter = Meter::new(CHUNK);
            // The first segment makes buffers and pages.
            for seq in 0..=segments {
                reader.ask(seq).await;
                reader.read(&mut meter).await;
                have.add_permits(1);
            }
            meter.bytes
        });
    }
    let mut publisher = Publisher::connect(&stage.host, &name).await;
    segment(&mut publisher, &have, readers).await;
    let (cpu, began) = (cpu::cpu_time(stage.node.pid()), Instant::now());
    for _ in 0..segments {
        segment(&mut publisher, &have, readers).await;
    }
    let used = cpu::cpu_time(stage.node.pid()).since(cpu).seconds();
    let flow = Flow::of(bytes, began, Some(used));
    let read: u64 = tasks.join_all().await.into_iter().sum();
    assert_eq!(read, bytes + SEGMENT * readers as u64, "every reader has every byte");
    flow
}

async fn segment(publisher: &mut Publisher, have: &Semaphore, readers: usize) {
    for _ in 0..CHUNKS {
        publisher.write(CHUNK).await;
    }
    publisher.next().await;
    have.acquire_many(u32::try_from(readers).unwrap()).await.unwrap().forget();
}

async fn bare(settings: &Settings, readers: usize, bytes: u64) -> Flow {
    let segments = settings.fan_out_segments;
    let mut copy = BareCopy::start(settings, readers).await;
    let (readers_of_it, mut writer) = copy.only();
    let have = Arc::new(Semaphore::new(0));
    let mut tasks = JoinSet::new();
    for mut reader in readers_of_it {
        let have = Arc::clone(&have);
        tasks.spawn(async move {
            let (mut meter, mut piece) = (Meter::new(CHUNK), vec![0; CHUNK]);
            let mut whole = 0;
            while whole <= segments {
                let count = reader.read(&mut piece).await.expect("a connection");
                assert!(count > 0, "the copy ended");
                meter.feed(&piece[..count]);
                let now = meter.bytes / SEGMENT;
                have.add_permits(usize::try_from(now - whole).unwrap());
                whole = now;
            }
        });
    }
    let mut began = (None, Instant::now());
    for number in 0..=segments {
        if number == 1 {
            began = (copy.process.as_ref().map(|p| cpu::cpu_time(p.pid())), Instant::now());
        }
        for _ in 0..CHUNKS {
            writer.write_all(&stamped(CHUNK)).await.expect("a connection");
        }
        have.acquire_many(u32::try_from(readers).unwrap()).await.unwrap().forget();
    }
    let (before, began) = began;
    let used = copy.process.as_ref().zip(before);
    let used = used.map(|(process, before)| cpu::cpu_time(process.pid()).since(before).seconds());
    let flow = Flow::of(bytes, began, used);
    tasks.join_all().await;
    flow
}
