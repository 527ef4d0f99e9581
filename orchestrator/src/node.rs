//! What requests share.

use crate::{
    ai::audio::AudioProbe,
    auth_webhook::AuthWebhook,
    byoc,
    limits::Limits,
    live::Live,
    objects::Objects,
    pricing::throughput::Throughput,
    release::Reason,
    routes::body::BodyMemory,
    runner_networks::RunnerHttp,
    runners::{LiveRunners, error::RunnerError},
    service::{cashier::Cashier, fetch::Fetcher, sessions::Sessions, stake::Stake},
    storage::Storage,
    workers::{ai::AiPool, transcoders::TranscoderPool},
};
use penstock_config::Secret;
use penstock_domain::{Address, Capabilities};
use penstock_keys::TypedSigner;
use penstock_payments::AuthTokenSecret;
use penstock_wire::hardware::{Hardware, Room};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use subtle::ConstantTimeEq;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The orchestrator, as its routes see it.
pub struct Node {
    /// Set once the port is bound.
    pub(crate) service_uri: OnceLock<String>,
    /// Other addresses of the operator.
    pub nodes: Vec<String>,
    /// Signs pings and results; absent off-chain.
    pub signer: Option<TypedSigner>,
    /// Takes money; absent off-chain.
    pub cashier: Option<Cashier>,
    /// The own stake; absent off-chain, and on chains without it.
    pub stake: Option<Stake>,
    /// Says whom the operator serves; without it everybody.
    pub auth_webhook: Option<AuthWebhook>,
    /// Issues and checks session tokens.
    pub tokens: AuthTokenSecret,
    /// What workers register with.
    pub worker_secret: Option<Secret>,
    /// What a node without workers says it can do.
    pub own_capabilities: Capabilities,
    /// Transcoding sessions.
    pub sessions: Sessions,
    /// Transcoding workers.
    pub transcoders: Arc<TranscoderPool>,
    /// How fast work is done.
    pub throughput: Arc<Throughput>,
    /// AI workers.
    pub ai_workers: Arc<AiPool>,
    /// Brought capabilities.
    pub byoc: byoc::registry::Registry,
    /// For their workers.
    pub byoc_http: RunnerHttp,
    /// Their streams.
    pub byoc_streams: Arc<byoc::streams::Streams>,
    /// Their training jobs.
    pub trainings: byoc::training::Trainings,
    /// How often their workers are asked.
    pub byoc_poll: Duration,
    /// Seconds that a balance has to cover before brought work begins.
    pub byoc_least_seconds: u64,
    /// Longest brought job.
    pub byoc_timeout: Duration,
    /// Live video.
    pub live: Live,
    /// Ends live video, once the drain has waited for it long enough.
    pub live_stop: CancellationToken,
    /// Live runners; absent unless the operator wants them.
    pub runners: Option<Arc<LiveRunners>>,
    /// Results and sources.
    pub storage: Arc<Storage>,
    /// Buckets that results go to instead.
    pub objects: Objects,
    /// Downloads segments from where peers say.
    pub fetcher: Fetcher,
    /// Tells how long audio is.
    pub audio_probe: AudioProbe,
    /// Memory for bodies.
    pub bodies: BodyMemory,
    /// Jobs under way, for the drain.
    pub jobs: TaskTracker,
    /// Largest AI request.
    pub max_ai_body_bytes: usize,
    /// How much of everything peers may send or hold.
    pub limits: Limits,
    /// Longest AI job.
    pub ai_timeout: Duration,
    /// Set at the start of the drain: no new work.
    pub(crate) draining: AtomicBool,
}

impl Node {
    /// As advertised, without a trailing slash.
    pub fn service_uri(&self) -> &str {
        self.service_uri.get().map_or("", String::as_str)
    }

    /// The node's account; none off-chain.
    pub fn address(&self) -> Option<Address> {
        self.signer.as_ref().map(TypedSigner::address)
    }

    /// What it can do now, with all its workers.
    pub fn capabilities(&self) -> Capabilities {
        let mut all = self.own_capabilities.clone();
        self.transcoders.add_capabilities(&mut all);
        self.ai_workers.add_capabilities(&mut all);
        self.live.runners.add_capabilities(&mut all);
        all
    }

    /// What its workers say that they run on, as much of it as others can read.
    pub fn hardware(&self) -> Vec<Hardware> {
        let mut room = Room::default();
        [self.ai_workers.hardware(&mut room), self.live.runners.hardware(&mut room)].concat()
    }

    /// Whether new work is refused because the process is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The live runners, if there are any here.
    pub fn runners(&self) -> Result<&Arc<LiveRunners>, RunnerError> {
        self.runners.as_ref().ok_or(RunnerError::Off)
    }

    /// Whether a worker knows the secret. Without a configured secret nobody does.
    pub fn knows_secret(&self, given: &str) -> bool {
        self.worker_secret
            .as_ref()
            .is_some_and(|secret| secret.expose().as_bytes().ct_eq(given.as_bytes()).into())
    }

    /// Ends a transcoding session: its files go, its worker is told.
    pub fn end_session(&self, session_id: &str, why: Reason) {
        self.sessions.end(session_id, why);
        self.storage.end_session(session_id);
        self.transcoders.end_session(session_id);
    }
}
