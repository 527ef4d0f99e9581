//! How long a choice takes: `penstock-gateway measure-selection`, for the project's figures.

use super::{
    Gateway,
    choose::{Ask, Tried},
    discovery::{plain_video_job, video_pool},
};
use crate::{
    clock,
    config::{Args, Settings},
    front::caller::Caller,
};
use penstock_domain::{Address, Capabilities, CapabilitySet, PriceInfo};
use penstock_store::{MemorySegments, MemoryStore, Pool, PoolEntry};
use penstock_wire::OrchestratorOffer;
use serde::Serialize;
use std::{error::Error, sync::Arc, time::Instant};

/// Microseconds of a choice, its store's part included (in memory).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// Orchestrators in the pool.
    pub orchestrators: usize,
    /// Choices measured.
    pub choices: usize,
    /// The first one, which reads and decodes the pool.
    pub cold_us: u64,
    /// Half of the others were faster.
    pub p50_us: u64,
    /// All but one in a hundred were faster.
    pub p99_us: u64,
    /// The slowest one.
    pub max_us: u64,
}

/// Chooses so many times among so many, a third of them too dear and a tenth with a score.
pub async fn selection(orchestrators: usize, choices: usize) -> Result<Measured, Box<dyn Error>> {
    let args: Args = penstock_config::try_parse_from(["penstock-gateway", "--max-price=2"])?;
    let settings = Settings::from_args(args)?;
    let segments = Arc::new(MemorySegments::new(1));
    let gateway = Gateway::new(settings, Arc::new(MemoryStore::default()), segments)?;
    let (key, job, now) = (video_pool(), plain_video_job(), clock::now());
    let entries = (0..orchestrators).map(|n| entry(n, now)).collect::<Result<Vec<_>, _>>()?;
    let pool = Pool { refreshed_at: now, entries };
    gateway.store.put_pool(&key, &pool, 3_600_000, now).await?;
    for entry in pool.entries.iter().step_by(10) {
        gateway.store.record_score(&key.0, &entry.transcoder, 0.5, 3_600_000, now).await?;
    }
    let caller = Caller::of_settings(&gateway.settings);
    let tried = Tried::default();
    let ask =
        Ask { caller: &caller, pool: &key, job: &job, stream: None, sticky: None, tried: &tried };
    let mut took = Vec::with_capacity(choices);
    for _ in 0..=choices {
        let started = Instant::now();
        let considered = gateway.choose(&ask).await?;
        took.push(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        if considered.chosen.is_none() {
            return Err("nobody was chosen".into());
        }
    }
    let cold_us = took.remove(0);
    took.sort_unstable();
    let at = |part: usize| took.get(took.len().saturating_sub(1) * part / 100).copied();
    let at = |part| at(part).unwrap_or_default();
    let (p50_us, p99_us, max_us) = (at(50), at(99), at(100));
    Ok(Measured { orchestrators, choices, cold_us, p50_us, p99_us, max_us })
}

fn entry(n: usize, now: penstock_store::UnixMs) -> Result<PoolEntry, Box<dyn Error>> {
    let transcoder = format!("https://o{n}.example.com:8935");
    let offer = OrchestratorOffer {
        transcoder: Some(transcoder.clone()),
        address: Some(Address::repeat_byte(u8::try_from(n % 251)?)),
        price: Some(PriceInfo::new(i64::try_from(n % 3)? + 1, 1)?),
        ticket_params: None,
        capabilities: Some(Capabilities::of_set(CapabilitySet::default_video())),
        auth_token: None,
        storage: None,
        capabilities_prices: vec![],
        hardware: vec![],
        nodes: vec![],
    };
    let info = offer.encode();
    let latency_ms = u64::try_from(n)?;
    Ok(PoolEntry {
        asked_uri: transcoder.clone(),
        transcoder,
        score: 1.0,
        latency_ms,
        info,
        last_seen: now,
    })
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn measures() {
        penstock_http_kit::tls::install_crypto_provider();
        let measured = super::selection(20, 5).await.unwrap();
        assert_eq!((measured.orchestrators, measured.choices), (20, 5));
        assert!(measured.p50_us <= measured.p99_us && measured.p99_us <= measured.max_us);
    }
}
