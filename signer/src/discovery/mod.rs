//! Which orchestrators there are: polled in the background, answered from memory.
//!
//! A request never waits for a poll. `candidates` says who is asked, `ask` asks one, `book` keeps
//! what each said last, `list` makes the list of it (remote-signer.md section 10), `snapshot`
//! answers, `report` tells the operator. An orchestrator that stops answering stays listed for a
//! while with what it said last: one bad poll must not empty every gateway's pool.

pub mod args;
mod ask;
mod book;
mod candidates;
mod list;
mod reason;
mod report;
mod snapshot;

pub use reason::Reason;
pub use report::DiscoveryReport;
pub use snapshot::Answer;

use crate::{chain_facts::ChainFacts, service::prices::PriceLimits, settings::Settings};
use args::DiscoverySettings;
use ask::{Polled, ask};
use book::{Book, Known, Moment, RegisteredKey};
use candidates::{Candidate, Candidates, Found, normal};
use penstock_clients::{OfferRequest, OrchestratorClient, OrchestratorOptions, Reach};
use penstock_http_kit::CancellationToken;
use penstock_wire::json::SignOrchestratorInfo;
use reason::Failure;
use report::{PollView, rfc3339};
use snapshot::Snapshot;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};

/// Orchestrators asked at once. Each costs two connections and two handshakes.
const WIDTH: usize = 256;
/// While a poll runs, the list is made anew so often with what has come in.
const PUBLISH: Duration = Duration::from_millis(500);
/// While nobody is listed, a request makes a poll begin, but not more often than this.
const EMPTY_PAUSE: Duration = Duration::from_millis(500);

/// The polled list.
pub struct Discovery {
    client: OrchestratorClient,
    request: OfferRequest,
    candidates: Candidates,
    limits: PriceLimits,
    settings: DiscoverySettings,
    state: Mutex<State>,
    /// Apart from the state: a request does not wait while the next list is made.
    snapshot: RwLock<Arc<Snapshot>>,
    /// Somebody asked while nobody was listed.
    wanted: Notify,
}

#[derive(Default)]
struct State {
    book: Book,
    /// The newest candidates, kept when their source fails.
    candidates: Vec<Candidate>,
    source_error: Option<String>,
    last_poll: Option<PollView>,
}

type Asked = (String, Result<Polled, Failure>);

impl Discovery {
    /// Polls as `identity`.
    pub fn new(
        settings: &Settings,
        chain: Arc<ChainFacts>,
        identity: &SignOrchestratorInfo,
    ) -> Result<Self, String> {
        let ours = settings.discovery.clone();
        let reach = if ours.public_only { Reach::PublicOnly } else { Reach::Anywhere };
        let client = OrchestratorClient::new(OrchestratorOptions {
            // Self-signed, and nothing that the list says is believed beyond being tried.
            reach,
            discovery_timeout: ours.timeout,
            connect_timeout: ours.timeout,
            grpc_connect_timeout: ours.timeout,
            ..OrchestratorOptions::default()
        });
        Ok(Self {
            client: client.map_err(|e| e.to_string())?,
            request: OfferRequest {
                address: identity.address,
                sig: identity.signature.clone(),
                capabilities: None,
                ignore_capacity_check: true,
                traceparent: None,
            },
            candidates: Candidates::new(&ours, chain)?,
            limits: settings.prices.clone(),
            settings: ours,
            state: Mutex::default(),
            snapshot: RwLock::default(),
            wanted: Notify::new(),
        })
    }

    /// The list for the wanted capabilities, from memory; `None` while nobody is listed. Then a
    /// poll begins soon, and who asks again a second later gets what it found.
    pub fn find(&self, wanted: &[String]) -> Option<Answer> {
        let snapshot = self.current();
        if snapshot.len() == 0 {
            self.wanted.notify_one();
            return None;
        }
        Some(snapshot.find(wanted))
    }

    /// Polls at once, then every interval and when the chain registers others than before, until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut changes = self.candidates.changes();
        loop {
            let began = tokio::time::Instant::now();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.poll(&mut changes) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(began + self.settings.interval) => {}
                () = self.wanted_while_empty(began) => {}
                () = registered_anew(&mut changes, began) => {}
            }
        }
    }

    async fn wanted_while_empty(&self, last_poll: tokio::time::Instant) {
        loop {
            self.wanted.notified().await;
            // It may have been asked for before the poll that filled the list.
            if self.current().len() == 0 {
                return tokio::time::sleep_until(last_poll + EMPTY_PAUSE).await;
            }
        }
    }

    /// Asks everybody once, and the nodes that they name.
    async fn poll(&self, changes: &mut watch::Receiver<u64>) {
        let began = Moment::now();
        let read = self.candidates.read(changes).await;
        let base = {
            let mut state = self.lock();
            match read {
                Ok(candidates) => (state.candidates, state.source_error) = (candidates, None),
                Err(error) => {
                    tracing::warn!(error, "candidates cannot be read; those of before are polled");
                    metrics::counter!("signer_discovery_source_errors_total").increment(1);
                    state.source_error = Some(error);
                }
            }
            let candidates = state.candidates.clone();
            state.book.begin(&candidates, self.settings.extra_nodes);
            candidates
        };
        let (mut answered, mut failed) = (0usize, 0usize);
        let mut round = Round::new(self, base);
        let mut ticks = tokio::time::interval(PUBLISH);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut news = false;
        loop {
            let (uri, result) = tokio::select! {
                next = round.next() => match next { Some(asked) => asked, None => break },
                _ = ticks.tick() => {
                    if std::mem::take(&mut news) {
                        self.publish();
                    }
                    continue;
                }
            };
            match &result {
                Ok(polled) => {
                    answered = answered.saturating_add(1);
                    news = true;
                    round.named_by(&uri, polled);
                }
                Err(_) => failed = failed.saturating_add(1),
            }
            self.lock().book.heard(&uri, result, Moment::now());
        }
        let took = began.instant.elapsed();
        metrics::histogram!("signer_discovery_poll_duration_seconds").record(took.as_secs_f64());
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(answered, failed, duration_ms, "orchestrators polled");
        self.lock().last_poll =
            Some(PollView { began_at: rfc3339(began.unix_ms), duration_ms, answered, failed });
        self.publish();
    }

    /// Makes the list anew, and the numbers about it.
    fn publish(&self) {
        let now = Instant::now();
        let state = self.lock();
        let mut excluded: HashMap<Reason, u32> = HashMap::new();
        let mut keys: HashMap<RegisteredKey, u32> = HashMap::new();
        let (mut current, mut stakes) = (Vec::new(), list::Stakes::default());
        for known in state.book.all() {
            if let (Some(reason), _) = self.verdict(known, now) {
                let count = excluded.entry(reason).or_default();
                *count = count.saturating_add(1);
            }
            let count = keys.entry(known.key).or_default();
            *count = count.saturating_add(1);
            let listed = known.current(now, self.settings.ttl).filter(|_| !self.refuses(known));
            if let Some(polled) = listed {
                stakes.note(polled, known.stake_lptu(polled));
                current.push(polled);
            }
        }
        let mut list = list::build(&current, &self.limits);
        stakes.tell(&mut list);
        let snapshot = Arc::new(Snapshot::new(&list));
        gauge("signer_orchestrators_listed", snapshot.len());
        drop(state);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        for reason in Reason::ALL {
            let count = excluded.get(&reason).copied().unwrap_or(0);
            metrics::gauge!("signer_orchestrators_excluded", "reason" => reason.as_str())
                .set(count);
        }
        for (key, name) in [
            (RegisteredKey::Verified, "verified"),
            (RegisteredKey::Mismatch, "mismatch"),
            (RegisteredKey::Unknown, "unknown"),
        ] {
            let count = keys.get(&key).copied().unwrap_or(0);
            metrics::gauge!("signer_orchestrators_registered_key", "status" => name).set(count);
        }
    }

    /// Whether the registered key keeps it off the list, runners and all.
    fn refuses(&self, known: &Known) -> bool {
        self.settings.strict_registered_keys && known.key == RegisteredKey::Mismatch
    }

    fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The state is whole after a panic elsewhere: each change of it is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who registered what is compared with who answers as soon as the chain tells of a change, twice a second at most.
async fn registered_anew(changes: &mut watch::Receiver<u64>, last_poll: tokio::time::Instant) {
    match changes.changed().await {
        Ok(()) => tokio::time::sleep_until(last_poll + EMPTY_PAUSE).await,
        // Nobody reads the chain any more: the process stops.
        Err(_) => std::future::pending().await,
    }
}

fn gauge(name: &'static str, count: usize) {
    metrics::gauge!(name).set(u32::try_from(count).unwrap_or(u32::MAX));
}

impl Moment {
    fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Self { instant: Instant::now(), unix_ms }
    }
}

/// The calls of one poll.
struct Round<'a> {
    discovery: &'a Discovery,
    asking: JoinSet<Asked>,
    slots: Arc<Semaphore>,
    base: HashMap<String, Candidate>,
    /// Normal URIs of everybody asked in this poll.
    asked: HashSet<String>,
}

impl<'a> Round<'a> {
    fn new(discovery: &'a Discovery, base: Vec<Candidate>) -> Self {
        let mut round = Self {
            discovery,
            asking: JoinSet::new(),
            slots: Arc::new(Semaphore::new(WIDTH)),
            base: HashMap::new(),
            asked: HashSet::new(),
        };
        for candidate in &base {
            round.ask(candidate.uri.clone());
        }
        round.base = base.into_iter().map(|c| (c.uri.clone(), c)).collect();
        round
    }

    fn ask(&mut self, uri: String) {
        if !self.asked.insert(normal(&uri)) {
            return;
        }
        let (client, request) = (self.discovery.client.clone(), self.discovery.request.clone());
        let (slots, limit) = (Arc::clone(&self.slots), self.discovery.settings.timeout);
        self.asking.spawn(async move {
            // Never closed; its time begins when it is its turn.
            let _slot = slots.acquire_owned().await;
            let result = ask(&client, &uri, &request, limit).await;
            (uri, result)
        });
    }

    /// The nodes of a candidate, one level deep; they pay the same registered key.
    fn named_by(&mut self, uri: &str, polled: &Polled) {
        let Some(parent) = self.base.get(uri) else { return };
        let registered = parent.registered.clone();
        for node in polled.offer.nodes.iter().take(self.discovery.settings.extra_nodes) {
            let node = node.trim_end_matches('/').to_owned();
            if self.asked.contains(&normal(&node)) {
                continue;
            }
            let candidate =
                Candidate { uri: node.clone(), found: Found::Node, registered: registered.clone() };
            if self.discovery.lock().book.add(&candidate) {
                self.ask(node);
            }
        }
    }

    async fn next(&mut self) -> Option<Asked> {
        loop {
            match self.asking.join_next().await? {
                Ok(asked) => return Some(asked),
                Err(error) => tracing::error!(%error, "a poll ended badly"),
            }
        }
    }
}
