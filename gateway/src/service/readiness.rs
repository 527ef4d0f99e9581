//! Whether a paid job can run now, and what is missing if not. Answers from what is known already.

use super::Gateway;
use crate::{clock, front::caller::Caller};
use penstock_domain::Rational;
use penstock_http_kit::health::NotReady;
use penstock_wire::OrchestratorOffer;

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

    /// Whether a pool has somebody who answered lately and is not too dear; if not, why.
    async fn anyone_there(&self) -> Result<(), String> {
        let now = clock::now();
        let lately_ms = self.settings.args.discovery_interval_ms.saturating_mul(2);
        let lately_ms = lately_ms.saturating_add(ROUND_MS);
        let caller = Caller::of_settings(&self.settings);
        let limit = self.price_ceiling(&caller).map_err(|e| e.to_string())?;
        let limit = limit.as_ref();
        let (mut silent, mut dear) = (0_usize, 0_usize);
        for key in self.discovered.pools() {
            let Ok(Some(pool)) = self.store.pool(&key, now).await else { continue };
            for entry in &pool.entries {
                if now.since_ms(entry.last_seen) > lately_ms {
                    silent += 1;
                } else if !affordable(&entry.info, limit) {
                    dear += 1;
                } else {
                    return Ok(());
                }
            }
        }
        Err(match (silent, dear) {
            (0, 0) => "none answered with a paid offer for video or AI; see --orchestrators".into(),
            (_, 0) => format!("{silent} known, none answered lately; see --orchestrators"),
            _ => format!("{dear} above --max-price, {silent} did not answer lately"),
        })
    }
}

/// Whether the offer's price is within the limit.
fn affordable(info: &[u8], limit: Option<&Rational>) -> bool {
    let Some(limit) = limit else { return true };
    let offer = OrchestratorOffer::decode(info).ok();
    offer.and_then(|o| o.price).is_some_and(|price| price.rational() <= *limit)
}
