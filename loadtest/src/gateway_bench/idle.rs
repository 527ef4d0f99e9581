//! What a stream occupies while nothing happens to it: bytes in Redis (its media lies elsewhere) and
//! memory of the replicas.

use super::Settings;
use crate::{cpu, gateway_chaos};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Streams that wait.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Idle {
    /// How many.
    pub streams: u64,
    /// Redis' memory for each soon after its segment, bytes, its tables of keys among it.
    pub redis_bytes_each: f64,
    /// The same when its record, its window and its answers are gone, and its session waits: of all streams that were begun.
    pub asleep_redis_bytes_each: f64,
    /// By how much a replica grows with each beyond as many that were there before, bytes.
    pub replica_bytes_each: f64,
}

/// Pushers at once.
const PUSHERS: usize = 32;
/// Records live for five minutes after a push, and Redis clears away a minute later.
const ASLEEP_WITHIN: Duration = Duration::from_secs(10 * 60);

/// One segment into each of so many streams.
pub async fn measure(settings: &Settings, say: impl Fn(&str)) -> Idle {
    let media_folder = tempfile::tempdir().unwrap();
    let store = format!("--segment-store=disk:{}", media_folder.path().display());
    let (fleet, _) = super::fleet(settings, 1, 1, vec![store]).await;
    let media = gateway_chaos::media(fleet.rig.scratch());
    let tally = Arc::new(gateway_chaos::Tally::new(0));
    let push = async |first: u64, count: u64| {
        let (next, mut tasks) = (Arc::new(AtomicU64::new(first)), JoinSet::new());
        for _ in 0..PUSHERS {
            let (next, media, http) = (Arc::clone(&next), Arc::clone(&media), fleet.http.clone());
            let (tally, gateway) = (Arc::clone(&tally), fleet.gateway_url(0));
            tasks.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= first + count {
                        return;
                    }
                    let pusher = gateway_chaos::Pusher {
                        http: http.clone(),
                        tally: Arc::clone(&tally),
                        stream: format!("idle-{number}"),
                        media: Arc::clone(&media),
                    };
                    pusher.push(&gateway, 0).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    };
    let redis = fleet.redis.as_ref().expect("a Redis");
    // All but what connections and replicas hold: with the tables of keys and of their ends.
    let used = || -> f64 {
        let info = redis.ask("INFO memory");
        let field = |name: &str| -> f64 {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|bytes| bytes.trim().parse().ok()).expect("Redis' memory")
        };
        let held = ["mem_clients_normal", "mem_total_replication_buffers", "mem_aof_buffer"];
        field("used_memory") - held.into_iter().map(field).sum::<f64>()
    };
    let pid = fleet.gateways[0].pid();
    let redis_empty = used();
    // Buffers reach their size first, and a replica's caches with as many streams.
    let first = PUSHERS as u64 * 4;
    push(0, first).await;
    let redis_before = used();
    push(1_000_000, settings.streams).await;
    let (redis_after, replica_before) = (used(), cpu::rss_kib(pid));
    push(2_000_000, settings.streams).await;
    let replica_after = cpu::rss_kib(pid);
    say("waiting until their records have lapsed: six minutes");
    let deadline = Instant::now() + ASLEEP_WITHIN;
    while redis.ask("EVAL \"return #redis.call('keys', '*:rec')\" 0").trim() != ":0" {
        assert!(Instant::now() < deadline, "records of idle streams do not lapse");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let asleep = (used() - redis_empty) / (first + 2 * settings.streams) as f64;
    let each = |before: f64, after: f64| (after - before) / settings.streams as f64;
    Idle {
        streams: settings.streams,
        redis_bytes_each: each(redis_before, redis_after),
        asleep_redis_bytes_each: asleep,
        replica_bytes_each: each(replica_before as f64, replica_after as f64) * 1024.0,
    }
}
