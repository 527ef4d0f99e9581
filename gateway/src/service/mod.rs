//! The use cases of the gateway. Routes translate HTTP into these calls and their results back;
//! everything that outlives a request goes through the stores.

pub mod afterwards;
mod ahead;
pub mod ai;
pub mod at_work;
pub mod attempts;
pub mod byoc;
mod ceilings;
pub mod choose;
pub mod claimed;
mod company;
pub mod demand;
pub mod discovery;
mod doubling;
pub mod error;
mod ether;
pub mod explain;
pub mod failure;
pub mod fence;
pub mod heard;
pub mod held;
pub mod identity;
pub mod kept;
pub mod measure;
pub mod own_time;
pub mod pace;
pub mod patience;
pub mod pay;
pub mod peers;
pub mod playback;
pub mod policy;
pub mod pools;
pub mod publish;
mod purchase;
pub mod push;
pub mod readiness;
pub mod recording;
pub mod refresh;
pub mod reputation;
pub mod seen;
pub mod session;
pub mod stream_auth;
pub mod transcode;
pub mod turns;
pub mod units;
pub mod verify;

use crate::{
    config::Settings,
    front::{auth::CallerAuth, limits::UnknownTiers, workload::Workloads},
    media::ffprobe::AudioProbe,
};
use penstock_clients::{
    BuildError, EthUsd, ListClient, OrchestratorClient, OrchestratorOptions, Reach, SignerClient,
    SignerOptions,
};
use penstock_store::{HlsRules, OwnerId, SegmentStore, SessionStore};
use std::{sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Everything a use case needs. Holds no state of its own that a client would miss: what is cached
/// here may be stale or gone.
pub struct Gateway {
    /// The settings.
    pub settings: Settings,
    /// Streams, sessions, credit, pools, results, windows.
    pub store: Arc<dyn SessionStore>,
    /// Media bytes.
    pub segments: Arc<dyn SegmentStore>,
    /// Pays, signs, lists orchestrators.
    pub signer: SignerClient,
    /// For discovery, and for results on an orchestrator's own host.
    pub orchestrators: OrchestratorClient,
    /// For results that an orchestrator says lie elsewhere.
    pub elsewhere: OrchestratorClient,
    /// For jobs and payments.
    pub peers: peers::Peers,
    /// The operator's list behind a URL.
    pub list: Option<ListClient>,
    /// What ether costs, for ceilings in dollars.
    pub eth_usd: EthUsd,
    /// Pools as last read.
    pub pools: pools::Pools,
    /// The newest decisions.
    pub explained: explain::Explained,
    /// Who pays.
    pub identity: identity::Identity,
    /// What discovery last saw, for readiness and for a failing source.
    pub discovered: discovery::Discovered,
    /// Ceilings set while the fleet runs, as last read.
    pub set_ceilings: ceilings::SetCeilings,
    /// What nodes told of themselves, as last read.
    pub known_menus: discovery::KnownMenus,
    /// What is remembered of orchestrators, as last read.
    pub reputation: reputation::Reputation,
    /// What choices want to be read again.
    pub refresh: refresh::Refresh,
    /// Jobs at orchestrators now.
    pub at_work: at_work::AtWork,
    /// Credit that jobs here are waiting for.
    pub demand: demand::Demand,
    /// How fast they use it up.
    pub paces: pace::Paces,
    /// How many jobs may be done twice.
    doubling: doubling::Doublings,
    /// Who buys.
    pub turns: turns::Turns,
    itself: ahead::Itself,
    /// What is written after jobs.
    pub afterwards: Arc<afterwards::Afterwards>,
    /// Asynchronous jobs whose replica may have ended.
    pub watched: ai::watched::Watched,
    /// Sessions as last read, for jobs that have credit in hand.
    pub sessions: reputation::Recent<session::Session>,
    /// The work of requests, which goes on when a client has gone.
    pub jobs: TaskTracker,
    /// Gives back what they had claimed.
    pub give_backs: claimed::GiveBacks,
    /// Names this replica in leases and claims.
    pub replica: String,
    /// Audio lengths.
    pub audio_probe: AudioProbe,
    /// Cancelled when this replica is about to stop: it takes what comes, and asks for no more.
    pub draining: CancellationToken,
    /// Who is calling.
    pub callers: CallerAuth,
    /// Places for jobs, and memory for their bodies.
    pub workloads: Workloads,
    /// Tiers that no rules are set for.
    pub unknown_tiers: UnknownTiers,
    /// What the bucket of segments said lately to whoever asked whether it is there.
    pinged: readiness::Pinged,
    /// What viewers get.
    pub shown: playback::Shown,
    /// The HLS window.
    pub hls: HlsRules,
    /// `--auth-webhook-url`.
    pub webhook: Option<stream_auth::StreamWebhook>,
    /// Recordings.
    pub recordings: Arc<recording::Recordings>,
}

/// How the other roles are reached. Clones share connections.
#[derive(Debug, Clone)]
pub struct Clients {
    signer: SignerClient,
    orchestrators: OrchestratorClient,
    elsewhere: OrchestratorClient,
    peers: peers::Peers,
    reach: Reach,
}

impl Clients {
    /// From the settings; connects to nothing yet.
    pub fn new(settings: &Settings) -> Result<Self, BuildError> {
        let signer = SignerClient::new(&SignerOptions {
            bearer_token: settings.signer_token.as_ref().map(|t| t.expose().to_owned()),
            trust: settings.signer_trust.clone(),
            identity: settings.signer_identity.clone(),
            timeout: Duration::from_millis(settings.args.signer_timeout_ms),
            ..SignerOptions::new(settings.signer_url.as_str())
        })?;
        let peers = peers::Peers::new(settings)?;
        let pins = Arc::clone(peers.pins());
        let names = || settings.names.clone();
        let options =
            OrchestratorOptions { pins, names: names(), ..OrchestratorOptions::default() };
        let orchestrators = OrchestratorClient::new(options)?;
        let reach = match settings.args.allow_private_peers {
            true => Reach::Anywhere,
            false => Reach::PublicOnly,
        };
        let elsewhere = OrchestratorClient::new(OrchestratorOptions {
            reach,
            names: names(),
            pins: Arc::clone(peers.pins()),
            ..OrchestratorOptions::default()
        })?;
        Ok(Self { signer, orchestrators, elsewhere, peers, reach })
    }
}

impl Gateway {
    /// From settings and stores; connects to nothing yet.
    pub fn new(
        settings: Settings,
        store: Arc<dyn SessionStore>,
        segments: Arc<dyn SegmentStore>,
    ) -> Result<Self, BuildError> {
        let clients = Clients::new(&settings)?;
        Self::with(settings, store, segments, clients)
    }

    /// The same with clients that there are already.
    pub fn with(
        settings: Settings,
        store: Arc<dyn SessionStore>,
        segments: Arc<dyn SegmentStore>,
        clients: Clients,
    ) -> Result<Self, BuildError> {
        let Clients { signer, orchestrators, elsewhere, peers, reach } = clients;
        let names = || settings.names.clone();
        let replica = uuid::Uuid::new_v4().simple().to_string();
        let recordings = recording::Recordings::new(&settings.record, (reach, names()), &replica);
        let recordings = recordings.map_err(|error| BuildError::Setting {
            setting: "--record-store",
            reason: error.to_string(),
        })?;
        let callers = CallerAuth::new(&settings.front.auth, &signer)?;
        let timeout = settings.video.webhook_timeout;
        let webhook = settings.video.webhook.clone();
        let list = settings.selection.webhook_url.clone().map(ListClient::new).transpose()?;
        let eth_usd = EthUsd::new(settings.selection.eth_usd.clone())
            .map_err(|reason| BuildError::Setting { setting: "--eth-usd-url", reason })?;
        let jobs = TaskTracker::new();
        let cache = Duration::from_millis(settings.selection.cache_ms);
        Ok(Self {
            afterwards: afterwards::Afterwards::new(Arc::clone(&store), jobs.clone()),
            watched: ai::watched::Watched::default(),
            sessions: reputation::Recent::new(cache),
            recordings: Arc::new(recordings),
            webhook: webhook
                .map(|url| stream_auth::StreamWebhook::new(url, timeout))
                .transpose()?,
            store,
            segments,
            draining: CancellationToken::new(),
            callers,
            signer,
            orchestrators,
            elsewhere,
            peers,
            list,
            eth_usd,
            pools: pools::Pools::default(),
            explained: explain::Explained::default(),
            identity: match settings.front.offchain {
                true => identity::Identity::nobody(),
                false => identity::Identity::default(),
            },
            discovered: discovery::Discovered::default(),
            set_ceilings: ceilings::SetCeilings::default(),
            known_menus: discovery::KnownMenus::default(),
            reputation: reputation::Reputation::new(cache),
            refresh: refresh::Refresh::default(),
            at_work: at_work::AtWork::default(),
            demand: demand::Demand::default(),
            paces: pace::Paces::default(),
            doubling: doubling::Doublings::new(settings.selection.hedge_percent),
            turns: turns::Turns::default(),
            itself: ahead::Itself::default(),
            give_backs: claimed::GiveBacks::among(&jobs),
            jobs,
            replica,
            audio_probe: AudioProbe::default(),
            workloads: Workloads::new(&settings.front),
            unknown_tiers: UnknownTiers::default(),
            pinged: readiness::Pinged::default(),
            shown: playback::Shown::default(),
            hls: HlsRules { gap_wait_ms: settings.video.hls_gap_wait_ms, ..HlsRules::default() },
            settings,
        })
    }

    /// A name for one task of this replica: two requests here must not share a lease.
    pub fn owner(&self) -> OwnerId {
        OwnerId(format!("{}/{}", self.replica, uuid::Uuid::new_v4().simple()))
    }
}
