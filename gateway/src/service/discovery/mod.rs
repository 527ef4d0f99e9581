//! Who could take jobs: pools of orchestrators that answered `GetOrchestrator`, by what the job
//! needs. Refreshed in the background, once per fleet; a cold pool is filled on demand.

mod fleet;
mod keys;
mod member;
mod menu;
mod round;
mod seen;
mod sources;

pub(super) use member::same_origin;
pub(super) use menu::Told;
pub use menu::{KnownMenus, Menus, menu_pool};
pub use seen::Discovered;

use super::{Gateway, error::JobError};
use crate::clock;
use fleet::{Due, Turn};
use futures::{StreamExt, stream};
use penstock_domain::{Capabilities, Capability, VideoJob, VideoProfile};
use penstock_http_kit::CancellationToken;
use penstock_store::{Pool, PoolKey};
use std::time::Duration;
use tokio::time::Instant;

/// For the addresses of a name that an orchestrator tells.
const NAME_TIME: Duration = Duration::from_secs(3);
/// Most orchestrators of one source.
const MAX_SOURCE: usize = 4_096;
/// How long a pool lives without a refresh.
const POOL_TTL_MS: u64 = 600_000;
/// How long a job waits for another replica's refresh of a cold pool, and how often it looks.
const COLD_WAIT: Duration = Duration::from_secs(4);
const COLD_LOOK: Duration = Duration::from_millis(50);
/// How soon discovery tries again while this replica is not ready.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How long a round waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// For everybody: in the background.
    All,
    /// For the first who answer: a job is waiting.
    First,
}

/// What orchestrators are asked.
#[derive(Debug, Clone)]
pub(super) enum Question {
    /// Whether they can do such jobs, and on what terms.
    Job(Capabilities),
    /// All they have: models, prices, hardware.
    Menu,
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
    /// Keeps everything fresh until told to stop: quickly while nothing is known, then each pool at the
    /// configured interval, by whichever replica comes first.
    pub async fn discover_forever(&self, stop: CancellationToken) {
        self.keep_defaults_warm();
        let interval_ms = self.settings.args.discovery_interval_ms.max(100);
        let interval = Duration::from_millis(interval_ms);
        let mut peers_asked: Option<Instant> = None;
        loop {
            let ready = self.not_ready().await.is_empty();
            if !ready || peers_asked.is_none_or(|at| at.elapsed() >= interval) {
                self.refresh_peers().await;
                peers_asked = Some(Instant::now());
            }
            self.refresh_due().await;
            let pause = match self.not_ready().await.is_empty() {
                true => self.until_due(&self.pools_kept(), interval_ms).await,
                false => TRY_AGAIN,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.discovered.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Has the pools of video and of the configured models kept fresh.
    pub fn keep_defaults_warm(&self) {
        self.keep_warm(video_pool(), plain_video_job());
        for (pipeline, model) in &self.settings.default_models {
            if let Some(capability) = Capability::from_pipeline(pipeline) {
                let job = Capabilities::ai_job(capability, model, false);
                self.keep_warm(ai_pool(capability, model), job);
            }
        }
    }

    /// One round over all pools that are kept fresh, whatever other replicas know, and after those that
    /// are under way; whether everything that readiness asks for is known.
    pub async fn refresh_all(&self) -> bool {
        self.refresh_peers().await;
        self.refresh_pools(Due::Now).await;
        self.not_ready().await.is_empty()
    }

    /// A round over those pools that no replica has asked for within the interval.
    pub async fn refresh_due(&self) {
        let ms = self.settings.args.discovery_interval_ms.max(100);
        let ready = self.not_ready().await.is_empty();
        self.refresh_pools(if ready { Due::After(ms) } else { Due::SoonAfter(ms) }).await;
    }

    /// What this replica has to know for itself: who pays, whether the signer can, whom to ask, and at what
    /// price.
    async fn refresh_peers(&self) {
        if let Err(error) = self.read_ceilings().await {
            tracing::warn!(%error, "the ceilings that are set were not read");
        }
        if self.identity.refresh(&self.signer).await.is_err() {
            return;
        }
        let trouble = match self.settings.front.offchain {
            true => None,
            false => self.signer.not_ready().await,
        };
        self.discovered.with(|seen| seen.signer_trouble = trouble);
        self.refresh_source().await;
    }

    /// All at once: one slow pool does not make the others old.
    async fn refresh_pools(&self, due: Due) {
        if self.identity.trouble().await.is_none() {
            let jobs =
                self.discovered.jobs().into_iter().map(|(key, job)| (key, Question::Job(job)));
            let menu = self.asks_for_menus().then(|| (menu_pool(), Question::Menu));
            let rounds = stream::iter(jobs.chain(menu));
            let round = |(key, question): (PoolKey, Question)| async move {
                loop {
                    match self.refresh_pool(&key, &question, Patience::All, due).await {
                        Ok(Turn::Elsewhere) if due == Due::Now => {
                            tokio::time::sleep(COLD_LOOK).await;
                        }
                        Ok(_) => return,
                        Err(error) => {
                            tracing::warn!(pool = %key.0, %error, "a pool was not refreshed");
                            return;
                        }
                    }
                }
            };
            Box::pin(rounds.for_each_concurrent(None, round)).await;
        }
        Box::pin(self.ask_for_changed_keys()).await;
    }

    fn pools_kept(&self) -> Vec<PoolKey> {
        let mut keys = self.discovered.pools();
        keys.extend(self.asks_for_menus().then(menu_pool));
        keys
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
        let deadline = Instant::now() + COLD_WAIT;
        let question = Question::Job(job.clone());
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
            let turn = self.refresh_pool(key, &question, Patience::First, Due::Now).await?;
            if turn == Turn::Made {
                let pool = self.store.pool(key, clock::now()).await?.unwrap_or_default();
                if pool.entries.is_empty() {
                    self.discovered.with(|seen| seen.note_absent(key, clock::now()));
                } else {
                    self.keep_warm(key.clone(), job.clone());
                }
                return Ok(pool);
            }
            if Instant::now() >= deadline {
                return Ok(Pool::default());
            }
            // Another replica is at it: its result will be in the store.
            tokio::time::sleep(COLD_LOOK).await;
        }
    }
}
