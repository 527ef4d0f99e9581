//! Whether a paid job can run now, and what is missing if not. Answers from what is known already.

use super::Gateway;
use crate::clock;
use penstock_http_kit::health::NotReady;

impl Gateway {
    /// What keeps a paid job from running; empty when nothing does.
    pub async fn not_ready(&self) -> Vec<NotReady> {
        let mut missing = Vec::new();
        if let Some(trouble) = self.identity.trouble().await {
            let reason = format!("{} ({trouble}); see --signer-url", self.signer.origin());
            missing.push(NotReady::new("signer", reason));
        }
        if let Err(error) = self.store.ping().await {
            missing.push(NotReady::new("session-store", format!("{error}; see --session-store")));
        }
        if let Err(error) = self.segments.ping().await {
            missing.push(NotReady::new("segment-store", format!("{error}; see --segment-store")));
        }
        if !self.anyone_there().await {
            let why = self.discovered.trouble();
            let why =
                why.unwrap_or_else(|| "none answered with a paid offer for video or AI".into());
            missing.push(NotReady::new("orchestrators", format!("{why}; see --orchestrators")));
        }
        missing
    }

    async fn anyone_there(&self) -> bool {
        for key in self.discovered.pools() {
            if let Ok(Some(pool)) = self.store.pool(&key, clock::now()).await
                && !pool.entries.is_empty()
            {
                return true;
            }
        }
        false
    }
}
