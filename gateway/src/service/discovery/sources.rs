//! Whom to ask: the operator's list behind a URL, the configured orchestrators, or the signer's.

use super::{super::Gateway, MAX_SOURCE, seen::Seen};
use penstock_clients::ListedOrchestrator;
use penstock_domain::U256;
use penstock_wire::json::DiscoveryEntry;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How long the operator's list is not fetched again (selection.md section 2).
const LIST_FRESH: Duration = Duration::from_secs(60);

impl Gateway {
    /// All that are known; asks the source if nobody is.
    pub(in crate::service) async fn sources(&self) -> Vec<ListedOrchestrator> {
        if self.listed().is_empty() {
            self.refresh_source().await;
        }
        self.listed()
    }

    /// Whom to ask: the operator's list behind a URL, else the configured one, else the signer's
    /// (selection.md section 1).
    pub fn listed(&self) -> Vec<ListedOrchestrator> {
        if self.list.is_none() && !self.settings.orchestrators.is_empty() {
            let configured = self.settings.orchestrators.iter().map(|url| ListedOrchestrator {
                address: url.to_string(),
                // Configured by the operator: trusted.
                score: 1.0,
                region: String::new(),
                stake_lptu: U256::ZERO,
            });
            return configured.collect();
        }
        self.discovered.with(|seen| seen.source.clone())
    }

    /// Fetches the list. An error keeps the last good one; an empty list is one.
    pub(super) async fn refresh_source(&self) {
        let fetched = match &self.list {
            None if !self.settings.orchestrators.is_empty() || self.settings.front.offchain => {
                return;
            }
            Some(list) => {
                let fresh =
                    |seen: &mut Seen| seen.list_at.is_some_and(|at| at.elapsed() < LIST_FRESH);
                if self.discovered.with(fresh) {
                    return;
                }
                list.fetch().await
            }
            None => self.signer.discover_orchestrators(&[]).await.map(|list| {
                let entry = |e: DiscoveryEntry| ListedOrchestrator {
                    address: e.address,
                    score: f64::from(e.score),
                    region: String::new(),
                    stake_lptu: e.stake_lptu,
                };
                list.into_iter().map(entry).collect()
            }),
        };
        let who = if self.list.is_some() { "the orchestrator webhook" } else { "the signer" };
        match fetched {
            Ok(list) => {
                let mut seen = BTreeSet::new();
                let source: Vec<_> = list
                    .into_iter()
                    .filter(|e| seen.insert(e.address.trim_end_matches('/').to_owned()))
                    .take(MAX_SOURCE)
                    .collect();
                let trouble = source.is_empty().then(|| format!("{who} lists no orchestrators"));
                self.discovered.with(|seen| {
                    (seen.source, seen.trouble) = (source, trouble);
                    seen.list_at = Some(Instant::now());
                });
            }
            Err(error) => {
                let trouble = format!("{error}: {}", error.message());
                tracing::warn!(trouble, "{who} gave no list of orchestrators");
                self.discovered.with(|seen| seen.trouble = Some(trouble));
            }
        }
    }
}
