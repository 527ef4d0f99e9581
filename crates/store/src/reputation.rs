//! What the gateway has seen of an orchestrator: latency scores and suspensions.

use crate::{StoreError, UnixMs};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An orchestrator's standing within one scope (a stream's pool, or a capability and model).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Seconds of work per second of media, of the last job: below 1 is faster than real time
    /// (selection.md section 7.2). `None`: untried.
    pub latency_score: Option<f64>,
    /// Not to be chosen before then, unless nobody else is left.
    pub suspended_until: Option<UnixMs>,
    /// Why, for the operator.
    pub suspended_because: Option<String>,
}

/// Scores and suspensions, by scope and orchestrator.
#[async_trait]
pub trait ReputationStore: Send + Sync {
    /// Everything known in a scope. Suspensions that have ended are not in it.
    async fn standings(
        &self,
        scope: &str,
        now: UnixMs,
    ) -> Result<BTreeMap<String, Standing>, StoreError>;

    /// Remembers the score of the last job for `ttl_ms`.
    async fn record_score(
        &self,
        scope: &str,
        orchestrator: &str,
        latency_score: f64,
        ttl_ms: u64,
        now: UnixMs,
    ) -> Result<(), StoreError>;

    /// Keeps an orchestrator out until `until`; a later time than the stored one wins.
    async fn suspend(
        &self,
        scope: &str,
        orchestrator: &str,
        because: &str,
        until: UnixMs,
        now: UnixMs,
    ) -> Result<(), StoreError>;

    /// Ends all suspensions of a scope: nobody else is left.
    async fn release_suspensions(&self, scope: &str, now: UnixMs) -> Result<(), StoreError>;
}
