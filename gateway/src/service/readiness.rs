//! Whether a paid job can run now, and what is missing if not. Answers from what is known already.

use super::Gateway;
use crate::{clock, front::caller::Caller};
use penstock_http_kit::health::NotReady;
use penstock_selection::{Candidate, Policy, choose};
use std::sync::Arc;

/// What a round of discovery may take beyond its interval.
const ROUND_MS: u64 = 10_000;

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
        if let Err(error) = self.segments.ping().await {
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
