//! Which orchestrator takes a job: the pool and what is remembered of its members, put before the
//! pure choice in `penstock-selection`. The decision is logged with its reasons.

use super::{Gateway, error::JobError};
use crate::{clock, front::caller::Caller};
use penstock_domain::Capabilities;
use penstock_selection::{Candidate, Decision, Fault, Policy, Reason, choose, suspension_ms};
use penstock_store::{Pool, PoolEntry, PoolKey, Standing, UnixMs};
use penstock_wire::OrchestratorOffer;
use std::collections::{BTreeMap, BTreeSet};

/// How long a score counts.
const SCORE_TTL_MS: u64 = 600_000;

/// What one job has tried so far.
#[derive(Debug, Default)]
pub struct Tried(pub BTreeSet<String>);

impl Gateway {
    /// The next orchestrator for a job, preferring `sticky` while it is fast enough. `None` with
    /// the reason in words when nobody is left.
    pub async fn choose(
        &self,
        caller: &Caller,
        key: &PoolKey,
        job: &Capabilities,
        sticky: Option<&str>,
        tried: &Tried,
    ) -> Result<Result<PoolEntry, String>, JobError> {
        let pool = self.pool_or_discover(key, job).await?;
        let now = clock::now();
        let standings = self.store.standings(&key.0, now).await?;
        let candidates = candidates(&pool, &standings, tried);
        let max_price = caller.price_ceiling(self.settings.max_price.as_ref()).cloned();
        let policy = Policy { max_price, ..Policy::default() };
        let decision = decide(&candidates, job, &policy, sticky, now);
        let Some((index, reason)) = decision.chosen else {
            let why = decision.summary(candidates.len());
            let why =
                if why.is_empty() { "no orchestrator answered discovery".to_owned() } else { why };
            tracing::info!(pool = %key.0, why, "no orchestrator for a job");
            return Ok(Err(why));
        };
        let Some(entry) = pool.entries.get(index) else {
            return Err(JobError::Internal("a choice outside the pool".to_owned()));
        };
        tracing::debug!(pool = %key.0, orchestrator = entry.transcoder, ?reason,
            excluded = decision.summary(candidates.len()), "chose an orchestrator");
        Ok(Ok(entry.clone()))
    }

    /// Remembers how fast it was; a success is what ends doubts about it.
    pub async fn record_success(&self, key: &PoolKey, orchestrator: &str, latency_score: f64) {
        let now = clock::now();
        let stored =
            self.store.record_score(&key.0, orchestrator, latency_score, SCORE_TTL_MS, now);
        if let Err(error) = stored.await {
            tracing::warn!(%error, "a latency score was not stored");
        }
    }

    /// Keeps an orchestrator out for a while.
    pub async fn suspend(&self, key: &PoolKey, orchestrator: &str, fault: Fault, because: &str) {
        let now = clock::now();
        let until = now.plus_ms(suspension_ms(fault, 1));
        tracing::info!(pool = %key.0, orchestrator, ?fault, because, "suspended");
        metrics::counter!("penstock_gateway_suspensions_total", "fault" => format!("{fault:?}"))
            .increment(1);
        if let Err(error) = self.store.suspend(&key.0, orchestrator, because, until, now).await {
            tracing::warn!(%error, "a suspension was not stored");
        }
    }
}

fn candidates(
    pool: &Pool,
    standings: &BTreeMap<String, Standing>,
    tried: &Tried,
) -> Vec<Candidate> {
    pool.entries
        .iter()
        .map(|entry| {
            let offer = OrchestratorOffer::decode(&entry.info).ok();
            let standing = standings.get(&entry.transcoder);
            Candidate {
                transcoder: entry.transcoder.clone(),
                score: entry.score,
                capabilities: offer.as_ref().and_then(|o| o.capabilities.clone()),
                price: offer.as_ref().and_then(|o| o.price).map(|p| p.rational()),
                stake: 0,
                discovery_latency_ms: entry.latency_ms,
                latency_score: standing.and_then(|s| s.latency_score),
                suspended_until_ms: standing.and_then(|s| s.suspended_until).map(|t| t.0),
                tried: tried.0.contains(&entry.transcoder),
            }
        })
        .collect()
}

/// The sticky one if it is eligible and fast enough, else the choice among all.
fn decide(
    candidates: &[Candidate],
    job: &Capabilities,
    policy: &Policy,
    sticky: Option<&str>,
    now: UnixMs,
) -> Decision {
    let mut rng = rand::rng();
    if let Some((at, kept)) =
        sticky.and_then(|s| candidates.iter().enumerate().find(|(_, c)| c.transcoder == s))
    {
        let alone = choose(std::slice::from_ref(kept), job, policy, now.0, &mut rng);
        let fast = kept.latency_score.is_none_or(|score| score <= policy.latency_threshold);
        if let (Some((_, reason)), true) = (alone.chosen, fast)
            && reason != Reason::LastResort
        {
            return Decision { chosen: Some((at, reason)), excluded: Vec::new() };
        }
    }
    choose(candidates, job, policy, now.0, &mut rng)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_domain::{CapabilitySet, Rational};

    fn candidate(name: &str, score: Option<f64>, suspended: bool) -> Candidate {
        Candidate {
            transcoder: name.into(),
            score: 1.0,
            capabilities: Some(Capabilities::of_set(CapabilitySet::default_video())),
            price: Some(Rational::ONE),
            stake: 0,
            discovery_latency_ms: 1,
            latency_score: score,
            suspended_until_ms: suspended.then_some(u64::MAX),
            tried: false,
        }
    }

    #[test]
    fn a_stream_stays_where_it_is_while_that_is_fast() {
        let job = Capabilities::default();
        let policy = Policy::default();
        let chosen = |all: &[Candidate], sticky| {
            let (at, _) = decide(all, &job, &policy, sticky, UnixMs(0)).chosen.unwrap();
            all[at].transcoder.clone()
        };
        let mut all =
            vec![candidate("fast", Some(0.1), false), candidate("kept", Some(0.9), false)];
        assert_eq!(chosen(&all, Some("kept")), "kept");
        assert_eq!(chosen(&all, Some("gone")), "fast");
        all[1].latency_score = Some(1.1);
        assert_eq!(chosen(&all, Some("kept")), "fast", "slower than real time");
        all[1] = candidate("kept", None, true);
        assert_eq!(chosen(&all, Some("kept")), "fast", "suspended");
    }
}
