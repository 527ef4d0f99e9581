//! Who could take jobs: pools of orchestrators that answered `GetOrchestrator`, by what the job
//! needs. Refreshed in the background; a cold pool is filled on demand, once per fleet.

mod keys;
mod member;
mod round;
mod seen;
mod sources;

pub(super) use member::same_origin;
pub use seen::Discovered;

use super::{Gateway, error::JobError};
use crate::clock;
use penstock_domain::{Capabilities, Capability, VideoJob, VideoProfile};
use penstock_http_kit::CancellationToken;
use penstock_store::{Pool, PoolKey};
use std::time::Duration;

/// One orchestrator's time to answer (the reference's limit for a whole round).
const ANSWER_TIME: Duration = Duration::from_secs(3);
/// Most orchestrators of one source.
const MAX_SOURCE: usize = 4_096;
/// How long a pool lives without a refresh.
const POOL_TTL_MS: u64 = 600_000;
/// One refresh at a time in the fleet, for so long.
const REFRESH_HOLD_MS: u64 = 8_000;
/// How long a job waits for another replica's refresh of a cold pool, and how often it looks.
const COLD_WAIT: Duration = Duration::from_secs(4);
const COLD_LOOK: Duration = Duration::from_millis(50);

/// How long a round waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// For everybody: in the background.
    All,
    /// For the first who answer: a job is waiting.
    First,
}

/// The pool of video transcoders.
pub fn video_pool() -> PoolKey {
    PoolKey("video".to_owned())
}

/// The pool of one capability and model.
pub fn ai_pool(capability: Capability, model: &str) -> PoolKey {
    PoolKey(format!("ai:{}", penstock_domain::model_capability_key(capability, model)))
}

/// What a plain video job asks for, for discovery; each job is compared again with what it needs.
pub fn plain_video_job() -> Capabilities {
    let profiles = VideoProfile::defaults();
    Capabilities::of_set(VideoJob { profiles: &profiles, ..VideoJob::default() }.capabilities())
}

impl Gateway {
    /// Refreshes everything until told to stop: quickly while nothing is known, then at the
    /// configured interval.
    pub async fn discover_forever(&self, stop: CancellationToken) {
        self.keep_warm(video_pool(), plain_video_job());
        for (pipeline, model) in &self.settings.default_models {
            if let Some(capability) = Capability::from_pipeline(pipeline) {
                let job = Capabilities::ai_job(capability, model, false);
                self.keep_warm(ai_pool(capability, model), job);
            }
        }
        loop {
            let known = self.refresh_all().await;
            let pause = match known {
                true => Duration::from_millis(self.settings.args.discovery_interval_ms.max(100)),
                false => Duration::from_secs(1),
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.discovered.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One round over all warm pools; whether everything that readiness asks for is known.
    pub async fn refresh_all(&self) -> bool {
        let signer = self.identity.refresh(&self.signer).await.is_ok();
        if signer {
            let trouble = match self.settings.front.offchain {
                true => None,
                false => self.signer.not_ready().await,
            };
            self.discovered.with(|seen| seen.signer_trouble = trouble);
            self.refresh_source().await;
            let pools = self.discovered.with(|seen| seen.pools.clone());
            for (key, job) in pools {
                if let Err(error) = self.refresh_pool(&key, &job, Patience::All).await {
                    tracing::warn!(pool = %key.0, %error, "a pool was not refreshed");
                }
            }
        }
        Box::pin(self.ask_for_changed_keys()).await;
        self.not_ready().await.is_empty()
    }

    fn keep_warm(&self, key: PoolKey, job: Capabilities) {
        self.discovered.with(|seen| seen.keep_warm(key, job));
    }

    /// The pool; asks around first if it is cold.
    pub async fn pool_or_discover(
        &self,
        key: &PoolKey,
        job: &Capabilities,
    ) -> Result<Pool, JobError> {
        let deadline = tokio::time::Instant::now() + COLD_WAIT;
        loop {
            if let Some(pool) = self.store.pool(key, clock::now()).await?
                && !pool.entries.is_empty()
            {
                return Ok(pool);
            }
            if self.discovered.with(|seen| seen.is_absent(key, clock::now())) {
                return Ok(Pool::default());
            }
            if self.listed().is_empty() {
                self.refresh_source().await;
            }
            if self.refresh_pool(key, job, Patience::First).await? {
                let pool = self.store.pool(key, clock::now()).await?.unwrap_or_default();
                if pool.entries.is_empty() {
                    self.discovered.with(|seen| seen.note_absent(key, clock::now()));
                } else {
                    self.keep_warm(key.clone(), job.clone());
                }
                return Ok(pool);
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(Pool::default());
            }
            // Another replica is at it: its result will be in the store.
            tokio::time::sleep(COLD_LOOK).await;
        }
    }

    /// Asks every orchestrator and stores who answered. False: another replica is at it.
    async fn refresh_pool(
        &self,
        key: &PoolKey,
        job: &Capabilities,
        patience: Patience,
    ) -> Result<bool, JobError> {
        let owner = self.owner();
        if !self.store.begin_pool_refresh(key, &owner, REFRESH_HOLD_MS, clock::now()).await? {
            return Ok(false);
        }
        let refreshed = Box::pin(self.ask_around(key, job, patience)).await;
        self.pools.is_outdated(key);
        self.store.end_pool_refresh(key, &owner, clock::now()).await?;
        refreshed.map(|()| true)
    }
}
