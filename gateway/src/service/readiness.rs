//! Whether a paid job can run now, and what is missing if not. Answers from what is known already, and from
//! what the stores say.

use super::Gateway;
use crate::{clock, config::stores::SegmentStoreKind, front::caller::Caller};
use penstock_http_kit::health::NotReady;
use penstock_selection::{Candidate, Policy, choose};
use penstock_store::StoreError;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// What a round of discovery may take beyond its interval.
const ROUND_MS: u64 = 10_000;

/// How long a bucket's answer counts: anybody may ask for readiness, as often as they like, and each request to
/// a bucket costs.
const PING_COUNTS: Duration = Duration::from_secs(1);

/// What it said last. Who asks while it is asked waits for that.
#[derive(Debug, Default)]
pub struct Pinged(Mutex<Option<(Instant, Result<(), String>)>>);

impl Pinged {
    async fn ask<F>(&self, now: Instant, ping: impl FnOnce() -> F) -> Result<(), String>
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        let mut last = self.0.lock().await;
        match &*last {
            Some((at, answer)) if now < *at + PING_COUNTS => answer.clone(),
            _ => {
                let answer = ping().await.map_err(|error| error.to_string());
                // From its end on: a slow one is not asked without a pause.
                *last = Some((Instant::now().max(now), answer.clone()));
                answer
            }
        }
    }
}

impl Gateway {
    /// What keeps a paid job from running; empty when nothing does.
    pub async fn not_ready(&self) -> Vec<NotReady> {
        let mut missing = Vec::new();
        if self.draining.is_cancelled() {
            missing.push(NotReady::new("draining", "this replica is stopping"));
        }
        if let Some(trouble) = self.identity.trouble().await {
            let reason = format!("{} ({trouble}); see --signer-url", self.signer.origin());
            missing.push(NotReady::new("signer", reason));
        }
        if let Some(trouble) = self.discovered.signer_trouble() {
            let reason = format!("{} is not ready: {trouble}", self.signer.origin());
            missing.push(NotReady::new("signer", reason));
        }
        if let Err(error) = self.store.ping().await {
            missing.push(NotReady::new("session-store", format!("{error}; see --session-store")));
        }
        let segments = match self.settings.stores.segments {
            SegmentStoreKind::S3(_) => {
                self.pinged.ask(Instant::now(), || self.segments.ping()).await
            }
            // What is near is asked as it is now, which costs next to nothing.
            _ => self.segments.ping().await.map_err(|error| error.to_string()),
        };
        if let Err(error) = segments {
            missing.push(NotReady::new("segment-store", format!("{error}; see --segment-store")));
        }
        if let Err(why) = self.anyone_there().await {
            let why = self.discovered.trouble().unwrap_or(why);
            missing.push(NotReady::new("orchestrators", why));
        }
        missing
    }

    /// Whether a pool has somebody who answered lately and whom the gateway's own rules allow; if not,
    /// why. Who failed lately, or has no room just now, counts: that passes.
    async fn anyone_there(&self) -> Result<(), String> {
        let now = clock::now();
        let lately_ms = self.settings.args.discovery_interval_ms.saturating_mul(2);
        let lately_ms = lately_ms.saturating_add(ROUND_MS);
        let caller = Caller::of_settings(&self.settings);
        let (mut silent, mut left_out) = (0_usize, None);
        for (key, job) in self.discovered.jobs() {
            let Ok(pool) = self.known_snapshot(&key).await else { continue };
            let members = pool.members.iter();
            let heard = members.filter(|m| now.since_ms(m.entry.last_seen) <= lately_ms);
            let heard: Vec<_> = heard
                .map(|m| Candidate { facts: Arc::clone(&m.facts), ..Candidate::default() })
                .collect();
            silent += pool.members.len() - heard.len();
            if heard.is_empty() {
                continue;
            }
            let policy = self.policy(&caller, &job).map_err(|e| e.to_string())?;
            let policy = Policy { capacity_max_age_ms: 0, ..policy };
            let decision = choose(&heard, &job, &policy, now.0, &mut rand::rng());
            if decision.chosen.is_some() {
                return Ok(());
            }
            left_out = Some(decision.summary(heard.len()));
        }
        Err(match (left_out, silent) {
            (None, 0) => {
                "none answered with a paid offer for video or AI; see --orchestrators".to_owned()
            }
            (None, _) => format!("{silent} known, none answered lately; see --orchestrators"),
            (Some(summary), _) => format!(
                "{summary}; {silent} more did not answer lately; see --max-price and the other rules \
                 for who may be used"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn a_store_is_not_asked_by_everybody() {
        let (answer, asked) = (Pinged::default(), Cell::new(0));
        let ping = |is_there: bool| {
            asked.set(asked.get() + 1);
            async move { if is_there { Ok(()) } else { Err(StoreError::Unavailable("away".into())) } }
        };
        let now = Instant::now();
        for _ in 0..10 {
            answer.ask(now, || ping(true)).await.unwrap();
        }
        assert_eq!(asked.get(), 1);
        // The clock goes on while it is asked.
        let later = Instant::now() + PING_COUNTS;
        for _ in 0..10 {
            assert!(answer.ask(later, || ping(false)).await.unwrap_err().contains("away"));
        }
        assert_eq!(asked.get(), 2);
        answer.ask(later + PING_COUNTS, || ping(true)).await.unwrap();
    }
}
